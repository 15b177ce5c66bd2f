//! What /proc knows about processes (proc(5)). A zombie has ended: init may take seconds to reap it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

/// Whether the process runs; a zombie does not.
pub(crate) fn alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Whether a signal has stopped it.
#[allow(dead_code, reason = "the benchmarks do not ask")]
pub(crate) fn is_stopped(pid: u32) -> bool {
    state(pid) == Some('T')
}

/// The state letter of /proc/PID/stat, behind the last parenthesis of the name.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Resident memory in KiB.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:")
}

/// The most that it ever was.
pub(crate) fn peak_rss_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse().ok())
        .unwrap_or_else(|| panic!("process {pid} is gone: no {key} in its status"))
}

/// How many descriptors it has open.
pub(crate) fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Processor time used so far, in clock ticks (a hundredth of a second): fields 14 and 15 of stat.
pub(crate) fn ticks(pid: u32) -> u64 {
    ticks_at(pid, [11, 12])
}

/// The same of its children that have ended, and that it has waited for: fields 16 and 17.
#[allow(dead_code, reason = "the benchmarks ask")]
pub(crate) fn ticks_of_reaped(pid: u32) -> u64 {
    ticks_at(pid, [13, 14])
}

fn ticks_at(pid: u32, fields: [usize; 2]) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let all: Vec<&str> = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').collect();
    fields.iter().filter_map(|at| all.get(*at)).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// For how long a task of /proc could have run, and had no processor.
#[allow(dead_code, reason = "the benchmarks ask")]
pub(crate) fn waited(task: &str) -> std::time::Duration {
    let text = fs::read_to_string(format!("/proc/{task}/schedstat")).unwrap_or_default();
    let nanoseconds = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    std::time::Duration::from_nanos(nanoseconds.unwrap_or_default())
}

/// How often it was put on a processor so far.
pub(crate) fn switches(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
    counts.filter_map(|(_, count)| count.trim().parse::<u64>().ok()).sum()
}

/// Processes whose environment contains `needle`, but for `except`: whom supd or one of its workers
/// started knows the test's folder by NOTIFY_SOCKET or by name.
pub(crate) fn with_environment(needle: &str, except: &[u32]) -> Vec<u32> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let found = environment.windows(needle.len()).any(|window| window == needle.as_bytes());
        if found && !except.contains(&pid) && alive(pid) {
            pids.push(pid);
        }
    }
    pids
}

/// What its open descriptors are.
pub(crate) fn files(pid: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok()).collect()
}

/// The children of its first thread.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Its parent: field 4 of stat.
pub(crate) fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// How many tasks a user has, as RLIMIT_NPROC counts them: threads too.
pub(crate) fn tasks_of(user: u32) -> usize {
    use std::os::unix::fs::MetadataExt;
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    let own = pids.filter(|entry| entry.metadata().is_ok_and(|entry| entry.uid() == user));
    own.map(|entry| fs::read_dir(entry.path().join("task")).map_or(0, Iterator::count)).sum()
}

/// A child of this name that runs: fields 2 and 4 of stat.
pub(crate) fn child(parent: u32, name: &str) -> Option<u32> {
    let pids = fs::read_dir("/proc").expect("/proc").flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let front = stat.rsplit_once(") ").map_or("", |(front, _)| front);
        front.ends_with(&format!("({name}")) && self::parent(*pid) == Some(parent) && alive(*pid)
    })
}

/// Its command line, for a message.
pub(crate) fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Sends a signal to a process that a test started; that it is gone already is no fault.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).expect("pids are small");
    let _ = kill(Pid::from_raw(pid), signal);
}
