//! Who answered how many requests at each moment, how fast, and what was lost.

use super::version::Version;
use std::fmt;
use std::time::Duration;

/// The finest moment that is told apart.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// Ten minutes of ticks; what comes later counts for the last one.
const TICKS_MAX: usize = 12_000;

/// What became of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered, whole, by this version.
    Answered(Version),
    /// Lost.
    Lost(Loss),
    /// A kept-alive connection was closed as idle just as the request was sent.
    IdleClose,
}

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nobody listened.
    Refused,
    /// The connection was reset.
    Reset,
    /// No whole answer in time.
    TimedOut,
    /// The connection ended before the answer did.
    CutShort,
    /// An answer, but not 200 from a version of the demo.
    Wrong,
}

impl Loss {
    const ALL: [Self; 5] = [Self::Refused, Self::Reset, Self::TimedOut, Self::CutShort, Self::Wrong];

    fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Reset => "reset",
            Self::TimedOut => "timed out",
            Self::CutShort => "cut short",
            Self::Wrong => "answered wrongly",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// The requests of one moment, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Moment {
    /// By [`Version::index`].
    pub(super) answered: [u64; Version::ALL.len()],
    pub(super) lost: u64,
}

impl Moment {
    /// All answers together.
    pub(super) fn total(&self) -> u64 {
        self.answered.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        for (sum, count) in self.answered.iter_mut().zip(other.answered) {
            *sum += count;
        }
        self.lost += other.lost;
    }
}

/// Everything that the load has seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Timeline {
    ticks: Vec<Moment>,
    total: Moment,
    lost: [u64; Loss::ALL.len()],
    idle_closes: u64,
    latencies: Latencies,
}

impl Timeline {
    /// Notes a request that ended at `at` (since the beginning) and took `took`.
    pub(super) fn record(&mut self, at: Duration, took: Duration, outcome: Outcome) {
        let tick = Self::tick_of(at).min(TICKS_MAX - 1);
        if self.ticks.len() <= tick {
            self.ticks.resize(tick + 1, Moment::default());
        }
        let mut one = Moment::default();
        match outcome {
            Outcome::Answered(version) => {
                one.answered[version.index()] = 1;
                self.latencies.record(took);
            }
            Outcome::Lost(loss) => {
                one.lost = 1;
                self.lost[loss as usize] += 1;
            }
            Outcome::IdleClose => self.idle_closes += 1,
        }
        self.ticks[tick].add(&one);
        self.total.add(&one);
    }

    /// How many ticks have wholly passed at `at`.
    pub(super) fn tick_of(at: Duration) -> usize {
        usize::try_from(at.as_millis() / TICK.as_millis()).unwrap_or(usize::MAX)
    }

    /// The ticks `from..to` as one moment; ticks without a request count as empty.
    pub(super) fn span(&self, from: usize, to: usize) -> Moment {
        let mut sum = Moment::default();
        for tick in self.ticks.iter().take(to).skip(from) {
            sum.add(tick);
        }
        sum
    }

    /// Everything so far as one moment.
    pub(super) fn total(&self) -> Moment {
        self.total
    }

    /// All requests that were answered or lost. One that met an idle close reached nobody.
    pub(super) fn requests(&self) -> u64 {
        self.total.total() + self.total.lost
    }

    /// How many met an idle close.
    pub(super) fn idle_closes(&self) -> u64 {
        self.idle_closes
    }

    /// This share of the answers (in thousandths) took no longer; `None`: no answer yet.
    pub(super) fn quantile(&self, thousandths: u64) -> Option<Duration> {
        self.latencies.quantile(thousandths)
    }

    /// `3 lost (2 refused, 1 reset)`, or `none lost`.
    pub(super) fn losses(&self) -> String {
        if self.total.lost == 0 {
            return "none lost".into();
        }
        let kinds = Loss::ALL.iter().zip(self.lost).filter(|(_, count)| *count > 0);
        let kinds: Vec<String> = kinds.map(|(loss, count)| format!("{count} {loss}")).collect();
        format!("{} lost ({})", self.total.lost, kinds.join(", "))
    }
}

/// Buckets in each doubling of the time: an answer's time is known to an eighth.
const STEPS: u32 = 8;

/// Counts of answers by their time, in microseconds, in buckets that grow with it.
#[derive(Debug, Clone, Default)]
struct Latencies {
    counts: Vec<u64>,
}

impl Latencies {
    fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = Self::bucket(micros);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    /// Below [`STEPS`] each microsecond has its own bucket, above each doubling has [`STEPS`].
    fn bucket(micros: u64) -> usize {
        let steps = u64::from(STEPS);
        if micros < steps {
            return usize::try_from(micros).unwrap_or_default();
        }
        let doublings = micros.ilog2() - STEPS.ilog2();
        let within = (micros >> doublings) - steps;
        usize::try_from(steps * (1 + u64::from(doublings)) + within).unwrap_or(usize::MAX)
    }

    /// The longest time that falls into a bucket.
    fn longest(bucket: usize) -> u64 {
        let (steps, bucket) = (u64::from(STEPS), bucket as u64);
        if bucket < steps {
            return bucket;
        }
        let doublings = bucket / steps - 1;
        ((steps + bucket % steps + 1) << doublings) - 1
    }

    fn quantile(&self, thousandths: u64) -> Option<Duration> {
        let total: u64 = self.counts.iter().sum();
        let rank = (total * thousandths).div_ceil(1000).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(Self::longest(bucket)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn requests_count_for_the_moment_in_which_they_end() {
        let mut timeline = Timeline::default();
        timeline.record(ms(0), ms(5), Outcome::Answered(Version::Old));
        timeline.record(ms(49), ms(5), Outcome::Answered(Version::Old));
        timeline.record(ms(50), ms(5), Outcome::Answered(Version::New));
        timeline.record(ms(149), ms(5), Outcome::Lost(Loss::Reset));
        timeline.record(ms(149), ms(5), Outcome::Lost(Loss::Refused));
        timeline.record(ms(149), ms(5), Outcome::IdleClose);
        assert_eq!(timeline.span(0, 1), Moment { answered: [2, 0, 0, 0], lost: 0 });
        assert_eq!(timeline.span(1, 3), Moment { answered: [0, 1, 0, 0], lost: 2 });
        assert_eq!(timeline.span(3, 900), Moment::default());
        assert_eq!(timeline.total(), timeline.span(0, 3));
        assert_eq!((timeline.requests(), timeline.idle_closes()), (5, 1));
        assert_eq!(timeline.losses(), "2 lost (1 refused, 1 reset)");
        timeline.record(Duration::from_secs(1 << 40), ms(5), Outcome::Lost(Loss::CutShort));
        assert!(timeline.ticks.len() <= TICKS_MAX);
        assert_eq!(timeline.total().lost, 3);
    }

    #[test]
    fn nothing_lost_is_said_in_words() {
        assert_eq!(Timeline::default().losses(), "none lost");
        assert_eq!(Timeline::default().quantile(990), None);
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap_and_hold_what_they_say() {
        let mut last = 0;
        for micros in 0..100_000_u64 {
            let bucket = Latencies::bucket(micros);
            assert!(bucket == last || bucket == last + 1, "{micros}");
            last = bucket;
            let longest = Latencies::longest(bucket);
            assert!(longest >= micros && longest - micros <= micros / 8, "{micros} {longest}");
        }
        assert!(Latencies::bucket(u64::MAX) < 1024);
    }

    #[test]
    fn a_quantile_is_the_time_that_so_many_stay_below() {
        let mut timeline = Timeline::default();
        for millis in 1..=1000 {
            timeline.record(ms(0), ms(millis), Outcome::Answered(Version::Old));
        }
        for (thousandths, millis) in [(500, 500), (990, 990), (1000, 1000), (1, 1)] {
            let quantile = timeline.quantile(thousandths).unwrap().as_micros();
            let exact = u128::from(millis * 1000_u64);
            assert!(quantile >= exact && quantile <= exact * 9 / 8, "{thousandths}: {quantile}");
        }
    }
}
