//! A unit as boot finds it: the ledger's last word, an intent that outlived its supd, the file.

use super::super::effect::{Action, Launch, Level};
use super::super::event::{Restored, Survived};
use super::super::swap::Plan;
use super::super::turn::Turn;
use super::{Life, Unit, Unsaved};
use crate::model::settings::Start;
use crate::model::status::{SwapResult, SwapStatus};
use crate::model::{Durable, Few, Generation, Happening, Intent, Reply, Stops, SwapKind, Want};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Makes the unit and begins what it should be doing.
pub(in crate::machine) fn restore(restored: Restored, turn: &mut Turn<'_>) -> Unit {
    let Restored {
        settings,
        durable,
        launches,
        trees,
        intent,
        machine_booted,
        supd_booting,
        bound,
        survived,
        holding,
    } = restored;
    let stored: BTreeSet<Generation> = launches.keys().copied().collect();
    let recipes = recipes(launches, &durable);
    // What the ledger on disk names stays until a record of this life is there beside it.
    let on_disk: BTreeSet<Generation> = durable.kept().map(|kept| kept.generation).collect();
    let mut unit = Unit {
        name: settings.unit.clone(),
        settings,
        orphaned: false,
        durable,
        life: Life::STOPPED,
        groups: Few::new(),
        ended: Few::new(),
        recipes,
        copying: BTreeSet::new(),
        swap: None,
        last_swap: None,
        unled: None,
        unproven: None,
        waiters: Vec::new(),
        next: None,
        diversion: None,
        again: None,
        reloading: None,
        refreshing: None,
        listening: Vec::new(),
        held_off: false,
        bound,
        stored,
        storing: BTreeSet::new(),
        on_disk,
        unsaved: None,
        untold: Vec::new(),
        cut_end: None,
        parting: None,
        intent_left: intent.map(|intent| intent.to),
        install: None,
        install_failure: None,
        undeploying: None,
        trees,
        fallen: None,
        bind_failures: 0,
        quarantine: None,
        holding,
        held_start: false,
        alarm: None,
    };
    unit.note_missing(turn);
    let comes_back = survived.as_ref().filter(|_| supd_booting);
    if !comes_back.is_some_and(|survived| unit.carry_on(survived, intent)) {
        unit.resume(intent, turn);
    }
    turn.act(Action::Prune { keep: unit.kept_at_boot(survived.as_ref()) });
    unit.take_up(supd_booting.then_some((survived.as_ref(), machine_booted)), turn);
    unit
}

fn recipes(
    launches: BTreeMap<Generation, Arc<crate::model::Settings>>,
    durable: &Durable,
) -> Few<Generation, Arc<Launch>> {
    let each = |(generation, settings)| (generation, recipe(generation, settings, durable));
    launches.into_iter().map(each).collect()
}

fn recipe(generation: Generation, settings: Arc<crate::model::Settings>, durable: &Durable) -> Arc<Launch> {
    let release =
        durable.kept().find(|kept| kept.generation == generation).and_then(|kept| kept.release.clone());
    Arc::new(Launch { generation, settings, release, origin: generation, pinned: true })
}

impl Unit {
    /// Generations whose recipes and copies are of use.
    fn kept_at_boot(&self, survived: Option<&Survived>) -> Vec<Generation> {
        let mut keep = self.on_disk.clone();
        keep.extend(self.durable.kept().map(|kept| kept.generation));
        let alive = survived.into_iter().flat_map(|survived| &survived.generations);
        keep.extend(alive.flat_map(|alive| [alive.generation, alive.origin]));
        keep.into_iter().collect()
    }

    /// Says the end of what was under way when the last supd ended.
    fn resume(&mut self, intent: Option<Intent>, turn: &mut Turn<'_>) {
        let end = self.durable.resume(intent);
        self.conclude();
        let Some(end) = end else { return };
        let text = match end.result {
            SwapResult::Committed => "supd ended before its commit: it stays",
            SwapResult::RolledBack => "supd ended on the way back from it: that is finished",
            SwapResult::Aborted | SwapResult::Failed | SwapResult::Stopped | SwapResult::Running => {
                "supd ended before it took over: it is given up"
            }
        };
        turn.note(Level::Warning, Some(end.to), text);
        self.last_swap = Some(end.clone());
        let SwapStatus { swap_id, result, cause, .. } = end;
        self.record(Happening::Ended { swap_id, result, cause }, None, turn);
    }

    fn serves_at_boot(&self, machine_booted: bool) -> bool {
        match self.durable.want {
            Want::Up | Want::OnDemand if !machine_booted => true,
            Want::Up | Want::OnDemand | Want::Down => {
                machine_booted && self.settings.service.start != Start::Manual
            }
        }
    }

    /// What is to be done at once. `comes_up`: supd does, with who has outlived the one before, and the machine may
    /// have been booted since.
    fn take_up(&mut self, comes_up: Option<(Option<&Survived>, bool)>, turn: &mut Turn<'_>) {
        let start = turn.out.len();
        match comes_up {
            Some((Some(survived), _)) => self.adopt(survived, turn),
            Some((None, machine_booted)) => self.boot(machine_booted, turn),
            None => {}
        }
        self.settle(start, turn);
    }

    /// supd has come up.
    pub(super) fn boot(&mut self, machine_booted: bool, turn: &mut Turn<'_>) {
        if !self.serves_at_boot(machine_booted) {
            return self.stay_down(turn);
        }
        match self.plan_boot(machine_booted) {
            // What could not be launched now is not to be launched once supd holds no longer.
            Ok(_) if self.holds_start(turn) => {}
            Ok(plan) => {
                self.doubt_traffic();
                self.start(plan, None, turn);
            }
            Err(refused) => {
                self.doubt_traffic();
                turn.note(Level::Warning, None, format!("not started: {}", refused.text));
                self.stay_down(turn);
            }
        }
    }

    /// There is nothing to launch: it is stopped until somebody starts it, over restarts of supd, too.
    pub(super) fn stay_down(&mut self, turn: &mut Turn<'_>) {
        self.life = Life::STOPPED;
        if self.durable.want != Want::Down {
            self.durable.want = Want::Down;
            self.record(Happening::Stopped, None, turn);
        }
    }

    /// After a boot of the machine the file counts; after one of supd alone what was running does.
    fn plan_boot(&self, machine_booted: bool) -> Result<Plan, Reply> {
        // While supd holds only what has served before is launched.
        let active = self.durable.active.as_ref().filter(|_| !machine_booted || self.holding.is_some());
        self.plan_again(active.map(|kept| kept.generation))
    }

    /// What was running, if that is known; else the file as it is.
    pub(super) fn plan_again(&self, origin: Option<Generation>) -> Result<Plan, Reply> {
        let there = |recipe: &&Arc<Launch>| recipe.release.as_ref().is_none_or(|label| self.counts(label));
        match origin.and_then(|origin| self.recipes.get(&origin)).filter(there) {
            Some(recipe) => Ok(Plan {
                kind: SwapKind::Start,
                settings: recipe.settings.clone(),
                release: recipe.release.clone(),
                origin: Some(recipe.generation),
                stops: Stops::default(),
            }),
            None => self.plan_start(self.settings.clone()),
        }
    }

    /// The unit's file is gone.
    pub(in crate::machine) fn orphan(&mut self, turn: &mut Turn<'_>) {
        self.orphaned = true;
        if self.is_forgettable() {
            turn.act(Action::Forget);
        } else {
            turn.note(Level::Warning, None, "its file is gone; it serves until it is stopped");
        }
    }

    /// Whether nothing of it is left, nobody waits for an answer about it, and the ledger knows that
    /// it was stopped: else the next supd would start it.
    pub(super) fn is_forgettable(&self) -> bool {
        let stopped = matches!(self.life, Life::Stopped { .. }) && self.unsaved.is_none();
        let busy = self.refreshing.is_some() || self.install.is_some() || self.undeploying.is_some();
        let busy = busy || self.alarm.is_some();
        self.orphaned && stopped && !busy
    }

    /// supd itself ends.
    pub(in crate::machine) fn shut_down(&mut self, turn: &mut Turn<'_>) {
        self.end_alarm(turn);
        if self.quarantine.is_none() {
            let start = turn.out.len();
            self.cancel_install(turn);
            self.stop(None, false, false, true, turn);
            self.settle(start, turn);
        }
    }

    /// Whether nothing of it keeps supd from ending.
    pub(in crate::machine) fn is_over(&self) -> bool {
        let writing = self.unsaved.as_ref().is_some_and(Unsaved::is_on_its_way);
        let stopped = matches!(self.life, Life::Stopped { .. });
        self.quarantine.is_some()
            || (stopped && !writing && self.refreshing.is_none() && self.alarm.is_none())
    }
}
