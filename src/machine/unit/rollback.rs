//! `rollback`: back to what is retained; before commit the same as `abort`.

use super::super::group::Group;
use super::super::swap::Plan;
use super::super::turn::Turn;
use super::{Life, Unit, Waiter};
use crate::model::{ClientId, Generation, Kept, Label, Reply, Stops, SwapKind, WaitFor};

impl Unit {
    pub(super) fn ask_rollback(
        &mut self,
        client: ClientId,
        label: Option<&Label>,
        from: Option<Generation>,
        (stop, anyway): (bool, bool),
        wait: WaitFor,
        turn: &mut Turn<'_>,
    ) {
        if let Err(refusal) = self.may_roll_back(label, from) {
            return self.reply(client, refusal, turn);
        }
        if let Some(swap) = &mut self.swap {
            swap.stops_left |= stop;
            return self.ask_abort(client, turn);
        }
        let retained = self.durable.retained.as_ref().and_then(|kept| kept.release.as_ref());
        let plan = match label {
            Some(label) if retained != Some(label) => self.plan_rollback_to(label),
            Some(_) | None => self.plan_rollback(anyway),
        };
        let plan = match plan.and_then(|plan| self.has_place(&plan).map(|()| plan)) {
            Ok(plan) => plan,
            Err(refusal) => return self.reply(client, refusal, turn),
        };
        self.unwatch(turn);
        let waiter = Some(Waiter { client, wait, drained: None });
        let copying = plan.origin.is_some_and(|origin| self.copying.contains(&origin)) && self.serves();
        if copying && self.standby_of(&plan).is_none() {
            self.begin_when_copied(plan, waiter, anyway, turn);
        } else {
            self.begin(plan, waiter, turn);
        }
        if let Some(swap) = &mut self.swap {
            swap.stops_left = stop;
        }
    }

    /// Whether there is anything that it would be right to roll back; `Err`: the answer.
    fn may_roll_back(&self, label: Option<&Label>, from: Option<Generation>) -> Result<(), Reply> {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        if let Some(from) = from.filter(|from| Some(*from) != active) {
            let active = active.map_or_else(|| "none".to_owned(), |active| active.to_string());
            let text = format!("generation {from} is not active ({active} is): nothing to roll back");
            return Err(Reply::refused(text, self.command("status")));
        }
        if let Life::Stopping(_) = self.life {
            return Err(Reply::refused("is stopping", self.command("wait")));
        }
        self.is_not_returning()?;
        if let Some(swap) = &self.swap {
            return match (swap.plan.kind, swap.plan.origin) {
                (SwapKind::Rollback, Some(to)) => {
                    let text = format!("a rollback to what generation {to} ran is under way already");
                    Err(Reply::refused(text, self.command("wait")))
                }
                (SwapKind::Rollback, None) | (SwapKind::Start | SwapKind::Swap | SwapKind::Restart, _) => {
                    self.leads_to(label)
                }
            };
        }
        // Who names what is active, or where to go, knows where a second step back goes to.
        if label.is_some() {
            return Ok(());
        }
        let (Some(left), None) = (&self.durable.forward, from) else { return Ok(()) };
        let further = match (&self.durable.retained, active) {
            (Some(retained), Some(active)) => {
                let to = retained.generation;
                format!("; further back, to generation {to}: rollback {} --from {active}", self.name)
            }
            (Some(_), None) | (None, _) => String::new(),
        };
        let next = self.way_forward(left);
        let left = left.generation;
        let text = format!("was rolled back from generation {left} already; forward is a swap{further}");
        Err(Reply::refused(text, next))
    }

    /// What leads to what a rollback left: a release that was rolled back from has to be named.
    pub(super) fn way_forward(&self, left: &Kept) -> Option<String> {
        match left.release.as_ref().filter(|label| self.counts(label)) {
            Some(label) => Some(format!("swap {} {label}", self.name)),
            None => self.command("swap"),
        }
    }

    /// Whether the running swap is undone to this release, if one is named.
    fn leads_to(&self, label: Option<&Label>) -> Result<(), Reply> {
        let back = self.swap.as_ref().and_then(|swap| self.groups.get(&swap.from?));
        match (label, back) {
            (Some(label), Some(back)) if back.launch.release.as_ref() != Some(label) => {
                let to = back.generation();
                let text = format!("a swap is under way, which is undone to generation {to}, not to {label}");
                Err(Reply::refused(text, self.command("rollback")))
            }
            (_, _) => Ok(()),
        }
    }

    /// To a release that is named and that is not what is retained: any that is installed.
    fn plan_rollback_to(&self, label: &Label) -> Result<Plan, Reply> {
        let settings = self.settings_of(label);
        let release = self.choose(&settings, Some(label), false)?;
        if self.is_active(label) {
            let text = format!("release {label} is active already");
            return Err(Reply::refused(text, Some(format!("releases {}", self.name))));
        }
        Ok(Plan { kind: SwapKind::Rollback, settings, release, origin: None, stops: Stops::default() })
    }

    /// What a rollback launches; `Err`: the answer.
    fn plan_rollback(&self, anyway: bool) -> Result<Plan, Reply> {
        let Some(Kept { generation, release, pinned }) = self.durable.retained.clone() else {
            let empty = self.settings.service.releases && self.durable.releases.is_empty();
            let next = if empty { self.nothing_installed().next } else { self.command("swap") };
            return Err(Reply::refused("nothing is retained to roll back to", next));
        };
        if let Some(gone) = release.as_ref().filter(|label| !self.counts(label)) {
            return Err(self.no_such_release(gone));
        }
        let warm = self.groups.get(&generation).is_some_and(Group::stands_by);
        if !pinned && !anyway && !warm {
            match (self.copying.contains(&generation), self.serves()) {
                (true, true) => {}
                (true, false) => return Err(self.still_copied(generation)),
                (false, _) => return Err(self.unpinned(generation)),
            }
        }
        let Some(recipe) = self.recipes.get(&generation) else {
            let text = format!("the settings of generation {generation} are lost");
            return Err(Reply::refused(text, self.command("swap")));
        };
        let (settings, origin) = (recipe.settings.clone(), Some(generation));
        Ok(Plan { kind: SwapKind::Rollback, settings, release, origin, stops: Stops::default() })
    }

    /// Whether somebody goes on serving while a rollback waits for what it launches.
    fn serves(&self) -> bool {
        let active = self.durable.active.as_ref().and_then(|kept| self.groups.get(&kept.generation));
        active.is_some_and(Group::serves_at_all)
    }

    /// The answer where a rollback would run something else than what ran.
    pub(super) fn unpinned(&self, generation: Generation) -> Reply {
        let fallen = self.fallen.as_ref().filter(|fallen| fallen.0 == generation);
        let text = match fallen.map(|fallen| &fallen.1) {
            Some(how) => format!(
                "generation {generation} stands by no more ({how}), and its program is not pinned: a rollback would \
                 run what is on disk now"
            ),
            None => format!(
                "generation {generation}'s program is not pinned: a rollback would run what is on disk now"
            ),
        };
        Reply::refused(text, Some(format!("rollback {} --anyway", self.name)))
    }

    /// The answer where it is not known yet what a rollback would run.
    pub(super) fn still_copied(&self, generation: Generation) -> Reply {
        let text = format!(
            "generation {generation}'s program is still being copied: try again soon, or with --anyway run what is \
             on disk now"
        );
        Reply::refused(text, self.command("rollback"))
    }
}
