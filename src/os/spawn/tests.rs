//! Launches of real programs, from a supd that is as dirty as it can be.

use super::environment::{Environment, Facts};
use super::{Account, Outcome, Plan, Roots, SpawnFailure, Spawned, Step, Stream, spawn};
use crate::model::settings::{Directory, DirectoryKind, Limit, Resource};
use crate::model::{Address, Generation, ListenerName, Signal, SocketKind, UnitName, WorkerExit};
use crate::os::alone::{alone, alone_as, root_or_skip};
use crate::os::original::{self, Original};
use crate::os::pidfd::{PidFd, Wait};
use crate::os::task::tests::in_child;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::task::Poll;

/// nobody and nogroup: there on every machine.
const NOBODY: u32 = 65534;

/// A folder and what a plan borrows.
struct Bench {
    folder: tempfile::TempDir,
    original: Original,
    roots: Roots,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let at = |name: &str| folder.path().join(name);
        let roots = Roots { runtime: at("run"), state: at("state"), cache: at("cache"), logs: at("logs") };
        Self { original: Original::read().unwrap(), roots, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        // Written in a child: a descriptor of this process that may write it could be in another
        // test's forked child for a moment, and execve(2) would say ETXTBSY.
        in_child(|| fs::write(&path, text).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn plan<'a>(&'a self, program: &'a str, arguments: &[&str]) -> Plan<'a> {
        Plan {
            program,
            executable: None,
            arguments: arguments.iter().map(Into::into).collect(),
            environment: Environment {
                defaults: vec![("PATH".into(), super::environment::PATH.into())],
                ..Environment::default()
            },
            prepare: None,
            listeners: Vec::new(),
            pass_listen_pid: true,
            account: Account::default(),
            working_directory: "/".into(),
            umask: 0o022,
            limits: &[],
            nice: None,
            oom_score_adjust: None,
            no_new_privileges: false,
            ambient_capabilities: &[],
            capability_bounding_set: None,
            directories: &[],
            roots: &self.roots,
            standard_output: Stream::File(self.path("output")),
            standard_error: Stream::Inherit,
            notify_socket: None,
            original: &self.original,
        }
    }

    /// A shell command line.
    fn shell<'a>(&'a self, line: &str) -> Plan<'a> {
        self.plan("/bin/sh", &["-c", line])
    }

    fn output(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap()
    }
}

fn as_user(user: &str) -> Account {
    Account { user: Some(user.to_owned()), ..Account::default() }
}

/// Waits, with a bound.
fn ready(fd: BorrowedFd<'_>) {
    let mut entry = [PollFd::new(fd, PollFlags::POLLIN)];
    assert_eq!(poll(&mut entry, PollTimeout::from(30_000u16)), Ok(1), "nothing happened");
}

fn outcome(outcome: &mut Outcome) -> Result<(), SpawnFailure> {
    // Readable twice at most: at the mark before execve(2), and at the end.
    loop {
        ready(outcome.as_fd());
        if let Poll::Ready(result) = outcome.poll() {
            return result;
        }
    }
}

fn end(process: &PidFd) -> WorkerExit {
    ready(process.as_fd());
    let Wait::Exited(exit) = process.wait().unwrap() else { panic!("not over") };
    exit
}

/// Launches and waits for the end.
fn run(plan: &Plan<'_>) -> Result<WorkerExit, SpawnFailure> {
    let mut spawned = spawn(plan).unwrap();
    let result = outcome(&mut spawned.outcome);
    let exit = end(&spawned.process);
    result.map(|()| exit)
}

fn refusal(plan: &Plan<'_>) -> String {
    run(plan).unwrap_err().to_string()
}

/// Whether this process has no child, not even an ended one.
fn childless() -> bool {
    nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG))
        == Err(nix::errno::Errno::ECHILD)
}

// ---- execve ----------------------------------------------------------------------------------

#[test]
fn a_program_runs_and_its_exit_is_known() {
    let bench = Bench::new();
    assert_eq!(run(&bench.plan("true", &[])), Ok(WorkerExit::Code(0)));
    assert_eq!(run(&bench.shell("echo $0; exit 7")), Ok(WorkerExit::Code(7)));
    assert_eq!(bench.output(), "/bin/sh\n");
}

#[test]
fn why_a_program_could_not_be_executed() {
    let bench = Bench::new();
    let path = |name: &str| bench.path(name).to_str().unwrap().to_owned();
    assert_eq!(
        refusal(&bench.plan("/srv/x/bin/server", &[])),
        "cannot execute /srv/x/bin/server: No such file or directory"
    );
    let no_line = bench.script("no-line", "echo hello\n");
    assert_eq!(
        refusal(&bench.plan(&no_line, &[])),
        format!(
            "cannot execute {no_line}: Exec format error \
             (a script without a #! line, or made for another machine)"
        )
    );
    let lost = bench.script("lost", "#!/no/such/shell\n");
    let text = refusal(&bench.plan(&lost, &[]));
    assert!(text.contains("its #! line names /no/such/shell, which is missing"), "{text}");
    fs::set_permissions(&lost, fs::Permissions::from_mode(0o644)).unwrap();
    let text = refusal(&bench.plan(&lost, &[]));
    assert!(text.contains("Permission denied (chmod +x it)"), "{text}");
    fs::create_dir(path("folder")).unwrap();
    let text = refusal(&bench.plan(&path("folder"), &[]));
    assert!(text.contains("not a regular file"), "{text}");
    let failure = run(&bench.plan("no-such-program", &[])).unwrap_err();
    assert_eq!((failure.step, failure.errno), (Step::Find, None));
}

#[test]
fn another_file_under_the_same_name() {
    let bench = Bench::new();
    let pinned = bench.script("pinned", "#!/bin/sh\necho pinned $1\n");
    let plan = Plan { executable: Some(pinned.into()), ..bench.plan("bin/server", &["one"]) };
    assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output(), "pinned one\n");
    let plan =
        Plan { executable: Some("/bin/sh".into()), ..bench.plan("bin/server", &["-c", "echo $0 is $1"]) };
    assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
    assert!(bench.output().starts_with("bin/server is"), "{}", bench.output());
}

#[test]
fn relative_to_its_folder() {
    let bench = Bench::new();
    bench.script("here", "#!/bin/sh\npwd\n");
    let plan = Plan { working_directory: bench.path(""), ..bench.plan("./here", &[]) };
    assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
    assert_eq!(Path::new(bench.output().trim()), fs::canonicalize(bench.path("")).unwrap());
    let plan = Plan { working_directory: bench.path("gone"), ..bench.plan("./here", &[]) };
    let text = refusal(&plan);
    assert!(text.starts_with("cannot change to working directory /"), "{text}");
}

#[test]
fn killed_before_it_was_executed() {
    let bench = Bench::new();
    let prepare = |_: &mut super::Launch| -> Result<(), String> {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        Ok(())
    };
    let failure = run(&Plan { prepare: Some(&prepare), ..bench.plan("true", &[]) }).unwrap_err();
    assert_eq!(failure.step, Step::Vanish);
}

#[test]
fn a_launch_that_hangs_can_be_ended() {
    let bench = Bench::new();
    nix::unistd::mkfifo(&bench.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let plan = Plan { standard_output: Stream::Append(bench.path("fifo")), ..bench.plan("true", &[]) };
    let Spawned { process, outcome: mut launch } = spawn(&plan).unwrap();
    assert_eq!(launch.poll(), Poll::Pending);
    process.send(Signal::TERM).unwrap();
    assert_eq!(outcome(&mut launch).unwrap_err().step, Step::Vanish);
    assert_eq!(end(&process), WorkerExit::Killed { signal: Signal::TERM, core: false });
}

#[test]
fn what_prepare_may_change_and_what_not() {
    let bench = Bench::new();
    let prepare = |launch: &mut super::Launch| -> Result<(), String> {
        assert!(launch.set("FROM_FILE".as_ref(), "yes".as_ref()));
        assert!(!launch.set("NOTIFY_SOCKET".as_ref(), "/evil".as_ref()));
        let user = launch.get("USER".as_ref()).unwrap_or_default().to_owned();
        launch.arguments.push(user);
        Ok(())
    };
    let line = "echo $FROM_FILE $NOTIFY_SOCKET $1";
    let plan =
        Plan { prepare: Some(&prepare), account: as_user("0"), ..bench.plan("/bin/sh", &["-c", line, "sh"]) };
    if root_or_skip("what_prepare_may_change_and_what_not") {
        assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
        assert_eq!(bench.output(), "yes root\n");
    }
    let prepare = |_: &mut super::Launch| Err("cannot read /etc/default/web: gone".to_owned());
    let plan = Plan { prepare: Some(&prepare), ..bench.plan("true", &[]) };
    assert_eq!(refusal(&plan), "cannot read /etc/default/web: gone");
}

// ---- descriptors and streams -----------------------------------------------------------------

#[test]
fn three_hundred_listeners() {
    let bench = Bench::new();
    let sockets: Vec<UdpSocket> =
        (0..300).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    // Python says for each descriptor which port it is bound to, and that 303 is closed.
    let program = "import socket,os\n\
        for fd in range(3, 303): print(socket.socket(fileno=fd).getsockname()[1])\n\
        try: os.fstat(303)\n\
        except OSError: print('no more')\n\
        print(os.environ['LISTEN_PID'] == str(os.getpid()))";
    let listeners = sockets.iter().map(AsFd::as_fd).collect();
    assert_eq!(
        run(&Plan { listeners, ..bench.plan("python3", &["-c", program]) }),
        Ok(WorkerExit::Code(0)),
        "{}",
        bench.output()
    );
    let ports: Vec<String> = sockets.iter().map(|s| s.local_addr().unwrap().port().to_string()).collect();
    assert_eq!(bench.output(), format!("{}\nno more\nTrue\n", ports.join("\n")));
}

#[test]
fn where_the_streams_go() {
    let bench = Bench::new();
    let log = bench.path("logs/web/1.log");
    let both = Plan {
        standard_output: Stream::Log(log.clone()),
        standard_error: Stream::Log(log.clone()),
        umask: 0,
        ..bench.shell("echo out; echo err >&2; echo out")
    };
    for _ in 0..2 {
        assert_eq!(run(&both), Ok(WorkerExit::Code(0)));
    }
    assert_eq!(fs::read_to_string(&log).unwrap(), "out\nerr\nout\n".repeat(2));
    assert_eq!(fs::metadata(&log).unwrap().mode() & 0o777, 0o640);
    assert_eq!(fs::metadata(log.parent().unwrap()).unwrap().mode() & 0o777, 0o750);

    fs::write(bench.path("output"), "old and long\n").unwrap();
    let same =
        Plan { standard_error: Stream::File(bench.path("output")), ..bench.shell("echo a; echo b >&2") };
    assert_eq!(run(&same), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output(), "a\nb\nand long\n");

    let apart = Plan {
        standard_output: Stream::Null,
        standard_error: Stream::Append(bench.path("errors")),
        umask: 0o077,
        ..bench.shell("echo a; echo b >&2; cat")
    };
    assert_eq!(run(&apart), Ok(WorkerExit::Code(0)));
    assert_eq!(fs::read_to_string(bench.path("errors")).unwrap(), "b\n");
    assert_eq!(fs::metadata(bench.path("errors")).unwrap().mode() & 0o777, 0o600);

    std::os::unix::fs::symlink("/etc/passwd", bench.path("link.log")).unwrap();
    let link = Plan { standard_output: Stream::Log(bench.path("link.log")), ..bench.plan("true", &[]) };
    assert!(refusal(&link).contains("symbolic link"), "{}", refusal(&link));
    let folder = Plan { standard_output: Stream::Append(bench.path("")), ..bench.plan("true", &[]) };
    assert!(refusal(&folder).contains("Is a directory"));
}

#[test]
fn nothing_leaks_into_supd() {
    alone("os::spawn::tests::nothing_leaks_into_supd", || {
        let bench = Bench::new();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let before = open();
        for round in 0..200 {
            let program = if round % 2 == 0 { "/bin/true" } else { "/no/such/program" };
            let plan = Plan { listeners: vec![socket.as_fd()], ..bench.plan(program, &[]) };
            assert_eq!(run(&plan).is_ok(), round % 2 == 0);
        }
        assert_eq!(open(), before);
        assert!(childless(), "zombies");
        String::new()
    });
}

#[test]
fn no_descriptor_left() {
    alone("os::spawn::tests::no_descriptor_left", || {
        let bench = Bench::new();
        let plan = bench.plan("/bin/true", &[]);
        let null = fs::File::open("/dev/null").unwrap();
        // Only the soft limit: the child is to get the old one back, without any privilege.
        let (_, hard) = bench.original.limit(Resource::Nofile);
        original::set_raw(Resource::Nofile, 64, hard).unwrap();
        let mut held: Vec<fs::File> = std::iter::from_fn(|| null.try_clone().ok()).collect();
        // With none, one, two … free descriptors: an error and no child, until there are enough.
        for free in 0..=3 {
            let result = spawn(&plan);
            if free < 3 {
                assert_eq!(result.unwrap_err().errno, nix::errno::Errno::EMFILE, "{free} free");
                assert!(childless(), "{free} free");
            } else {
                let Spawned { process, outcome: mut launch } = result.unwrap();
                // The child gets supd's limit of before, and closes what it does not need.
                assert_eq!(outcome(&mut launch), Ok(()));
                assert_eq!(end(&process), WorkerExit::Code(0));
            }
            held.pop();
        }
        String::new()
    });
}

#[test]
fn no_process_left() {
    alone_as("os::spawn::tests::no_process_left", NOBODY, || {
        let bench = Bench::new();
        let none = Limit { resource: Resource::Nproc, soft: Some(0), hard: Some(0) };
        original::set_limit(&none).unwrap();
        let error = spawn(&bench.plan("/bin/true", &[])).unwrap_err();
        assert_eq!(error.to_string(), "cannot fork for /bin/true: Try again");
        String::new()
    });
}

// ---- identity and rights ---------------------------------------------------------------------

#[test]
fn no_such_user() {
    let bench = Bench::new();
    let plan = Plan { account: as_user("web-0815"), ..bench.plan("true", &[]) };
    assert_eq!(refusal(&plan), "cannot become user web-0815: no such user");
}

#[test]
fn another_user_needs_root() {
    alone_as("os::spawn::tests::another_user_needs_root", NOBODY, || {
        let bench = Bench::new();
        let text = refusal(&Plan { account: as_user("daemon"), ..bench.plan("true", &[]) });
        assert!(text.contains("Operation not permitted") && text.contains("only root may do this"), "{text}");
        // Its own name is no change.
        let own = Plan { account: as_user("nobody"), ..bench.plan("true", &[]) };
        assert_eq!(run(&own), Ok(WorkerExit::Code(0)));
        String::new()
    });
}

#[test]
fn the_users_groups_and_no_other() {
    if !root_or_skip("the_users_groups_and_no_other") {
        return;
    }
    let bench = Bench::new();
    let account =
        Account { supplementary_groups: vec!["daemon".to_owned(), "7777".to_owned()], ..as_user("nobody") };
    let plan = Plan { account, ..bench.shell("id -u; id -g; id -G | tr ' ' '\\n' | sort -n") };
    assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output(), "65534\n65534\n1\n7777\n65534\n");
    let group = Account { group: Some("daemon".to_owned()), ..as_user("nobody") };
    fs::remove_file(bench.path("output")).unwrap();
    assert_eq!(run(&Plan { account: group, ..bench.shell("id -g; id -G") }), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output(), "1\n1\n");
}

/// A line of /proc/self/status, of a `cat` that was launched so.
fn status(bench: &Bench, plan: &Plan<'_>, key: &str) -> String {
    let _ = fs::remove_file(bench.path("output"));
    assert_eq!(run(plan), Ok(WorkerExit::Code(0)));
    let text = bench.output();
    text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim_start_matches(':').trim().to_owned()
}

#[test]
fn capabilities_kept_over_the_change_of_user() {
    if !root_or_skip("capabilities_kept_over_the_change_of_user") {
        return;
    }
    let bench = Bench::new();
    let bind = ["CAP_NET_BIND_SERVICE".to_owned()];
    let few = ["CAP_NET_BIND_SERVICE".to_owned(), "CAP_CHOWN".to_owned()];
    let cat = || Plan { account: as_user("nobody"), ..bench.plan("cat", &["/proc/self/status"]) };
    for key in ["CapAmb", "CapEff", "CapPrm", "CapInh"] {
        let plan = Plan { ambient_capabilities: &bind, ..cat() };
        assert_eq!(status(&bench, &plan, key), "0000000000000400", "{key}");
        assert_eq!(status(&bench, &cat(), key), "0000000000000000", "{key}");
    }
    let plan = Plan { capability_bounding_set: Some(&few), ..cat() };
    assert_eq!(status(&bench, &plan, "CapBnd"), "0000000000000401");
    let root = Plan { capability_bounding_set: Some(&few), ..bench.plan("cat", &["/proc/self/status"]) };
    assert_eq!(status(&bench, &root, "CapEff"), "0000000000000401");
    let quiet = Plan { no_new_privileges: true, ..cat() };
    assert_eq!(status(&bench, &quiet, "NoNewPrivs"), "1");
    let wrong = ["CAP_FLY".to_owned()];
    let plan = Plan { ambient_capabilities: &wrong, ..cat() };
    assert_eq!(refusal(&plan), "cannot set capabilities: CAP_FLY: no such capability");
}

#[test]
fn limits_nice_and_oom_score() {
    let bench = Bench::new();
    let limits = [
        Limit { resource: Resource::Nofile, soft: Some(100), hard: Some(200) },
        Limit { resource: Resource::Core, soft: Some(0), hard: Some(0) },
    ];
    let line = "ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj; nice";
    let nice = bench.original.nice() + 1;
    let plan = Plan { limits: &limits, nice: Some(nice), oom_score_adjust: Some(777), ..bench.shell(line) };
    assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output(), format!("100\n200\n0\n777\n{nice}\n"));
    let silly = [Limit { resource: Resource::Nofile, soft: Some(9), hard: Some(8) }];
    assert_eq!(
        refusal(&Plan { limits: &silly, ..bench.plan("true", &[]) }),
        "cannot set LimitNOFILE to 9:8: Invalid argument"
    );
    let all = [Limit { resource: Resource::Nofile, soft: None, hard: None }];
    assert_eq!(run(&Plan { limits: &all, ..bench.plan("true", &[]) }), Ok(WorkerExit::Code(0)));
}

#[test]
fn folders_and_the_notify_socket_belong_to_the_user() {
    if !root_or_skip("folders_and_the_notify_socket_belong_to_the_user") {
        return;
    }
    let bench = Bench::new();
    let socket = bench.path("notify");
    let _bound = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    let directory = |kind, path: &str| Directory { kind, path: path.to_owned() };
    let directories = [directory(DirectoryKind::State, "web/data"), directory(DirectoryKind::Runtime, "web")];
    let plan = |user: &str| Plan {
        account: as_user(user),
        directories: &directories,
        umask: 0o077,
        notify_socket: Some(socket.clone()),
        ..bench.plan("true", &[])
    };
    assert_eq!(run(&plan("nobody")), Ok(WorkerExit::Code(0)));
    for path in ["state/web/data", "run/web"] {
        let made = fs::metadata(bench.path(path)).unwrap();
        assert_eq!((made.uid(), made.gid(), made.mode() & 0o7777), (NOBODY, NOBODY, 0o755), "{path}");
    }
    assert_eq!(fs::metadata(bench.path("state/web")).unwrap().uid(), 0);
    let rights = || {
        let file = fs::metadata(&socket).unwrap();
        (file.uid(), file.mode() & 0o777)
    };
    assert_eq!(rights(), (NOBODY, 0o600));
    assert_eq!(run(&plan("root")), Ok(WorkerExit::Code(0)));
    assert_eq!(rights(), (0, 0o666));
}

// ---- the whole inheritance, against a golden file --------------------------------------------

/// Makes this process as unlike a fresh one as its rights allow.
#[allow(unsafe_code)]
fn dirty() {
    // SAFETY: a test alone in its process; each call takes numbers or a set made just before.
    unsafe {
        for signal in [libc::SIGPIPE, libc::SIGHUP, libc::SIGCHLD, libc::SIGUSR1, 34, 64] {
            libc::signal(signal, libc::SIG_IGN);
        }
        let mut blocked: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut blocked);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const blocked, std::ptr::null_mut());
        for _ in 0..20 {
            libc::dup(1);
        }
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        libc::prctl(libc::PR_SET_TIMERSLACK, 123_456);
        for name in ["LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC", "SECRET", "LD_PRELOADED"] {
            std::env::set_var(name, "1");
        }
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    for resource in original::RESOURCES {
        let (soft, hard) = Original::read().unwrap().limit(resource);
        let other = if soft == hard { hard.min(1 << 40).saturating_sub(1) } else { hard };
        if !matches!(resource, Resource::Nproc | Resource::Cpu) {
            original::set_raw(resource, other, hard).unwrap();
        }
    }
    let score = Original::read().unwrap().oom_score_adjust().unwrap();
    original::set_oom_score_adjust((score + 321).min(1000)).unwrap();
    if nix::unistd::geteuid().is_root() {
        original::set_nice(-3).unwrap();
        // Without root its own /proc/self/oom_score_adj would be closed to it.
        nix::sys::prctl::set_dumpable(false).unwrap();
        caps::raise(None, caps::CapSet::Inheritable, caps::Capability::CAP_CHOWN).unwrap();
        caps::raise(None, caps::CapSet::Ambient, caps::Capability::CAP_CHOWN).unwrap();
    }
}

/// What a worker that was launched so finds in /proc, with what differs from run to run replaced
/// by what it must be.
fn inheritance(bench: &Bench, account: &Account, before: &str) -> String {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let name = |name: &str| ListenerName::new(name).unwrap();
    let address = |kind, port| Address::Ip { kind, host: Ipv4Addr::LOCALHOST.into(), port };
    let listeners =
        [(name("http"), address(SocketKind::Stream, 80)), (name("dns"), address(SocketKind::Datagram, 53))];
    let unit = UnitName::new("web").unwrap();
    let environment = Environment::new(&Facts {
        unit: &unit,
        generation: Generation(8),
        worker: Some(1),
        release: Some(("1.5.0", Path::new("/var/lib/supd/releases/web/1.5.0"))),
        invocation_id: "00112233445566778899aabbccddeeff",
        notify_socket: Some(Path::new("/run/supd/notify/web.8")),
        watchdog: Some(std::time::Duration::from_secs(3)),
        file_descriptor_store_max: 0,
        listeners: &listeners,
        directories: &[(DirectoryKind::Runtime, PathBuf::from("/run/web"))],
        lang: "C.UTF-8",
        passed: &[("TZ".into(), "UTC".into())],
        assigned: &[("MODE".to_owned(), "production".to_owned())],
    });
    let limits = [Limit { resource: Resource::Memlock, soft: Some(65536), hard: Some(65536) }];
    let mut text = String::new();
    for file in ["status", "limits", "environ", "fd", "stat", "oom_score_adj", "timerslack_ns"] {
        let path = format!("/proc/self/{file}");
        let arguments: &[&str] = if file == "fd" { &["-l", &path] } else { &[&path] };
        let plan = Plan {
            environment: environment.clone(),
            listeners: vec![tcp.as_fd(), udp.as_fd()],
            account: account.clone(),
            limits: &limits,
            ..bench.plan(if file == "fd" { "ls" } else { "cat" }, arguments)
        };
        let _ = fs::remove_file(bench.path("output"));
        let mut spawned = spawn(&plan).unwrap();
        assert_eq!(outcome(&mut spawned.outcome), Ok(()), "{file}");
        assert_eq!(end(&spawned.process), WorkerExit::Code(0), "{file}");
        let found = fs::read(bench.path("output")).unwrap();
        let found = String::from_utf8(found).unwrap().replace('\0', "\n");
        text.push_str(&format!(
            "== /proc/self/{file}\n{}\n",
            tell(bench, file, &found, &spawned.process, before).join("\n")
        ));
    }
    text
}

/// The lines of one file of /proc that a worker's inheritance shows in.
fn tell(bench: &Bench, file: &str, found: &str, process: &PidFd, before: &str) -> Vec<String> {
    match file {
        "status" => tell_status(found, before),
        "limits" => found.lines().skip(1).map(|line| tell_limit(bench, line)).collect(),
        "environ" => tell_environment(found, process),
        // ls holds the folder that it reads open, at the first free number.
        "fd" => {
            let entry = |line: &str| {
                line.split_once(" -> ").map(|(left, to)| {
                    let number = left.rsplit(' ').next().unwrap().to_owned();
                    let to = to.split_once(":[").map_or(to, |(kind, _)| kind);
                    let to = if to.starts_with("/proc/") { "(the folder being listed)" } else { to };
                    format!("{number} {}", to.replace(bench.folder.path().to_str().unwrap(), ""))
                })
            };
            found.lines().filter_map(entry).collect()
        }
        "stat" => {
            let after = found.rsplit_once(')').unwrap().1;
            let fields: Vec<i64> =
                after.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(-1)).collect();
            let pid = i64::from(process.pid());
            vec![format!(
                "group is its own: {}, session is its own: {}, terminal: {}, nice: {}, exit signal: {}",
                fields[1] == pid,
                fields[2] == pid,
                fields[3],
                as_got(&fields[15].to_string(), Some(bench.original.nice())),
                fields[34]
            )]
        }
        "oom_score_adj" => vec![as_got(found, bench.original.oom_score_adjust())],
        "timerslack_ns" => vec![as_got(found, bench.original.timer_slack_ns())],
        _ => unreachable!("{file}"),
    }
}

fn as_got<T: std::fmt::Display>(found: &str, original: Option<T>) -> String {
    let same = original.is_some_and(|value| value.to_string() == found.trim());
    if same { "as supd got it".to_owned() } else { found.trim().to_owned() }
}

/// What depends on the machine (a container's bounding set and seccomp filter, say) is compared
/// with what the parent had before it made itself dirty.
fn tell_status(found: &str, before: &str) -> Vec<String> {
    let keys = "Umask TracerPid Uid Gid Groups Threads SigPnd ShdPnd SigBlk SigIgn SigCgt CapInh CapPrm CapEff \
                CapBnd CapAmb NoNewPrivs Seccomp";
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let everything = value(before, "CapBnd");
    let tell = |key: &str| {
        let found = value(found, key);
        match key {
            "CapBnd" | "NoNewPrivs" | "Seccomp" if found == value(before, key) => format!("{key}: as supd's"),
            "CapPrm" | "CapEff" if found == everything => format!("{key}: all that supd may have"),
            _ => format!("{key}: {found}").trim_end().to_owned(),
        }
    };
    keys.split_whitespace().map(tell).collect()
}

fn tell_environment(found: &str, process: &PidFd) -> Vec<String> {
    let pid = process.pid().to_string();
    // Without pidfs there is none; the golden file is from a kernel that has it.
    let inode = process.inode().map_or("none".to_owned(), |inode| inode.to_string());
    let none = (inode == "none").then_some("LISTEN_PIDFDID=none");
    let own = |line: &str| match line.split_once('=') {
        Some((name @ ("LISTEN_PID" | "WATCHDOG_PID"), value)) if value == pid => format!("{name}=its own"),
        Some((name @ "LISTEN_PIDFDID", value)) if value == inode => format!("{name}=its own"),
        _ => line.to_owned(),
    };
    let mut lines: Vec<String> = found.lines().chain(none).map(own).collect();
    lines.sort();
    lines
}

fn tell_limit(bench: &Bench, line: &str) -> String {
    let (name, values) = line.split_at(26);
    let names = [
        "cpu time",
        "file size",
        "data size",
        "stack size",
        "core file size",
        "resident set",
        "processes",
        "open files",
        "locked memory",
        "address space",
        "file locks",
        "pending signals",
        "msgqueue size",
        "nice priority",
        "realtime priority",
        "realtime timeout",
    ];
    let index = names.iter().position(|known| name.trim().strip_prefix("Max ") == Some(known)).unwrap();
    let number = |text: &str| text.parse().unwrap_or(original::INFINITY);
    let values: Vec<u64> = values.split_whitespace().take(2).map(number).collect();
    let (soft, hard) = bench.original.limit(original::RESOURCES[index]);
    let told = if values == [soft, hard] { "as supd got it".to_owned() } else { format!("{values:?}") };
    format!("{}: {told}", name.trim())
}

/// Compares with tests/golden/NAME; `SUPD_BLESS=1` writes it instead.
fn golden(name: &str, text: Option<String>) {
    let Some(text) = text else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("SUPD_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(text == wanted, "{name} differs; see it, then SUPD_BLESS=1:\n{text}\n-- golden:\n{wanted}");
}

/// The inheritance of a worker of this account, from a dirty supd.
fn inherit(account: &Account) -> String {
    let bench = Bench::new();
    let before = fs::read_to_string("/proc/self/status").unwrap();
    dirty();
    inheritance(&bench, account, &before)
}

#[test]
fn what_a_worker_of_a_user_inherits() {
    let name = "what_a_worker_of_a_user_inherits";
    if root_or_skip(name) {
        let text = alone(&format!("os::spawn::tests::{name}"), || inherit(&as_user("nobody")));
        golden("worker-of-a-user.txt", text);
    }
}

#[test]
fn what_a_worker_of_root_inherits() {
    let name = "what_a_worker_of_root_inherits";
    if root_or_skip(name) {
        let text = alone(&format!("os::spawn::tests::{name}"), || inherit(&Account::default()));
        golden("worker-of-root.txt", text);
    }
}

/// As root this runs a supd of nobody's, so that one golden file is right on every machine.
#[test]
fn what_a_worker_of_an_ordinary_supd_inherits() {
    let name = "os::spawn::tests::what_a_worker_of_an_ordinary_supd_inherits";
    golden("worker-of-an-ordinary-supd.txt", alone_as(name, NOBODY, || inherit(&Account::default())));
}
