//! Who asked and has not been answered.

use super::super::effect::Action;
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::{ClientId, Generation, Progress, Reply, SwapId, WaitFor};

/// A client that waits for a swap to get somewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) client: ClientId,
    pub(super) wait: WaitFor,
    /// The swap is over; this one waits for the end of a generation.
    pub(super) drained: Option<Drain>,
}

/// The end of a generation, and which swap it is the end of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drain {
    pub(super) of: Generation,
    pub(super) swap_id: Option<SwapId>,
    pub(super) to: Option<Generation>,
}

impl Unit {
    pub(super) fn hung_up(&mut self, client: ClientId) {
        self.waiters.retain(|waiter| waiter.client != client);
        if let Some(swap) = &mut self.swap {
            swap.undoers.retain(|undoer| *undoer != client);
        }
        if let Some((_, waiter)) = self.next.as_deref_mut() {
            *waiter = waiter.filter(|waiter| waiter.client != client);
        }
        if let Some(refreshing) = &mut self.refreshing {
            refreshing.client = refreshing.client.filter(|asker| *asker != client);
        }
        if let Some(parting) = &mut self.parting {
            parting.waiters.retain(|waiter| waiter.client != client);
            parting.undoers.retain(|undoer| *undoer != client);
        }
        if let Some(again) = &mut self.again {
            again.hung_up(client);
        }
        if let Some(reloading) = &mut self.reloading {
            reloading.client = reloading.client.filter(|asker| *asker != client);
        }
        if let Some(install) = &mut self.install {
            install.hung_up(client);
        }
        if let Some(undeploying) = &mut self.undeploying {
            undeploying.hung_up(client);
        }
        match &mut self.life {
            Life::Arming { clients, .. } | Life::Waiting { clients, .. } => {
                clients.retain(|one| *one != client);
            }
            Life::Stopping(stopping) => stopping.clients.retain(|one| *one != client),
            Life::Stopped { .. } | Life::Blocked { .. } | Life::Up => {}
        }
    }

    pub(super) fn progress(&self, progress: &Progress, turn: &mut Turn<'_>) {
        for waiter in self.waiters.iter().filter(|waiter| waiter.drained.is_none()) {
            turn.act(Action::Progress(waiter.client, progress.clone()));
        }
    }

    /// Answers those who waited for no more than `reached`.
    pub(super) fn resolve(&mut self, reached: WaitFor, reply: &Reply, turn: &mut Turn<'_>) {
        self.waiters.retain(|waiter| {
            let waits_on = waiter.drained.is_some() || waiter.wait > reached;
            if !waits_on {
                turn.act(Action::Reply(waiter.client, reply.clone()));
            }
            waits_on
        });
    }

    /// Answers everybody who waits for the swap.
    pub(super) fn resolve_all(&mut self, reply: &Reply, turn: &mut Turn<'_>) {
        self.resolve(WaitFor::Drained, reply, turn);
    }

    pub(super) fn reply(&self, client: ClientId, reply: Reply, turn: &mut Turn<'_>) {
        turn.act(Action::Reply(client, reply));
    }
}
