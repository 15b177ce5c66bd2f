//! Workers that fail again and again, for the history: the first few times one by one, then summed up,
//! so that a server which cannot live pushes nothing else out.

use crate::model::{Generation, Tick, UnitName};
use std::collections::BTreeMap;
use std::time::Duration;

/// So many in a row have an entry of their own.
const BURST: u32 = 5;
/// Then this long is summed up, and twice as long each time, up to the second.
const PAUSE: Duration = Duration::from_secs(600);
const PAUSE_MAX: Duration = Duration::from_secs(6 * 3600);
/// A unit that was well for so long begins anew.
const CALM: Duration = Duration::from_secs(3600);
/// So many entries of all units together may come at once, and one more each time this long is over:
/// five thousand entries then reach back two weeks at least.
const ENTRIES: u64 = 200;
const REFILL: Duration = Duration::from_secs(300);
/// Units that were well for long are forgotten once there are more than this.
const KNOWN: usize = 64;

/// For one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// Whose worker.
    pub unit: UnitName,
    /// Of which generation; the last one's.
    pub generation: Generation,
    /// How the last one ended.
    pub cause: String,
    /// How many.
    pub times: u64,
}

#[derive(Debug)]
struct Loop {
    /// How many entries in a row.
    told: u32,
    /// Until then it is summed up.
    until: Tick,
    held: Option<Crash>,
}

/// Every unit whose workers failed of late.
#[derive(Debug)]
pub struct Crashes {
    units: BTreeMap<UnitName, Box<Loop>>,
    /// How many entries may be written, as of then.
    left: u64,
    since: Tick,
}

impl Default for Crashes {
    fn default() -> Self {
        Self { units: BTreeMap::new(), left: ENTRIES, since: Tick::default() }
    }
}

impl Crashes {
    /// A worker failed. Gives what is to be written now.
    pub fn heard(&mut self, crash: &Crash, now: Tick) -> Option<Crash> {
        if self.units.len() > KNOWN && !self.units.contains_key(&crash.unit) {
            self.units.retain(|_, one| one.held.is_some() || now.since(one.until) < CALM);
        }
        let fresh = || Loop { told: 0, until: now, held: None }.into();
        let one = self.units.entry(crash.unit.clone()).or_insert_with(fresh);
        if one.held.is_none() && now.since(one.until) >= CALM {
            one.told = 0;
        }
        let times = one.held.take().map_or(0, |held| held.times) + crash.times;
        one.held = Some(Crash { times, ..crash.clone() });
        self.tell(&crash.unit, now)
    }

    /// When a sum is to be written.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        self.units.values().filter(|one| one.held.is_some()).map(|one| one.until).min()
    }

    /// The sums that are due.
    pub fn due(&mut self, now: Tick) -> Vec<Crash> {
        let due = |(unit, one): (&UnitName, &mut Box<Loop>)| {
            (one.held.is_some() && one.until <= now).then(|| unit.clone())
        };
        let due: Vec<UnitName> = self.units.iter_mut().filter_map(due).collect();
        due.iter().filter_map(|unit| self.tell(unit, now)).collect()
    }

    fn tell(&mut self, unit: &UnitName, now: Tick) -> Option<Crash> {
        self.refill(now);
        let one = self.units.get_mut(unit).filter(|one| one.until <= now)?;
        if self.left == 0 {
            one.until = now.after(REFILL);
            return None;
        }
        let held = one.held.take()?;
        self.left -= 1;
        one.told = one.told.saturating_add(1);
        let doubled = one.told.checked_sub(BURST).map(|over| PAUSE.saturating_mul(1 << over.min(10)));
        one.until = now.after(doubled.unwrap_or_default().min(PAUSE_MAX));
        Some(held)
    }

    fn refill(&mut self, now: Tick) {
        let more = now.since(self.since).as_secs() / REFILL.as_secs();
        if more > 0 {
            self.left = self.left.saturating_add(more).min(ENTRIES);
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(unit: &str, number: u64) -> Crash {
        let unit = UnitName::new(unit).unwrap();
        Crash { unit, generation: Generation(number), cause: number.to_string(), times: 1 }
    }

    fn at(seconds: u64) -> Tick {
        Tick::default().after(Duration::from_secs(1_000_000 + seconds))
    }

    /// A worker that lives for a second, for so many seconds: how many entries, and how many failures
    /// these stand for.
    fn looping(crashes: &mut Crashes, unit: &str, seconds: std::ops::Range<u64>) -> (u64, u64) {
        let mut told = Vec::new();
        for second in seconds {
            told.extend(crashes.due(at(second)));
            told.extend(crashes.heard(&crash(unit, second), at(second)));
        }
        (told.len() as u64, told.iter().map(|crash| crash.times).sum())
    }

    #[test]
    fn a_loop_is_told_at_first_and_then_summed_up() {
        let mut crashes = Crashes::default();
        assert_eq!(looping(&mut crashes, "web", 0..5), (5, 5));
        assert_eq!(looping(&mut crashes, "web", 5..604), (0, 0));
        assert_eq!(crashes.deadline(), Some(at(604)));
        let sum = crashes.due(at(604));
        assert_eq!(sum, [Crash { times: 599, ..crash("web", 603) }]);
        assert_eq!((crashes.due(at(604)), crashes.deadline()), (Vec::new(), None));
        // Another unit's single failure is told at once all the while.
        assert_eq!(crashes.heard(&crash("api", 1), at(605)), Some(crash("api", 1)));
    }

    #[test]
    fn a_day_of_looping_is_a_dozen_entries_and_an_hour_of_calm_is_the_end() {
        let mut crashes = Crashes::default();
        let (entries, times) = looping(&mut crashes, "web", 0..86_400);
        assert!((5..=16).contains(&entries), "{entries}");
        assert!(times > 40_000, "{times}");
        let rest = crashes.due(at(200_000));
        assert_eq!(times + rest[0].times, 86_400, "none is left out");
        assert_eq!(looping(&mut crashes, "web", 300_000..300_005), (5, 5));
    }

    #[test]
    fn a_thousand_loops_have_a_bound_together() {
        let mut crashes = Crashes::default();
        let mut entries = 0;
        for second in (0..86_400).step_by(600) {
            entries += crashes.due(at(second)).len();
            for unit in 0..1000 {
                entries += usize::from(crashes.heard(&crash(&format!("u{unit}"), 1), at(second)).is_some());
            }
        }
        assert!((200..=200 + 288).contains(&entries), "{entries}");
    }
}
