//! Which processes belong to a generation: by session, by descent, or by the INVOCATION_ID that they were
//! started with; and by its cgroup, where it has one.

use super::Error;
use super::cgroup;
use super::clock::BootId;
use super::pidfd::PidFd;
use super::process::{Identity, Stat};
use super::task::Task;
use crate::model::Signal;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// What tells the members of a generation from others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Its workers, dead ones too: each was the head of a session of its own, and no other process
    /// gets its number while that session has a member.
    pub workers: Vec<i32>,
    /// The INVOCATION_IDs of its workers.
    pub invocation_ids: Vec<String>,
    /// Cgroups that nobody else is ever in, and that are removed once a search finds nobody.
    pub groups: Vec<PathBuf>,
    /// Those of them in which everyone is killed before anything is looked for.
    pub doomed: Vec<PathBuf>,
}

/// No more processes are looked at; Linux allows 4 million, a machine has hundreds.
const PROCESSES_MAX: usize = 65_536;
/// No more of an environment is read. supd's variables come last of all, so this is generous.
const ENVIRONMENT_MAX: u64 = 262_144;
/// The first process of the PID namespace, which is nobody's.
const INIT: i32 = 1;
/// No chain of parents is followed further.
const ANCESTORS_MAX: usize = 1024;

/// Searches /proc in a child, since the environment of a process that is stuck cannot be read
/// until it is not. The answer is for [`decode`].
///
/// # Errors
/// What [`Task::run`] says.
pub fn search(marks: &Marks, bound: Duration) -> Result<Task, Error> {
    let us = nix::unistd::getpid().as_raw();
    Task::run("the search for processes", bound, &[], || {
        clear(marks, us);
        let found = find(marks, us);
        if found.is_empty() {
            // Nobody comes there any more.
            for group in &marks.groups {
                let _ = cgroup::remove(group);
            }
        }
        Ok(encode(&found))
    })
}

/// Kills who is in the groups that are doomed, whoever else was moved there.
fn clear(marks: &Marks, supd: i32) {
    let searcher = nix::unistd::getpid().as_raw();
    marks.groups.iter().for_each(|group| cgroup::bring_back(group, &[supd, searcher]));
    marks.doomed.iter().for_each(|group| cgroup::kill(group, &[supd, searcher, INIT]));
}

/// Ends every process with these marks in a child, until none is left that could start another.
///
/// # Errors
/// What [`Task::run`] says.
pub fn end(marks: &Marks, bound: Duration) -> Result<Task, Error> {
    let us = nix::unistd::getpid().as_raw();
    Task::run("the end of processes", bound, &[], || {
        loop {
            let found = find(marks, us);
            if found.is_empty() {
                return Ok(Vec::new());
            }
            let held = found.iter().filter_map(|(stat, _)| held(stat));
            let held: Vec<PidFd> = held.inspect(|process| drop(process.send(Signal::KILL))).collect();
            for process in &held {
                // The task ends by itself when its time is over.
                let _ended = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            }
        }
    })
}

/// The very process that was seen, unless it has ended.
fn held(stat: &Stat) -> Option<PidFd> {
    let process = PidFd::open(stat.pid).ok()?;
    let same = Stat::read(stat.pid).is_some_and(|now| now.start == stat.start) && !process.is_over();
    same.then_some(process)
}

/// One number for each member and its start: `PID START INODE` a line, 0 for no inode.
fn encode(members: &[(Stat, Option<u64>)]) -> Vec<u8> {
    let line =
        |(stat, inode): &(Stat, Option<u64>)| format!("{} {} {}\n", stat.pid, stat.start, inode.unwrap_or(0));
    members.iter().map(line).collect::<String>().into_bytes()
}

/// The members that a search found. Each is to be taken in hand by [`Identity::matches_live`]:
/// meanwhile it may have ended and its number gone to another.
#[must_use]
pub fn decode(answer: &[u8], boot: &BootId) -> Vec<Identity> {
    let text = String::from_utf8_lossy(answer);
    let identity = |line: &str| {
        let mut fields = line.split(' ');
        let (pid, start) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let inode = fields.next()?.parse().ok().filter(|inode| *inode != 0);
        Some(Identity { pid, start, boot: boot.clone(), inode })
    };
    text.lines().filter_map(identity).collect()
}

/// Every living process with these marks but `supd` itself and the one that searches.
fn find(marks: &Marks, supd: i32) -> Vec<(Stat, Option<u64>)> {
    let found = find_each(std::slice::from_ref(marks), supd).into_iter().flatten();
    found.map(|stat| (stat, inode_of(&stat))).collect()
}

/// The same for each of these by itself, in one walk of /proc. Of two that a process could belong to
/// it is the one that its own marks say, else its nearest parent's.
pub(super) fn find_each(each: &[Marks], supd: i32) -> Vec<Vec<Stat>> {
    find_all(each, supd).0
}

/// And those that come from supd although no mark tells them: what went into a session of its own and wrote
/// its title over its environment, as nginx does. Whose they are, something else has to say.
pub(super) fn find_all(each: &[Marks], supd: i32) -> (Vec<Vec<Stat>>, Vec<Stat>) {
    let all = everyone();
    let searcher = nix::unistd::getpid().as_raw();
    let index = Index::of(each);
    let is_other = |stat: &&Stat| stat.pid != supd && stat.pid != searcher;
    let marked = all.values().filter(is_other).filter_map(|stat| Some((stat.pid, index.marked(stat)?)));
    let members: HashMap<i32, usize> = marked.collect();
    // Whoever is in a group is found there, and what that one started as well: of init, which somebody may have
    // moved, all others descend.
    let grouped = grouped(each);
    let mut found = vec![Vec::new(); each.len()];
    let mut unmarked = Vec::new();
    for stat in all.values().filter(|stat| is_other(stat) && !stat.zombie) {
        // What a member started may have thrown away both the session and the environment.
        let parents = || ancestors(stat, &all).find_map(|parent| members.get(&parent));
        let grouped = || grouped.get(&stat.pid);
        if let Some(whose) = members.get(&stat.pid).or_else(parents).or_else(grouped) {
            found[*whose].push(*stat);
        } else if ancestors(stat, &all).any(|parent| parent == supd) {
            unmarked.push(*stat);
        }
    }
    for members in &mut found {
        members.sort_unstable_by_key(|stat| stat.pid);
    }
    (found, unmarked)
}

/// Who is in the groups, and whose that is.
fn grouped(each: &[Marks]) -> HashMap<i32, usize> {
    let groups =
        each.iter().enumerate().flat_map(|(whose, marks)| marks.groups.iter().map(move |it| (whose, it)));
    let members =
        groups.flat_map(|(whose, group)| cgroup::processes(group).into_iter().map(move |it| (it, whose)));
    members.filter(|(pid, _)| *pid != INIT).collect()
}

/// Whose each mark is.
struct Index<'a> {
    workers: HashMap<i32, usize>,
    invocation_ids: HashMap<&'a [u8], usize>,
}

impl<'a> Index<'a> {
    fn of(each: &'a [Marks]) -> Self {
        let numbered = || each.iter().enumerate();
        let workers = |(whose, marks): (usize, &'a Marks)| marks.workers.iter().map(move |it| (*it, whose));
        let ids = |(whose, marks): (usize, &'a Marks)| {
            marks.invocation_ids.iter().map(move |id| (id.as_bytes(), whose))
        };
        let (workers, ids) = (numbered().flat_map(workers), numbered().flat_map(ids));
        Self { workers: workers.collect(), invocation_ids: ids.collect() }
    }

    fn marked(&self, stat: &Stat) -> Option<usize> {
        let known = self.workers.get(&stat.pid).or_else(|| self.workers.get(&stat.session));
        known.copied().or_else(|| self.invoked(stat.pid))
    }

    /// Whose INVOCATION_ID the process was started with.
    fn invoked(&self, pid: i32) -> Option<usize> {
        let file = fs::File::open(format!("/proc/{pid}/environ")).ok()?;
        let mut environment = Vec::new();
        // Another user's: not readable, and not ours either.
        let _ = file.take(ENVIRONMENT_MAX).read_to_end(&mut environment);
        let mut values =
            environment.split(|byte| *byte == 0).filter_map(|v| v.strip_prefix(b"INVOCATION_ID="));
        values.find_map(|value| self.invocation_ids.get(value)).copied()
    }
}

fn inode_of(stat: &Stat) -> Option<u64> {
    held(stat).and_then(|process| process.inode())
}

/// Every process there is.
pub(super) fn everyone() -> HashMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(Stat::read).take(PROCESSES_MAX).map(|stat| (stat.pid, stat)).collect()
}

/// Its parents, the nearest first.
pub(super) fn ancestors<'a>(stat: &Stat, all: &'a HashMap<i32, Stat>) -> impl Iterator<Item = i32> + use<'a> {
    let parents = std::iter::successors(Some(stat.parent), |pid| all.get(pid).map(|stat| stat.parent));
    parents.take_while(|pid| *pid != 0).take(ANCESTORS_MAX)
}

/// What a process is to a generation, as far as that can be told without waiting for anyone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// It is this worker.
    Worker(i32),
    /// It is in this worker's session, or descends from it.
    Descendant(i32),
    /// It is, or descends from, a child of supd that is no worker of this generation: a process
    /// whose parents have died, or another generation's. Who knows the other workers can tell.
    Orphan(i32),
    /// It comes from elsewhere.
    Stranger,
    /// It has ended, and nothing can be said: only that it could reach the generation's socket.
    Gone,
}

/// What process `pid` is to a generation. Cheap, and never waits: for each notify datagram.
///
/// `workers` are its workers that are not reaped yet, so that their numbers are theirs: the last
/// words of one that has ended count as its own. `sessions` are the numbers of all that it ever
/// had. `held` is the sender's pidfd, if the kernel gave one: with it a number that has changed
/// hands meanwhile counts as [`Relation::Gone`].
#[must_use]
pub fn relation(pid: i32, held: Option<&PidFd>, workers: &[i32], sessions: &[i32]) -> Relation {
    if workers.contains(&pid) {
        return Relation::Worker(pid);
    }
    let us = nix::unistd::getpid().as_raw();
    let relation = descent(pid, workers, sessions, us);
    // Alive after the reading means that what was read was its own.
    if held.is_some_and(PidFd::is_over) { Relation::Gone } else { relation }
}

fn descent(pid: i32, workers: &[i32], sessions: &[i32], us: i32) -> Relation {
    let Some(mut here) = Stat::read(pid) else { return Relation::Gone };
    if sessions.contains(&here.session) {
        return Relation::Descendant(here.session);
    }
    for _ in 0..64 {
        if workers.contains(&here.parent) {
            return Relation::Descendant(here.parent);
        }
        if here.parent == us {
            return Relation::Orphan(here.pid);
        }
        match Stat::read(here.parent) {
            Some(parent) if here.parent > 1 => here = parent,
            _ => return Relation::Stranger,
        }
    }
    Relation::Stranger
}

#[cfg(test)]
mod tests {
    use super::{Marks, Relation, decode, find, relation, search};
    use crate::model::Signal;
    use crate::os::alone::alone;
    use crate::os::clock::BootId;
    use crate::os::pidfd::PidFd;
    use crate::os::process::{Reaped, adopt_orphans, reap_orphans};
    use crate::os::task::tests::finish;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::collections::BTreeSet;
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// A worker that leaves behind: a child; a child in a session of its own; one of that kind
    /// whose parent has died; and one that has thrown its environment away too, but still has a
    /// parent. Each prints its number.
    const FAMILY: &str = "
import os, sys, time
def stay(name):
    os.write(1, f'{name} {os.getpid()}\\n'.encode())
    time.sleep(600)
def child(name, then=None, sid=False):
    if os.fork() == 0:
        if sid: os.setsid()
        if then: then()
        stay(name)
def orphan():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: stay('orphan')
        os._exit(0)
    os.wait()
def bare():
    os.execve('/bin/sh', ['sh', '-c', 'sleep 600 & echo bare $$; wait'], {})
os.setsid()
child('child')
child('own-session', sid=True)
orphan()
child('bare', then=bare, sid=True)
stay('worker')
";

    const ID: &str = "000102030405060708090a0b0c0d0e0f";

    struct Family(Vec<(String, i32)>, std::process::Child);

    impl Family {
        fn new() -> Self {
            let mut child = Command::new("python3")
                .args(["-c", FAMILY])
                .env("INVOCATION_ID", ID)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(5);
            let entry = |line: String| {
                let (name, pid) = line.split_once(' ').unwrap();
                (name.to_owned(), pid.parse().unwrap())
            };
            Self(lines.map(|line| entry(line.unwrap())).collect(), child)
        }

        fn pid(&self, name: &str) -> i32 {
            self.0.iter().find(|(known, _)| known == name).unwrap().1
        }
    }

    impl Drop for Family {
        fn drop(&mut self) {
            for process in self.0.iter().filter_map(|(_, pid)| PidFd::open(*pid).ok()) {
                let _ = process.send(Signal::KILL);
            }
        }
    }

    #[test]
    fn everyone_is_found_and_nobody_else() {
        alone("os::members::tests::everyone_is_found_and_nobody_else", || {
            adopt_orphans().unwrap();
            let boot = BootId::read().unwrap();
            let mut family = Family::new();
            let worker = family.pid("worker");
            let invocation_ids = vec![ID.to_owned()];
            let marks = Marks { workers: vec![worker], invocation_ids, ..Marks::default() };
            let answer = finish(search(&marks, Duration::from_secs(60)).unwrap()).unwrap();
            let found = decode(&answer, &boot);
            let pids: BTreeSet<i32> = found.iter().map(|identity| identity.pid).collect();
            let all: BTreeSet<i32> = family.0.iter().map(|(_, pid)| *pid).collect();
            // The sleep of "bare" too, which only descends.
            assert!(all.is_subset(&pids) && pids.len() == 6, "{pids:?}, not {:?}", family.0);

            // Without the mark of the environment, the orphan in a session of its own is lost.
            let us = nix::unistd::getpid().as_raw();
            let by_session = find(&Marks { workers: vec![worker], ..Marks::default() }, us);
            let orphan = family.pid("orphan");
            assert!(by_session.len() == 5 && by_session.iter().all(|(stat, _)| stat.pid != orphan));
            // But that it came from here is known.
            let (_, unmarked) = super::find_all(&[Marks { workers: vec![worker], ..Marks::default() }], us);
            assert_eq!(unmarked.iter().map(|stat| stat.pid).collect::<Vec<_>>(), [orphan]);

            let related = |name: &str| {
                let process = PidFd::open(family.pid(name)).unwrap();
                relation(process.pid(), Some(&process), &[worker], &[worker])
            };
            assert_eq!(related("worker"), Relation::Worker(worker));
            for name in ["child", "own-session", "bare"] {
                assert_eq!(related(name), Relation::Descendant(worker), "{name}");
            }
            assert_eq!(related("orphan"), Relation::Orphan(orphan));
            assert_eq!(relation(1, None, &[worker], &[]), Relation::Stranger);
            assert_eq!(relation(i32::MAX, None, &[worker], &[]), Relation::Gone);

            for identity in &found {
                // Whoever ended meanwhile ended because its parent did.
                let Some(process) = identity.matches_live(&boot) else { continue };
                process.send(Signal::KILL).unwrap();
                let mut entry = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1));
            }
            family.1.wait().unwrap();
            while reap_orphans(|_| false, 100).unwrap() != Reaped::All {}
            String::new()
        });
    }

    #[test]
    fn last_words_of_a_worker_count_and_a_dead_strangers_number_does_not() {
        let ended = crate::os::fork::fork("a test", |_| {}).unwrap().process;
        let mut entry = [PollFd::new(ended.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut entry, PollTimeout::from(20_000u16)), Ok(1));
        let pid = ended.pid();
        assert_eq!(relation(pid, Some(&ended), &[pid], &[pid]), Relation::Worker(pid));
        assert_eq!(relation(pid, Some(&ended), &[], &[]), Relation::Gone);
        // Not reaped, its number is its own; but who has no pidfd cannot know that.
        assert_eq!(relation(pid, None, &[], &[]), Relation::Orphan(pid));
        ended.wait().unwrap();
        assert_eq!(relation(pid, None, &[], &[]), Relation::Gone);
    }

    #[test]
    fn garbage_in_an_answer_is_left_out() {
        let boot = BootId::read().unwrap();
        let found = decode(b"12 34 56\n78 90 0\nx y z\n1\n\xff 1 2\n", &boot);
        let numbers: Vec<_> = found.iter().map(|i| (i.pid, i.start, i.inode)).collect();
        assert_eq!(numbers, [(12, 34, Some(56)), (78, 90, None)]);
    }
}
