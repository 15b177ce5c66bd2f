//! What a worker has open, and what supd has open afterwards.

use super::{Bench, NOBODY, childless, end, outcome, refusal, run, spawn};
use crate::model::WorkerExit;
use crate::model::settings::{Limit, Resource};
use crate::os::alone::{alone, alone_as};
use crate::os::original;
use crate::os::spawn::{Launch, Plan, Spawned, Stream};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

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

    symlink("/etc/passwd", bench.path("link.log")).unwrap();
    let link = Plan { standard_output: Stream::Log(bench.path("link.log")), ..bench.plan("true", &[]) };
    assert!(refusal(&link).contains("symbolic link"), "{}", refusal(&link));
    let folder = Plan { standard_output: Stream::Append(bench.path("")), ..bench.plan("true", &[]) };
    assert!(refusal(&folder).contains("Is a directory"));
}

/// A worker that owns the folder of its output must not have supd write elsewhere for it.
#[test]
fn links_count_only_where_no_worker_can_make_them() {
    let bench = Bench::new();
    let (theirs, victim) = (bench.path("theirs"), bench.path("victim"));
    fs::create_dir(&theirs).unwrap();
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, theirs.join("out")).unwrap();
    symlink(bench.path(""), theirs.join("folder")).unwrap();
    let into = |path: PathBuf| Plan { standard_output: Stream::File(path), ..bench.shell("echo pwned") };
    let (file, folder) = (into(theirs.join("out")), into(theirs.join("folder/victim")));
    // The folder is ours alone: an administrator's links are followed.
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(run(&file), Ok(WorkerExit::Code(0)));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "pwned\nus");
    // Others may write there: anybody may have made them.
    fs::write(&victim, "precious").unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o777)).unwrap();
    for plan in [&file, &folder] {
        assert!(refusal(plan).contains("symbolic link"), "{}", refusal(plan));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn nothing_leaks_into_supd() {
    alone("os::spawn::tests::descriptors::nothing_leaks_into_supd", || {
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
    alone("os::spawn::tests::descriptors::no_descriptor_left", || {
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
                let Spawned { process, outcome: mut launch, .. } = result.unwrap();
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
    alone_as("os::spawn::tests::descriptors::no_process_left", NOBODY, || {
        let bench = Bench::new();
        let none = Limit { resource: Resource::Nproc, soft: Some(0), hard: Some(0) };
        original::set_limit(&none).unwrap();
        let error = spawn(&bench.plan("/bin/true", &[])).unwrap_err();
        let told = "cannot fork for /bin/true: Try again (EAGAIN: as many processes as may be: ulimit -u";
        assert!(error.to_string().starts_with(told), "{error}");
        String::new()
    });
}

/// A name service, or an environment file's reader, may forget a descriptor in the child.
#[test]
fn what_prepare_leaves_open_is_closed() {
    let bench = Bench::new();
    let prepare = |_: &Plan<'_>, _: &mut Launch| -> Result<(), String> {
        // SAFETY: a forked child about to exec; the copy is not close-on-exec.
        #[allow(unsafe_code)]
        let forgotten = unsafe { libc::dup(0) };
        if forgotten > 3 { Ok(()) } else { Err(format!("{forgotten} stands in the way")) }
    };
    let plan = Plan { common: bench.common(prepare), ..bench.plan("ls", &["/proc/self/fd"]) };
    assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
    // 3 is the folder that ls reads.
    assert_eq!(bench.output(), "0\n1\n2\n3\n");
}
