//! The warm way: to a generation that stands by, alive and ready, and nothing is launched. And who
//! becomes one.

use super::super::{Unit, Waiter};
use crate::machine::effect::Level;
use crate::machine::group::{Group, Role};
use crate::machine::swap::{Plan, Step, Swap};
use crate::machine::turn::Turn;
use crate::model::settings::{Retain, Socket};
use crate::model::{Address, Generation, Intent, SwapKind};

impl Unit {
    /// The standby that is what this would launch.
    pub(in crate::machine::unit) fn standby_of(&self, plan: &Plan) -> Option<Generation> {
        let is = |group: &&Group| match plan.kind {
            SwapKind::Rollback if plan.origin.is_some() => plan.origin == Some(group.generation()),
            SwapKind::Rollback | SwapKind::Swap => {
                plan.release.is_some() && plan.release == group.launch.release
            }
            SwapKind::Start | SwapKind::Restart => false,
        };
        self.groups.values().filter(is).find(|group| group.stands_by()).map(Group::generation)
    }

    /// Goes to a standby: the same steps, less all that come before the intent.
    pub(super) fn begin_warm(
        &mut self,
        plan: Plan,
        standby: Generation,
        waiter: Option<Waiter>,
        turn: &mut Turn<'_>,
    ) {
        let Some(group) = self.groups.get(&standby) else { return };
        let (kept, settings) = (group.as_kept(), group.launch.settings.clone());
        let plan = Plan { settings, origin: Some(standby), ..plan };
        let kind = plan.kind;
        self.open(plan, Step::Held, Some(standby), waiter, turn);
        let Some(mut swap) = self.swap.take() else { return };
        self.wake(standby, turn);
        self.durable.challenge(kind, kept);
        self.admit(&mut swap, turn);
        self.swap = Some(swap);
    }

    /// What is written down before a switch.
    pub(super) fn intent(&self, swap: &Swap, from: Option<Generation>, to: Generation) -> Intent {
        let active = self.durable.active.as_ref().map(|kept| kept.generation);
        let from = from.or(active.filter(|_| swap.warm));
        Intent { swap_id: swap.id, from, to, kind: swap.plan.kind }
    }

    /// Whether the listeners of the running swap have a slot for each generation, where it needs that.
    pub(in crate::machine::unit) fn steers(
        &mut self,
        steered: Result<(), String>,
        turn: &mut Turn<'_>,
    ) -> Result<(), String> {
        let Some(swap) = &mut self.swap else { return Ok(()) };
        swap.steered = steered.is_ok();
        let policy = &swap.plan.settings.swap;
        let asked = swap.plan.stops.canary.is_some() || !policy.canary.is_empty();
        let shares = asked && swap.plan.kind == SwapKind::Swap && !swap.is_first();
        let refusal = |why: &str| format!("no part of the new connections can be given to it: {why}");
        let Err(why) = steered else {
            let whole: Vec<&Socket> = swap.plan.settings.sockets.iter().map(|socket| &**socket).collect();
            return match shares.then(|| undivided(&whole)).flatten() {
                Some((address, true)) => Err(refusal(&format!("the path {address} leads to one at a time"))),
                Some((address, false)) => {
                    let text =
                        format!("the path {address} leads to it at the switch only, whatever its share");
                    turn.note(Level::Warning, Some(swap.to), text);
                    Ok(())
                }
                None => Ok(()),
            };
        };
        if shares {
            return Err(refusal(&why));
        }
        if swap.from.is_some() {
            Self::binds_apart(&swap.plan, &why)?;
        }
        if policy.retain == Retain::Warm {
            let text = format!("Retain = \"cold\" is what it gets: {why}");
            turn.note(Level::Warning, Some(swap.to), text);
        }
        Ok(())
    }

    /// What becomes of a generation from which the traffic was taken: it stands by, or is let go.
    pub(super) fn leave_behind(&mut self, left: Generation, swap: &Swap, turn: &mut Turn<'_>) {
        let policy = &swap.plan.settings.swap;
        let keeps = match swap.plan.kind {
            SwapKind::Swap | SwapKind::Rollback => policy.retain == Retain::Warm && !swap.stops_left,
            SwapKind::Start | SwapKind::Restart => false,
        };
        // What a rollback that came to nothing went to is nobody's way forward.
        let ways = [&self.durable.retained, &self.durable.forward];
        let named = left != swap.to
            || swap.plan.kind != SwapKind::Rollback
            || ways.into_iter().flatten().any(|kept| kept.generation == left);
        let Some(group) = self.groups.get_mut(&left) else { return };
        if !(keeps && named && swap.steered && group.steered && group.serves()) {
            group.role = Role::Replaced;
            return;
        }
        turn.note(Level::Info, Some(left), "stands by");
        self.stand_by(left, policy, turn);
    }
}

/// A listener whose clients all get to one generation at a time, and whether all are so.
fn undivided<'a>(sockets: &[&'a Socket]) -> Option<(&'a Address, bool)> {
    let divided = |socket: &&Socket| matches!(socket.address, Address::Ip { .. });
    let path = sockets.iter().find(|socket| !divided(socket))?;
    Some((&path.address, !sockets.iter().any(divided)))
}
