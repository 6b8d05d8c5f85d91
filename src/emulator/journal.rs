//! What happened: the requests that came, and counts that can be waited for.

use std::collections::{BTreeMap, VecDeque};

use http::header::{AUTHORIZATION, Entry, HOST};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use super::listen::Connection;
use super::lock::Lock;
use super::route::Route;

/// How many requests are remembered; of more, the oldest are forgotten.
const REMEMBERED: usize = 10_000;

/// A request as it arrived. Over HTTP the value of `authorization` is masked.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What it was for.
    pub route: Route,
    /// The method.
    pub method: Method,
    /// The path with the query.
    pub path_and_query: String,
    /// `:authority` of HTTP/2, `Host` of HTTP/1.1.
    pub authority: Option<String>,
    /// The HTTP version.
    pub version: Version,
    /// The fields.
    pub headers: HeaderMap,
    /// Which connection it came over: equal numbers, same connection.
    pub connection: u64,
}

/// Counts of what happened since the start; [`Control::clear_requests`](super::Control::clear_requests) resets
/// `requests` and `imds_most_at_once` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Requests by route. A request counts for its own route only; [`State::count`] adds up the data plane.
    pub requests: BTreeMap<Route, u64>,
    /// The most requests that IMDS had under way at once: let in within its limits, and their answers not begun yet.
    pub imds_most_at_once: usize,
    /// Requests whose answer has not begun yet.
    pub requests_open: u64,
    /// Requests that were given up by the client, or cut by a fault, before their answer began.
    pub requests_aborted: u64,
    /// Bytes of request bodies that arrived at the data plane.
    pub bytes_received: u64,
    /// Streamed answers under way. Event streams and bodies of more than 64 KiB count as streamed.
    pub streams_open: u64,
    /// Streamed answers under way that a fault holds back.
    pub streams_held: u64,
    /// Streamed answers that were taken to their end.
    pub streams_finished: u64,
    /// Streamed answers that were given up by the client, or cut by a fault, before their end.
    pub streams_aborted: u64,
    /// WebSockets that are open.
    pub sockets_open: u64,
}

impl State {
    /// How many requests came on `route`; for [`Route::OpenAi`], on the whole data plane.
    #[must_use]
    pub fn count(&self, route: Route) -> u64 {
        self.requests.iter().filter(|(counted, _)| route.covers(**counted)).map(|(_, count)| count).sum()
    }
}

/// The memory behind [`Recorded`] and [`State`].
#[derive(Debug, Default)]
pub(super) struct Journal {
    requests: Lock<VecDeque<Recorded>>,
    state: watch::Sender<State>,
}

impl Journal {
    pub(super) fn record(&self, route: Route, parts: &Parts, connection: &Connection) {
        let recorded = Recorded {
            route,
            method: parts.method.clone(),
            path_and_query: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            authority: authority(parts),
            version: parts.version,
            headers: guarded(parts.headers.clone()),
            connection: connection.id,
        };
        let mut requests = self.requests.open();
        if requests.len() == REMEMBERED {
            requests.pop_front();
        }
        requests.push_back(recorded);
        drop(requests);
        self.change(|state| *state.requests.entry(route).or_default() += 1);
    }

    pub(super) fn requests(&self) -> Vec<Recorded> {
        self.requests.open().iter().cloned().collect()
    }

    /// Forgets the requests; `imds_at_once` of them are under way at IMDS still.
    pub(super) fn clear_requests(&self, imds_at_once: usize) {
        self.requests.open().clear();
        self.change(|state| {
            state.requests.clear();
            state.imds_most_at_once = imds_at_once;
        });
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub(super) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) async fn until(&self, predicate: impl FnMut(&State) -> bool) -> State {
        // The sender lives as long as `self`, so the only way out is that the state is as awaited.
        match self.state.subscribe().wait_for(predicate).await {
            Ok(state) => state.clone(),
            Err(_) => self.state(),
        }
    }
}

impl Serialize for Recorded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), shown(value))).collect();
        let mut record = serializer.serialize_struct("Recorded", 7)?;
        record.serialize_field("route", &self.route)?;
        record.serialize_field("method", self.method.as_str())?;
        record.serialize_field("path_and_query", &self.path_and_query)?;
        record.serialize_field("authority", &self.authority)?;
        record.serialize_field("version", &format!("{:?}", self.version))?;
        record.serialize_field("headers", &headers)?;
        record.serialize_field("connection", &self.connection)?;
        record.end()
    }
}

/// Keeps tokens out of whatever prints a record.
fn guarded(mut headers: HeaderMap) -> HeaderMap {
    if let Entry::Occupied(mut authorization) = headers.entry(AUTHORIZATION) {
        authorization.iter_mut().for_each(|value| value.set_sensitive(true));
    }
    headers
}

fn authority(parts: &Parts) -> Option<String> {
    let host = || parts.headers.get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    parts.uri.authority().map(ToString::to_string).or_else(host)
}

fn shown(value: &HeaderValue) -> String {
    if value.is_sensitive() {
        return format!("({} bytes)", value.len());
    }
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
