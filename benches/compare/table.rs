//! What was measured, as a table in Markdown: the median of all rounds, how far they lie apart, and what each is to another.

use std::collections::BTreeMap;

use crate::load::{Latencies, latencies};
use crate::work::{Sample, Work};

/// All rounds of one kind of work, by who did it.
#[derive(Debug, Default)]
pub(crate) struct Table(BTreeMap<&'static str, Rounds>);

#[derive(Debug)]
struct Rounds {
    costs: Vec<f64>,
    latencies: Latencies,
}

impl Table {
    pub(crate) fn add(&mut self, who: &'static str, sample: Sample) {
        let rounds = self.0.entry(who).or_insert_with(|| Rounds { costs: Vec::new(), latencies: latencies() });
        rounds.costs.push(sample.cost);
        rounds.latencies.add(sample.latencies).expect("like histograms");
    }

    /// Everything against `base`, in the order of `who`.
    pub(crate) fn print(&self, work: Work, who: &[&'static str], base: &str) {
        println!("\n### {}\n", work.title());
        println!(
            "| | median | least – most | × {base} | mean µs | p50 µs | p99 µs | p99.9 µs |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
        );
        let reference = self.0.get(base);
        for name in who {
            let Some(rounds) = self.0.get(name) else { continue };
            let ratio = reference.map_or_else(|| "–".to_owned(), |reference| format!("{:.3}", rounds.ratio(reference)));
            let [least, most] = rounds.extremes();
            let micros = |nanoseconds: f64| {
                if work.has_latencies() { format!("{:.0}", nanoseconds / 1e3) } else { "–".to_owned() }
            };
            let mean = micros(rounds.latencies.mean());
            let [p50, p99, p999] =
                [0.5, 0.99, 0.999].map(|quantile| micros(rounds.latencies.value_at_quantile(quantile) as f64));
            let cost = match median(rounds.costs.clone()) {
                0.0 => "– | – | –".to_owned(),
                median => format!("{median:.1} | {least:.1} – {most:.1} | {ratio}"),
            };
            println!("| {name} | {cost} | {mean} | {p50} | {p99} | {p999} |");
        }
    }
}

impl Rounds {
    /// The median of each round's own ratio: who takes turns meets the machine in the same mood.
    fn ratio(&self, base: &Self) -> f64 {
        median(self.costs.iter().zip(&base.costs).map(|(cost, base)| cost / base).collect())
    }

    fn extremes(&self) -> [f64; 2] {
        let least = self.costs.iter().copied().fold(f64::INFINITY, f64::min);
        [least, self.costs.iter().copied().fold(0.0, f64::max)]
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
