//! As whom a worker runs, and what it may.

use super::{Bench, NOBODY, as_user, refusal, run};
use crate::model::WorkerExit;
use crate::model::settings::{Directory, DirectoryKind, Limit, Resource};
use crate::os::alone::{alone_as, root_or_skip};
use crate::os::spawn::{Account, Plan};
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn no_such_user() {
    let bench = Bench::new();
    let plan = Plan { account: as_user("web-0815"), ..bench.plan("true", &[]) };
    assert_eq!(refusal(&plan), "cannot become user web-0815: no such user");
}

#[test]
fn another_user_needs_root() {
    alone_as("os::spawn::tests::rights::another_user_needs_root", NOBODY, || {
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
        let plan = Plan { ambient_capabilities: bind.to_vec(), ..cat() };
        assert_eq!(status(&bench, &plan, key), "0000000000000400", "{key}");
        assert_eq!(status(&bench, &cat(), key), "0000000000000000", "{key}");
    }
    let plan = Plan { capability_bounding_set: Some(few.to_vec()), ..cat() };
    assert_eq!(status(&bench, &plan, "CapBnd"), "0000000000000401");
    let root =
        Plan { capability_bounding_set: Some(few.to_vec()), ..bench.plan("cat", &["/proc/self/status"]) };
    assert_eq!(status(&bench, &root, "CapEff"), "0000000000000401");
    let quiet = Plan { no_new_privileges: true, ..cat() };
    assert_eq!(status(&bench, &quiet, "NoNewPrivs"), "1");
    let wrong = ["CAP_FLY".to_owned()];
    let plan = Plan { ambient_capabilities: wrong.to_vec(), ..cat() };
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
    let plan =
        Plan { limits: limits.to_vec(), nice: Some(nice), oom_score_adjust: Some(777), ..bench.shell(line) };
    assert_eq!(run(&plan), Ok(WorkerExit::Code(0)));
    assert_eq!(bench.output(), format!("100\n200\n0\n777\n{nice}\n"));
    let silly = [Limit { resource: Resource::Nofile, soft: Some(9), hard: Some(8) }];
    assert_eq!(
        refusal(&Plan { limits: silly.to_vec(), ..bench.plan("true", &[]) }),
        "cannot set LimitNOFILE to 9:8: Invalid argument"
    );
    let all = [Limit { resource: Resource::Nofile, soft: None, hard: None }];
    assert_eq!(run(&Plan { limits: all.to_vec(), ..bench.plan("true", &[]) }), Ok(WorkerExit::Code(0)));
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
        directories: directories.to_vec(),
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
