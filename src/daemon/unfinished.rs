//! Who asked for the swaps that the last supd did not outlive. The machine says how each ended; the record of
//! that end names whoever asked for its beginning.

use crate::codec::ledger::Replay;
use crate::machine;
use crate::model::status::SwapStatus;
use crate::model::{Author, Durable, Happening, Intent, SwapId, UnitName};
use std::collections::BTreeMap;

/// The swaps that were under way when supd ended, and who asked for them.
#[derive(Debug, Default)]
pub struct Unfinished {
    swaps: BTreeMap<UnitName, (SwapStatus, Option<Author>)>,
}

impl Unfinished {
    /// As the ledger and the intents have them.
    #[must_use]
    pub fn of(
        replay: &Replay,
        last: &BTreeMap<UnitName, Durable>,
        intent: impl Fn(&UnitName) -> Option<Intent>,
    ) -> Self {
        let open = last.iter().filter_map(|(unit, durable)| {
            Some((unit.clone(), (machine::unfinished(durable, intent(unit))?, None)))
        });
        let mut swaps: BTreeMap<_, (SwapStatus, Option<Author>)> = open.collect();
        for (entry, _) in &replay.entries {
            let (Happening::Began { swap_id, .. } | Happening::Switched { swap_id, .. }) =
                entry.record.happening
            else {
                continue;
            };
            if let Some((swap, by)) = swaps.get_mut(&entry.record.unit) {
                if swap.swap_id == swap_id {
                    *by = by.take().or_else(|| entry.by.clone());
                }
            }
        }
        Self { swaps }
    }

    /// How this one ended, by what the machine makes of it.
    #[must_use]
    pub fn end(&self, unit: &UnitName, swap: SwapId) -> Option<&SwapStatus> {
        self.swaps.get(unit).map(|(status, _)| status).filter(|status| status.swap_id == swap)
    }

    /// Who asked for what has ended so.
    #[must_use]
    pub fn author(&self, unit: &UnitName, happening: &Happening) -> Option<Author> {
        let Happening::Ended { swap_id, .. } = happening else { return None };
        let (swap, by) = self.swaps.get(unit)?;
        by.clone().filter(|_| swap.swap_id == *swap_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger::tests::sample;
    use crate::model::{Generation, Kept, SwapKind};

    #[test]
    fn the_end_is_of_whoever_asked_for_the_beginning() {
        let kept =
            |generation| Some(Kept { generation: Generation(generation), release: None, pinned: true });
        let (swap, swap_last) = (Some(SwapKind::Swap), 4);
        let durable = Durable { swap, swap_last, active: kept(8), candidate: kept(9), ..Durable::fresh() };
        let (swap_id, from, to) = (SwapId(4), Some(Generation(8)), Generation(9));
        let began = Happening::Began { swap_id, kind: SwapKind::Swap, from, to };
        let author = |id: &str| Author {
            uid: 1000,
            login_uid: None,
            verb: "swap".into(),
            reason: None,
            request_id: Some(id.into()),
        };
        let mut first = sample(13, "web", began);
        (first.by, first.record.durable) = (Some(author("first")), durable.clone());
        let mut later = sample(14, "web", Happening::Waiting);
        (later.by, later.record.durable) = (Some(author("later")), durable.clone());
        let unit = first.record.unit.clone();
        let replay = Replay { entries: vec![(first, 0..0), (later, 0..0)], ..Replay::default() };
        let last = BTreeMap::from([(unit.clone(), durable)]);
        let unfinished = Unfinished::of(&replay, &last, |_| None);
        let ended = |swap_id| {
            let (result, cause) = (crate::model::status::SwapResult::Aborted, None);
            Happening::Ended { swap_id, result, cause }
        };
        assert_eq!(unfinished.author(&unit, &ended(SwapId(4))), Some(author("first")));
        assert_eq!(unfinished.author(&unit, &ended(SwapId(5))), None);
        assert_eq!(unfinished.end(&unit, SwapId(4)).map(|end| end.to), Some(Generation(9)));
        assert_eq!(unfinished.end(&unit, SwapId(3)), None);
    }
}
