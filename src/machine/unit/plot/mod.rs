//! The plot of a swap: how each move of its table is made.
//!
//! | file | the moves |
//! |---|---|
//! | `before` | to ready, and undone before the switch |
//! | `exclusive` | one ends, or is let go of its port, before the next begins |
//! | `unbound` | started, and on no port until a person says |
//! | `canary` | a share, and the next |
//! | `switch` | the switch itself |
//! | `commit` | probation and commit |
//! | `back` | the way back after the switch |
//! | `warm` | to one that stands by, and who becomes one |
//! | `fall` | back at once from what ended while its commit was on its way to the disk |

mod back;
mod before;
mod canary;
mod commit;
pub(super) mod exclusive;
mod fall;
mod switch;
mod unbound;
mod warm;

use super::super::disk::Try;
use super::super::effect::{Action, Level};
use super::super::group::Role;
use super::super::swap::table::{SwapCueKind, SwapMove, decide};
use super::super::swap::{Plan, Step, Swap};
use super::super::turn::Turn;
use super::{Life, Unit, Waiter};
use crate::model::settings::{Retain, Start};
use crate::model::{Generation, Progress, Settings, Share, SwapId, Want};
pub(in crate::machine::unit) use exclusive::Again;
use std::time::Duration;

/// How long a rollback waits for the copy of what it launches.
const COPY_LONGEST: Duration = Duration::from_secs(30);

/// What a unit that runs with these settings should be doing.
fn want_of(settings: &Settings) -> Want {
    match settings.service.start {
        Start::OnDemand => Want::OnDemand,
        Start::Boot | Start::Manual => Want::Up,
    }
}

impl Unit {
    /// Begins a swap: everything that may refuse it was asked before.
    pub(super) fn begin(&mut self, plan: Plan, waiter: Option<Waiter>, turn: &mut Turn<'_>) {
        self.install_failure = None;
        if let Some(standby) = self.standby_of(&plan) {
            return self.begin_warm(plan, standby, waiter, turn);
        }
        let step = self.bind(&plan, turn);
        self.open(plan, step, None, waiter, turn);
    }

    /// Begins a rollback once the copy of what it launches is made. Without one, what is on disk
    /// now is launched if `anyway`, else nothing.
    pub(super) fn begin_when_copied(
        &mut self,
        plan: Plan,
        waiter: Option<Waiter>,
        anyway: bool,
        turn: &mut Turn<'_>,
    ) {
        let until = turn.now.after(COPY_LONGEST);
        self.open(plan, Step::Copying { until, anyway }, None, waiter, turn);
        self.progress(&Progress::Note("the program to go back to is still being copied".to_owned()), turn);
    }

    /// `standby`: it goes to this one, and launches nothing.
    fn open(
        &mut self,
        plan: Plan,
        step: Step,
        standby: Option<Generation>,
        waiter: Option<Waiter>,
        turn: &Turn<'_>,
    ) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let from = active.filter(|active| self.groups.get(active).is_some_and(|group| !group.is_gone()));
        for group in self.groups.values_mut().filter(|group| group.is_gone()) {
            group.role = Role::Leaving;
        }
        self.durable.swap_last += 1;
        self.durable.generation_last += u64::from(standby.is_none());
        let to = standby.unwrap_or(Generation(self.durable.generation_last));
        let steered =
            standby.and_then(|standby| self.groups.get(&standby)).is_some_and(|group| group.steered);
        self.swap = Some(Box::new(Swap {
            id: SwapId(self.durable.swap_last),
            plan,
            from,
            to,
            heir_of: None,
            step,
            steered,
            share: Share::ZERO,
            wanted: Share::ZERO,
            warm: standby.is_some(),
            gap_since: None,
            gap: None,
            unbound: false,
            stops_left: false,
            cause: None,
            fell: None,
            ended: None,
            unfit: false,
            by_person: false,
            launched: turn.now,
            ready: None,
            switch: None,
            client: waiter.map(|waiter| waiter.client),
            undoers: Vec::new(),
        }));
        self.waiters.extend(waiter);
        self.life = Life::Up;
    }

    /// Gives a cue to the running swap: looks the move up and makes it.
    pub(super) fn swap_cue(&mut self, cue: SwapCueKind, detail: &str, turn: &mut Turn<'_>) {
        let Some(mut swap) = self.swap.take() else { return };
        let made = decide(swap.step.kind(), cue);
        let answered = matches!(cue, SwapCueKind::Passed | SwapCueKind::Unpassed);
        let decided =
            matches!(made, SwapMove::Commit | SwapMove::TurnBack | SwapMove::Intend | SwapMove::Undo);
        if decided && !answered {
            Self::end_check(&swap, turn);
        }
        let by_itself = matches!(cue, SwapCueKind::Failed | SwapCueKind::Unpassed | SwapCueKind::Due);
        swap.unfit |= by_itself && matches!(made, SwapMove::Undo | SwapMove::Doom);
        let goes_on = match made {
            SwapMove::Stale | SwapMove::RefuseShare | SwapMove::RefusePromote | SwapMove::RefuseAbort => true,
            SwapMove::Bind => self.bind_copied(&mut swap, turn),
            SwapMove::Uncopied => self.uncopied(&mut swap, turn),
            SwapMove::Drop => self.drop_swap(&mut swap, detail, turn),
            SwapMove::Number => self.number(&mut swap, turn),
            SwapMove::Launch => self.launch(&mut swap, turn),
            SwapMove::Unnumbered => self.unnumbered(&mut swap, detail, turn),
            SwapMove::Wait => self.wait_unbound(&mut swap, turn),
            SwapMove::AnswerBinds => self.answer_binds(&mut swap, turn),
            SwapMove::MakeWay => self.make_way_now(&mut swap, turn),
            SwapMove::Proceed => self.proceed(&mut swap, turn),
            SwapMove::Ask => self.ask_check(&mut swap, turn),
            SwapMove::Grow => self.grow(&mut swap, turn),
            SwapMove::Reshare => self.reshare(&mut swap, turn),
            SwapMove::Intend => self.intend(&mut swap, turn),
            SwapMove::Switch => self.switch(&mut swap, turn),
            SwapMove::Note => self.note_switched(&mut swap, turn),
            SwapMove::Settle => self.switched_for_good(&mut swap, turn),
            SwapMove::Check => self.check_command(&mut swap, turn),
            SwapMove::Commit => self.commit(&mut swap, turn),
            SwapMove::Finish => self.committed(&mut swap, turn),
            SwapMove::Undo => self.undo(&mut swap, detail, turn),
            SwapMove::Undone => self.undone(&mut swap, turn),
            SwapMove::Doom => Self::doom(&mut swap, detail),
            SwapMove::TurnBack => self.turn_back(&mut swap, detail, turn),
            SwapMove::NotBack => self.not_back(&mut swap, turn),
            SwapMove::TurnIntend => self.turn_intend(&mut swap, Try::default(), turn),
            SwapMove::TurnSwitch => self.turn_switch(&mut swap, Try::default(), turn),
            SwapMove::TurnNote => self.turn_note(&mut swap, turn),
            SwapMove::TurnedBack => self.turned_back(&mut swap, turn),
            SwapMove::Retry => self.retry(&mut swap, detail, turn),
            SwapMove::Again => self.again(&mut swap, turn),
        };
        if goes_on {
            self.swap = Some(swap);
        } else if let Some((plan, waiter)) = self.next.take().map(|next| *next) {
            self.begin(plan, waiter, turn);
            self.inherit_gap(&swap);
            let text = format!("the swap to generation {} was undone to make place for this one", swap.to);
            self.progress(&Progress::Note(text), turn);
        }
    }

    fn retry(&mut self, swap: &mut Swap, reason: &str, turn: &mut Turn<'_>) -> bool {
        let (Step::Noting { save, .. }
        | Step::Committing { save }
        | Step::TurnIntending { save, .. }
        | Step::TurnSwitching { save }
        | Step::TurnNoting { save }) = &mut swap.step
        else {
            return true;
        };
        *save = save.failed(turn.now);
        let pause = save.again.map_or(Duration::ZERO, |again| again.since(turn.now));
        let text = format!("{reason}, retrying in {pause:?}");
        turn.note(Level::Error, Some(swap.to), text.clone());
        self.progress(&Progress::Note(text), turn);
        true
    }

    fn again(&mut self, swap: &mut Swap, turn: &mut Turn<'_>) -> bool {
        match swap.step {
            Step::Noting { save, commits: true } => self.note_commit(swap, save, turn),
            Step::Noting { save, commits: false } => self.note_switch(swap, save, turn),
            Step::Committing { save } => {
                let record = self.record_commit(swap, turn);
                swap.step = Step::Committing { save: save.sent(record) };
                true
            }
            Step::TurnIntending { save, .. } => self.turn_intend(swap, save, turn),
            Step::TurnSwitching { save } => self.turn_switch(swap, save, turn),
            Step::TurnNoting { save } => self.note_turned(swap, save, turn),
            Step::Copying { .. }
            | Step::Binding { .. }
            | Step::Numbering { .. }
            | Step::Diverting
            | Step::Clearing
            | Step::Launching
            | Step::Unbound
            | Step::Held
            | Step::Canary { .. }
            | Step::Asking { .. }
            | Step::Intending { .. }
            | Step::Switching
            | Step::Probation { .. }
            | Step::Checking { .. }
            | Step::Undoing { .. }
            | Step::Returning { .. } => true,
        }
    }

    /// Lets go of an intent that an earlier supd left, once the ledger has this one's first word.
    pub(super) fn clear_old_intent(&self, turn: &mut Turn<'_>) {
        if self.intent_left.is_none() {
            turn.act(Action::ClearIntent);
        }
    }

    fn set_role(&mut self, generation: Generation, role: Role) {
        if let Some(group) = self.groups.get_mut(&generation) {
            group.role = role;
        }
    }

    /// New connections go to another from now on.
    fn divert(&mut self, generation: Generation, turn: &Turn<'_>) {
        if let Some(group) = self.groups.get_mut(&generation) {
            group.diverted = Some(turn.now);
        }
    }

    /// The end of what is under way, for the ledger: by the rules of who is active from now on.
    pub(super) fn conclude(&mut self) {
        let active = self.durable.active.as_ref().and_then(|kept| self.recipes.get(&kept.generation));
        // Whose settings are lost may want it: to keep one too many costs little.
        let retain = active.map_or(Retain::Cold, |recipe| recipe.settings.swap.retain);
        self.durable.conclude(retain);
    }

    /// What to type to undo what is committed.
    pub(super) fn way_back(&self) -> String {
        format!("rollback {}", self.name)
    }
}
