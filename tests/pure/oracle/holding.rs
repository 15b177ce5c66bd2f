//! A supd that has crashed too often by its own fault begins nothing by anybody's word until a person has seen to
//! it; and then it does what it should have done.

use super::books::Book;
use super::releases::launchable;
use super::{Checked, Oracle, Rule, must};
use crate::brain::Brain;
use crate::lives::boot_starts;
use crate::sim::{Checked as Stepped, Sim};
use crate::step::Ask;
use crate::world::{Unit, number};
use supd::machine::Input;
use supd::model::status::{UnitState, UnitStatus};
use supd::model::{ClientId, ExitStatus, Happening, Record, Reply, SwapKind, Want};

/// What becomes of a unit once a person has seen to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// What served is launched again, as it was.
    known: bool,
}

/// Whether a start of supd starts it, with this file.
fn starts(unit: &Unit, file: usize) -> bool {
    match (unit.booted, unit.ledger.want) {
        (true, _) => boot_starts(unit.files[file].1.service.start),
        (false, Want::Up | Want::OnDemand) => true,
        (false, Want::Down) => false,
    }
}

impl Oracle {
    /// Whether the supd that lives holds.
    pub(crate) fn holds(&self) -> bool {
        self.held
    }

    /// Why, as the hands say it.
    pub(crate) fn holding(&self) -> Option<std::sync::Arc<str>> {
        self.held.then(|| "supd crashed twice".into())
    }
}

impl<B: Brain> Sim<B> {
    /// The next supd holds.
    pub(crate) fn mark(&mut self) -> Stepped<bool> {
        Ok(!std::mem::replace(&mut self.oracle.marked, true))
    }

    /// A person has seen to it.
    pub(crate) fn release(&mut self) -> Stepped<bool> {
        if !self.oracle.held && !self.oracle.marked {
            return Ok(false);
        }
        (self.oracle.held, self.oracle.marked) = (false, false);
        self.deliver(Input::HoldNoLonger).map(|()| true)
    }
}

impl Book {
    /// supd comes up holding: what has served is launched again as it was, and nothing else is launched.
    pub(super) fn hold(&mut self, unit: &Unit) {
        let served = number(self.sent.active.as_ref());
        let known = served.is_some_and(|served| unit.store.contains_key(&served));
        self.machine_booted &= !known;
        // Where it is to be launched from a release there may be none by now; what served needs none.
        self.halted = !(known && starts(unit, unit.file().0));
        self.held = Some(Held { known });
    }

    pub(super) fn hold_no_longer(&mut self, unit: Option<&Unit>) {
        let (Some(held), Some(unit)) = (self.held.take(), unit) else { return };
        // A stop since then is a person's.
        if held.known || self.stopped_by_person || self.shut {
            return;
        }
        let begins = |file: &usize| {
            let releases = unit.files[*file].1.service.releases;
            starts(unit, *file) && (!releases || launchable(&unit.ledger))
        };
        self.halted = !self.told.iter().any(begins);
    }

    pub(super) fn begins_held(&self, record: &Record) -> Checked {
        let Happening::Began { kind, .. } = record.happening else { return Ok(()) };
        let begins = self.held.is_some() && kind != SwapKind::Start;
        must(Rule::Holding, !begins, || format!("supd holds, and begins {:?}", record.happening))
    }

    pub(super) fn answers_held(&self, ask: Ask, client: ClientId, reply: &Reply) -> Checked {
        let begins = match ask {
            Ask::Swap { .. }
            | Ask::SwapTo { .. }
            | Ask::Restart(_)
            | Ask::Rollback { .. }
            | Ask::RollbackTo { .. }
            | Ask::Install { deploy: true, .. } => true,
            Ask::Start(_)
            | Ask::Stop { .. }
            | Ask::Install { deploy: false, .. }
            | Ask::Undeploy(_)
            | Ask::Share(..)
            | Ask::Drain(_)
            | Ask::Promote(_)
            | Ask::Abort
            | Ask::Wait(_)
            | Ask::Reload
            | Ask::Kill(_)
            | Ask::Refresh => false,
        };
        let told = reply.status == ExitStatus::Refused && reply.next.as_deref() == Some("daemon-reload");
        must(Rule::Holding, self.held.is_none() || !begins || told, || {
            format!("supd holds, and answers client {client} otherwise: {reply:?}")
        })
    }

    /// Everybody sees it.
    pub(super) fn shows_held(&self, shown: &UnitStatus) -> Checked {
        let state = match (self.held.is_some(), shown.state) {
            (true, UnitState::Active) | (false, UnitState::Holding) => false,
            (true, _) => shown.notes.iter().any(|note| note.contains("supctl daemon-reload")),
            (false, _) => true,
        };
        must(Rule::Holding, state, || format!("holds: {}, and shows {shown:?}", self.held.is_some()))
    }
}
