//! Becoming the program, or saying why not.

use super::{Bench, as_user, end, outcome, refusal, run, spawn};
use crate::model::{Signal, WorkerExit};
use crate::os::alone::root_or_skip;
use crate::os::spawn::{Launch, Plan, Spawned, Step, Stream};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::task::Poll;

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
    let prepare = |_: &Plan<'_>, _: &mut Launch| -> Result<(), String> {
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL).unwrap();
        Ok(())
    };
    let failure = run(&Plan { common: bench.common(prepare), ..bench.plan("true", &[]) }).unwrap_err();
    assert_eq!(failure.step, Step::Vanish);
}

#[test]
fn a_launch_that_hangs_can_be_ended() {
    let bench = Bench::new();
    nix::unistd::mkfifo(&bench.path("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let plan = Plan { standard_output: Stream::Append(bench.path("fifo")), ..bench.plan("true", &[]) };
    let Spawned { process, outcome: mut launch, .. } = spawn(&plan).unwrap();
    assert_eq!(launch.poll(), Poll::Pending);
    process.send(Signal::TERM).unwrap();
    assert_eq!(outcome(&mut launch).unwrap_err().step, Step::Vanish);
    assert_eq!(end(&process), WorkerExit::Killed { signal: Signal::TERM, core: false });
}

#[test]
fn what_prepare_may_change_and_what_not() {
    let bench = Bench::new();
    let prepare = |_: &Plan<'_>, launch: &mut Launch| -> Result<(), String> {
        assert!(launch.set("FROM_FILE".as_ref(), "yes".as_ref()));
        assert!(!launch.set("NOTIFY_SOCKET".as_ref(), "/evil".as_ref()));
        let user = launch.get("USER".as_ref()).unwrap_or_default().to_owned();
        launch.arguments.push(user);
        Ok(())
    };
    let line = "echo $FROM_FILE $NOTIFY_SOCKET $1";
    let plan = Plan {
        common: bench.common(prepare),
        account: as_user("0"),
        ..bench.plan("/bin/sh", &["-c", line, "sh"])
    };
    if root_or_skip("what_prepare_may_change_and_what_not") {
        assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
        assert_eq!(bench.output(), "yes root\n");
    }
    let prepare = |_: &Plan<'_>, _: &mut Launch| Err("cannot read /etc/default/web: gone".to_owned());
    let plan = Plan { common: bench.common(prepare), ..bench.plan("true", &[]) };
    assert_eq!(refusal(&plan), "cannot read /etc/default/web: gone");
}
