//! Room for requests under way, and how apps share it when several want some.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::workers::{Near, Shared};

/// An app that has asked within this time competes for room.
const COMPETES: Duration = Duration::from_secs(10);
/// This part of the room is kept free for apps that do not compete, so that whichever of them comes is let in at once.
const KEPT_FREE: usize = 16;

/// Room for so many requests.
///
/// Half of it goes to whoever comes. Of the rest, each app that competes may take its equal share of the whole, and more
/// only as long as the shares of the others stay free.
#[derive(Debug)]
pub struct Places {
    most: usize,
    taken: AtomicUsize,
    apps: Box<[Share]>,
    began: Instant,
}

#[derive(Debug, Default)]
struct Share {
    taken: AtomicUsize,
    /// When it last asked, in milliseconds since the beginning, and one more: nought is never.
    asked: AtomicU64,
}

/// One request's place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Near<Places>,
    app: usize,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// All are taken.
    All,
    /// The app has so many, and the rest is for others.
    Share(usize),
}

impl Places {
    /// Room for `most` requests, of this many apps.
    #[must_use]
    pub fn new(most: usize, apps: usize, now: Instant) -> Self {
        // Who is alone has all of it.
        let apps = if apps > 1 { (0..apps).map(|_| Share::default()).collect() } else { Box::default() };
        Self { most, taken: AtomicUsize::new(0), apps, began: now }
    }

    /// A place for a request of `app`.
    ///
    /// # Errors
    ///
    /// If there is none, or none for this app.
    pub fn take(places: &Shared<Self>, app: usize, now: Instant) -> Result<Place, Full> {
        let one_more = |taken| (taken < places.most).then_some(taken + 1);
        let share = places.apps.get(app);
        let now = u64::try_from(now.saturating_duration_since(places.began).as_millis()).unwrap_or(u64::MAX);
        if let Some(share) = share {
            share.asked.store(now + 1, Ordering::Relaxed);
        }
        let taken = places.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).map_err(|_| Full::All)?;
        let own = share.map_or(0, |share| share.taken.fetch_add(1, Ordering::Relaxed));
        // Taken before it is judged: a place that is given back at once is better than one that is given away twice.
        let place = Place { places: places.near(), app };
        if places.is_anothers(app, taken, own, now) { Err(Full::Share(own)) } else { Ok(place) }
    }

    /// Whether the next place is not for an app that has `own` of all that are `taken`.
    fn is_anothers(&self, app: usize, taken: usize, own: usize, now: u64) -> bool {
        if self.apps.is_empty() || taken < self.most / 2 {
            return false;
        }
        let competes = |share: &Share| share.taken.load(Ordering::Relaxed) > 0 || share.asked_lately(now);
        let others = || self.apps.iter().enumerate().filter(|(index, _)| *index != app).map(|(_, share)| share);
        let competitors = others().filter(|share| competes(share)).count();
        let equal = self.most / (1 + competitors);
        if competitors > 0 && own < equal {
            return false;
        }
        let unused = |share: &Share| equal.saturating_sub(share.taken.load(Ordering::Relaxed));
        let for_competitors: usize = others().filter(|share| competes(share)).map(unused).sum();
        let for_newcomers = if competitors + 1 < self.apps.len() { self.most / KEPT_FREE } else { 0 };
        let kept = for_competitors + for_newcomers;
        taken + kept >= self.most
    }
}

impl Share {
    fn asked_lately(&self, now: u64) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        asked > 0 && u128::from((now + 1).saturating_sub(asked)) <= COMPETES.as_millis()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(share) = self.places.apps.get(self.app) {
            share.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes until there is no more; at most `most`.
    fn flood(places: &Shared<Places>, app: usize, most: usize, now: Instant) -> Vec<Place> {
        (0..most).map_while(|_| Places::take(places, app, now).ok()).collect()
    }

    #[test]
    fn one_app_has_all_the_room() {
        let now = Instant::now();
        let places = Shared::new(Places::new(10, 1, now));
        let taken = flood(&places, 0, 100, now);
        assert_eq!(taken.len(), 10);
        assert_eq!(Places::take(&places, 0, now).err(), Some(Full::All));
        drop(taken);
        assert_eq!(flood(&places, 0, 100, now).len(), 10);
    }

    #[test]
    fn a_flood_leaves_room_for_whoever_comes_next() {
        let now = Instant::now();
        let places = Shared::new(Places::new(160, 2, now));
        let mut first = flood(&places, 0, 1000, now);
        assert_eq!(first.len(), 150, "all but what is kept free");
        assert_eq!(Places::take(&places, 0, now).err(), Some(Full::Share(150)));
        let mut second = flood(&places, 1, 1000, now);
        assert_eq!(second.len(), 10);
        // From now on both compete: whatever the first gives back is the second's, up to its half.
        for _ in 0..70 {
            first.pop();
            assert!(Places::take(&places, 0, now).is_err());
            second.extend(Places::take(&places, 1, now));
        }
        assert_eq!((first.len(), second.len()), (80, 80));
        // Neither gets more than its half while both want more.
        second.pop();
        assert!(Places::take(&places, 0, now).is_err());
        assert!(Places::take(&places, 1, now).is_ok());
    }

    #[test]
    fn who_no_longer_asks_does_not_compete() {
        let now = Instant::now();
        let places = Shared::new(Places::new(160, 2, now));
        drop(Places::take(&places, 1, now));
        assert_eq!(flood(&places, 0, 1000, now + Duration::from_secs(1)).len(), 80);
        assert_eq!(flood(&places, 0, 1000, now + Duration::from_secs(11)).len(), 150);
    }

    #[test]
    fn little_room_is_shared_too() {
        let now = Instant::now();
        let places = Shared::new(Places::new(2, 3, now));
        let first = flood(&places, 0, 10, now);
        assert_eq!(first.len(), 2);
        assert_eq!(Places::take(&places, 1, now).err(), Some(Full::All));
        drop(first);
        // Both have asked lately, so each has one.
        assert_eq!(flood(&places, 0, 10, now).len(), 1);
        assert_eq!(flood(&places, 1, 10, now).len(), 1);
    }
}
