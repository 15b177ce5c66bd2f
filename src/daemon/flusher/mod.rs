//! The one writer of what must outlive a crash: a child of supd, so that the loop waits for no
//! disk. supd hands it work over a socket and hears later what became of it.
//!
//! If it dies it is launched again and gets everything that it has not answered once more; the
//! ledger knows by the records' numbers what it has already.

mod child;
mod wire;

pub use wire::{Put, Text};

use crate::model::Tick;
use crate::os::fork::{close_all_but, fork};
use crate::os::pidfd::PidFd;
use crate::os::{Error, clock};
use mio::net::UnixStream;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use wire::{Answer, Line, Taken, Work, frame, take};

/// How many pieces of work may wait for the disk.
const WORK_MAX: usize = 4096;

/// How many bytes of work may wait.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much room for work is kept while none waits.
const BYTES_KEPT: usize = 4 * 1024;

/// A flusher that dies sooner than this after its launch died of what it was given, perhaps.
const HASTY: Duration = Duration::from_secs(1);

/// How often in a row it may do so before the work is given up.
const HASTY_MAX: u32 = 3;

/// What became of a piece of work: its number, and why it is not done.
pub type Flushed = (u64, Result<(), String>);

/// supd's end.
#[derive(Debug)]
pub struct Flusher {
    state: PathBuf,
    child: Option<Child>,
    /// In the order in which it was given; answered from the front.
    work: VecDeque<Waiting>,
    /// Its frames in a row. Each by itself would leave a hole in the heap, with no whole page in it
    /// that could be given back: two kibibytes for each unit of many that start at once.
    frames: VecDeque<u8>,
    last_id: u64,
    hasty: u32,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    /// How many bytes its frame has.
    length: usize,
}

#[derive(Debug)]
struct Child {
    process: PidFd,
    socket: UnixStream,
    since: Tick,
    /// How many bytes of `frames` it has been given.
    given: usize,
    /// Its socket took no more the last time, and will tell when it does.
    is_full: bool,
    heard: Vec<u8>,
}

/// What [`Flusher::pump`] found.
#[derive(Debug, Default)]
pub struct Pumped {
    /// In the order in which the work was given.
    pub done: Vec<Flushed>,
    /// There is a new socket to be watched.
    pub launched: bool,
    /// Which of it the history lacks, and why.
    pub untold: Vec<(u64, String)>,
    /// Worth a line in the log.
    pub note: Option<String>,
}

impl Flusher {
    /// One that writes below this state folder; its child is launched with the first work.
    #[must_use]
    pub fn new(state: PathBuf) -> Self {
        Self { state, child: None, work: VecDeque::new(), frames: VecDeque::new(), last_id: 0, hasty: 0 }
    }

    /// The socket to be watched for reading and for writing.
    pub fn socket(&mut self) -> Option<&mut UnixStream> {
        self.child.as_mut().map(|child| &mut child.socket)
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The child's process, to tell it from others at its end.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.child.as_ref().map(|child| child.process.pid())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.work.is_empty()
    }

    /// Whether work waits of which no socket will ever tell: [`Flusher::pump`] is to be called.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        let given = |child: &Child| child.is_full || child.given == self.frames.len();
        !self.is_idle() && !self.child.as_ref().is_some_and(given)
    }

    /// Takes files to be put in place, and synced where the line does not carry what they say, and
    /// then a line of the ledger to be appended and synced, and then one of the history, as JSON.
    /// What becomes of it comes out of [`Flusher::pump`], which is to be called next, under the
    /// number that this returns.
    ///
    /// # Errors
    /// Too much waits already: the disk does not keep up, or does not answer at all.
    pub fn submit(
        &mut self,
        files: Vec<Put<'_>>,
        line: Option<(u64, &str)>,
        told: Option<(u64, &str)>,
    ) -> Result<u64, String> {
        let id = self.last_id + 1;
        let [line, told] = [line, told].map(|one| one.map(|(seq, text)| Line { seq, text: text.into() }));
        let frame = frame(&Work { id, files, line, told });
        if self.work.len() >= WORK_MAX
            || self.frames.len() + frame.len() > BYTES_MAX
            || frame.len() > wire::FRAME_MAX
        {
            let ledger = self.state.join("ledger");
            return Err(format!(
                "cannot write {}: {} records wait for the disk already",
                ledger.display(),
                self.work.len()
            ));
        }
        self.work.push_back(Waiting { id, length: frame.len() });
        self.frames.extend(frame);
        self.last_id = id;
        Ok(id)
    }

    /// Gives the child what it can take and hears what it has to say. Never blocks.
    pub fn pump(&mut self) -> Pumped {
        let mut pumped = Pumped::default();
        loop {
            if self.child.is_none() {
                if self.work.is_empty() {
                    return pumped;
                }
                match self.launch() {
                    Ok(child) => self.child = Some(child),
                    Err(error) => {
                        self.give_up(&error.to_string(), &mut pumped);
                        return pumped;
                    }
                }
                pumped.launched = true;
            }
            let alive = self.give() && self.hear(&mut pumped);
            if alive {
                return pumped;
            }
            self.bury(&mut pumped);
        }
    }

    /// Ends the child, which cannot be heard, and gives its work up.
    pub fn abandon(&mut self, why: &str) -> Pumped {
        if let Some(child) = self.child.take() {
            let _ = child.process.send(crate::model::Signal::KILL);
        }
        let mut pumped = Pumped::default();
        self.give_up(why, &mut pumped);
        pumped
    }

    fn launch(&self) -> Result<Child, Error> {
        const WHAT: &str = "the process that writes the ledger";
        let told = |error: &std::io::Error| Error::from_io("make a socket for", WHAT, error);
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|e| told(&e))?;
        ours.set_nonblocking(true).map_err(|e| told(&e))?;
        let state = self.state.clone();
        let forked = fork(WHAT, move |_| {
            // Not even the pipe of the report: nobody reads it.
            if close_all_but(&[theirs.as_raw_fd()]).is_ok() {
                let _ = nix::unistd::setsid();
                let _ = nix::sys::prctl::set_name(c"supd-flusher");
                child::serve(theirs, &state);
            }
        })?;
        let socket = UnixStream::from_std(ours);
        let since = clock::now();
        Ok(Child { process: forked.process, socket, since, given: 0, is_full: false, heard: Vec::new() })
    }

    /// `false`: it is dead.
    fn give(&mut self) -> bool {
        let Some(child) = &mut self.child else { return true };
        child.is_full = false;
        loop {
            let (first, second) = self.frames.as_slices();
            let rest = first.get(child.given..).filter(|rest| !rest.is_empty());
            let rest = rest.unwrap_or_else(|| &second[child.given - first.len()..]);
            if rest.is_empty() {
                return true;
            }
            match child.socket.write(rest) {
                Ok(count) => child.given += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    child.is_full = true;
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Its last answers may still be there to be heard; hearing then finds its end.
                Err(_) => return true,
            }
        }
    }

    /// `false`: it is dead, and everything that it said is heard.
    fn hear(&mut self, pumped: &mut Pumped) -> bool {
        let Some(child) = &mut self.child else { return true };
        let mut chunk = [0; 4096];
        let alive = loop {
            match child.socket.read(&mut chunk) {
                Ok(0) => break false,
                Ok(count) => child.heard.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break false,
            }
        };
        loop {
            match take::<Answer>(&mut child.heard) {
                Taken::Part => return alive,
                Taken::Garbled => return false,
                Taken::Whole(answer) => {
                    // It answers in order, and only what it was given whole.
                    let known = |first: &&Waiting| first.id == answer.id && first.length <= child.given;
                    let Some(Waiting { length, .. }) = self.work.front().filter(known) else { return false };
                    child.given -= length;
                    self.frames.drain(..length);
                    self.work.pop_front();
                    if self.work.is_empty() {
                        self.frames.shrink_to(BYTES_KEPT);
                        self.work.shrink_to(BYTES_KEPT / size_of::<Waiting>());
                    }
                    pumped.untold.extend(answer.untold.map(|why| (answer.id, why)));
                    pumped.done.push((answer.id, answer.fault.map_or(Ok(()), Err)));
                }
            }
        }
    }

    /// The child is dead or talks nonsense: makes sure of the first.
    fn bury(&mut self, pumped: &mut Pumped) {
        let Some(child) = self.child.take() else { return };
        // It has no life but its socket's. Reaped as any orphan.
        let _ = child.process.send(crate::model::Signal::KILL);
        let hasty = clock::now().since(child.since) < HASTY;
        self.hasty = if hasty { self.hasty + 1 } else { 0 };
        let what = "the process that writes the ledger died";
        if self.hasty > HASTY_MAX {
            self.hasty = 0;
            self.give_up(&format!("{what} {} times in a row", HASTY_MAX + 1), pumped);
        } else {
            pumped.note =
                Some(format!("{what}, launching it again; {} records are sent once more", self.work.len()));
        }
    }

    fn give_up(&mut self, why: &str, pumped: &mut Pumped) {
        let text = format!("cannot write {}: {why}", self.state.join("ledger").display());
        pumped.done.extend(self.work.drain(..).map(|waiting| (waiting.id, Err(text.clone()))));
        self.frames.clear();
        pumped.note = Some(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ledger::{decode, encode, tests::sample};
    use crate::model::{Happening, Signal};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    fn line(seq: u64) -> String {
        String::from_utf8(encode(&sample(seq, "web", Happening::Waiting))).unwrap()
    }

    /// Pumps until so many answers have come.
    fn answers(flusher: &mut Flusher, count: usize) -> Vec<Flushed> {
        let mut done = Vec::new();
        loop {
            done.extend(flusher.pump().done);
            if done.len() >= count {
                return done;
            }
            let socket = flusher.socket().expect("a child that works");
            let mut entry = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "no answer");
        }
    }

    fn seqs(state: &Path) -> Vec<u64> {
        let replay = decode(&std::fs::read(state.join("ledger")).unwrap()).unwrap();
        assert_eq!((replay.torn, replay.damaged.len()), (0, 0));
        replay.entries.iter().map(|(entry, _)| entry.seq).collect()
    }

    #[test]
    fn work_is_done_in_order_and_answered() {
        let state = tempfile::tempdir().unwrap();
        let mut flusher = Flusher::new(state.path().into());
        assert!(flusher.pump().done.is_empty() && flusher.socket().is_none());
        let put = Put { path: "generations/web/1/settings.json".into(), text: Text::Own("{}".into()) };
        let first = flusher.submit(vec![put], Some((1, &line(1))), None).unwrap();
        let more: Vec<u64> =
            (2..=200).map(|seq| flusher.submit(vec![], Some((seq, &line(seq))), None).unwrap()).collect();
        let done = answers(&mut flusher, 200);
        let expected: Vec<Flushed> = std::iter::once(first).chain(more).map(|id| (id, Ok(()))).collect();
        assert_eq!(done, expected);
        assert_eq!(seqs(state.path()), (1..=200).collect::<Vec<_>>());
        assert!(state.path().join("generations/web/1/settings.json").exists());
        assert!(flusher.is_idle() && flusher.frames.is_empty());
    }

    #[test]
    fn a_killed_flusher_costs_nothing() {
        let state = tempfile::tempdir().unwrap();
        let mut flusher = Flusher::new(state.path().into());
        let mut done = Vec::new();
        for round in 0..6 {
            for seq in 1..=20 {
                flusher.submit(vec![], Some((round * 20 + seq, &line(round * 20 + seq))), None).unwrap();
            }
            flusher.pump();
            // As if it had lived for a while: this is about single deaths.
            flusher.hasty = 0;
            flusher.child.as_ref().unwrap().process.send(Signal::KILL).unwrap();
            done.extend(answers(&mut flusher, 20));
        }
        assert_eq!(done.iter().map(|(id, _)| *id).collect::<Vec<_>>(), (1..=120).collect::<Vec<_>>());
        assert!(done.iter().all(|(_, result)| result.is_ok()));
        assert_eq!(seqs(state.path()), (1..=120).collect::<Vec<_>>());
    }

    #[test]
    fn a_state_folder_that_is_gone_is_a_clear_answer() {
        let state = tempfile::tempdir().unwrap();
        let gone = state.path().join("gone");
        let mut flusher = Flusher::new(gone.clone());
        flusher.submit(vec![], Some((1, &line(1))), None).unwrap();
        let fault = answers(&mut flusher, 1)[0].1.clone().unwrap_err();
        assert_eq!(
            fault,
            format!("cannot open {}: No such file or directory", gone.join("ledger").display())
        );
        std::fs::create_dir(&gone).unwrap();
        flusher.submit(vec![], Some((2, &line(2))), None).unwrap();
        assert_eq!(answers(&mut flusher, 1)[0].1, Ok(()));
    }

    #[test]
    fn a_disk_that_stands_still_is_not_waited_for() {
        let state = tempfile::tempdir().unwrap();
        let mut flusher = Flusher::new(state.path().into());
        flusher.submit(vec![], Some((1, &line(1))), None).unwrap();
        flusher.pump();
        flusher.child.as_ref().unwrap().process.send(Signal(libc::SIGSTOP)).unwrap();
        let refused = (2..).find_map(|seq| {
            let refused = flusher.submit(vec![], Some((seq, &line(seq))), None).err();
            flusher.pump();
            refused
        });
        assert!(refused.unwrap().ends_with("4096 records wait for the disk already"));
        flusher.child.as_ref().unwrap().process.send(Signal::CONT).unwrap();
        assert!(answers(&mut flusher, WORK_MAX).iter().all(|(_, result)| result.is_ok()));
    }

    /// A file that may not grow stands for a disk that is full: the write fails half done.
    #[test]
    fn a_full_disk_leaves_whole_records_only() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().to_path_buf();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let limit = line(1).len() as u64 * 3 + 40;
        let forked = fork("a test", move |_| {
            close_all_but(&[theirs.as_raw_fd()]).unwrap();
            let resource = nix::sys::resource::Resource::RLIMIT_FSIZE;
            nix::sys::resource::setrlimit(resource, limit, limit).unwrap();
            child::serve(theirs, &path);
        })
        .unwrap();
        let mut heard = Vec::new();
        for seq in 1..=5 {
            let text = line(seq);
            let work =
                Work { id: seq, files: vec![], line: Some(Line { seq, text: text.into() }), told: None };
            ours.write_all(&frame(&work)).unwrap();
            let answer = loop {
                match take::<Answer>(&mut heard) {
                    Taken::Whole(answer) => break answer,
                    Taken::Part => {}
                    Taken::Garbled => panic!("garbled"),
                }
                let mut chunk = [0; 4096];
                let count = ours.read(&mut chunk).unwrap();
                assert!(count > 0, "it died");
                heard.extend(&chunk[..count]);
            };
            let fault = (seq > 3)
                .then(|| format!("cannot write {}: File too large", state.path().join("ledger").display()));
            assert_eq!(answer, Answer { id: seq, fault, untold: None });
            assert_eq!(seqs(state.path()), (1..=seq.min(3)).collect::<Vec<_>>());
        }
        drop(ours);
        let mut entry = [PollFd::new(forked.process.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1), "it does not end with supd");
        forked.process.wait().unwrap();
    }
}
