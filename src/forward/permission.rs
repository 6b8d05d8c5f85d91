//! A caller that holds its content back until it is wanted (RFC 9110 §10.1.1) waits for the resource's word, not for ours.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// How long the resource's word is waited for: not all servers know the expectation, and whoever expects must not wait
/// forever.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the resource has said, for one attempt to send a request. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Permission(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    word: Word,
    waiting: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Word {
    #[default]
    None,
    /// The content is wanted.
    GoOn,
    /// The response came instead.
    Answered,
    /// And it is over.
    Over,
}

/// Content that is not read before it may be.
#[derive(Debug)]
pub(super) struct Waiting {
    permission: Permission,
    patience: Pin<Box<Sleep>>,
}

/// Says that the response is over, when it is dropped.
#[derive(Debug)]
pub(super) struct UntilOver(Permission);

impl Permission {
    /// What waits for it.
    pub(super) fn waiting(&self) -> Waiting {
        Waiting { permission: self.clone(), patience: Box::pin(sleep(PATIENCE)) }
    }

    /// The resource wants the content.
    pub(super) fn give(&self) {
        self.say(Word::GoOn);
    }

    /// The resource has answered: content that it did not ask for is not sent any more. To be kept until the response is
    /// over: the connection is of no use afterwards, and of use until then.
    pub(super) fn answered(self) -> UntilOver {
        self.say(Word::Answered);
        UntilOver(self)
    }

    fn say(&self, word: Word) {
        let mut state = self.open();
        if state.word != Word::GoOn {
            state.word = word;
            if let Some(waiting) = state.waiting.take() {
                waiting.wake();
            }
        }
    }

    /// A panic elsewhere leaves nothing half done in here.
    fn open(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether the content may be read, once that is known.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.permission.open();
        match state.word {
            Word::GoOn => return Poll::Ready(true),
            Word::Over => return Poll::Ready(false),
            Word::None if self.patience.as_mut().poll(cx).is_ready() => {
                state.word = Word::GoOn;
                return Poll::Ready(true);
            }
            Word::None | Word::Answered => {}
        }
        state.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for UntilOver {
    fn drop(&mut self) {
        self.0.say(Word::Over);
    }
}
