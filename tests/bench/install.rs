//! A release of 100 MB in 10,000 files, beside tar(1) and a flush; and what else supd does meanwhile.

use crate::Form;
use crate::harness::{Supd, free_port};
use crate::numbers::{Sample, millis};
use crate::proc;
use crate::report::{Budget, Section};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const FILES: usize = 10_000;
const FOLDERS: usize = 100;
const FILE_BYTES: usize = 10_000;

/// A plain archive: what decompression costs is the same for both.
fn archive(supd: &Supd) -> PathBuf {
    let folder = supd.app().join("dist");
    let mut content = vec![0; FILE_BYTES];
    for number in 0..FILES {
        let inside = folder.join(format!("part{}", number % FOLDERS));
        fs::create_dir_all(&inside).expect("a folder");
        // No two files are the same, and none is worth compressing.
        let mut state = number as u64 + 1;
        for byte in &mut content {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 56) as u8;
        }
        fs::write(inside.join(number.to_string()), &content).expect("a file");
    }
    let archive = supd.app().join("app.tar");
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&folder).arg("."));
    archive
}

fn run(command: &mut Command) {
    assert!(command.status().expect("a program").success(), "{command:?}");
}

/// Whatever was written before is on the disk, so that nobody pays for another.
fn flush() {
    run(&mut Command::new("sync"));
}

/// tar(1), then a flush of the file system.
fn unpacked(archive: &Path, folder: &Path) -> Duration {
    flush();
    let began = Instant::now();
    fs::create_dir_all(folder).expect("a folder");
    run(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder));
    run(Command::new("sync").arg("--file-system").arg(folder));
    began.elapsed()
}

/// One call, and its answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ping {
    pub(crate) took: Duration,
    /// The same without the time in which supd, or who asks, could have run and had no processor. Where
    /// both waited at once too much is taken off: a long turn shows in many calls, not in each.
    pub(crate) own: Duration,
}

/// How long supd takes for the least of all calls, again and again until told to stop.
fn pings(pid: u32, control: &Path, stop: &AtomicBool) -> Vec<Ping> {
    let mut stream = UnixStream::connect(control).expect("supd's control socket");
    let mut spans = Vec::new();
    let mut answer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        let waited = || proc::waited(&pid.to_string()) + proc::waited("thread-self");
        let before = waited();
        let began = Instant::now();
        stream.write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0").expect("a call");
        loop {
            let read = stream.read(&mut answer).expect("an answer");
            assert!(read > 0, "supd hung up");
            if answer[read - 1] == 0 {
                break;
            }
        }
        let took = began.elapsed();
        spans.push(Ping { took, own: took.saturating_sub(waited() - before) });
        crate::wait::pause(Duration::from_millis(1));
    }
    spans
}

/// The calls that were answered while this ran.
pub(crate) fn pinged(supd: &Supd, work: impl FnOnce()) -> Vec<Ping> {
    let stop = Arc::new(AtomicBool::new(false));
    let (pid, control, told) = (supd.pid(), supd.control(), stop.clone());
    let pinger = std::thread::spawn(move || pings(pid, &control, &told));
    work();
    stop.store(true, Ordering::Relaxed);
    pinger.join().expect("the pinger")
}

pub(crate) fn measure(form: Form, section: &mut Section) {
    let supd = Supd::start();
    let port = free_port();
    supd.write_unit(
        "web",
        &format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n[Service]\nExecStart = [\"bin/server\"]\n\
             Ready = \"started\"\n[Swap]\nKeepReleases = 100\n"
        ),
    );
    supd.ctl(&["daemon-reload"]).expect(0);
    let archive = archive(&supd);
    let source = archive.to_str().expect("a plain path");
    let (mut installs, mut tars, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut during, mut beside) = (Vec::new(), Vec::new());
    for round in 0..form.rounds.clamp(4, 10) {
        let folder = supd.state_folder().join(format!("beside-{round}"));
        beside.extend(pinged(&supd, || tars.push(unpacked(&archive, &folder))));
        fs::remove_dir_all(&folder).expect("a folder of our own");
        flush();
        let label = round.to_string();
        during.extend(pinged(&supd, || {
            installs.push(supd.ctl(&["install", "web", &label, source]).expect(0).took);
        }));
        supd.ctl(&["undeploy", "web", &label]).expect(0);
        ratios.push(installs[round].as_secs_f64() / tars[round].as_secs_f64());
    }
    let seconds = |spans: &[Duration]| Sample::of(spans.iter().map(Duration::as_secs_f64));
    section.figure("supctl install of 100 MB in 10,000 files", &seconds(&installs), "s");
    section.figure("tar -x, and sync of its file system", &seconds(&tars), "s");
    section.judged("install against tar and sync, each round", &Sample::of(ratios), "", Budget(1.2));
    let longest = |pings: &[Ping]| Sample::of(pings.iter().max().map(|ping| millis(ping.took)));
    section.judged("the longest answer of supd meanwhile", &longest(&during), "ms", Budget(5.0));
    section.figure("the same while tar runs instead", &longest(&beside), "ms");
    section.figure(
        "any answer of supd meanwhile",
        &Sample::millis(during.iter().map(|ping| &ping.took)),
        "ms",
    );
}
