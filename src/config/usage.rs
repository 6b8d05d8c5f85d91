//! The usage ledger: whether there is one, where it lies, how long it remembers.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::build::read;
use super::layers::Layers;
use super::prices::{Prices, prices};
use super::settings;
use super::{ConfigError, Environment, Overrides};

/// Where it is written down what responses cost: `usage.…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// `usage.database`: the file.
    pub database: PathBuf,
    /// `usage.retention`: how long it is kept; [`None`]: for ever.
    pub retention: Option<Duration>,
}

/// What somebody who looks into the ledger needs to know.
#[derive(Debug, Clone)]
pub struct Books {
    /// The file, whether anything is written to it or not.
    pub database: PathBuf,
    /// `usage.enabled`: whether the proxy of this configuration writes to it.
    pub is_kept: bool,
    /// What tokens cost.
    pub prices: Prices,
}

impl Books {
    /// Reads all layers for what they say of the ledger. Nothing else need be configured: no resource, no identity.
    ///
    /// # Errors
    ///
    /// What is wrong with them, or if nobody says where the ledger is.
    pub fn load(environment: &Environment, overrides: &Overrides) -> Result<Self, ConfigError> {
        let layers = Layers::read(environment, overrides)?;
        let settings = read(&layers)?;
        let settings::Usage { enabled: is_kept, database, currency, .. } = settings.usage;
        Ok(Self {
            database: whereabouts(&layers, environment, database)?,
            is_kept,
            prices: prices(&layers, currency, settings.prices)?,
        })
    }
}

/// `usage.retention`, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Retention(Option<Duration>);

impl TryFrom<String> for Retention {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        /// What is counted is counted by the hour.
        const SHORTEST: Duration = Duration::from_secs(60 * 60);
        /// Beyond that a duration is a mistake.
        const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
        let duration = humantime::parse_duration(&text)
            .map_err(|error| format!("expected a duration like 90d or 2y, or 0 to keep everything ({error})"))?;
        match duration {
            Duration::ZERO => Ok(Self(None)),
            duration if (SHORTEST..=LONGEST).contains(&duration) => Ok(Self(Some(duration))),
            _ => Err("must be at least 1h and at most 100y, or 0 to keep everything".to_owned()),
        }
    }
}

pub(super) fn ledger(
    layers: &Layers,
    environment: &Environment,
    settings: settings::Usage,
) -> Result<Option<Ledger>, ConfigError> {
    if !settings.enabled {
        return Ok(None);
    }
    let database = whereabouts(layers, environment, settings.database)?;
    Ok(Some(Ledger { database, retention: settings.retention.0 }))
}

/// The file that was named, or the usual one; from the root on, as SQLite takes `:memory:` and `file:…` for something else.
fn whereabouts(layers: &Layers, environment: &Environment, named: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let usual = || environment.state_home().map(|home| home.join("aoai-auth-proxy/usage.db"));
    let database = named.or_else(usual).ok_or(ConfigError::Missing {
        key: "usage.database",
        problem: "where is the usage ledger? Neither XDG_STATE_HOME nor HOME names a directory to keep it in; set \
                  usage.database to a file, like /var/lib/aoai-auth-proxy/usage.db",
    })?;
    let refused = |problem: String| layers.bad_value("usage.database", problem);
    if database.file_name().is_none() || database.is_dir() {
        return Err(refused("is a directory; name a file in it, like usage.db".to_owned()));
    }
    std::path::absolute(database).map_err(|error| refused(format!("leads nowhere from here: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(variables: &[(&str, &str)], assignments: &[&str]) -> Result<Books, ConfigError> {
        let assignments = assignments.iter().map(|assignment| (*assignment).to_owned()).collect();
        // A file of nothing, so that none of this machine is read.
        let overrides = Overrides { assignments, file: Some("/dev/null".into()), ..Overrides::default() };
        Books::load(&variables.iter().copied().collect(), &overrides)
    }

    #[test]
    fn the_file_is_where_it_was_named_or_where_state_is_kept() {
        let database = |variables: &[_], assignments: &[_]| loaded(variables, assignments).map(|books| books.database);
        for (variables, file) in [
            ([("XDG_STATE_HOME", "/state"), ("HOME", "/home/me")].as_slice(), "/state/aoai-auth-proxy/usage.db"),
            (&[("HOME", "/home/me")], "/home/me/.local/state/aoai-auth-proxy/usage.db"),
        ] {
            assert_eq!(database(variables, &[]).unwrap(), PathBuf::from(file));
            assert_eq!(database(variables, &["usage.database=/a/b.db"]).unwrap(), PathBuf::from("/a/b.db"));
        }
        for name in [":memory:", "file:x?mode=memory", "usage.db"] {
            let named = format!("usage.database={name}");
            let file = loaded(&[], &[&named]).unwrap().database;
            assert!(file.is_absolute() && file.ends_with(name), "{}", file.display());
        }
        for directory in ["/", "/usr", ".."] {
            let named = format!("usage.database={directory}");
            let error = loaded(&[], &[&named]).unwrap_err().to_string();
            assert!(error.contains("is a directory; name a file in it"), "{error}");
        }
        for nowhere in [[].as_slice(), &[("HOME", "relative")], &[("XDG_STATE_HOME", "relative")]] {
            let error = database(nowhere, &[]).unwrap_err().to_string();
            assert!(error.starts_with("`usage.database` is not set: "), "{error}");
        }
    }

    #[test]
    fn it_is_kept_for_some_time_or_for_ever() {
        let read = |text: &str| Retention::try_from(text.to_owned());
        assert_eq!(read("90d"), Ok(Retention(Some(Duration::from_secs(90 * 86400)))));
        assert_eq!(read("1h"), Ok(Retention(Some(Duration::from_secs(3600)))));
        for forever in ["0", "0s"] {
            assert_eq!(read(forever), Ok(Retention(None)), "{forever}");
        }
        for bad in ["", "59m", "101y", "400", "none", "-1d"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
