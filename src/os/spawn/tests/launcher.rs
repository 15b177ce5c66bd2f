//! Launches through the launcher, which may be killed or stopped at any moment.

use super::{Bench, end, outcome, ready};
use crate::model::{Signal, Tick, WorkerExit};
use crate::os::alone::alone;
use crate::os::fork::fork;
use crate::os::pidfd::PidFd;
use crate::os::process::Stat;
use crate::os::spawn::{Launcher, Plan, SpawnFailure};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::{Duration, Instant};

fn begin(bench: &Bench) -> Launcher {
    let launcher = Launcher::begin(bench.common(|_, _| Ok(())), 0);
    assert!(launcher.pid().is_some(), "{:?}", launcher.note());
    launcher
}

fn run(launcher: &Launcher, plan: &Plan<'_>) -> Result<WorkerExit, SpawnFailure> {
    let mut spawned = launcher.spawn(plan).unwrap();
    spawned.outcome.go();
    let result = outcome(&mut spawned.outcome);
    let exit = end(&spawned.process);
    result.map(|()| exit)
}

fn open(pid: i32) -> Vec<String> {
    let names = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    names.map(|name| fs::read_link(name.unwrap().path()).unwrap().display().to_string()).collect()
}

#[test]
fn a_child_of_ours_and_not_of_the_launcher() {
    let bench = Bench::new();
    let launcher = begin(&bench);
    for code in [0, 7] {
        let _ = fs::remove_file(bench.path("output"));
        let plan = bench.shell(&format!("echo $PPID; exit {code}"));
        assert_eq!(run(&launcher, &plan), Ok(WorkerExit::Code(code)));
        assert_eq!(bench.output(), format!("{}\n", std::process::id()));
    }
    let failure = run(&launcher, &bench.plan("/no/such/program", &[])).unwrap_err();
    assert_eq!(failure.to_string(), "cannot execute /no/such/program: No such file or directory");
    let refused = begin_refusing(&bench);
    assert_eq!(run(&refused, &bench.plan("true", &[])).unwrap_err().to_string(), "no, says true");
    assert_eq!((launcher.note(), refused.note()), (None, None), "nobody else forked");
}

fn begin_refusing(bench: &Bench) -> Launcher {
    Launcher::begin(bench.common(|plan, _| Err(format!("no, says {}", plan.program))), 0)
}

/// While supd is small, its launcher is not asked.
#[test]
fn from_a_crowd_on() {
    let bench = Bench::new();
    let crowd = 600;
    let launcher = Launcher::begin(bench.common(|_, _| Ok(())), crowd);
    let helper = launcher.pid().unwrap();
    PidFd::open(helper).unwrap().send(Signal(libc::SIGSTOP)).unwrap();
    let plan = bench.plan("true", &[]);
    assert_eq!(run(&launcher, &plan), Ok(WorkerExit::Code(0)));
    assert_eq!((launcher.pid(), launcher.note()), (Some(helper), None), "it was not asked");
    let others: Vec<_> = (0..crowd).map(|_| fs::File::open("/dev/null").unwrap()).collect();
    assert_eq!(run(&launcher, &plan), Ok(WorkerExit::Code(0)));
    assert!(launcher.note().unwrap().contains("does not answer"), "it was asked");
    drop(others);
}

#[test]
fn nothing_stays_with_the_launcher() {
    let bench = Bench::new();
    let launcher = begin(&bench);
    let pid = launcher.pid().unwrap();
    assert_eq!(run(&launcher, &bench.plan("true", &[])), Ok(WorkerExit::Code(0)));
    let before = open(pid).len();
    assert_eq!(before, 4, "the standard three and its socket: {:?}", open(pid));
    let (mut far, near) = UnixStream::pair().unwrap();
    let plan = Plan { listeners: vec![near.as_fd(); 100], ..bench.shell("ls /proc/self/fd | wc -l") };
    assert_eq!(run(&launcher, &plan), Ok(WorkerExit::Code(0)));
    // The standard three, the listeners, and the folder that ls reads.
    assert_eq!((bench.output(), open(pid).len()), ("104\n".to_owned(), before));
    drop(plan);
    drop(near);
    far.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(far.read(&mut [0]).unwrap(), 0, "nobody holds it any more");
    assert_eq!(launcher.note(), None);
}

#[test]
fn what_does_not_fit_goes_by_a_plain_fork() {
    let bench = Bench::new();
    let launcher = begin(&bench);
    let pid = launcher.pid();
    let (_far, near) = UnixStream::pair().unwrap();
    let long = "x".repeat(100_000);
    let plan = Plan { listeners: vec![near.as_fd(); 300], ..bench.shell("ls /proc/self/fd | wc -l") };
    assert_eq!(run(&launcher, &plan), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output(), "304\n");
    assert_eq!(run(&launcher, &bench.plan("/bin/echo", &[&long])), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output().len(), 100_001);
    assert_eq!((launcher.pid(), launcher.note()), (pid, None), "it is as good as before");
}

/// How often the worker ran that leaves a line.
fn lines(bench: &Bench) -> usize {
    fs::read_to_string(bench.path("ran")).unwrap_or_default().lines().count()
}

fn leave_a_line(bench: &Bench) -> Plan<'_> {
    bench.shell(&format!("echo x >> {}", bench.path("ran").display()))
}

#[test]
fn one_that_was_killed_costs_nothing_and_another_comes() {
    let bench = Bench::new();
    let launcher = begin(&bench);
    let process = PidFd::open(launcher.pid().unwrap()).unwrap();
    process.send(Signal::KILL).unwrap();
    assert_eq!(run(&launcher, &leave_a_line(&bench)), Ok(WorkerExit::Code(0)));
    let note = launcher.note().unwrap();
    assert_eq!(note, "the launcher has ended; supd forks workers by itself for now");
    assert_eq!((launcher.pid(), lines(&bench)), (None, 1));
    // Not at once, lest one that always dies costs a fork each time.
    assert_eq!(run(&launcher, &leave_a_line(&bench)), Ok(WorkerExit::Code(0)));
    assert_eq!((launcher.pid(), lines(&bench)), (None, 2));
    launcher.begun.set(Some(Tick(0)));
    assert_eq!(run(&launcher, &leave_a_line(&bench)), Ok(WorkerExit::Code(0)));
    assert!(launcher.pid().is_some_and(|pid| pid != process.pid()));
    assert_eq!((launcher.note(), lines(&bench)), (None, 3));
}

#[test]
fn one_that_is_stopped_costs_a_bounded_time_once() {
    let bench = Bench::new();
    let launcher = begin(&bench);
    let process = PidFd::open(launcher.pid().unwrap()).unwrap();
    process.send(Signal(libc::SIGSTOP)).unwrap();
    let began = Instant::now();
    let spawned = launcher.spawn(&leave_a_line(&bench)).unwrap();
    spawned.outcome.go();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(end(&spawned.process), WorkerExit::Code(0));
    // What it was asked for is not made up for: it is ended, stopped as it is.
    ready(process.as_fd());
    assert_eq!(run(&launcher, &leave_a_line(&bench)), Ok(WorkerExit::Code(0)));
    assert_eq!((launcher.pid(), lines(&bench)), (None, 2));
    let note = launcher.note().unwrap();
    assert_eq!(note, "the launcher does not answer; supd forks workers by itself for now");
}

/// What was done to supd after the launcher began, and not to the launcher.
#[test]
fn where_supd_was_moved_its_workers_go_too() {
    alone("os::spawn::tests::launcher::where_supd_was_moved_its_workers_go_too", || {
        let bench = Bench::new();
        let launcher = begin(&bench);
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let first = (0..CpuSet::count()).find(|cpu| all.is_set(*cpu).unwrap()).unwrap();
        let mut one = CpuSet::new();
        one.set(first).unwrap();
        sched_setaffinity(Pid::from_raw(0), &one).unwrap();
        assert_eq!(run(&launcher, &bench.shell("nproc")), Ok(WorkerExit::Code(0)));
        assert_eq!(bench.output(), "1\n");
        let told = (one != all)
            .then_some("supd was moved without its launcher; supd forks workers by itself for now");
        assert_eq!(launcher.note().as_deref(), told);
        String::new()
    });
}

/// Whenever it dies, before the clone, after it, or never.
#[test]
fn each_launch_is_made_once() {
    alone("os::spawn::tests::launcher::each_launch_is_made_once", || {
        let bench = Bench::new();
        let (mut lost, rounds) = (0, 300);
        for round in 0..rounds {
            let launcher = begin(&bench);
            let pid = launcher.pid().unwrap();
            let killer = fork("a test", |_| {
                let until = Instant::now() + Duration::from_micros(round * 5);
                while Instant::now() < until {}
                if let Ok(process) = PidFd::open(pid) {
                    let _ = process.send(Signal::KILL);
                }
            })
            .unwrap();
            assert_eq!(run(&launcher, &leave_a_line(&bench)), Ok(WorkerExit::Code(0)), "round {round}");
            end(&killer.process);
            lost += usize::from(launcher.note().is_some());
        }
        // Whoever was told of too late ends by itself, and without a line.
        let until = Instant::now() + Duration::from_secs(20);
        while !super::childless() {
            assert!(Instant::now() < until, "it goes on");
            std::thread::yield_now();
        }
        assert_eq!(lines(&bench), usize::try_from(rounds).unwrap());
        assert!(lost > 0, "it was never killed in time");
        String::new()
    });
}

#[test]
fn a_child_that_is_not_told_to_go_never_becomes_the_program() {
    let bench = Bench::new();
    for launcher in [begin(&bench), Launcher::default()] {
        let mut spawned = launcher.spawn(&leave_a_line(&bench)).unwrap();
        assert_eq!(spawned.outcome.poll(), Poll::Pending);
        drop(spawned.outcome);
        assert!(!end(&spawned.process).is_success());
        assert_eq!(lines(&bench), 0);
    }
}

#[test]
fn it_ends_with_supd() {
    let bench = Bench::new();
    let (told, pid_file) = (bench.path("told"), bench.path("pid"));
    let supd = fork("a test", |_| {
        // Also where this test fails.
        nix::unistd::alarm::set(60);
        let launcher = begin(&bench);
        fs::write(&told, launcher.pid().unwrap().to_string()).unwrap();
        fs::rename(&told, &pid_file).unwrap();
        nix::unistd::pause();
    })
    .unwrap();
    let until = Instant::now() + Duration::from_secs(20);
    while !pid_file.exists() {
        assert!(Instant::now() < until, "no launcher");
        std::thread::yield_now();
    }
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    let launcher = PidFd::open(pid).unwrap();
    // It has a session of its own, and what is sent to all around supd does not end it.
    while Stat::read(pid).is_none_or(|stat| stat.session != pid) {
        assert!(Instant::now() < until, "it is in the session of its supd");
        std::thread::yield_now();
    }
    launcher.send(Signal::TERM).unwrap();
    assert!(!launcher.is_over());
    supd.process.send(Signal::KILL).unwrap();
    ready(launcher.as_fd());
    end(&supd.process);
}
