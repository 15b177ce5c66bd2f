//! `rollback`: back to what is retained; before commit the same as `abort`.

use super::super::swap::Plan;
use super::super::turn::Turn;
use super::{Life, Unit, Waiter};
use crate::model::{ClientId, Generation, SwapKind, WaitFor};

impl Unit {
    pub(super) fn ask_rollback(
        &mut self,
        client: ClientId,
        from: Option<Generation>,
        anyway: bool,
        wait: WaitFor,
        turn: &mut Turn<'_>,
    ) {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        if let Some(from) = from.filter(|from| Some(*from) != active) {
            let active = active.map_or_else(|| "none".to_owned(), |active| active.to_string());
            let text = format!("generation {from} is not active ({active} is): nothing to roll back");
            return self.refuse(client, text, self.command("status"), turn);
        }
        if let Life::Stopping(_) = self.life {
            return self.refuse(client, "is stopping", self.command("wait"), turn);
        }
        if self.swap.is_some() {
            return self.ask_abort(client, turn);
        }
        // Who names what is active knows where a second step back goes to.
        if let (Some(left), None) = (&self.durable.forward, from) {
            let further = match (&self.durable.retained, active) {
                (Some(retained), Some(active)) => {
                    let to = retained.generation;
                    format!("; further back, to generation {to}: rollback {} --from {active}", self.name)
                }
                (Some(_), None) | (None, _) => String::new(),
            };
            let left = left.generation;
            let text = format!("was rolled back from generation {left} already; forward is a swap{further}");
            return self.refuse(client, text, self.command("swap"), turn);
        }
        let Some(retained) = self.durable.retained.clone() else {
            return self.refuse(client, "nothing is retained to roll back to", self.command("swap"), turn);
        };
        if !retained.pinned && !anyway {
            let text = format!(
                "generation {}'s program is not pinned: a rollback would run what is on disk now",
                retained.generation
            );
            return self.refuse(client, text, Some(format!("rollback {} --anyway", self.name)), turn);
        }
        let Some(recipe) = self.recipes.get(&retained.generation).cloned() else {
            let text = format!("the settings of generation {} are lost", retained.generation);
            return self.refuse(client, text, self.command("swap"), turn);
        };
        let plan = Plan {
            kind: SwapKind::Rollback,
            settings: recipe.settings.clone(),
            release: retained.release,
            origin: Some(retained.generation),
            hold: false,
        };
        if self.is_full(&plan, client, turn) {
            return;
        }
        self.unwatch(turn);
        self.begin(plan, Some(Waiter { client, wait, drained: None }), turn);
    }
}
