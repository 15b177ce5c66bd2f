//! Which processes of a worker hold certain sockets: searched for in a child, for it reads every
//! descriptor of theirs.

use super::Error;
use super::clock::BootId;
use super::members::{Marks, find_all};
use super::process::{Identity, Stat};
use super::task::Task;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// No more descriptors of one process are looked at.
const DESCRIPTORS_MAX: usize = 65_536;

/// No more threads of one process are looked at.
const THREADS_MAX: usize = 256;

/// A process of the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Which: to be taken in hand by [`Identity::matches_live`].
    pub identity: Identity,
    /// Whether its parent has ended, so that it is a child of supd's.
    pub orphan: bool,
    /// Which of the sockets it holds, by their place in the question.
    pub held: Vec<usize>,
}

/// Searches for the processes with these marks, and which of them have the sockets with these inodes. One
/// that nobody's marks tell (`others` are all other workers') is taken for one of them where it has such a
/// socket: nobody else was given it. The answer is for [`decode`].
///
/// # Errors
/// What [`Task::run`] says.
pub fn search(marks: &Marks, others: Vec<Marks>, sockets: &[u64], bound: Duration) -> Result<Task, Error> {
    let us = nix::unistd::getpid().as_raw();
    let names: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    Task::run("the search for who listens", bound, &[], || {
        let all: Vec<Marks> = std::iter::once(marks.clone()).chain(others).collect();
        let (each, unmarked) = find_all(&all, us);
        let with_held = |stat: Stat| (stat, held(stat.pid, &names));
        let own = each.into_iter().next().unwrap_or_default().into_iter().map(with_held);
        let strange = unmarked.into_iter().map(with_held);
        let found = own.chain(strange.filter(|(_, held)| !held.is_empty()));
        Ok(found.map(|(stat, held)| line(&stat, us, &held)).collect::<String>().into_bytes())
    })
}

/// `PID START ORPHAN HELD…`
fn line(stat: &Stat, us: i32, held: &[usize]) -> String {
    let held: String = held.iter().map(|at| format!(" {at}")).collect();
    format!("{} {} {}{held}\n", stat.pid, stat.start, u8::from(stat.parent == us))
}

/// What a process holds; where its first thread holds none of it, which may have ended, or another thread has
/// descriptors of its own (unshare(2)), what the others do.
fn held(pid: i32, names: &[String]) -> Vec<usize> {
    let first = held_below(format!("/proc/{pid}/fd"), names);
    if !first.is_empty() {
        return first;
    }
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten().take(THREADS_MAX);
    let each = threads.map(|thread| held_below(thread.path().join("fd"), names));
    each.max_by_key(Vec::len).unwrap_or_default()
}

fn held_below(folder: impl AsRef<Path>, names: &[String]) -> Vec<usize> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let links = entries.flatten().take(DESCRIPTORS_MAX);
    let links = links.filter_map(|entry| fs::read_link(entry.path()).ok());
    let mut held: Vec<usize> =
        links.filter_map(|link| names.iter().position(|name| link.as_os_str() == name.as_str())).collect();
    held.sort_unstable();
    held.dedup();
    held
}

/// What a search found.
#[must_use]
pub fn decode(answer: &[u8], boot: &BootId) -> Vec<Holder> {
    let text = String::from_utf8_lossy(answer);
    let holder = |line: &str| {
        let mut fields = line.split(' ');
        let (pid, start) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let orphan = fields.next()? == "1";
        let held = fields.map(|at| at.parse().ok()).collect::<Option<Vec<usize>>>()?;
        let identity = Identity { pid, start, boot: boot.clone(), inode: None };
        Some(Holder { identity, orphan, held })
    };
    text.lines().filter_map(holder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::alone::alone;
    use crate::os::fork::{fork, tests::finish as end};
    use crate::os::task::tests::finish;
    use nix::sys::stat::fstat;
    use std::net::TcpListener;

    /// nginx in the background bears no mark: neither its session nor its environment is that of before.
    #[test]
    fn who_bears_no_mark_is_known_by_the_socket_unless_another_worker_is_it() {
        alone(
            "os::holders::tests::who_bears_no_mark_is_known_by_the_socket_unless_another_worker_is_it",
            || {
                let boot = BootId::read().unwrap();
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let inode = fstat(&listener).unwrap().st_ino;
                let child = fork("a test", |_| {
                    nix::unistd::pause();
                })
                .unwrap();
                let pid = child.process.pid();
                let found = |others: Vec<Marks>, sockets: &[u64]| {
                    let search = search(&Marks::default(), others, sockets, Duration::from_secs(60)).unwrap();
                    decode(&finish(search).unwrap(), &boot)
                };
                let holders = found(Vec::new(), &[0, inode]);
                let its = holders.iter().find(|holder| holder.identity.pid == pid).unwrap();
                assert!(its.held == [1] && its.orphan, "{holders:?}");
                assert!(its.identity.matches_live(&boot).is_some());
                assert_eq!(found(Vec::new(), &[0]), [], "it holds another one");
                let other = Marks { workers: vec![pid], ..Marks::default() };
                assert!(found(vec![other], &[inode]).iter().all(|holder| holder.identity.pid != pid));
                child.process.send(crate::model::Signal::KILL).unwrap();
                end(child);
                String::new()
            },
        );
    }
}
