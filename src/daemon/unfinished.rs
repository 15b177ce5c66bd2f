//! The end of a swap that supd did not outlive, as far as the ledger proves one: written at boot, before
//! the first unit is looked at, so that the history and whoever asks again hear the same.
//!
//! It is a record of the ledger, so that it is there once, however often supd dies meanwhile. It changes
//! nothing of the unit's state: the machine concludes that when it restores from it, as ever.

use crate::codec::history;
use crate::codec::ledger::{Course, Entry, Replay, encode};
use crate::model::status::SwapResult;
use crate::model::{Durable, Generation, Happening, Intent, Label, Record, SwapId, UnitName};
use crate::os::Error;
use crate::store::history::{History, Line};
use crate::store::ledger::Ledger;
use std::collections::{BTreeMap, BTreeSet};

/// Why such a swap ended.
pub(super) const CAUSE: &str = "supervisor-restarted";

/// What the ledger has of one swap.
struct Swap<'a> {
    id: SwapId,
    /// The first that names it.
    first: &'a Entry,
    /// From whom to whom, if its beginning is still there: a compaction may have dropped it.
    sides: Option<(Option<Generation>, Generation)>,
    switched: bool,
}

/// The last record of a unit, and its last swap.
struct Story<'a> {
    last: &'a Entry,
    swap: Option<Swap<'a>>,
    ended: BTreeSet<SwapId>,
}

/// The ends that are missing, numbered after `seq`.
#[must_use]
pub(super) fn ends(
    replay: &Replay,
    intent: impl Fn(&UnitName) -> Option<Intent>,
    seq: u64,
    at: u64,
) -> Vec<Entry> {
    let mut stories: BTreeMap<&UnitName, Story<'_>> = BTreeMap::new();
    for (entry, _) in &replay.entries {
        let fresh = Story { last: entry, swap: None, ended: BTreeSet::new() };
        stories.entry(&entry.record.unit).or_insert(fresh).goes_on(entry);
    }
    let open = stories.iter().filter(|(_, story)| story.is_open());
    let ended = open.map(|(unit, story)| story.end(intent(unit)));
    (seq + 1..).zip(ended).map(|(seq, entry)| Entry { seq, at, ..entry }).collect()
}

/// Writes them down; from then on the replay has them, too.
///
/// # Errors
/// What the kernel answered: nothing of it is said then, and the next supd tries again.
pub(super) fn write(
    ends: Vec<Entry>,
    ledger: &mut Ledger,
    history: Option<&mut History>,
    replay: &mut Replay,
) -> Result<(), Error> {
    let lines: Vec<(u64, Vec<u8>)> = ends.iter().map(|entry| (entry.seq, encode(entry))).collect();
    ledger.append(&lines.iter().map(|(seq, line)| (*seq, line.as_slice())).collect::<Vec<_>>())?;
    let told: Vec<(u64, String)> = ends
        .iter()
        .filter_map(|entry| Some((entry.seq, history::encode(&history::of_record(entry)?))))
        .collect();
    replay.entries.extend(ends.into_iter().map(|entry| (entry, 0..0)));
    let lines: Vec<Line<'_>> =
        told.iter().map(|(seq, json)| Line { seq: *seq, json, carried: true }).collect();
    // What it does not take is made up for from the ledger, as with every record.
    if let Some(Err(error)) = history.map(|history| history.append(&lines)) {
        log::error!("history: {error}");
    }
    Ok(())
}

impl<'a> Story<'a> {
    fn goes_on(&mut self, entry: &'a Entry) {
        self.last = entry;
        match entry.record.happening {
            Happening::Began { swap_id: id, from, to, .. } => {
                self.swap = Some(Swap { id, first: entry, sides: Some((from, to)), switched: false });
            }
            Happening::Switched { swap_id: id, .. } => {
                let known = self.swap.take().filter(|swap| swap.id == id);
                let known = known.unwrap_or(Swap { id, first: entry, sides: None, switched: true });
                self.swap = Some(Swap { switched: true, ..known });
            }
            Happening::Ended { swap_id, .. } => {
                self.ended.insert(swap_id);
            }
            Happening::Waiting
            | Happening::Stopped
            | Happening::Installed { .. }
            | Happening::Undeployed { .. }
            | Happening::Pinned { .. } => {}
        }
    }

    /// Its last swap has yet to be committed or undone. A stop undoes it, and its record says so.
    fn is_open(&self) -> bool {
        let durable = &self.last.record.durable;
        let under_way = durable.swap.is_some() || durable.previous.is_some();
        under_way && !self.ended.contains(&SwapId(durable.swap_last))
    }

    fn end(&self, intent: Option<Intent>) -> Entry {
        let durable = &self.last.record.durable;
        let swap_id = SwapId(durable.swap_last);
        let swap = self.swap.as_ref().filter(|swap| swap.id == swap_id);
        // What launched where nobody served has no switch that proves it ready: to call it committed would
        // tell who deployed it of a success that nobody saw.
        let unseen = swap.is_some_and(|swap| !swap.switched && matches!(swap.sides, Some((None, _))));
        let result = result(durable, intent.filter(|intent| intent.swap_id == swap_id), unseen);
        let happening = Happening::Ended { swap_id, result, cause: Some(CAUSE.to_owned()) };
        Entry {
            by: swap.and_then(|swap| swap.first.by.clone()),
            course: Some(course(durable, swap.and_then(|swap| swap.sides))),
            record: Record { happening, ..self.last.record.clone() },
            settings: BTreeMap::new(),
            // Of the boot in which it was under way: the boot of a unit's last record tells a start of the
            // machine from one of supd alone, and nothing has come up in this one yet.
            ..self.last.clone()
        }
    }
}

fn course(durable: &Durable, sides: Option<(Option<Generation>, Generation)>) -> Course {
    let release = |generation: Generation| -> Option<Label> {
        durable.kept().find(|kept| kept.generation == generation)?.release.clone()
    };
    let to = durable.candidate.as_ref().or(durable.active.as_ref());
    let from = if durable.candidate.is_some() { &durable.active } else { &durable.previous };
    let number = |kept: &crate::model::Kept| kept.generation;
    let (from, to) = match sides {
        Some((from, to)) => (from, Some(to)),
        None => (from.as_ref().map(number), to.map(number)),
    };
    let (from_release, to_release) = (from.and_then(release), to.and_then(release));
    Course { from, from_release, to, to_release, ready_ms: None, switch_us: None }
}

/// What the machine makes of such a state when it restores it.
fn result(durable: &Durable, intent: Option<Intent>, unseen: bool) -> SwapResult {
    let goes_back = |intent: Intent| {
        durable.candidate.is_none()
            && durable.previous.as_ref().is_some_and(|previous| previous.generation == intent.to)
    };
    match intent.filter(|intent| durable.clone().finish(*intent)) {
        Some(intent) if goes_back(intent) => SwapResult::RolledBack,
        Some(_) => SwapResult::Committed,
        None if durable.candidate.is_none() && durable.previous.is_some() && !unseen => SwapResult::Committed,
        None => SwapResult::Aborted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger::tests::sample;
    use crate::model::{Kept, SwapKind};
    use SwapResult::{Aborted, Committed, RolledBack};

    const ID: SwapId = SwapId(4);

    fn kept(generation: u64) -> Option<Kept> {
        Some(Kept { generation: Generation(generation), release: None, pinned: true })
    }

    /// Under way, from 8 to 9: not switched yet, or in probation.
    fn under_way(switched: bool) -> Durable {
        let (candidate, active, previous) =
            if switched { (None, kept(9), kept(8)) } else { (kept(9), kept(8), None) };
        let swap = Some(SwapKind::Swap);
        Durable { swap, swap_last: ID.0, candidate, active, previous, ..Durable::fresh() }
    }

    fn began(from: Option<u64>) -> Happening {
        let (from, to) = (from.map(Generation), Generation(9));
        Happening::Began { swap_id: ID, kind: SwapKind::Swap, from, to }
    }

    fn switched() -> Happening {
        Happening::Switched { swap_id: ID, to: Generation(9) }
    }

    fn replay(told: &[(Happening, Durable)]) -> Replay {
        let entry = |(seq, (happening, durable)): (u64, &(Happening, Durable))| {
            let mut entry = sample(seq, "web", happening.clone());
            entry.record.durable = durable.clone();
            (entry, 0..0)
        };
        Replay { entries: (13..).zip(told).map(entry).collect(), ..Replay::default() }
    }

    fn intent(from: u64, to: u64) -> Option<Intent> {
        let (from, to) = (Some(Generation(from)), Generation(to));
        Some(Intent { swap_id: ID, from, to, kind: SwapKind::Swap })
    }

    fn first(to: Option<Kept>, previous: Option<Kept>) -> Durable {
        Durable { candidate: None, active: to, previous, ..under_way(false) }
    }

    #[test]
    fn the_end_is_what_the_state_proves() {
        let (before, after) = (under_way(false), under_way(true));
        let stranger = intent(8, 9).map(|intent| Intent { swap_id: SwapId(3), ..intent });
        for (told, intent, result) in [
            (vec![(began(Some(8)), before.clone())], None, Aborted),
            (vec![(began(Some(8)), before.clone())], stranger, Aborted),
            (vec![(began(Some(8)), before.clone())], intent(8, 9), Committed),
            (vec![(began(Some(8)), before.clone()), (switched(), after.clone())], None, Committed),
            (vec![(began(Some(8)), before.clone()), (switched(), after.clone())], intent(9, 8), RolledBack),
            // It cannot be known whether it was ever ready.
            (vec![(began(None), first(kept(9), None))], None, Aborted),
            (vec![(began(None), first(kept(9), kept(8)))], None, Aborted),
            // A compaction has dropped the beginning.
            (vec![(Happening::Waiting, before)], None, Aborted),
            (vec![(switched(), after)], None, Committed),
        ] {
            let replay = replay(&told);
            let ends = ends(&replay, |_| intent, 1000, 77);
            let [end] = &ends[..] else { panic!("{told:?}: {ends:?}") };
            assert_eq!((end.seq, end.at, &end.record.durable), (1001, 77, &told[told.len() - 1].1));
            let cause = Some(CAUSE.to_owned());
            assert_eq!(end.record.happening, Happening::Ended { swap_id: ID, result, cause }, "{told:?}");
            assert_eq!(end.course.as_ref().and_then(|course| course.to), Some(Generation(9)), "{told:?}");
        }
    }

    #[test]
    fn what_has_an_end_gets_no_other() {
        let state = tempfile::tempdir().unwrap();
        let mut known = replay(&[(began(Some(8)), under_way(false))]);
        let (mut ledger, _) = Ledger::open(state.path()).unwrap();
        let line = encode(&known.entries[0].0);
        ledger.append(&[(13, &line)]).unwrap();
        let (mut history, _) = History::open(state.path(), std::iter::empty()).unwrap();
        let missing = ends(&known, |_| None, 13, 77);
        assert_eq!(missing.len(), 1);
        write(missing, &mut ledger, Some(&mut history), &mut known).unwrap();
        assert_eq!((known.last_seq(), history.last_seq()), (14, 14));
        assert_eq!(ends(&known, |_| intent(8, 9), 14, 78), []);
        // supd dies before the machine has said a word of its own.
        let (_, again) = Ledger::open(state.path()).unwrap();
        assert_eq!((again.entries.len(), ends(&again, |_| None, 14, 78)), (2, vec![]));
        let over = Durable { swap: None, candidate: None, ..under_way(false) };
        let stopped = replay(&[(began(Some(8)), under_way(false)), (Happening::Stopped, over)]);
        assert_eq!(ends(&stopped, |_| None, 14, 78), []);
    }
}
