//! What supd counts of itself for those who watch many machines, and where they get it.

use super::ledger::SwapKind;
use super::status::SwapResult;
use super::{Generation, SwapId, UnitName};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `[Metrics]` of supd.toml. By default nothing is counted, written or listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Listen: where it answers HTTP.
    pub listen: Option<MetricsPlace>,
    /// File: what is written anew at each interval.
    pub file: Option<PathBuf>,
    /// IntervalSec: between two files.
    pub interval: Duration,
}

impl Default for MetricsSettings {
    fn default() -> Self {
        Self { listen: None, file: None, interval: Duration::from_secs(15) }
    }
}

impl MetricsSettings {
    /// Whether anybody is to see what is counted.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.listen.is_some() || self.file.is_some()
    }
}

/// Where metrics are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsPlace {
    /// A port of a loopback address.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Path(PathBuf),
}

/// How long something took, in buckets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were at most as long as each bound.
    pub buckets: Vec<u64>,
    /// All of them.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
}

impl Histogram {
    /// One more. `bounds` are the same each time, in their order.
    pub fn add(&mut self, bounds: &[Duration], took: Duration) {
        self.buckets.resize(bounds.len(), 0);
        for (bound, bucket) in bounds.iter().zip(&mut self.buckets) {
            *bucket += u64::from(took <= *bound);
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
    }
}

/// From the launch to ready: servers that load models take minutes.
pub const READY_BOUNDS: &[Duration] = &[
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
];

/// From the intent saved until new connections reached the new generation.
pub const SWITCH_BOUNDS: &[Duration] = &[
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(250),
];

/// What was counted of one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitTally {
    /// Changes that are over, by kind and result. The kind of one that an earlier image of supd began is not known.
    pub swaps: BTreeMap<(Option<SwapKind>, SwapResult), u64>,
    /// From the launch to ready.
    pub ready: Histogram,
    /// How long switches took.
    pub switch: Histogram,
    /// Workers that were launched.
    pub launches: u64,
    /// Those of them that took the place of one of their generation.
    pub restarts: u64,
    /// Workers that failed by themselves.
    pub failures: u64,
    /// What is under way.
    began: Option<(SwapId, SwapKind)>,
    /// What was over last: a record that the disk did not take is given on again.
    ended: Option<SwapId>,
    /// The workers of each generation that have been launched.
    seen: BTreeSet<(Generation, u32)>,
}

impl UnitTally {
    /// A change has begun.
    pub fn began(&mut self, swap: SwapId, kind: SwapKind) {
        self.began = Some((swap, kind));
    }

    /// It is over.
    pub fn ended(
        &mut self,
        swap: SwapId,
        result: SwapResult,
        (ready, switch): (Option<Duration>, Option<Duration>),
    ) {
        if self.ended.replace(swap) == Some(swap) {
            return;
        }
        let kind = self.began.take_if(|(began, _)| *began == swap).map(|(_, kind)| kind);
        *self.swaps.entry((kind, result)).or_default() += 1;
        ready.into_iter().for_each(|took| self.ready.add(READY_BOUNDS, took));
        switch.into_iter().for_each(|took| self.switch.add(SWITCH_BOUNDS, took));
    }

    /// A worker is launched.
    pub fn launched(&mut self, generation: Generation, index: u32) {
        self.launches += 1;
        self.restarts += u64::from(!self.seen.insert((generation, index)));
    }

    /// No process of a generation is left, and none will be launched.
    pub fn retired(&mut self, generation: Generation) {
        self.seen.retain(|(seen, _)| *seen != generation);
    }
}

/// What was counted, by unit. A unit that is gone keeps its counts: there are as many as supd may have units.
pub type Tallies = BTreeMap<UnitName, UnitTally>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_launch_of_the_same_worker_is_a_restart() {
        let mut tally = UnitTally::default();
        for (generation, index) in [(1, 0), (1, 1), (1, 0), (2, 0)] {
            tally.launched(Generation(generation), index);
        }
        assert_eq!((tally.launches, tally.restarts), (4, 1));
        tally.retired(Generation(1));
        assert_eq!(tally.seen.len(), 1);
    }

    #[test]
    fn the_kind_is_of_the_swap_that_began() {
        let mut tally = UnitTally::default();
        tally.began(SwapId(3), SwapKind::Rollback);
        tally.ended(SwapId(2), SwapResult::Committed, (None, None));
        for _the_record_once_more in 0..2 {
            tally.ended(SwapId(3), SwapResult::Committed, (Some(Duration::from_secs(3)), None));
        }
        let expected =
            [((None, SwapResult::Committed), 1), ((Some(SwapKind::Rollback), SwapResult::Committed), 1)];
        assert_eq!(tally.swaps, BTreeMap::from(expected));
        assert_eq!((tally.ready.count, tally.ready.buckets[3], tally.ready.buckets[4]), (1, 0, 1));
        assert_eq!((tally.switch.count, tally.switch.buckets.len()), (0, 0));
    }
}
