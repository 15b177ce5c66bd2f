//! A swap that rests, with nothing on its way to the disk and no worker on its way to ready, goes over to the next
//! image of supd, which goes on with it as if it had begun it.

use super::super::effect::Launch;
use super::super::event::{CarriedSwap, Survived};
use super::super::group::Role;
use super::super::swap::{Plan, Step, Swap};
use super::Unit;
use crate::model::handover::{HeldSwap, Rest};
use crate::model::settings::Exclusive;
use crate::model::{ClientId, Generation, Intent, Kept};

impl Unit {
    /// Where the running swap rests, if it does, and nothing has been decided about it that is yet to be done.
    fn rests_at(&self, swap: &Swap) -> Option<Rest> {
        let rest = match swap.step {
            Step::Held => Rest::Held,
            Step::Canary { stage, until } => {
                let stage = (stage != usize::MAX).then(|| stage.try_into().unwrap_or(u64::MAX));
                Rest::Canary { stage, until }
            }
            Step::Probation { until } => Rest::Probation { until },
            Step::Copying { .. }
            | Step::Binding { .. }
            | Step::Numbering { .. }
            | Step::Diverting
            | Step::Clearing
            | Step::Launching
            | Step::Unbound
            | Step::Asking { .. }
            | Step::Intending { .. }
            | Step::Switching
            | Step::Noting { .. }
            | Step::Checking { .. }
            | Step::Committing { .. }
            | Step::Undoing { .. }
            | Step::Returning { .. }
            | Step::TurnIntending { .. }
            | Step::TurnSwitching { .. }
            | Step::TurnNoting { .. } => return None,
        };
        let apart = |generation: Generation| {
            let exclusive = |it: &Launch| it.settings.service.exclusive != Exclusive::No;
            self.recipes.get(&generation).is_some_and(|launch| !exclusive(launch))
        };
        let decided = swap.cause.is_some() || swap.fell.is_some() || self.next.is_some();
        let plain = swap.gap_since.is_none() && swap.heir_of.is_none() && !swap.unbound;
        let both = apart(swap.to) && swap.from.is_some_and(apart);
        (both && plain && !decided && self.unsaved.is_none()).then_some(rest)
    }

    /// Whether a swap is under way that does not rest.
    pub(super) fn swap_moves(&self) -> bool {
        self.next.is_some() || self.swap.as_ref().is_some_and(|swap| self.rests_at(swap).is_none())
    }

    /// See [`Machine::resting`](crate::machine::Machine::resting).
    pub(in crate::machine) fn resting(&self) -> Option<CarriedSwap> {
        let swap = self.swap.as_ref()?;
        let held = HeldSwap {
            unit: self.name.clone(),
            swap_id: swap.id,
            kind: swap.plan.kind,
            from: swap.from,
            to: swap.to,
            origin: swap.plan.origin,
            rest: self.rests_at(swap)?,
            steered: swap.steered,
            share: swap.share,
            warm: swap.warm,
            stops: swap.plan.stops,
            stops_left: swap.stops_left,
            launched: swap.launched,
            ready: swap.ready,
            switch: swap.switch,
            gap: swap.gap,
            by: None,
        };
        Some(CarriedSwap { held, client: swap.client })
    }

    /// Whether this client waits for what the next image brings to its end as well.
    pub(in crate::machine) fn goes_on_waiting(&self, client: ClientId) -> bool {
        !self.swap_moves() && self.waiters.iter().any(|waiter| waiter.client == client)
    }

    /// Goes on with a swap of the image before, where it is still as that one left it; else it is given up, as after
    /// a crash.
    pub(super) fn carry_on(&mut self, survived: &Survived, intent: Option<Intent>) -> bool {
        let Some(CarriedSwap { held, client }) = &survived.swap else { return false };
        let known = |generation: Generation| {
            survived.generations.iter().any(|it| it.generation == generation)
                && self.recipes.contains_key(&generation)
        };
        // Whoever of them has died meanwhile is yet to be heard of, and what becomes of it then is as ever.
        let whole = intent.is_none() && known(held.to) && held.from.is_some_and(known);
        let recipe = self.recipes.get(&held.to).filter(|_| whole && self.is_as_left(held)).cloned();
        let Some(recipe) = recipe else { return false };
        self.swap = Some(Box::new(as_left(held, &recipe, *client)));
        if is_untold(held) {
            self.durable.swap_last = held.swap_id.0;
            let kept = self.durable.kept().find(|kept| kept.generation == held.to).cloned();
            let fresh = Kept { generation: held.to, release: recipe.release.clone(), pinned: false };
            let kept = kept.unwrap_or(fresh);
            self.durable.challenge(held.kind, kept);
        }
        true
    }

    /// Whether the ledger says of this swap what it said when it went over.
    fn is_as_left(&self, held: &HeldSwap) -> bool {
        let durable = &self.durable;
        let named = |kept: &Option<Kept>| kept.as_ref().map(|kept| kept.generation);
        let (active, to) = (named(&durable.active), Some(held.to));
        if is_untold(held) {
            return active == held.from && durable.swap.is_none() && durable.swap_last < held.swap_id.0;
        }
        let roles = match held.rest {
            Rest::Held | Rest::Canary { .. } => active == held.from && named(&durable.candidate) == to,
            Rest::Probation { .. } => active == to && named(&durable.previous) == held.from,
        };
        roles && durable.swap == Some(held.kind) && durable.swap_last == held.swap_id.0
    }

    /// What a generation is to the swap that goes on.
    pub(super) fn role_in_swap(&self, generation: Generation) -> Option<Role> {
        let swap = self.swap.as_ref()?;
        let switched = swap.step.has_switched();
        if generation == swap.to {
            return Some(match (switched, swap.warm) {
                (true, _) => Role::Active,
                (false, true) => Role::Standby { until: None, resting: None },
                (false, false) => Role::Candidate,
            });
        }
        let before = if switched { Role::Previous } else { Role::Active };
        (swap.from == Some(generation)).then_some(before)
    }
}

/// The ledger hears of a swap to a standby at the switch.
fn is_untold(held: &HeldSwap) -> bool {
    held.warm && !matches!(held.rest, Rest::Probation { .. })
}

fn as_left(held: &HeldSwap, recipe: &Launch, client: Option<ClientId>) -> Swap {
    let step = match held.rest {
        Rest::Held => Step::Held,
        Rest::Canary { stage, until } => {
            let stage = stage.map_or(usize::MAX, |stage| stage.try_into().unwrap_or(usize::MAX));
            Step::Canary { stage, until }
        }
        Rest::Probation { until } => Step::Probation { until },
    };
    Swap {
        id: held.swap_id,
        plan: Plan {
            kind: held.kind,
            settings: recipe.settings.clone(),
            release: recipe.release.clone(),
            origin: held.origin,
            stops: held.stops,
        },
        from: held.from,
        to: held.to,
        heir_of: None,
        step,
        steered: held.steered,
        share: held.share,
        wanted: held.share,
        warm: held.warm,
        gap_since: None,
        gap: held.gap,
        unbound: false,
        stops_left: held.stops_left,
        cause: None,
        fell: None,
        ended: None,
        unfit: false,
        by_person: false,
        launched: held.launched,
        ready: held.ready,
        switch: held.switch,
        client,
        undoers: Vec::new(),
    }
}
