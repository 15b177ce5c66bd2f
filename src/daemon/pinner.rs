//! Programs that are to be copied, until a child has done it.
//!
//! A thousand units that start at once must not take a thousand children: what comes while one is at
//! work is for the next, all together. Only if that fails as a whole is each tried alone, so that no
//! program can stand in the way of another's.

use super::chores::Chore;
use super::hands::Hands;
use super::pinning::{Job, Unpinned, make};
use crate::machine::{Event, Launch};
use crate::model::{Generation, UnitName};
use crate::os::pidfd::PidFd;
use crate::os::task::Task;
use std::collections::VecDeque;
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

/// Generations whose programs are to be copied, and whether alone.
#[derive(Debug, Default)]
pub struct Pinner {
    waiting: VecDeque<(Arc<Launch>, bool)>,
}

/// What one child does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch(Vec<Arc<Launch>>);

impl Pinner {
    /// Keeps a copy of the program that this generation runs.
    pub fn pin(&mut self, launch: Arc<Launch>) {
        self.waiting.push_back((launch, false));
    }

    fn next(&mut self) -> Batch {
        let mut batch = Vec::new();
        while let Some((launch, alone)) = self.waiting.pop_front() {
            if alone && !batch.is_empty() {
                self.waiting.push_front((launch, alone));
                break;
            }
            batch.push(launch);
            if alone || batch.len() == BATCH_MAX {
                break;
            }
        }
        Batch(batch)
    }
}

impl Hands {
    /// Begins copies, as far as there are children for them.
    pub(super) fn begin_pins(&mut self) {
        while !self.pinner.waiting.is_empty() && self.chores.pins() < CHILDREN_MAX {
            let mut jobs = Vec::new();
            let mut launches = Vec::new();
            for launch in self.pinner.next().0 {
                let (unit, generation) = (&launch.settings.unit, launch.generation);
                let runs = self.workers.of(unit, generation).find_map(|(_, worker)| worker.main());
                match runs.map(PidFd::pid) {
                    Some(pid) => {
                        jobs.push(Job { pid, launch: launch.clone() });
                        launches.push(launch);
                    }
                    None => self.pinned(&launch, Err(Unpinned::from("no worker of it runs".to_owned()))),
                }
            }
            if jobs.is_empty() {
                continue;
            }
            let pins = self.pins.clone();
            let work = move || Ok(report(&make(&jobs, &pins)));
            let batch = Batch(launches);
            let begun = Task::run("the copies of programs", COPY_BOUND, &[], work)
                .map_err(|error| error.to_string())
                .and_then(|task| self.chores.begin(Chore::Pin(batch.clone()), task, &mut self.sources));
            if let Err(why) = begun {
                batch.0.iter().for_each(|launch| self.pinned(launch, Err(why.clone().into())));
            }
        }
    }

    /// A child is done with its copies.
    pub(super) fn copied(&mut self, batch: &Batch, result: Result<Vec<u8>, String>) {
        let read = result.and_then(|bytes| {
            read_report(&bytes, batch.0.len()).ok_or_else(|| "what came of it is garbled".to_owned())
        });
        match (read, &*batch.0) {
            (Ok(results), launches) => {
                launches.iter().zip(results).for_each(|(launch, result)| self.pinned(launch, result));
            }
            (Err(why), [launch]) => self.pinned(launch, Err(why.into())),
            (Err(_), launches) => self.pinner.waiting.extend(launches.iter().cloned().map(|one| (one, true))),
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
        pinner.waiting.extend([(launch(1), true), (launch(2), false), (launch(3), false), (launch(4), true)]);
        (0..BATCH_MAX as u64 + 1).for_each(|more| pinner.pin(launch(5 + more)));
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
