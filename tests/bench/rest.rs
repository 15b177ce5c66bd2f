//! supd while nothing happens: what it does (nothing) and what it takes.

use crate::Form;
use crate::harness::{Supd, free_port};
use crate::numbers::Sample;
use crate::report::{Budget, Section};
use crate::support::test::find_program;
use crate::wait::{SOON, pause, wait_until};
use crate::{proc, thousand};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// supd and the children that are of its own program.
pub(crate) fn family(supd: &Supd) -> Vec<u32> {
    let program = |pid: u32| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let pid = supd.pid();
    let own = program(pid);
    std::iter::once(pid).chain(children(pid).into_iter().filter(|child| program(*child) == own)).collect()
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// How often these were given a processor. One that sleeps and was not given one made no call.
/// `None`: one of them is gone.
fn turns(pids: &[u32]) -> Option<u64> {
    let mut turns = 0;
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        turns += status
            .lines()
            .filter_map(|line| line.split_once("voluntary_ctxt_switches:"))
            .filter_map(|(_, count)| count.trim().parse::<u64>().ok())
            .sum::<u64>();
    }
    Some(turns)
}

/// What a start leaves behind (a worker that has just ended, a child that writes a file) is no rest;
/// a second after the last of it supd gives memory back. Who is there then.
fn settle(supd: &Supd) -> Vec<u32> {
    let mut pids = Vec::new();
    wait_until("supd to rest", SOON, || {
        pids = family(supd);
        let before = turns(&pids);
        pause(Duration::from_secs(2));
        before.is_some() && turns(&pids) == before
    });
    pids
}

/// How often supd was woken within `span`; what called it, if it was.
pub(crate) fn watch(section: &mut Section, supd: &Supd, what: &str, span: Duration) {
    let pids = settle(supd);
    let before = turns(&pids);
    pause(span);
    let after = turns(&pids);
    let woken = after.zip(before).map(|(after, before)| after - before).expect("supd and its children");
    let named = format!("{what}: wake-ups in {} s, {} process(es)", span.as_secs(), pids.len());
    section.judged(&named, &Sample::of([woken as f64]), "", Budget(0.0));
    if woken == 0 {
        section.note("not once given a processor, so not one system call");
        return;
    }
    match find_program("strace") {
        Some(strace) => section.note(&calls(&strace, &pids, span)),
        None => section.skipped("the names of the calls", "apt-get install strace"),
    }
}

/// The system calls of `span`, by name.
fn calls(strace: &std::path::Path, pids: &[u32], span: Duration) -> String {
    let folder = crate::harness::folder();
    let file = folder.path().join("calls");
    let mut command = Command::new(strace);
    command.arg("-f").arg("-o").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    for pid in pids {
        command.arg("-p").arg(pid.to_string());
    }
    let mut child = command.spawn().expect("strace");
    pause(Duration::from_secs(1));
    // To be attached interrupts a wait, which is then begun again: not supd's doing.
    let attached = fs::read_to_string(&file).unwrap_or_default().len();
    pause(span);
    proc::signal(child.id(), Signal::SIGINT);
    child.wait().expect("strace ends");
    let text = fs::read_to_string(&file).unwrap_or_default();
    let mut names: BTreeMap<&str, u32> = BTreeMap::new();
    for line in text.get(attached..).unwrap_or_default().lines() {
        if let Some((name, _)) = line.split_once(' ').and_then(|(_, call)| call.trim().split_once('(')) {
            *names.entry(name).or_default() += 1;
        }
    }
    format!("the calls of {} s: {names:?}", span.as_secs())
}

pub(crate) fn run(form: Form, section: &mut Section) {
    let supd = Supd::start();
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "ReadySettleSec = \"0\"", "ProbationSec = \"0\""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    watch(section, &supd, "one unit, after a swap", form.rest);
}

/// Resident memory in KiB, by what it is.
#[derive(Default)]
struct Resident {
    all: f64,
    /// Written to, and so nobody else's: the heap, and the rest of it.
    heap: f64,
    written: f64,
    /// Pages of files as they are on disk, which are the same for all who have them: of supd's own
    /// program, and of libraries.
    program: f64,
    libraries: f64,
    /// Of the other processes that are supd: what they do not share with it.
    helpers: f64,
}

impl Resident {
    fn of(supd: &Supd) -> Self {
        let family = settle(supd);
        let helpers = family.iter().skip(1).map(|pid| kib(*pid, "smaps_rollup", "Private_Dirty:")).sum();
        Self { helpers, ..Self::of_process(supd.pid()) }
    }

    fn of_process(pid: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("what supd has mapped");
        let program = fs::read_link(format!("/proc/{pid}/exe")).expect("what it runs");
        let mut found = Self::default();
        let (mut name, mut rss) = ("", 0.0);
        for line in maps.lines() {
            let mut words = line.split_ascii_whitespace();
            let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let size = second.parse::<f64>().unwrap_or_default();
            match first {
                "Rss:" => rss = size,
                "Anonymous:" => {
                    let of_file = if program.to_string_lossy() == name {
                        &mut found.program
                    } else {
                        &mut found.libraries
                    };
                    *of_file += rss - size;
                    *(if name == "[heap]" { &mut found.heap } else { &mut found.written }) += size;
                    found.all += rss;
                }
                // The line of a mapping: addresses, rights, offset, device, inode, name.
                range if !range.ends_with(':') => name = words.nth(3).unwrap_or_default(),
                _ => {}
            }
        }
        found
    }

    fn split(&self) -> String {
        let Self { heap, written, program, libraries, .. } = self;
        format!(
            "KiB of its own: heap {heap:.0}, other {written:.0}; of files: program {program:.0}, \
             libraries {libraries:.0}"
        )
    }
}

fn kib(pid: u32, file: &str, key: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let value = status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    value.and_then(|rest| rest.trim_end_matches("kB").trim().parse().ok()).expect("memory in a status")
}

pub(crate) fn memory(_: Form, section: &mut Section) {
    let mut resident = Vec::new();
    for count in [1, 100, 1000] {
        let (supd, _) = thousand::boot(count);
        let found = Resident::of(&supd);
        let what = format!("resident with {count} unit(s)");
        let mib = Sample::of([found.all / 1024.0]);
        match count {
            1 => section.judged(&what, &mib, "MiB", Budget(3.0)),
            _ => section.figure(&what, &mib, "MiB"),
        }
        section.note(&found.split());
        if count == 1 {
            supd.ctl(&["restart", "idle0"]).expect(0);
            let after = Resident::of(&supd);
            section.figure("the same after a swap", &Sample::of([after.all / 1024.0]), "MiB");
        }
        if found.helpers > 0.0 {
            section
                .note(&format!("and what its helper processes share with nobody: {:.0} KiB", found.helpers));
        }
        resident.push((count as f64, found.all));
    }
    let slope =
        |from: usize, to: usize| (resident[to].1 - resident[from].1) / (resident[to].0 - resident[from].0);
    section.judged("for each unit from 1 to 100", &Sample::of([slope(0, 1)]), "KiB", Budget(8.0));
    section.judged("for each unit from 100 to 1,000", &Sample::of([slope(1, 2)]), "KiB", Budget(8.0));
    let mut sleep = Command::new("sleep").arg("60").spawn().expect("sleep");
    wait_until("sleep to be there", SOON, || proc::command_line(sleep.id()).starts_with("sleep"));
    let floor = Resident::of_process(sleep.id());
    proc::signal(sleep.id(), Signal::SIGKILL);
    sleep.wait().expect("a killed child ends");
    section.figure(
        "beside: a sleep(1), the least that glibc takes",
        &Sample::of([floor.all / 1024.0]),
        "MiB",
    );
    section.note(&floor.split());
    for (name, program, most) in
        [("supd", env!("CARGO_BIN_EXE_supd"), Some(3.0)), ("supctl", env!("CARGO_BIN_EXE_supctl"), None)]
    {
        let size = fs::metadata(program).expect("a program").len() as f64 / f64::from(1 << 20);
        let (what, size) = (format!("size of {name} on disk"), Sample::of([size]));
        match most {
            Some(most) => section.judged(&what, &size, "MiB", Budget(most)),
            None => section.figure(&what, &size, "MiB"),
        }
    }
}
