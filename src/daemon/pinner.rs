//! Programs that are to be copied, until a child has done it.
//!
//! A thousand units that start at once must not take a thousand children: what comes while one is at
//! work is for the next, all together. Only if that fails as a whole is each tried alone, so that no
//! program can stand in the way of another's.
//!
//! Meanwhile the program is held by a descriptor: whoever swaps and goes back at once may be faster
//! than the disk, and the process that ran it be gone before its copy's turn comes.

use super::chores::Chore;
use super::hands::Hands;
use super::pinning::{Job, Unpinned, make};
use super::workers::Worker;
use crate::machine::{Event, Launch};
use crate::model::{Generation, UnitName, WorkerId};
use crate::os::pidfd::PidFd;
use crate::os::pin::Held;
use crate::os::task::Task;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

/// How many children copy at a time: one that is stuck must not keep the others waiting.
const CHILDREN_MAX: usize = 2;

/// How many programs one child copies at most.
const BATCH_MAX: usize = 128;

/// How long that may take.
const COPY_BOUND: Duration = Duration::from_secs(600);

/// How much is told of what went wrong with one, in characters: a report has 64 KiB.
const REASON_MAX: usize = 100;

/// With this many waiting, more are not held: they are copied from their process, if that lives.
const HELD_MAX: u64 = 1024;

/// And never more than one in so many of all descriptors: none is worth one that a launch needs.
const HELD_SHARE: u64 = 8;

/// A generation whose program is to be copied.
#[derive(Debug, Clone)]
struct Wanted {
    launch: Arc<Launch>,
    /// The worker whose program it is.
    worker: Option<WorkerId>,
    /// That program.
    held: Option<Arc<Held>>,
}

/// Generations whose programs are to be copied, and whether alone.
#[derive(Debug, Default)]
pub struct Pinner {
    waiting: VecDeque<(Wanted, bool)>,
}

/// What one child does.
#[derive(Debug, Clone)]
pub struct Batch(Vec<Wanted>);

impl Pinner {
    fn next(&mut self) -> Batch {
        let mut batch = Vec::new();
        while let Some((wanted, alone)) = self.waiting.pop_front() {
            if alone && !batch.is_empty() {
                self.waiting.push_front((wanted, alone));
                break;
            }
            batch.push(wanted);
            if alone || batch.len() == BATCH_MAX {
                break;
            }
        }
        Batch(batch)
    }

    /// Whether there is a descriptor to spare for one more.
    fn has_room(&self) -> bool {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        (self.waiting.len() as u64) < (limit / HELD_SHARE).min(HELD_MAX)
    }
}

/// What the main process of a worker runs.
fn hold(worker: &Worker) -> Option<Held> {
    let process = worker.main()?;
    let held = Held::of(process.pid()).ok()?;
    // As long as it has not ended its number is nobody else's.
    (!process.is_over()).then_some(held)
}

impl Hands {
    /// Keeps a copy of the program that this generation runs.
    pub(super) fn pin(&mut self, launch: Arc<Launch>) {
        let its = || self.workers.of(&launch.settings.unit, launch.generation);
        let found = || its().find_map(|(id, worker)| Some((id, Arc::new(hold(worker)?))));
        let (worker, held) = self.pinner.has_room().then(found).flatten().unzip();
        self.pinner.waiting.push_back((Wanted { launch, worker, held }, false));
    }

    /// The process whose program is to be copied, while it lives.
    fn runs(&self, wanted: &Wanted) -> Option<i32> {
        let process = match wanted.worker {
            Some(worker) => self.workers.get(worker).and_then(Worker::main),
            None => {
                let (unit, generation) = (&wanted.launch.settings.unit, wanted.launch.generation);
                self.workers.of(unit, generation).find_map(|(_, worker)| worker.main())
            }
        };
        process.map(PidFd::pid)
    }

    /// Begins copies, as far as there are children for them.
    pub(super) fn begin_pins(&mut self) {
        while !self.pinner.waiting.is_empty() && self.chores.pins() < CHILDREN_MAX {
            let batch = self.pinner.next();
            let pids: Vec<Option<i32>> = batch.0.iter().map(|wanted| self.runs(wanted)).collect();
            let pins = self.pins.clone();
            let held = batch.0.iter().filter_map(|wanted| wanted.held.as_deref());
            let held: Vec<_> = held.map(Held::as_fd).collect();
            let work = || {
                let jobs = batch.0.iter().zip(pids);
                let jobs =
                    jobs.map(|(Wanted { launch, held, .. }, pid)| Job { held: held.as_deref(), pid, launch });
                Ok(report(&make(&jobs.collect::<Vec<_>>(), &pins)))
            };
            let begun = Task::run("the copies of programs", COPY_BOUND, &held, work)
                .map_err(|error| error.to_string())
                .and_then(|task| self.chores.begin(Chore::Pin(batch.clone()), task, &mut self.sources));
            if let Err(why) = begun {
                batch.0.iter().for_each(|wanted| self.pinned(&wanted.launch, Err(why.clone().into())));
            }
        }
    }

    /// A child is done with its copies.
    pub(super) fn copied(&mut self, batch: &Batch, result: Result<Vec<u8>, String>) {
        let read = result.and_then(|bytes| {
            read_report(&bytes, batch.0.len()).ok_or_else(|| "what came of it is garbled".to_owned())
        });
        match (read, &*batch.0) {
            (Ok(results), batch) => {
                batch.iter().zip(results).for_each(|(wanted, result)| self.pinned(&wanted.launch, result));
            }
            (Err(why), [wanted]) => self.pinned(&wanted.launch, Err(why.into())),
            (Err(_), batch) => self.pinner.waiting.extend(batch.iter().cloned().map(|one| (one, true))),
        }
    }

    fn pinned(&mut self, launch: &Launch, result: Result<(), Unpinned>) {
        let (unit, generation): (&UnitName, Generation) = (&launch.settings.unit, launch.generation);
        let pinned = result.is_ok();
        match result {
            Err(Unpinned { why, failed: false }) => {
                log::debug!("{unit}/g{generation}: its program is not pinned: {why}");
            }
            Err(Unpinned { why, failed: true }) => log::warn!(
                "{unit}/g{generation}: its program is not pinned, so a later rollback may be refused: {why}"
            ),
            Ok(()) => {}
        }
        self.say(unit, Event::Pinned { generation, pinned });
    }
}

/// What a line begins with that says why a copy failed, and one that says why none is made.
const FAILED: char = '!';
const UNFIT: char = '-';

/// A line for each: empty, or why not. Of a long one the end: there is what the kernel said.
fn report(results: &[Result<(), Unpinned>]) -> Vec<u8> {
    let mut text = String::new();
    for result in results {
        if let Err(Unpinned { why, failed }) = result {
            text.push(if *failed { FAILED } else { UNFIT });
            let more = why.chars().count().saturating_sub(REASON_MAX);
            text.extend(why.chars().skip(more).map(|c| if c == '\n' { ' ' } else { c }));
        }
        text.push('\n');
    }
    text.into_bytes()
}

fn read_report(bytes: &[u8], count: usize) -> Option<Vec<Result<(), Unpinned>>> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let one = |line: &str| {
        let mut rest = line.chars();
        match rest.next() {
            None => Ok(()),
            Some(mark) => Err(Unpinned { why: rest.as_str().to_owned(), failed: mark != UNFIT }),
        }
    };
    let results: Vec<Result<(), Unpinned>> = text.split('\n').map(one).collect();
    (results.len() == count).then_some(results)
}

#[cfg(test)]
mod tests {
    use super::super::testbed::recipe;
    use super::*;

    #[test]
    fn what_waits_goes_together_and_what_failed_goes_alone() {
        let mut pinner = Pinner::default();
        let launch = |generation| recipe(generation, "ExecStart = [\"/bin/true\"]");
        let wanted = |generation| Wanted { launch: launch(generation), worker: None, held: None };
        pinner.waiting.extend([(wanted(1), true), (wanted(2), false), (wanted(3), false), (wanted(4), true)]);
        pinner.waiting.extend((0..BATCH_MAX as u64 + 1).map(|more| (wanted(5 + more), false)));
        let sizes: Vec<usize> = (0..5).map(|_| pinner.next().0.len()).collect();
        assert_eq!(sizes, [1, 2, 1, BATCH_MAX, 1]);
        assert!(pinner.next().0.is_empty());
    }

    #[test]
    fn a_report_is_read_back_within_its_bounds() {
        let unfit = || Err(Unpinned { why: "a script".to_owned(), failed: false });
        let failed = |why: &str| Err(Unpinned::from(why.to_owned()));
        let read = read_report(&report(&[Ok(()), failed("no\nroom"), unfit()]), 3).unwrap();
        assert_eq!(read, [Ok(()), failed("no room"), unfit()]);
        let long = format!("cannot write /{}: No space left on device", "x".repeat(200));
        let read = read_report(&report(&[failed(&long)]), 1).unwrap().remove(0).unwrap_err();
        assert!(read.failed && read.why.ends_with("x: No space left on device"), "{}", read.why);
        assert_eq!(read_report(&report(&[Ok(())]), 1), Some(vec![Ok(())]));
        for garbled in [&b""[..], b"\n\n", b"\xff\n", b"x"] {
            assert_eq!(read_report(garbled, 1), None);
        }
        let longest = vec![failed(&"\u{10ffff}".repeat(1000)); BATCH_MAX];
        assert!(report(&longest).len() < 60_000);
    }
}
