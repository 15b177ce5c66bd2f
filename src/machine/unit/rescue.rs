//! A generation that ended while clients waited in its slot. Where the kernel does not move them to
//! another, nobody would ever accept them: all of it is launched once more, for them and for nobody else,
//! and drains as every other. Once: what ends again is not what helps them.

use super::super::drain::Drain;
use super::super::effect::{Action, Level};
use super::super::group::{Group, Role};
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::{Generation, Tick};
use std::time::Duration;

/// Its clients have this time at the least, whatever DrainSec says: it is not only theirs to finish in, but
/// to be accepted at all.
const SHORTEST: Duration = Duration::from_secs(5);

/// One of which no process is left.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    group: Group,
    /// When to ask once more who waits there: a handshake that was half done may end there until then.
    again: Option<Tick>,
    /// So many answers are still to come.
    asked: u32,
}

impl Unit {
    /// Nothing of a generation is left. What it was launched with is kept until the hands have said who
    /// waits in its slot.
    pub(super) fn bury(&mut self, generation: Generation, turn: &mut Turn<'_>) {
        let Some(group) = self.groups.remove(&generation) else { return };
        turn.act(Action::Retire(generation));
        if !group.steered || group.rescues || self.is_never_beside(&group) || !matches!(self.life, Life::Up) {
            return self.drained(generation, turn);
        }
        // Who was told to stop had settled before.
        let since = group.diverted.filter(|_| group.has_failed());
        let settled = since.map(|since| since.after(group.launch.settings.swap.settle));
        let again = settled.filter(|settled| *settled > turn.now);
        self.ended.insert(generation, Ended { group, again, asked: 1 });
    }

    /// Its slots are given back.
    pub(super) fn retired(&mut self, generation: Generation, queued: u32, turn: &mut Turn<'_>) {
        let up = matches!(self.life, Life::Up);
        if let Some(ended) = self.ended.get_mut(&generation) {
            ended.asked = ended.asked.saturating_sub(1);
            if queued == 0 && up && (ended.again.is_some() || ended.asked > 0) {
                return;
            }
        }
        match self.ended.remove(&generation) {
            Some(Ended { group, .. }) if queued > 0 && up => self.rescue(group, queued, turn),
            Some(_) => self.drained(generation, turn),
            None if queued > 0 && up && !self.groups.contains_key(&generation) => {
                let text = format!(
                    "ended once more, and {queued} client(s) still wait for it: they wait for the next \
                     generation that has its slot"
                );
                turn.note(Level::Warning, Some(generation), text);
            }
            None => {}
        }
    }

    fn rescue(&mut self, mut group: Group, queued: u32, turn: &mut Turn<'_>) {
        let generation = group.generation();
        let text = format!(
            "ended, and {queued} client(s) wait for it: it is launched once more for them, and receives \
             no new ones"
        );
        turn.note(Level::Warning, Some(generation), text);
        let drain = Drain::new(turn.now, None, Some(group.start_longest()));
        let told = group.rescue(drain, turn);
        self.groups.insert(generation, group);
        turn.act(Action::Count(generation));
        self.heard(generation, told, turn);
    }

    /// Somebody accepts there: from the first that does, its clients have their time.
    pub(super) fn begin_rescue(&mut self, generation: Generation, ready: u32, turn: &Turn<'_>) {
        let Some(group) = self.groups.get_mut(&generation).filter(|_| ready == 1) else { return };
        let span = group.launch.settings.swap.drain.map(|span| span.max(SHORTEST));
        if let Role::Draining(drain) = &mut group.role {
            drain.give(turn.now, span);
        }
    }

    /// What was launched is stopped now, so nobody is launched once more.
    pub(super) fn forget_ended(&mut self, turn: &mut Turn<'_>) {
        let all: Vec<Generation> = self.ended.keys().copied().collect();
        for generation in all {
            self.ended.remove(&generation);
            self.drained(generation, turn);
        }
    }

    pub(super) fn ended_groups(&self) -> impl Iterator<Item = &Group> {
        self.ended.values().map(|ended| &ended.group)
    }

    pub(super) fn ended_deadline(&self) -> Option<Tick> {
        self.ended.values().filter_map(|ended| ended.again).min()
    }

    pub(super) fn ended_due(&mut self, turn: &mut Turn<'_>) {
        for (generation, ended) in self.ended.iter_mut() {
            if ended.again.take_if(|again| *again <= turn.now).is_some() {
                ended.asked += 1;
                turn.act(Action::Retire(*generation));
            }
        }
    }
}
