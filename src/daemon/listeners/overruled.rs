//! Workers that have changed who receives how much.

use super::Listeners;
use crate::model::{Address, Generation};
use crate::os::listener::Listener;

/// So many addresses of a unit are looked at: each takes a dozen system calls.
const MOST: usize = 16;

impl Listeners {
    /// Where the kernel chooses by another program than supd's, or by none, as far as that can be told.
    pub fn overruled(&mut self) -> Vec<Address> {
        let steering = &mut self.lending.steering;
        let listeners = self.bound.iter().take(MOST).map(|bound| &bound.listener);
        let is = |listener: &&Listener| listener.is_overruled(steering) == Some(true);
        listeners.filter(is).map(|listener| listener.address().clone()).collect()
    }

    /// Whether there is anything to choose: a slot that nobody has is as good as any for whoever chooses wrongly.
    #[must_use]
    pub fn has_several(&self) -> bool {
        self.lending.lent.iter().count() > 1 || self.all().any(|listener| listener.slots().count() > 1)
    }

    /// Every generation that has a slot, if this was not told of one of them yet. It is from here on.
    pub fn name(&mut self) -> Vec<Generation> {
        let lending = &mut self.lending;
        let all: Vec<Generation> = lending.lent.keys().copied().collect();
        if all.iter().all(|one| lending.named.contains(one)) {
            return Vec::new();
        }
        lending.named.clone_from(&all);
        all
    }
}
