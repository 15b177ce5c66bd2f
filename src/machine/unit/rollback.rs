//! `rollback`: back to what is retained; before commit the same as `abort`.

use super::super::group::Group;
use super::super::swap::Plan;
use super::super::turn::Turn;
use super::{Life, Unit, Waiter};
use crate::model::{ClientId, Generation, Kept, Reply, SwapKind, WaitFor};

impl Unit {
    pub(super) fn ask_rollback(
        &mut self,
        client: ClientId,
        from: Option<Generation>,
        anyway: bool,
        wait: WaitFor,
        turn: &mut Turn<'_>,
    ) {
        if let Err(refusal) = self.may_roll_back(from) {
            return self.reply(client, refusal, turn);
        }
        if self.swap.is_some() {
            return self.ask_abort(client, turn);
        }
        let plan = match self.plan_rollback(anyway) {
            Ok(plan) => plan,
            Err(refusal) => return self.reply(client, refusal, turn),
        };
        if self.is_full(&plan, client, turn) {
            return;
        }
        self.unwatch(turn);
        let waiter = Some(Waiter { client, wait, drained: None });
        if plan.origin.is_some_and(|origin| self.copying.contains(&origin)) && self.serves() {
            self.begin_when_copied(plan, waiter, anyway, turn);
        } else {
            self.begin(plan, waiter, turn);
        }
    }

    /// Whether there is anything that it would be right to roll back; `Err`: the answer.
    fn may_roll_back(&self, from: Option<Generation>) -> Result<(), Reply> {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        if let Some(from) = from.filter(|from| Some(*from) != active) {
            let active = active.map_or_else(|| "none".to_owned(), |active| active.to_string());
            let text = format!("generation {from} is not active ({active} is): nothing to roll back");
            return Err(Reply::refused(text, self.command("status")));
        }
        if let Life::Stopping(_) = self.life {
            return Err(Reply::refused("is stopping", self.command("wait")));
        }
        if let Some(swap) = &self.swap {
            return match (swap.plan.kind, swap.plan.origin) {
                (SwapKind::Rollback, Some(to)) => {
                    let text = format!("a rollback to what generation {to} ran is under way already");
                    Err(Reply::refused(text, self.command("wait")))
                }
                (SwapKind::Rollback, None) | (SwapKind::Start | SwapKind::Swap | SwapKind::Restart, _) => {
                    Ok(())
                }
            };
        }
        // Who names what is active knows where a second step back goes to.
        let (Some(left), None) = (&self.durable.forward, from) else { return Ok(()) };
        let further = match (&self.durable.retained, active) {
            (Some(retained), Some(active)) => {
                let to = retained.generation;
                format!("; further back, to generation {to}: rollback {} --from {active}", self.name)
            }
            (Some(_), None) | (None, _) => String::new(),
        };
        let left = left.generation;
        let text = format!("was rolled back from generation {left} already; forward is a swap{further}");
        Err(Reply::refused(text, self.command("swap")))
    }

    /// What a rollback launches; `Err`: the answer.
    fn plan_rollback(&self, anyway: bool) -> Result<Plan, Reply> {
        let Some(Kept { generation, release, pinned }) = self.durable.retained.clone() else {
            return Err(Reply::refused("nothing is retained to roll back to", self.command("swap")));
        };
        if !pinned && !anyway {
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
        Ok(Plan { kind: SwapKind::Rollback, settings, release, origin, hold: false })
    }

    /// Whether somebody goes on serving while a rollback waits for what it launches.
    fn serves(&self) -> bool {
        let active = self.durable.active.as_ref().and_then(|kept| self.groups.get(&kept.generation));
        active.is_some_and(Group::serves_at_all)
    }

    /// The answer where a rollback would run something else than what ran.
    pub(super) fn unpinned(&self, generation: Generation) -> Reply {
        let text = format!(
            "generation {generation}'s program is not pinned: a rollback would run what is on disk now"
        );
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
