//! Each swap that began has one end in the history: also where supd dies, and where the disk does not take it at
//! first.

use super::books::{Book, SwapBook};
use super::ledger::numbers;
use super::{Checked, Rule, Violation, must};
use crate::world::{Unit, World, number};
use supd::model::status::SwapResult;
use supd::model::{Durable, SwapId};

impl Book {
    /// What the supd that comes up now owes the history, by what is on disk.
    pub(super) fn owe_end(&mut self, unit: &Unit) {
        self.owed_end = self.owes(unit);
        if let Some((id, _)) = self.owed_end {
            if let Some(swap) = self.swap_mut(id) {
                (swap.lost, swap.ended_sent) = (false, None);
            }
        }
    }

    fn owes(&self, unit: &Unit) -> Option<(SwapId, SwapResult)> {
        let ledger = &unit.ledger;
        if self.finished_warm(unit).is_some() {
            return Some((unit.intent?.swap_id, SwapResult::Committed));
        }
        let open = ledger.swap.is_some() || ledger.candidate.is_some() || ledger.previous.is_some();
        let id = SwapId(ledger.swap_last);
        let active = number(ledger.active.as_ref());
        let intent = unit.intent.filter(|intent| intent.from.is_some() && intent.from == active);
        let goal = intent.map(|intent| intent.to).or(active);
        let result = match self.swap(id) {
            Some(swap) if intent.is_some() && goal == swap.from => SwapResult::RolledBack,
            Some(swap) if goal == Some(swap.to) && swap.from.is_some() => SwapResult::Committed,
            // Who was launched where nobody served has not been seen ready.
            Some(_) | None => SwapResult::Aborted,
        };
        open.then_some((id, result))
    }

    /// Whether this is the end of a swap that is no longer under way: one that supd did not outlive, or one that
    /// could not be written before another began.
    pub(super) fn tells_past(
        &mut self,
        id: SwapId,
        result: SwapResult,
        durable: &Durable,
    ) -> Result<bool, Violation> {
        if let Some((_, wanted)) = self.owed_end.take_if(|(owed, _)| *owed == id) {
            must(Rule::Ends, result == wanted, || format!("swap {id} ended {wanted}, and is said {result}"))?;
            must(Rule::Ends, numbers(durable) == numbers(&self.sent), || {
                format!("swap {id} {result}: {durable:?}, should be {:?}", self.sent)
            })?;
            if let Some(swap) = self.swap_mut(id) {
                swap.ended_sent = Some(result);
            }
            return Ok(true);
        }
        let later = self.swaps.iter().any(|swap| swap.id > id);
        let Some(swap) = self.swap(id) else { return Ok(false) };
        let failed = swap.end_failed || swap.began_failed;
        let again = failed && (swap.dropped || swap.ended_sent == Some(result));
        if !(swap.past || later || again) {
            return Ok(false);
        }
        let same = swap.dropped || swap.ended_sent.is_none_or(|said| said == result);
        must(Rule::Ends, failed && same, || format!("{swap:?} ends once more, {result}"))?;
        Ok(true)
    }

    /// Nothing is owed after a start, and nothing is said twice.
    pub(super) fn ends_well(&self, world: &World) -> Checked {
        let owed = self.owed_end.filter(|_| !world.quit);
        must(Rule::Ends, owed.is_none(), || format!("supd comes up, and does not say the end: {owed:?}"))?;
        let twice = self.swaps.iter().find(|swap| swap.ends > 1);
        must(Rule::Ends, twice.is_none(), || format!("the history has two ends: {twice:?}"))
    }

    /// Nothing is under way any more: each that began has its end.
    pub(super) fn all_ended(&self, running: bool) -> Checked {
        // One that is hopeless goes on being tried; and so does a disk that is full.
        let is_over = |swap: &&SwapBook| swap.began_saved && swap.ended_sent.is_some() && !swap.lost;
        let mut swaps = self.swaps.iter();
        if running {
            swaps.next_back();
        }
        let open = swaps.filter(is_over).find(|swap| swap.ended.is_none() && !self.unsaved);
        must(Rule::Ends, open.is_none(), || format!("the history has no end of {open:?}"))
    }
}

impl super::Oracle {
    /// Everything has come to rest.
    pub(crate) fn all_ended(&self, world: &World, running: impl Fn(&Unit) -> bool) -> Checked {
        self.books.iter().try_for_each(|book| {
            let unit = world.unit(book.place).filter(|unit| unit.known);
            unit.map_or(Ok(()), |unit| book.all_ended(running(unit)))
        })
    }
}
