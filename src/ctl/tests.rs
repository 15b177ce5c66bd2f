//! supctl as a process, against supd's own control server with answers made up by each test.
//!
//! The process is this test binary once more: its test `fixture_supctl` becomes supctl.

use super::client::{Client, Observer};
use super::*;
use crate::codec::json::{GenerationView, ListenerView, OutcomeView, UnitView};
use crate::codec::varlink::{self, Meta, Method};
use crate::daemon::control::{Arrival, Call, Control, Limits};
use crate::model::{Ended, ExitStatus, Generation, Progress, Reply, Tick, UnitName, WaitFor, WorkerExit};
use clap::Parser as _;
use mio::{Events, Poll, Token};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

const ARGUMENTS: &str = "SUPD_TEST_ARGUMENTS";
const STDOUT: &str = "SUPD_TEST_STDOUT";
const MARK: &str = "\n<supctl>\n";
/// No test waits longer than this for anything.
const BOUND: Duration = Duration::from_secs(60);

/// Not a test: what the other ones start.
#[test]
fn fixture_supctl() {
    let Some(arguments) = std::env::var_os(ARGUMENTS) else { return };
    let arguments = arguments.into_string().unwrap();
    let words = std::iter::once("supctl").chain(arguments.split('\x1f').filter(|word| !word.is_empty()));
    print!("{MARK}");
    io::stdout().flush().unwrap();
    match std::env::var(STDOUT).as_deref() {
        Ok("full") => {
            nix::unistd::dup2_stdout(File::options().write(true).open("/dev/full").unwrap()).unwrap();
        }
        // Nobody has the other end.
        Ok("closed") => nix::unistd::dup2_stdout(nix::unistd::pipe().unwrap().1).unwrap(),
        _ => {}
    }
    match Cli::try_parse_from(words) {
        Ok(cli) => std::process::exit(run(cli).into()),
        Err(error) => error.exit(),
    }
}

/// A supd that knows nothing: `answer` sees each call.
struct Fake {
    folder: tempfile::TempDir,
    stop: Sender<()>,
    hung_up: Receiver<()>,
    called: Receiver<String>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    fn new(answer: impl FnMut(&mut Control, Call) + Send + 'static) -> Self {
        Self::with(
            Limits {
                total: 8,
                per_user: 8,
                waits_per_user: 8,
                reserve: 0,
                memory: 32 << 20,
                descriptors: 16,
            },
            answer,
        )
    }

    fn with(limits: Limits, mut answer: impl FnMut(&mut Control, Call) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut poll = Poll::new().unwrap();
        let path = folder.path().join("control");
        let mut control = Control::bind(&path, poll.registry(), Token(1), limits).unwrap();
        let (stop, stopped) = channel();
        let (hangs_up, hung_up) = channel();
        let (calls, called) = channel();
        let thread = std::thread::spawn(move || {
            let mut events = Events::with_capacity(64);
            let mut arrived = Vec::new();
            while stopped.try_recv().is_err() {
                let wait = Duration::from_millis(if control.pending() { 0 } else { 5 });
                poll.poll(&mut events, Some(wait)).unwrap();
                events.iter().for_each(|event| control.ready(event));
                control.turn(Tick(0), &mut arrived);
                for arrival in arrived.drain(..) {
                    match arrival {
                        Arrival::Call(call) => {
                            let _nobody_asks = calls.send(call.method.name().to_owned());
                            answer(&mut control, *call);
                        }
                        Arrival::HungUp(_) => hangs_up.send(()).unwrap_or(()),
                    }
                }
            }
        });
        Self { folder, stop, hung_up, called, thread: Some(thread) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    fn end(&mut self) {
        let _ended_already = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    fn supctl(&self, arguments: &[&str]) -> (i32, String, String) {
        finish(supctl(self.folder.path(), arguments).spawn().unwrap())
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ended_already = self.stop.send(());
    }
}

fn supctl(runtime: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "ctl::tests::fixture_supctl", "--nocapture"]);
    command.env(ARGUMENTS, arguments.join("\x1f")).env("SUPD_RUNTIME", runtime);
    command.env_remove("NO_COLOR").env_remove("RUST_BACKTRACE").env("TERM", "xterm");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit status (or minus the signal), standard output, standard error.
fn finish(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let printed = text.split_once(MARK).map_or(text.as_str(), |(_, printed)| printed).to_owned();
    let status = output.status;
    let code = status.code().unwrap_or_else(|| -status.signal().unwrap());
    (code, printed, String::from_utf8(output.stderr).unwrap())
}

fn swapped(control: &mut Control, call: &Call) {
    let (from, to) = (Some(Generation(7)), Generation(8));
    let after = Duration::from_millis(1420);
    control.progress(call.client, &Progress::Launched { generation: to, workers: 1 });
    control.progress(call.client, &Progress::Ready { generation: to, ready: 1, workers: 1, after });
    control.progress(call.client, &Progress::Switched { from, to, probation: Duration::from_secs(10) });
    let reply = Reply::done(true, "generation 8 stays");
    control.reply(call.client, &reply, Vec::new(), None);
}

fn units() -> Vec<UnitView> {
    let unit = |name: &str, state: &str, health: &str| UnitView {
        unit: name.into(),
        state: state.into(),
        health: health.into(),
        traffic: "on".into(),
        active: Some(8),
        listeners: vec![ListenerView {
            name: "http".into(),
            address: "[::]:80".into(),
            steered: false,
            mechanism: None,
            queue: Some(1),
            queue_bytes: None,
            note: String::new(),
        }],
        generations: vec![GenerationView {
            generation: 8,
            state: "active".into(),
            uptime_ms: 1000,
            ..GenerationView::default()
        }],
        ..UnitView::default()
    };
    vec![unit("api", "active", "up"), unit("web", "down", "down"), unit("old", "stopped", "maint")]
}

fn status_server() -> Fake {
    Fake::new(|control, call| {
        let Method::Status { unit, .. } = call.method else { panic!("{:?}", call.method) };
        let mut units = units();
        if let Some(unit) = unit {
            if !units.iter().any(|known| known.unit == unit.as_str()) {
                let known: Vec<String> = units.into_iter().map(|known| known.unit).collect();
                let error = varlink::Error::no_such_unit(unit.as_str(), known.iter().map(String::as_str));
                return control.refuse(call.client, &error);
            }
            units.retain(|known| known.unit == unit.as_str());
        }
        control.status(call.client, units, vec!["steering is off: bpf(2) is not allowed (EPERM)".into()]);
    })
}

#[test]
fn a_swap_is_told_line_by_line() {
    let fake = Fake::new(|control, call| {
        let Method::Swap { stops, wait, label, .. } = &call.method else { panic!("{:?}", call.method) };
        assert!(call.more && stops.hold);
        assert_eq!(
            (*wait, label.as_ref().map(crate::model::Label::as_str)),
            (WaitFor::Active, Some("1.5.0"))
        );
        assert_eq!(call.meta.reason.as_deref(), Some("fix the bug"));
        assert_eq!(call.meta.request_id.as_deref(), Some("ci-17"));
        swapped(control, &call);
    });
    let (code, out, err) = fake.supctl(&[
        "swap",
        "web",
        "1.5.0",
        "--hold",
        "--wait=active",
        "--reason",
        "fix\nthe bug",
        "--request-id",
        "ci-17",
    ]);
    let expected = "\
web: generation 8 launched (1 worker)
web: generation 8 ready after 1.42s
web: generation 8 receives the traffic (before: 7); on probation for 10s
web: generation 8 stays
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
}

#[test]
fn json_is_the_reply_as_it_came() {
    let fake = Fake::new(|control, call| {
        assert!(!call.more, "programs get one reply");
        swapped(control, &call);
    });
    let (code, out, err) = fake.supctl(&["--json", "swap", "web"]);
    let expected = concat!(
        r#"{"format":1,"changed":true,"text":"generation 8 stays","next":null,"generation":null,"#,
        r#""swap_id":null,"progress":null}"#,
        "\n"
    );
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));

    let fake = Fake::new(|control, call| {
        let reply = Reply::refused("not now", Some("wait web".to_owned()));
        control.reply(call.client, &reply, Vec::new(), None);
    });
    let (code, out, err) = fake.supctl(&["--json", "swap", "web"]);
    let expected = concat!(
        r#"{"error":"dev.supd.Manager.Refused","parameters":{"changed":false,"reason":"not now","#,
        r#""next":"wait web","generation":null,"swap_id":null}}"#,
        "\n"
    );
    assert_eq!((code, out.as_str(), err.as_str()), (3, expected, ""));
}

#[test]
fn every_ending_has_its_exit_status() {
    let endings = [
        ExitStatus::Done,
        ExitStatus::Failed,
        ExitStatus::Refused,
        ExitStatus::Timeout,
        ExitStatus::RolledBack,
        ExitStatus::Down,
        ExitStatus::NotAllowed,
        ExitStatus::BadUnitFile,
    ];
    for ending in endings {
        let fake = Fake::new(move |control, call| {
            control.reply(call.client, &Reply::new(ending, false, "so it is"), Vec::new(), None);
        });
        let (code, out, err) = fake.supctl(&["swap", "web"]);
        assert_eq!(code, i32::from(ending.code()), "{out}{err}");
        assert!(out.contains("so it is") || err.contains("so it is"), "{out}{err}");
        assert_eq!(err.is_empty(), ending == ExitStatus::Done, "{err}");
        let (again, ..) = fake.supctl(&["--json", "swap", "web"]);
        assert_eq!(again, code);
    }
}

#[test]
fn a_failed_swap_shows_how_the_candidate_ended() {
    let fake = Fake::new(|control, call| {
        let ended = Ended {
            generation: Generation(8),
            exit: Some(WorkerExit::Code(3)),
            lived: Duration::from_millis(140),
        };
        let text = "generation 8 ended before it was ready; generation 7 was not touched";
        let reply = Reply { ended: Some(ended), ..Reply::new(ExitStatus::Failed, false, text) };
        let log = (1..=20).map(|line| format!("line {line}")).collect();
        control.reply(call.client, &reply, log, Some("/var/log/supd/web/8.log".into()));
    });
    let (code, out, err) = fake.supctl(&["swap", "web"]);
    assert_eq!((code, out.as_str()), (1, ""));
    let lines: Vec<&str> = err.lines().collect();
    assert_eq!(lines[0], "Error: web: generation 8 ended before it was ready; generation 7 was not touched");
    assert_eq!(lines[1], "  Generation 8 lived 140ms: exit status 3.");
    assert_eq!(lines[2], "  The last 20 lines that it wrote:");
    assert_eq!((lines[3], lines[22]), ("  | line 1", "  | line 20"));
    assert_eq!(lines[23], "  All of it: /var/log/supd/web/8.log");
}

#[test]
fn where_no_supd_is_the_next_step_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for stale in [false, true] {
        if stale {
            drop(std::os::unix::net::UnixListener::bind(folder.path().join("control")).unwrap());
        }
        let release = tempfile::tempdir().unwrap();
        // More than a pipe holds: it is still on its way when the call fails.
        std::fs::write(release.path().join("server"), vec![0; 1 << 20]).unwrap();
        let source = release.path().to_str().unwrap();
        let mut told = Vec::new();
        // What goes along is not blamed.
        for words in [&["status"][..], &["install", "web", "1", source], &["deploy", "web", "1", source]] {
            let (code, out, err) = finish(supctl(folder.path(), words).spawn().unwrap());
            assert_eq!((code, out.as_str()), (5, ""), "{err}");
            told.push(err);
        }
        assert!(told.iter().all(|err| *err == told[0]), "{told:?}");
        let err = &told[0];
        let place = folder.path().join("control").display().to_string();
        assert!(err.starts_with(&format!("Error: no supd answers at {place}: ")), "{err}");
        assert!(err.contains("\n  Next: start it (systemctl start supd, or: supd)"), "{err}");
    }
}

#[test]
fn status_is_a_table_and_a_unit_has_a_detail() {
    let fake = status_server();
    let (code, out, err) = fake.supctl(&["status"]);
    let expected = "\
UNIT   STATE    RELEASE  GEN  UP     CONN  QUEUE  ROLLBACK            NOTE
api    active   -          8  1s        -      1  none
web    down     -          8  1s        -      1  none
old    stopped  -          8  1s        -      1  none
supd: steering is off: bpf(2) is not allowed (EPERM)
";
    assert_eq!((code, out.as_str(), err.as_str()), (0, expected, ""));
    let (code, out, _) = fake.supctl(&["status", "api"]);
    assert_eq!(code, 0);
    assert!(out.contains("\n  listener      http [::]:80 (shared, 1 waiting)\n"), "{out}");
    let (_, out, _) = fake.supctl(&["--json", "status", "api"]);
    let unit: UnitView = serde_json::from_str(&out).unwrap();
    assert_eq!(unit, units().remove(0));
    let (_, out, _) = fake.supctl(&["--json", "status"]);
    assert!(out.starts_with("{\"format\":1,") && out.contains("\"units\":["), "{out}");
    let (code, _, err) = fake.supctl(&["status", "apj"]);
    assert_eq!(code, 3);
    assert_eq!(err, "Error: there is no unit apj; did you mean api?\n  Next: supctl status\n");
}

#[test]
fn monitoring_asks_by_exit_status() {
    let fake = status_server();
    for (arguments, code, said) in [
        (&["status", "--check", "api"][..], 0, ""),
        (&["status", "--check", "web"], 1, "web: down (down)\n"),
        (&["status", "--check", "old"], 1, "old: stopped (maint)\n"),
        (&["status", "--check"], 1, "web: down (down)\n"),
        (&["is-active", "api"], 0, "active\n"),
        (&["is-active", "old"], 1, "stopped\n"),
        (&["is-active", "none"], 1, "unknown\n"),
        (&["is-active", "-q", "old"], 1, ""),
    ] {
        let (got, out, err) = fake.supctl(arguments);
        assert_eq!((got, out.as_str(), err.as_str()), (code, said, ""), "{arguments:?}");
    }
}

#[test]
fn an_interrupted_supctl_says_that_the_swap_goes_on() {
    let fake = Fake::new(|control, call| {
        control.progress(call.client, &Progress::Launched { generation: Generation(8), workers: 1 });
    });
    for (signal, verb, said) in [
        (Signal::SIGINT, "swap", "Interrupted: the swap goes on\n  Next: supctl wait web\n"),
        (Signal::SIGTERM, "rollback", "Interrupted: the rollback goes on\n  Next: supctl wait web\n"),
        (Signal::SIGHUP, "wait", "Interrupted: what is under way goes on\n  Next: supctl wait web\n"),
    ] {
        let child = supctl(fake.folder.path(), &[verb, "web"]).spawn().unwrap();
        fake.called.recv_timeout(BOUND).unwrap();
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let (code, _, err) = finish(child);
        assert_eq!((code, err.as_str()), (-(signal as i32), said));
        fake.hung_up.recv_timeout(BOUND).unwrap();
    }
}

#[test]
fn a_supd_that_goes_away_leaves_the_outcome_unknown() {
    let mut fake = Fake::new(|_, _| {});
    let child = supctl(fake.folder.path(), &["swap", "web"]).spawn().unwrap();
    fake.called.recv_timeout(BOUND).unwrap();
    fake.end();
    let (code, _, err) = finish(child);
    let said = "Error: supd closed the connection before it answered; the outcome is unknown\n  \
                Next: supctl wait web\n";
    assert_eq!((code, err.as_str()), (4, said));
}

#[test]
fn a_supd_that_ends_before_its_answer_has_shut_down() {
    let mut fake = Fake::new(|_, _| {});
    let child = supctl(fake.folder.path(), &["shutdown"]).spawn().unwrap();
    fake.called.recv_timeout(BOUND).unwrap();
    fake.end();
    let (code, out, err) = finish(child);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "supd has ended\n", ""));
}

#[test]
fn a_time_limit_ends_the_wait_and_nothing_else() {
    let fake = Fake::new(|_, _| {});
    let (code, _, err) = fake.supctl(&["--timeout", "100ms", "swap", "web"]);
    let said = "Error: no answer within --timeout; what was asked for goes on, its outcome is unknown\n  \
                Next: supctl wait web\n";
    assert_eq!((code, err.as_str()), (4, said));
}

#[test]
fn while_supd_has_too_many_clients_it_is_asked_again() {
    let mut waiting = Vec::new();
    let limits =
        Limits { total: 2, per_user: 2, waits_per_user: 2, reserve: 0, memory: 1 << 20, descriptors: 16 };
    let fake = Fake::with(limits, move |control, call| match call.method {
        Method::Status { .. } => control.status(call.client, units(), Vec::new()),
        _ if waiting.is_empty() => waiting.push(call.client),
        _ => {
            // Both places are taken; soon one is free.
            waiting.push(call.client);
        }
    });
    let holders: Vec<Child> =
        (0..2).map(|_| supctl(fake.folder.path(), &["wait", "web"]).spawn().unwrap()).collect();
    for _ in &holders {
        fake.called.recv_timeout(BOUND).unwrap();
    }
    let asking = supctl(fake.folder.path(), &["status"]).spawn().unwrap();
    assert!(fake.called.recv_timeout(Duration::from_millis(300)).is_err(), "there is no place");
    for holder in holders {
        kill(Pid::from_raw(holder.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        finish(holder);
    }
    let (code, out, err) = finish(asking);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
}

#[test]
fn a_supd_that_is_silent_is_asked_whether_it_is_there() {
    struct Count(usize);
    impl Observer for Count {
        fn step(&mut self, _: &OutcomeView) {}
        fn tick(&mut self) {
            self.0 += 1;
        }
        fn period(&self) -> Duration {
            Duration::from_millis(10)
        }
    }
    let method = Method::Abort { unit: UnitName::new("web").unwrap() };
    let ask = |path: PathBuf, timeout| {
        let mut count = Count(0);
        let client = Client::impatient(path, timeout, Duration::from_millis(50));
        let failure = client.ask(&method, &Meta::default(), Some(&mut count)).unwrap_err();
        (failure, count.0)
    };
    // One that answers others is at work: only --timeout ends this.
    let fake = Fake::new(|_, _| {});
    let (failure, ticks) = ask(fake.path(), Some(Duration::from_millis(700)));
    assert!(failure.text.contains("--timeout"), "{failure:?}");
    assert!(ticks > 5, "{ticks}");
    // One that answers nobody is not.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let _deaf = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let (failure, _) = ask(path, Some(BOUND));
    assert_eq!(failure.status, ExitStatus::Timeout);
    assert!(failure.text.contains("has said nothing for"), "{failure:?}");
}

#[test]
fn what_is_no_supd_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(folder.path().join("control")).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"220 smtp ready\r\n\0").unwrap();
    });
    let (code, _, err) = finish(supctl(folder.path(), &["swap", "web"]).spawn().unwrap());
    thread.join().unwrap();
    assert_eq!(code, 4);
    assert!(err.contains("what answers there is no supd, or a broken one"), "{err}");
}

#[test]
fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
    let fake = status_server();
    let with =
        |stdout: &str| finish(supctl(fake.folder.path(), &["status"]).env(STDOUT, stdout).spawn().unwrap());
    assert_eq!(with("closed"), (0, String::new(), String::new()));
    let (code, _, err) = with("full");
    let said = "Error: cannot write to standard output: No space left on device (os error 28)\n";
    assert_eq!((code, err.as_str()), (1, said));
}

#[test]
fn on_a_terminal_progress_lives_and_leaves_a_clean_line() {
    let fake = Fake::new(|control, call| {
        control.progress(call.client, &Progress::Launched { generation: Generation(8), workers: 1 });
    });
    let pty = openpty(None, None).unwrap();
    let slave = File::from(pty.slave);
    let mut command = supctl(fake.folder.path(), &["swap", "web"]);
    command.stdout(slave.try_clone().unwrap()).stderr(slave);
    let child = command.spawn().unwrap();
    drop(command);
    let mut master = File::from(pty.master);
    let mut shown = String::new();
    let mut interrupted = false;
    let mut chunk = [0; 1024];
    // EIO: nobody holds the other end any more.
    while let Ok(count) = master.read(&mut chunk) {
        shown += &String::from_utf8_lossy(&chunk[..count]);
        // Drawn twice: time goes by.
        let living = shown.matches("waiting for generation 8 to be ready (0 of 1)").count();
        if living >= 3 && !interrupted {
            kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
            interrupted = true;
        }
    }
    let status = child.wait_with_output().unwrap().status;
    assert_eq!(status.signal(), Some(Signal::SIGINT as i32), "{shown}");
    assert!(shown.contains("web: generation 8 launched (1 worker)\r\n"), "{shown:?}");
    let end =
        "\r\x1b[K\x1b[31mInterrupted:\x1b[0m the swap goes on\r\n  \x1b[1mNext:\x1b[0m supctl wait web\r\n";
    assert!(shown.ends_with(end), "{shown:?}");
}
