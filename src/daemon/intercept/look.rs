//! What a call is about: asked of a child, which may hang where supd may not. One call of a worker is
//! under way at a time; the others wait in the kernel.

use super::super::hands::Hands;
use super::super::sources::{Source, Sources};
use super::Intercepts;
use crate::model::{Tick, WorkerId};
use crate::os::intercept::{Answer, BYTES_MAX, Call, Facts, Ours, Reader, Watch, What};
use nix::errno::Errno;
use std::time::Duration;

/// As many calls of one worker are answered in a turn.
const PER_TURN: usize = 8;

/// As many questions are under way; the child answers them in their order.
const UNDER_WAY: usize = 32;

/// A look takes microseconds. One that takes longer has come upon a page that does not come, or upon a
/// descriptor whose close waits.
const LOOK_BOUND: Duration = Duration::from_millis(200);

/// On a machine that is busy a look may wait for a processor; so often that is waited for.
const PATIENCE: u32 = 50;

/// A call that is being looked at.
#[derive(Debug)]
pub(super) struct Question {
    tag: u64,
    pub(super) worker: WorkerId,
    pub(super) call: Call,
    since: Tick,
    /// So often it was found to wait for a processor only.
    waited: u32,
    /// The socket that it got is to be put into these: the last thing before it goes on.
    watches: Vec<Watch>,
}

impl Intercepts {
    /// When the look that is under way takes too long.
    pub(super) fn look_overdue(&self) -> Option<Tick> {
        self.questions.front().filter(|_| self.asked > 0).map(|question| question.since.after(LOOK_BOUND))
    }

    fn is_asked_about(&self, worker: WorkerId) -> bool {
        self.questions.iter().any(|question| question.worker == worker)
    }

    /// Asks what may be asked. A child that is not there is begun.
    fn pump(&mut self, now: Tick, sources: &mut Sources) -> Result<(), Errno> {
        if self.asked >= self.questions.len() {
            return Ok(());
        }
        if self.reader.is_none() {
            let reader = Reader::begin().map_err(|error| error.errno)?;
            let token = sources.watch(&reader, Source::Read).map_err(|_| Errno::ENOMEM)?;
            self.reader = Some((reader, token));
        }
        let Some((reader, _)) = &self.reader else { return Ok(()) };
        while self.asked < UNDER_WAY {
            let Some(question) = self.questions.get_mut(self.asked) else { return Ok(()) };
            let (tag, call) = (question.tag, &question.call);
            let ours = self.open.get(&question.worker).map(|one| &one.ours);
            let begun = match &*question.watches {
                [] => reader.ask(tag, call, ours.unwrap_or(&Ours::default())),
                watches => reader.watch(tag, call, watches),
            };
            match begun {
                Ok(()) => {
                    question.since = now;
                    self.asked += 1;
                }
                // It has its hands full.
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

impl Hands {
    /// Calls of workers of which a turn took as many as it may.
    pub(in super::super) fn take_pending_calls(&mut self, now: Tick) {
        for worker in std::mem::take(&mut self.intercepts.more) {
            self.take_calls(worker, now);
        }
    }

    /// Takes what waits of one worker.
    pub(in super::super) fn take_calls(&mut self, id: WorkerId, now: Tick) {
        for _ in 0..PER_TURN {
            if self.intercepts.is_asked_about(id) {
                // The next is taken when that one is answered.
                return;
            }
            let Some(one) = self.intercepts.open.get_mut(&id) else { return };
            // Should supd die before it answers, the next one does.
            self.keeping.touch(&one.unit);
            match one.next() {
                Ok(Some(call)) => self.called(id, call, now),
                Ok(None) => return self.end_if_over(id),
                Err(errno) => {
                    log::warn!("{}/g{}: cannot hear its calls: {errno}", one.unit, one.launch.generation);
                    return;
                }
            }
        }
        self.intercepts.more.insert(id);
    }

    fn called(&mut self, id: WorkerId, call: Call, now: Tick) {
        let mute = self.intercepts.open.get(&id).is_some_and(|one| one.mute);
        let at_once = match call.what {
            What::Foreign => {
                let text = "it is a 32-bit program, whose bind(2) supd cannot answer: write Handoff = \
                            \"inherit\", or run a 64-bit one";
                self.warn_once(id, "32-bit", text);
                Some(Answer::Refused(Errno::EPERM))
            }
            _ if mute => Some(Answer::Refused(Errno::EFAULT)),
            // The kernel refuses what is no address, or too long for one.
            What::Bind { length, .. } if !(1..=BYTES_MAX).contains(&length) => Some(Answer::Continue),
            What::Bind { .. } | What::Listen { .. } => None,
        };
        match at_once {
            Some(answer) => self.intercepts.answer(id, &call, answer),
            None => self.ask_child(id, call, Vec::new(), now),
        }
    }

    fn ask_child(&mut self, worker: WorkerId, call: Call, watches: Vec<Watch>, now: Tick) {
        self.intercepts.last += 1;
        let question = Question { tag: self.intercepts.last, worker, call, since: now, waited: 0, watches };
        self.intercepts.questions.push_back(question);
        self.pump_looks(now);
    }

    /// Where nobody can look, everybody is refused, rather than kept waiting.
    fn pump_looks(&mut self, now: Tick) {
        let Err(errno) = self.intercepts.pump(now, &mut self.sources) else { return };
        self.intercepts.end_reader(&mut self.sources);
        self.intercepts.asked = 0;
        for question in std::mem::take(&mut self.intercepts.questions) {
            let text = format!("cannot look at what it binds: {errno}; supd is out of memory or descriptors");
            self.warn_once(question.worker, "look", &text);
            self.intercepts.answer(question.worker, &question.call, Answer::Refused(Errno::ENOBUFS));
        }
    }

    /// The child has answers, or has ended.
    pub(in super::super) fn looked(&mut self, now: Tick) {
        loop {
            let Some((reader, _)) = &self.intercepts.reader else { return };
            match reader.answer() {
                Ok(Some((tag, found))) => self.found(tag, found, now),
                Ok(None) => break,
                Err(_) => return self.look_anew(false, now),
            }
        }
        self.pump_looks(now);
    }

    fn found(&mut self, tag: u64, found: Result<Option<Facts>, Errno>, now: Tick) {
        let questions = &mut self.intercepts.questions;
        let Some(at) = questions.iter().position(|question| question.tag == tag) else { return };
        let Some(Question { worker, call, watches, .. }) = questions.remove(at) else { return };
        self.intercepts.asked = self.intercepts.asked.saturating_sub(1);
        // The next in the line has the child to itself from now on.
        if let Some(next) = self.intercepts.questions.front_mut() {
            next.since = now;
        }
        if watches.is_empty() {
            self.known(worker, call, found, now);
        } else {
            if let Err(errno) = found {
                let text = format!(
                    "what it binds was in an epoll set before, and cannot be put back there: {errno}; it may not \
                     hear of clients"
                );
                self.warn_once(worker, "epoll", &text);
            }
            self.intercepts.answer(worker, &call, Answer::Done);
        }
        self.take_calls(worker, now);
    }

    fn known(&mut self, worker: WorkerId, call: Call, found: Result<Option<Facts>, Errno>, now: Tick) {
        let found = found.and_then(|facts| facts.ok_or(Errno::ENOENT));
        let watches = found.as_ref().map_or_else(|_| Vec::new(), |facts| facts.sets.clone());
        match self.decide(worker, &call, found, now) {
            // Only what has the worker's number by now can be put there.
            Some(Answer::Done) if !watches.is_empty() => self.ask_child(worker, call, watches, now),
            Some(answer) => self.intercepts.answer(worker, &call, answer),
            // It waits for a person.
            None => {}
        }
    }

    /// The child has ended, or hangs at the oldest question: that one is refused, the others are asked again,
    /// of another child. Only whose question it hangs at is to blame: to end it somebody else may have.
    fn look_anew(&mut self, hangs: bool, now: Tick) {
        self.intercepts.end_reader(&mut self.sources);
        self.intercepts.asked = 0;
        if let Some(Question { worker, call, .. }) = self.intercepts.questions.pop_front() {
            let text = if hangs {
                "what it binds cannot be looked at in time: its binds are refused from now on"
            } else {
                "a bind is refused: the child that was to look at it has ended"
            };
            self.warn_once(worker, text, text);
            if let Some(one) = self.intercepts.open.get_mut(&worker) {
                one.mute |= hangs;
            }
            self.intercepts.answer(worker, &call, Answer::Refused(Errno::EFAULT));
            self.intercepts.more.insert(worker);
        }
        self.pump_looks(now);
    }

    /// Gives up on a look that takes too long.
    pub(super) fn tend_looks(&mut self, now: Tick) {
        if self.intercepts.look_overdue().is_none_or(|overdue| overdue > now) {
            return;
        }
        let runs = self.intercepts.reader.as_ref().is_some_and(|(reader, _)| reader.runs());
        match self.intercepts.questions.front_mut() {
            Some(question) if runs && question.waited < PATIENCE => {
                (question.since, question.waited) = (now, question.waited + 1);
            }
            Some(_) | None => self.look_anew(true, now),
        }
    }
}
