//! Workers that bind for themselves, told so that the next supd goes on answering them.

use super::super::hands::Hands;
use super::{Intercept, Intercepts, Listening};
use crate::model::kept::KeptIntercept;
use crate::model::{UnitName, WorkerId};
use crate::os::intercept::{Answer, Call, Calls, What, waiting};
use crate::os::kept::Giving;
use std::os::fd::AsFd;

/// No more calls are taken at once to find one among them.
const TAKEN_MAX: usize = 1024;

impl Intercepts {
    /// Those of a unit. `index` knows SUPD_WORKER.
    pub(in super::super) fn keep<'a>(
        &'a self,
        unit: &UnitName,
        index: impl Fn(WorkerId) -> Option<u32>,
        giving: &mut Giving<'a>,
    ) -> Vec<KeptIntercept> {
        let its = self.open.iter().filter(|(_, one)| one.unit == *unit);
        let each = its.filter_map(|(id, one)| {
            let generation = one.launch.generation;
            let common = self.generations.get(&(unit.clone(), generation));
            // Those that are looked at just now are none of the worker's own lists.
            let looked_at = self.questions.iter().filter(|question| question.worker == *id);
            let calls = one.waiting.iter().chain(&one.again).chain(looked_at.map(|question| &question.call));
            Some(KeptIntercept {
                generation,
                worker: index(*id)?,
                calls: giving.put(one.calls.as_fd()),
                served: one.served.iter().filter_map(|at| u32::try_from(*at).ok()).collect(),
                nonblocking: common.is_some_and(|common| common.nonblocking),
                last: one.last,
                waiting: calls.filter_map(Call::keep).collect(),
            })
        });
        each.collect()
    }
}

impl Hands {
    /// Goes on answering a worker that was ready when its supd ended.
    pub(in super::super) fn go_on_answering(&mut self, id: WorkerId, calls: Calls, kept: &KeptIntercept) {
        let mut known: Vec<Call> = kept.waiting.iter().map(Call::of).collect();
        let lost = kept.last.map_or_else(Vec::new, |last| calls.taken_after(last));
        if !lost.is_empty() {
            let sessions = self.workers.get(id).map_or(&[][..], |worker| &worker.sessions);
            find_again(&lost, &calls, sessions, &mut known);
        }
        self.intercept(id, calls);
        let Some(one) = self.intercepts.open.get_mut(&id) else { return };
        let sockets = one.launch.settings.sockets.len();
        let served = kept.served.iter().filter_map(|at| usize::try_from(*at).ok());
        one.served = served.filter(|at| *at < sockets).collect();
        one.listening = Listening::Done;
        one.last = known.iter().map(|call| call.id).chain(kept.last).max();
        one.earlier = known.iter().map(|call| call.id).collect();
        one.again = known.into();
        if let Some(common) = self.intercepts.common(id) {
            common.nonblocking |= kept.nonblocking;
        }
        self.intercepts.note_served(id);
        self.intercepts.more.insert(id);
    }
}

/// Adds those to what is known that a supd took without telling anybody: of one worker it takes one at a time, so
/// that it is the thread that waits beside those that are known, and those that nobody has taken yet. Where more
/// than one could be meant the kernel does the call, rather than that its thread waits for ever.
fn find_again(lost: &[u64], calls: &Calls, sessions: &[i32], known: &mut Vec<Call>) {
    while known.len() < TAKEN_MAX {
        let Ok(Some(call)) = calls.next() else { break };
        known.push(call);
    }
    let mut waiting = waiting(sessions);
    waiting.retain(|(thread, _)| known.iter().all(|call| call.thread != *thread));
    if let ([id], [(thread, what)]) = (lost, &waiting[..]) {
        known.push(Call { id: *id, thread: *thread, what: *what });
        return;
    }
    for id in lost {
        log::warn!("a bind was under way when supd died, and cannot be told from others: the kernel does it");
        if let Err(errno) = calls.finish(&Call { id: *id, thread: 0, what: What::Foreign }, Answer::Continue)
        {
            log::warn!("it cannot be answered: {errno}");
        }
    }
}

impl Intercept {
    /// Whether an earlier supd has taken this call: it may have done what it was about to answer.
    pub(super) fn is_earlier(&self, call: &Call) -> bool {
        self.earlier.contains(&call.id)
    }
}
