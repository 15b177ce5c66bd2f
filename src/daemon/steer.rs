//! Who receives new connections: the machine's word, told to the listeners.

use super::hands::Hands;
use super::listeners::Listeners;
use super::perform::note;
use super::units::Units;
use super::workers::Worker;
use crate::machine::swap_table::StepKind;
use crate::machine::{Event, Launch, Level, Machine};
use crate::model::settings::Settings;
use crate::model::{Generation, JobId, Share, SwapId, UnitName, WorkerId};
use crate::os::family::{Look, Standing};
use crate::os::pidfd::PidFd;
use std::hash::{BuildHasher, RandomState};
use std::time::Instant;

/// So many processes are named in an error.
const NAMED: usize = 32;

impl Hands {
    pub(super) fn bind(&mut self, unit: &UnitName, job: JobId, settings: &Settings) {
        // Before the kernel is asked, which could only say that supd itself holds the port.
        let conflict = Units::conflict(settings, self.bound_elsewhere(settings));
        let listeners =
            self.listeners.entry(unit.clone()).or_insert_with(|| Listeners::new(unit.clone()).into());
        let private = self.runtime.listeners(unit);
        let takes = listeners.expects();
        let result = match conflict {
            Some(conflict) => Err(conflict.to_string()),
            None => listeners.bind(settings, true, &private, &mut self.inherited, &mut self.sources),
        };
        match result {
            Ok(notes) => {
                // Several listeners switch together, so one that cannot keeps all of them.
                let steered = listeners.steers(settings);
                listeners.set_steered(steered.is_ok());
                notes.iter().for_each(|text| note(unit, Level::Warning, None, text));
                self.say(unit, Event::Bound { job, steered });
                if takes {
                    self.tell_taken(unit);
                }
            }
            Err(reason) => self.say(unit, Event::BindFailed { job, reason }),
        }
    }

    /// Gives a generation that is about to be launched its slots.
    pub(super) fn lend(&mut self, unit: &UnitName, launch: &Launch) -> Result<(), String> {
        let Some(listeners) = self.listeners.get_mut(unit) else { return Ok(()) };
        // Before: where a name is gone, another would get the same.
        for text in listeners.republish() {
            note(unit, Level::Warning, None, &text);
        }
        for text in listeners.lend(launch.generation, &launch.settings, &mut self.sources)? {
            note(unit, Level::Warning, Some(launch.generation), &text);
        }
        Ok(())
    }

    /// The same before anything of it runs.
    pub(super) fn lend_ahead(&mut self, unit: &UnitName, launch: &Launch) {
        if let Err(reason) = self.lend(unit, launch) {
            note(unit, Level::Warning, Some(launch.generation), &reason);
        }
    }

    /// No process of it is left: its slots are free. Says how many connections still wait in them.
    pub(super) fn give_back(&mut self, unit: &UnitName, generation: Generation) -> u32 {
        let Some(listeners) = self.listeners.get_mut(unit) else { return 0 };
        for fault in listeners.give_back(generation, &mut self.sources) {
            note(unit, Level::Warning, Some(generation), &fault);
        }
        if listeners.deadline().is_some() {
            self.last_calls.insert(unit.clone());
        }
        listeners.left_to(generation)
    }

    /// `course`: what is known of whom it goes to.
    pub(super) fn switch(&mut self, unit: &UnitName, swap_id: SwapId, to: Generation, course: Course) {
        let intended = self.intended.remove(unit);
        let known = intended.as_ref().and_then(|intended| intended.able.clone());
        let able =
            if course == Course::Tried { known.unwrap_or_else(|| self.is_able(unit, to)) } else { Ok(()) };
        let led = able.and_then(|()| match course {
            Course::Tried | Course::Only => self.lead_to(unit, swap_id, to),
            Course::Back => self.lead_back(unit, swap_id, to),
        });
        let led = led.and_then(|()| self.lives_or_back(unit, to));
        let event = match led {
            Ok(()) => {
                let took = intended.map(|intended| intended.since.elapsed()).unwrap_or_default();
                Event::Switched { swap_id, took }
            }
            Err(reason) => Event::SwitchFailed { swap_id, reason },
        };
        self.say(unit, event);
        // Whoever must not stay has nothing that could be gone back to: it is only told.
        if let Some(Err(stopped)) = (course == Course::Back).then(|| self.is_able(unit, to)) {
            note(unit, Level::Warning, Some(to), &stopped);
        }
    }

    /// Whoever is stopped by a signal is alive and ready, and would accept nothing; and so is a master that runs
    /// while all who accept for it are stopped.
    pub(super) fn is_able(&self, unit: &UnitName, to: Generation) -> Result<(), String> {
        let its = self.workers.of_unit(unit).filter(|(_, worker)| worker.launch.generation == to);
        let mains = its.filter_map(|(_, worker)| worker.main()).map(PidFd::pid);
        let mut look = Look::default();
        let standing: Vec<Standing> = mains.map(|pid| look.at(pid)).collect();
        if look.stopped().is_empty() {
            return Ok(());
        }
        let cure = cure(look.stopped());
        if standing.contains(&Standing::Stopped) {
            return Err(format!("generation {to} is stopped by a signal and accepts nothing: {cure}"));
        }
        if standing.iter().all(|it| *it == Standing::ChildrenStopped) {
            return Err(format!(
                "all that generation {to} has forked are stopped by a signal, and it accepts nothing: {cure}"
            ));
        }
        let text =
            format!("some of generation {to} are stopped by a signal, and only the others accept: {cure}");
        note(unit, Level::Warning, Some(to), &text);
        Ok(())
    }

    /// Where a swap has to be gone back from.
    fn lead_back(&mut self, unit: &UnitName, swap_id: SwapId, to: Generation) -> Result<(), String> {
        let Some(listeners) = self.listeners.get_mut(unit) else { return Ok(()) };
        let faults = listeners.lead_back(to, self.salts.of(swap_id), &mut self.sources)?;
        for fault in faults {
            let text = format!("not led back, until who has it ends: {fault}");
            note(unit, Level::Error, Some(to), &text);
        }
        Ok(())
    }

    /// Whether somebody of it lives, to whom all are led by now; else they are led as before.
    fn lives_or_back(&mut self, unit: &UnitName, to: Generation) -> Result<(), String> {
        // Looked at once it is done: whoever dies from here on dies as the active one. How it ended is why
        // nobody is led to it, so that is heard first.
        let is_over = |worker: &Worker| worker.main().is_some_and(PidFd::is_over);
        let all = self.workers.of_unit(unit);
        let over: Vec<WorkerId> = all.filter(|(_, worker)| is_over(worker)).map(|(id, _)| id).collect();
        over.into_iter().for_each(|id| self.worker_ended(id));
        let lives = |worker: &Worker| worker.main().is_some() || worker.is_parent_gone();
        let all = self.workers.of_unit(unit).filter(|(_, worker)| lives(worker));
        let (its, others): (Vec<_>, Vec<_>) = all.partition(|(_, worker)| worker.launch.generation == to);
        if !its.is_empty() || others.is_empty() {
            return Ok(());
        }
        if let Some(listeners) = self.listeners.get_mut(unit) {
            listeners.switch_back(&mut self.sources)?;
        }
        Err(format!("generation {to} has just ended"))
    }

    fn lead_to(&mut self, unit: &UnitName, swap_id: SwapId, to: Generation) -> Result<(), String> {
        let Some(listeners) = self.listeners.get_mut(unit) else { return Ok(()) };
        listeners.switch(to, None, (false, self.salts.of(swap_id)), &mut self.sources)?;
        Ok(())
    }

    pub(super) fn share(
        &mut self,
        unit: &UnitName,
        swap_id: SwapId,
        (candidate, share): (Generation, Share),
        sticky: bool,
    ) {
        let shared = match self.listeners.get_mut(unit) {
            Some(listeners) => listeners.share(candidate, share, (sticky, self.salts.of(swap_id))),
            None => Err("its listeners are not bound".to_owned()),
        };
        if let Err(reason) = shared {
            self.say(unit, Event::ShareFailed { swap_id, reason });
        }
    }

    /// What waits for a generation that accepts nothing waits for the others.
    pub(super) fn pass_on(&mut self, unit: &UnitName, generation: Generation) {
        let Some(listeners) = self.listeners.get_mut(unit) else { return };
        for fault in listeners.pass_on(generation) {
            note(unit, Level::Warning, Some(generation), &fault);
        }
    }
}

/// What to type where these are stopped.
fn cure(stopped: &[i32]) -> String {
    let (named, further) = stopped.split_at(stopped.len().min(NAMED));
    let pids: Vec<String> = named.iter().map(ToString::to_string).collect();
    let more = if further.is_empty() { String::new() } else { format!(" and {} more", further.len()) };
    format!("kill -CONT {}{more}", pids.join(" "))
}

/// What is known of whom a switch goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Course {
    /// It is tried out beside another, and what it cannot do now is a reason not to.
    Tried,
    /// It is that one or nobody.
    Only,
    /// It is where another one has to be gone back from.
    Back,
}

/// An intent on its way to the switch.
#[derive(Debug)]
pub struct Intended {
    /// When it was saved.
    pub(super) since: Instant,
    /// Whether whom it names could accept then, where that counts.
    pub(super) able: Option<Result<(), String>>,
}

impl Course {
    /// As the swap stands that is under way.
    pub(super) fn of(unit: &UnitName, to: Generation, machine: &Machine) -> Self {
        match (machine.swap_step(unit), machine.on_trial(unit)) {
            (Some(StepKind::TurnSwitching), _) => Self::Back,
            (_, Some(tried)) if tried == to => Self::Tried,
            (_, _) => Self::Only,
        }
    }
}

/// By which each swap draws its clients anew, and every step of one swap the same. The next image has it, for a
/// candidate goes over to that; it does not outlive a crash, so nobody can flip back after one.
#[derive(Debug)]
pub struct Salts(u64);

impl Salts {
    /// Those of the image before, where there was one.
    #[must_use]
    pub fn begin(before: Option<u64>) -> Self {
        Self(before.unwrap_or_else(|| RandomState::new().hash_one(0)))
    }

    /// What all of them come from.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// A swap's number alone is the same on all machines, and so would be the clients who are the
    /// first to get each new release. Every image makes the same of it (splitmix64: Steele, Lea and Flood, 2014).
    fn of(&self, swap_id: SwapId) -> u32 {
        let mut mixed = self.0.wrapping_add(swap_id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (mixed ^ (mixed >> 31)).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_keeps_its_salt_and_no_other_has_it() {
        let [here, there] = [Salts::begin(None), Salts::begin(None)];
        let of = |salts: &Salts| [1, 2, 3, 4].map(|number| salts.of(SwapId(number)));
        assert_eq!(of(&here), of(&Salts::begin(Some(here.seed()))), "the next image");
        assert_ne!(of(&here), of(&there));
        let [one, other, ..] = of(&here);
        assert_ne!(one, other);
    }
}
