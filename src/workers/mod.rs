//! The threads that serve callers. Each has a runtime of its own, so that whatever belongs to one connection, and to the
//! resource's connection behind it, happens on one thread: nobody is woken across processors, and nothing is shared that need
//! not be.

mod load;
mod own;
mod present;

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::pin::pin;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

pub use load::Answering;
use load::Load;
#[cfg(test)]
pub(crate) use load::answering;
pub(crate) use own::Apart;
pub use own::{Near, PerWorker, Shared};
pub use present::{Count, Present};

/// Which of them accepts connections.
const HOST: usize = 0;
/// So many connections more than another one a worker may have: few do best with one, but one should not have all of many that may
/// wake up together.
const MOST_AHEAD: usize = 256;
/// So many more of those that stay: one whose others have it work now is spared, but not for good.
const MOST_STAYING_AHEAD: usize = 16;
/// How long what a thread leaves behind may take to end.
const MOMENT: Duration = Duration::from_millis(200);

thread_local! {
    /// Which worker this thread is, if it is one.
    static INDEX: Cell<Option<usize>> = const { Cell::new(None) };
}

/// How many threads serve callers: one for each processor that this process may use.
#[must_use]
pub fn count() -> usize {
    // Files are read for it.
    static COUNT: OnceLock<usize> = OnceLock::new();
    *COUNT.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get))
}

/// Which of the threads this is, less than [`count`]; 0 where there are none.
#[must_use]
pub fn index() -> usize {
    INDEX.get().unwrap_or(0)
}

/// Whether this thread is one of them, and its runtime takes tasks.
#[must_use]
pub fn is_at_work() -> bool {
    INDEX.get().is_some() && Handle::try_current().is_ok()
}

/// Does `work` as this one of the threads.
#[cfg(test)]
pub(crate) fn on<T: Send>(worker: usize, work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        INDEX.set(Some(worker));
        work()
    };
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

/// The threads that serve callers. They end when this is dropped.
#[derive(Debug, Default)]
pub struct Workers {
    crew: Crew,
    threads: Vec<Thread>,
}

/// Who there is to do something.
#[derive(Debug, Clone, Default)]
pub struct Crew(Arc<[Worker]>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    arrivals: mpsc::UnboundedSender<Arrival>,
    connections: Count,
    /// Those that stay, whatever it has to do.
    staying: Count,
    load: Arc<Apart<Load>>,
}

/// A connection that is to be served.
type Arrival = (BoxFuture<'static, ()>, Present);

#[derive(Debug)]
struct Thread {
    stop: Option<oneshot::Sender<()>>,
    handle: Option<JoinHandle<()>>,
}

impl Workers {
    /// None: everything happens in the runtime of whoever asks.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts as many as there should be.
    ///
    /// # Errors
    ///
    /// If the system gives no thread, or nothing to wait with.
    pub fn start() -> io::Result<Self> {
        Self::start_some(count())
    }

    pub(crate) fn start_some(count: usize) -> io::Result<Self> {
        let mut threads = Vec::new();
        let workers = (0..count).map(|index| {
            let (thread, worker) = Thread::start(index)?;
            threads.push(thread);
            Ok(worker)
        });
        let crew = Crew(workers.collect::<io::Result<_>>()?);
        Ok(Self { crew, threads })
    }

    /// Who they are. What they are asked to do ends with them.
    #[must_use]
    pub fn crew(&self) -> &Crew {
        &self.crew
    }

    /// Completes once each has done something since: not before, however long one is stuck.
    pub async fn answer(&self) {
        // All of them are asked before the first is waited for. One that has ended has nobody left to serve.
        let asked: Vec<_> = self.crew.0.iter().map(|worker| worker.runtime.spawn(async {})).collect();
        for answered in asked {
            let _ = answered.await;
        }
    }
}

impl Crew {
    /// Has one of them do `task`, always the same one, or whoever asks if there are none.
    pub fn host<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static, tasks: &mut JoinSet<T>) {
        match self.0.get(HOST) {
            Some(host) => tasks.spawn_on(task, &host.runtime),
            None => tasks.spawn(task),
        };
    }

    /// Has `connection` served by the first who has room, the host before others: nobody must be woken then, and whoever does more
    /// sleeps less. Those who have much to do, or many more connections than others, are spared.
    pub fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        if let Some(own) = self.own() {
            own.load.0.look();
        }
        let counts = || self.0.iter().map(|worker| worker.connections.get());
        let Some(fewest) = counts().min() else {
            tokio::spawn(connection);
            return;
        };
        let has_room = |(count, worker): (usize, &Worker)| count < fewest + MOST_AHEAD && !worker.load.0.is_high();
        let roomy = counts().zip(self.0.iter()).position(has_room);
        // Where all have much to do, those with the fewest are the best guess.
        let number = roomy.or_else(|| counts().position(|count| count == fewest)).unwrap_or(HOST);
        self.serve_by(number, connection);
    }

    /// Has `connection` served by this one.
    pub fn serve_by(&self, number: usize, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.0.get(number) else { return };
        let present = worker.connections.enter();
        if INDEX.get() == Some(number) {
            worker.runtime.spawn(serve(connection, present));
        } else {
            // Several at once wake it once. One that has ended has nobody left to serve.
            let _ = worker.arrivals.send((Box::pin(connection), present));
        }
    }

    /// Who should go on with a connection of this worker's that has had a request and has nothing to do at the moment, if this one
    /// has too much. `counted` is the connection's, and 0 when it comes to a worker.
    #[must_use]
    pub fn elsewhere(&self, counted: &mut u32) -> Option<usize> {
        let own = self.own().filter(|_| self.0.len() > 1)?;
        let much = own.load.0.surplus(counted)?;
        let taker = self.taker(own, much, Instant::now());
        if taker.is_some() {
            load::was_relieved();
        } else {
            load::was_not_relieved();
        }
        taker
    }

    /// Who besides `own` has room for so much more to do: whoever has least, who is expected to do it from now on.
    fn taker(&self, own: &Worker, much: u64, now: Instant) -> Option<usize> {
        let others = self.0.iter().enumerate().filter(|(_, worker)| !ptr::eq(*worker, own));
        let roomy = others.filter_map(|other| Some((other.1.load.0.with_room_for(much, now)?, other.0)));
        let (_, number) = roomy.min()?;
        self.0[number].load.0.expects(much, now);
        Some(number)
    }

    /// Who should have a connection of this worker's that cannot be handed over later: of those that have not too much to do whoever
    /// has the fewest of those, and this one before others; but nobody who has many more of those than another one. Nobody if this thread is no worker.
    #[must_use]
    pub fn settle(&self) -> Option<(usize, Present)> {
        let own = INDEX.get()?;
        let fewest = self.0.iter().map(|worker| worker.staying.get()).min()?;
        let workers = self.0.iter().enumerate();
        let (number, worker) = workers
            .filter(|(_, worker)| worker.staying.get() < fewest + MOST_STAYING_AHEAD)
            .min_by_key(|(number, worker)| (worker.load.0.is_high(), worker.staying.get(), *number != own, *number))?;
        Some((number, worker.staying.enter()))
    }

    /// This thread's worker.
    fn own(&self) -> Option<&Worker> {
        self.0.get(INDEX.get()?)
    }

    /// Has this worker hand over what it can next.
    #[cfg(test)]
    pub(crate) async fn relieve(&self, number: usize) {
        self.0[number].runtime.spawn(async { load::relieve(1, 1) }).await.expect("a worker");
    }

    /// As if this worker had so much to do from now on, in thousandths of a processor.
    #[cfg(test)]
    pub(crate) fn pretend(&self, number: usize, thousandths: u64) {
        self.0[number].load.0.pretend(thousandths);
    }
}

async fn serve(connection: impl Future<Output = ()>, present: Present) {
    connection.await;
    drop(present);
}

impl Thread {
    fn start(index: usize) -> io::Result<(Self, Worker)> {
        let (connections, staying) = (Count::default(), Count::default());
        let load = Arc::new(Apart(Load::new(connections.clone())));
        let (rests, wakes, begins) = (load.clone(), load.clone(), load.clone());
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().on_thread_park(move || rests.0.rest()).on_thread_unpark(move || wakes.0.wake());
        let runtime = runtime.build()?;
        let (arrivals, arriving) = mpsc::unbounded_channel();
        let worker = Worker { runtime: runtime.handle().clone(), arrivals, connections, staying, load };
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            INDEX.set(Some(index));
            begins.0.wake();
            runtime.block_on(receive(arriving, stopped));
            // A name that is being looked up is left behind.
            runtime.shutdown_timeout(MOMENT);
        })?;
        Ok((Self { stop: Some(stop), handle: Some(thread) }, worker))
    }
}

/// Serves connections that others have accepted, until there are to be no more.
async fn receive(mut arriving: mpsc::UnboundedReceiver<Arrival>, stopped: oneshot::Receiver<()>) {
    let mut stopped = pin!(stopped);
    loop {
        tokio::select! {
            // What has arrived ends as everything does that is being served.
            biased;
            Some((connection, present)) = arriving.recv() => drop(tokio::spawn(serve(connection, present))),
            // An error is the drop of the other end, which means the same.
            _ = &mut stopped => return,
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // All of them before the first is waited for.
        self.threads.iter_mut().for_each(|thread| drop(thread.stop.take()));
        for handle in self.threads.iter_mut().filter_map(|thread| thread.handle.take()) {
            if handle.join().is_err() {
                tracing::error!("a thread that served callers has panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::Semaphore;

    use super::*;

    /// How many connections each has.
    fn connections(workers: &Workers) -> Vec<usize> {
        workers.crew.0.iter().map(|worker| worker.connections.get()).collect()
    }

    /// Waits for what must become true.
    fn until(mut is_true: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !is_true() {
            assert!(Instant::now() < end, "it never became true");
            thread::yield_now();
        }
    }

    #[test]
    fn whoever_has_room_serves_the_next() {
        let workers = Workers::start_some(3).unwrap();
        (0..3).for_each(|number| workers.crew.pretend(number, 0));
        let (tell, told) = mpsc::channel();
        let leave = Arc::new(Semaphore::new(0));
        let connect = || {
            let (tell, leave) = (tell.clone(), leave.clone());
            workers.crew.serve(async move {
                tell.send(index()).unwrap();
                leave.acquire().await.unwrap().forget();
            });
            told.recv().unwrap()
        };
        assert_eq!([connect(), connect(), connect()], [0; 3], "the host as long as it can");
        workers.crew.pretend(0, 999);
        assert_eq!([connect(), connect()], [1; 2]);
        workers.crew.pretend(1, 999);
        assert_eq!(connect(), 2);
        workers.crew.pretend(2, 999);
        assert_eq!([connect(), connect()], [2, 1], "all have much to do: whoever serves the fewest");
        assert_eq!(connections(&workers), [3, 3, 2]);
        // All of them leave.
        leave.add_permits(8);
        until(|| connections(&workers) == [0; 3]);
        assert_eq!(connect(), 0);
        workers.crew.pretend(0, 500);
        workers.crew.pretend(1, 100);
        let served: Vec<_> = (1..=MOST_AHEAD).map(|_| connect()).collect();
        assert_eq!((served.iter().filter(|worker| **worker == 0).count(), served.last()), (MOST_AHEAD - 1, Some(&1)));
    }

    #[test]
    fn one_that_does_not_come_to_rest_is_spared() {
        let workers = Workers::start_some(2).unwrap();
        let load = &workers.crew.0[0].load.0;
        let (release, stuck) = mpsc::channel::<()>();
        workers.crew.serve_by(0, async move {
            let _ = stuck.recv();
        });
        until(|| load.is_high());
        let (tell, told) = mpsc::channel();
        workers.crew.serve(async move { tell.send(index()).unwrap() });
        assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), 1);
        release.send(()).unwrap();
        // It has not worked all the time, and has nothing to do any more.
        until(|| load.with_room_for(1, Instant::now()).is_some());
    }

    #[test]
    fn what_is_too_much_goes_to_whoever_has_least_to_do() {
        let workers = Workers::start_some(3).unwrap();
        // What the first says of three connections, as if it had to hand over so many, each of which has it do so much.
        let elsewhere = |surplus: usize, each: u64, loads: [u64; 3]| {
            (0..3).zip(loads).for_each(|(number, load)| workers.crew.pretend(number, load));
            let (tell, told) = mpsc::channel();
            let crew = workers.crew.clone();
            workers.crew.serve_by(0, async move {
                load::relieve(surplus, each);
                tell.send([(); 3].map(|()| crew.elsewhere(&mut 0))).unwrap();
            });
            told.recv_timeout(Duration::from_secs(60)).unwrap()
        };
        let (tell, told) = mpsc::channel();
        let crew = workers.crew.clone();
        (0..3).for_each(|number| crew.pretend(number, 999));
        workers.crew.serve_by(0, async move {
            load::relieve(1, 10);
            let before = crew.elsewhere(&mut 0);
            crew.pretend(1, 0);
            tell.send([before, crew.elsewhere(&mut 0)]).unwrap();
        });
        assert_eq!(told.recv_timeout(Duration::from_secs(60)).unwrap(), [None; 2], "not asked again at once");
        assert_eq!(elsewhere(1, 10, [999, 300, 200]), [Some(2), None, None], "one was too much");
        assert_eq!(elsewhere(1, 10, [999, 200, 300]), [Some(1), None, None]);
        assert_eq!(elsewhere(9, 10, [999, 791, 950]), [None; 3], "nobody has room");
        assert_eq!(Workers::none().crew.elsewhere(&mut 0), None);
        // How it goes on at one time.
        let now = Instant::now();
        let takers = |loads: [u64; 3]| {
            (0..3).zip(loads).for_each(|(number, load)| workers.crew.pretend(number, load));
            [(); 3].map(|()| workers.crew.taker(&workers.crew.0[0], 200, now))
        };
        assert_eq!(takers([999, 500, 400]), [Some(2), Some(1), Some(2)], "with what was handed over before");
        assert_eq!(takers([999, 600, 400]), [Some(2), Some(1), Some(2)]);
        assert_eq!(takers([999, 601, 401]), [Some(2), None, None]);
    }

    #[test]
    fn what_stays_is_shared_out() {
        let workers = Workers::start_some(3).unwrap();
        let settle = |by: usize| {
            let crew = workers.crew.clone();
            on(by, move || crew.settle().unwrap())
        };
        (0..3).for_each(|number| workers.crew.pretend(number, 0));
        let mut present: Vec<_> = [1, 1, 1, 1, 0].map(settle).into();
        assert_eq!(present.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 0, 2, 1, 0]);
        present.remove(2);
        assert_eq!(settle(0).0, 2);
        workers.crew.pretend(2, 999);
        assert_eq!(settle(2).0, 0, "one that has too much to do is spared");
        workers.crew.pretend(1, 999);
        present.extend((0..MOST_STAYING_AHEAD * 3).map(|_| settle(0)));
        let staying: Vec<_> = workers.crew.0.iter().map(|worker| worker.staying.get()).collect();
        assert_eq!(staying, [28, 12, 12], "but not for good");
        assert!(workers.crew.settle().is_none(), "this is no worker");
    }

    #[test]
    fn the_host_is_one_of_them() {
        let (workers, mut tasks) = (Workers::start_some(2).unwrap(), JoinSet::new());
        let (tell, told) = mpsc::channel();
        let name = || thread::current().name().map(str::to_owned);
        workers.crew.host(async move { tell.send(name()).unwrap() }, &mut tasks);
        assert_eq!(told.recv().unwrap().as_deref(), Some("worker-0"));
    }

    #[tokio::test]
    async fn one_that_is_stuck_does_not_answer() {
        let workers = Workers::start_some(2).unwrap();
        // So that the first is the one that gets stuck.
        workers.crew.pretend(0, 0);
        workers.answer().await;
        let (release, stuck) = mpsc::channel::<()>();
        workers.crew.serve(async move {
            let _ = stuck.recv();
        });
        let mut answer = Box::pin(workers.answer());
        let free = workers.crew.0.last().unwrap().runtime.spawn(async {});
        assert!(futures_util::poll!(&mut answer).is_pending());
        free.await.unwrap();
        assert!(futures_util::poll!(&mut answer).is_pending(), "the other one has not");
        release.send(()).unwrap();
        answer.await;
    }

    #[test]
    fn what_is_left_behind_ends_with_the_threads() {
        struct Gone(mpsc::Sender<()>);
        impl Drop for Gone {
            fn drop(&mut self) {
                self.0.send(()).unwrap();
            }
        }
        let (tell, told) = mpsc::channel();
        let workers = Workers::start().unwrap();
        let gone = Gone(tell);
        workers.crew.serve(async move {
            let _gone = gone;
            std::future::pending::<()>().await;
        });
        drop(workers);
        told.recv().unwrap();
    }
}
