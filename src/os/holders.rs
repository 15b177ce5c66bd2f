//! Which processes of a worker hold certain sockets: searched for in a child, for it reads every
//! descriptor of theirs.

use super::Error;
use super::clock::BootId;
use super::members::{Marks, find_each};
use super::process::{Identity, Stat};
use super::task::Task;
use std::fs;
use std::time::Duration;

/// No more descriptors of one process are looked at.
const DESCRIPTORS_MAX: usize = 65_536;

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

/// Searches for the processes with these marks, and which of them have the sockets with these inodes.
/// The answer is for [`decode`].
///
/// # Errors
/// What [`Task::run`] says.
pub fn search(marks: &Marks, sockets: &[u64], bound: Duration) -> Result<Task, Error> {
    let us = nix::unistd::getpid().as_raw();
    let names: Vec<String> = sockets.iter().map(|inode| format!("socket:[{inode}]")).collect();
    Task::run("the search for who listens", bound, &[], || {
        let found = find_each(std::slice::from_ref(marks), us).into_iter().flatten();
        Ok(found.map(|stat| line(&stat, us, &names)).collect::<String>().into_bytes())
    })
}

/// `PID START ORPHAN HELD…`
fn line(stat: &Stat, us: i32, names: &[String]) -> String {
    let held = held(stat.pid, names).into_iter().map(|at| format!(" {at}"));
    let held: String = held.collect();
    format!("{} {} {}{held}\n", stat.pid, stat.start, u8::from(stat.parent == us))
}

fn held(pid: i32, names: &[String]) -> Vec<usize> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
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
