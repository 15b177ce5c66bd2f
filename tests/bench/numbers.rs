//! Many measurements of one thing, and what can honestly be said about them.

use std::fmt;
use std::time::Duration;

/// Measurements in order; never empty.
#[derive(Debug, Clone)]
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// # Panics
    /// Without a single measurement: the benchmark itself is at fault.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        assert!(!values.is_empty(), "a figure without a measurement");
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn millis<'a>(spans: impl IntoIterator<Item = &'a Duration>) -> Self {
        Self::of(spans.into_iter().map(|span| millis(*span)))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// The value that `share` of them do not exceed (nearest rank).
    pub(crate) fn at(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0[rank.clamp(1, self.0.len()) - 1]
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 { self.0[middle] } else { (self.0[middle - 1] + self.0[middle]) / 2.0 }
    }

    pub(crate) fn min(&self) -> f64 {
        self.0[0]
    }

    pub(crate) fn max(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Where the true median lies in 19 cases of 20, whatever the shape of the noise: the ranks
    /// n/2 ± 0.98 √n, by the binomial distribution of how many lie below it.
    pub(crate) fn interval(&self) -> (f64, f64) {
        let count = self.0.len() as f64;
        let off = 0.98 * count.sqrt();
        let low = (count / 2.0 - off).floor().max(0.0) as usize;
        let high = ((count / 2.0 + off).ceil() as usize).min(self.0.len() - 1);
        (self.0[low], self.0[high])
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count() == 1 {
            return f.write_str(&short(self.median()));
        }
        write!(f, "{} ({} to {})", short(self.median()), short(self.min()), short(self.max()))
    }
}

/// Three figures that count, and no more.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..0.995 => format!("{value:.3}"),
        ..9.95 => format!("{value:.2}"),
        ..99.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

pub(crate) fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
