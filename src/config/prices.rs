//! What tokens cost, and what that comes to: in whole numbers, so that no sum ever drifts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;

use serde::Deserialize;

use super::error::{ConfigError, obeyed};
use super::layers::Layers;
use super::settings;

/// Decimals of a price of a million tokens.
const DECIMALS: u32 = 6;

/// What tokens cost: `prices.NAME.…`, `usage.currency`.
#[derive(Debug, Clone)]
pub struct Prices {
    /// What they are in.
    pub currency: Currency,
    by_model: BTreeMap<String, Price>,
}

/// What the tokens of one model cost. What has no price, and is used all the same, makes a sum incomplete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// `prices.NAME.input`: of what was sent.
    pub input: Option<Rate>,
    /// `prices.NAME.cached`, else as `input`: of what was sent and still in mind.
    pub cached: Option<Rate>,
    /// `prices.NAME.output`: of what was answered.
    pub output: Option<Rate>,
}

/// What a million tokens cost, in millionths of the currency's unit: what one token costs, in millionths of millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rate(u64);

/// What something costs, in millionths of millionths of the currency's unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(u128);

/// What prices are in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Currency(String);

impl Prices {
    /// Whether nothing has a price.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_model.is_empty()
    }

    /// What a model's tokens cost. Azure does not tell upper from lower case in the names of deployments.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<&Price> {
        let alike = || self.by_model.iter().find(|(name, _)| name.eq_ignore_ascii_case(model)).map(|(_, price)| price);
        self.by_model.get(model).or_else(alike)
    }
}

impl Rate {
    /// What so many tokens cost.
    #[must_use]
    pub fn of(self, tokens: u64) -> Cost {
        Cost(u128::from(tokens) * u128::from(self.0))
    }
}

impl TryFrom<String> for Rate {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        /// No million of tokens costs more, in any currency.
        const MOST: u64 = 1_000_000_000;
        let expected = || {
            format!(
                "expected what a million tokens cost, like 2.5: a number of at least 0 and at most {MOST}, with at most {DECIMALS} decimals"
            )
        };
        let (whole, decimals) = text.split_once('.').unwrap_or((&text, "0"));
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(decimals) || decimals.len() > DECIMALS as usize {
            return Err(expected());
        }
        let whole = whole
            .parse::<u64>()
            .ok()
            .filter(|whole| *whole < MOST || (*whole == MOST && decimals.bytes().all(|digit| digit == b'0')));
        let fraction = format!("{decimals:0<width$}", width = DECIMALS as usize).parse::<u64>();
        let (Some(whole), Ok(fraction)) = (whole, fraction) else { return Err(expected()) };
        Ok(Self(whole * 10_u64.pow(DECIMALS) + fraction))
    }
}

impl Cost {
    /// With four decimals, rounded: for people.
    #[must_use]
    pub fn rounded(&self) -> String {
        const SHOWN: u128 = 10_000;
        let unit = 10_u128.pow(2 * DECIMALS) / SHOWN;
        let rounded = self.0.saturating_add(unit / 2) / unit;
        format!("{}.{:04}", rounded / SHOWN, rounded % SHOWN)
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

/// To the last decimal there is.
impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10_u128.pow(2 * DECIMALS);
        let exact = format!("{}.{:0width$}", self.0 / unit, self.0 % unit, width = 2 * DECIMALS as usize);
        f.write_str(exact.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl TryFrom<String> for Currency {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let fits = (1..=8).contains(&text.chars().count()) && text.chars().all(|c| !obeyed(c) && !c.is_whitespace());
        if fits { Ok(Self(text)) } else { Err("expected a word of at most 8 characters, like USD".to_owned()) }
    }
}

impl Currency {
    /// The word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn prices(
    layers: &Layers,
    currency: Currency,
    settings: BTreeMap<String, settings::Price>,
) -> Result<Prices, ConfigError> {
    let mut by_model: BTreeMap<String, Price> = BTreeMap::new();
    for (model, settings::Price { input, cached, output }) in settings {
        let refused = |problem: String| layers.bad_value(&format!("prices.{model}"), problem);
        if input.or(cached).or(output).is_none() {
            return Err(refused("names no price; set input, output, or both".to_owned()));
        }
        if let Some(twin) = by_model.keys().find(|name| name.eq_ignore_ascii_case(&model)) {
            return Err(refused(format!("is the same model as prices.{twin}: upper and lower case mean the same")));
        }
        by_model.insert(model, Price { input, cached, output });
    }
    Ok(Prices { currency, by_model })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> Rate {
        Rate::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn a_currency_is_a_word_that_is_seen() {
        let read = |text: &str| Currency::try_from(text.to_owned()).is_ok();
        assert!(["USD", "€", "kr"].into_iter().all(read));
        for bad in ["", "US D", "US\u{1b}D", "US\u{202e}D", "US\u{200b}D", "US\u{2028}D", "\u{feff}USD"] {
            assert!(!read(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_price_is_read_exactly() {
        for (text, millionths) in [
            ("0", 0),
            ("2.5", 2_500_000),
            ("2.50", 2_500_000),
            ("10", 10_000_000),
            ("0.000001", 1),
            ("0.1", 100_000),
            ("1000000000", 1_000_000_000_000_000),
        ] {
            assert_eq!(rate(text), Rate(millionths), "{text}");
        }
        for bad in
            ["", "-1", "+1", "1.", ".5", "1e3", "NaN", "inf", "1,5", "0.0000001", "1000000001", "1000000000.1", "²"]
        {
            assert!(Rate::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sum_is_exact_to_the_last_token() {
        let mut sum = Cost::default();
        for _ in 0..1_000_000 {
            sum += rate("0.1").of(1);
        }
        assert_eq!(sum.to_string(), "0.1", "a sum of doubles is 0.100000000001...");
        assert_eq!(rate("2.5").of(1).to_string(), "0.0000025");
        assert!(rate("1000000000").of(u64::MAX) > Cost::default());
    }

    #[test]
    fn people_see_four_decimals() {
        for (cost, shown) in
            [(0, "0.0000"), (49_999_999, "0.0000"), (50_000_000, "0.0001"), (1_999_950_000_000, "2.0000")]
        {
            assert_eq!(Cost(cost).rounded(), shown);
        }
    }
}
