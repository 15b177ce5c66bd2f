//! ProtectSystem, ProtectHome, PrivateTmp and ReadWritePaths: what a real worker finds, what is left of it, and
//! that nobody who is served notices.

use crate::harness::{Setup, Supd, free_port};
use crate::intercept;
use crate::load::{Load, Mode, Plan, Target};
use crate::reexec::goes_on_thrice;
use crate::survival::{address, loads, more, nothing_is_lost, serving};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const PYTHON: &[Need] = &[Need::Root, Need::File("/usr/bin/python3", "apt-get install python3")];

pub(crate) fn tests() -> Vec<Test> {
    let root = &[Need::Root];
    vec![
        test_with("sandbox::what_a_worker_finds", root, what_a_worker_finds),
        test_with("sandbox::commands_beside_it_find_the_same", root, commands_beside),
        test_with("sandbox::nothing_is_left", root, nothing_is_left),
        test_with("sandbox::under_load", root, under_load),
        test_with("sandbox::of_another_user_at_a_path", PYTHON, of_another_user_at_a_path),
        test_with("sandbox::a_server_that_binds_for_itself", PYTHON, binds_for_itself),
        test_with("sandbox::a_link_leads_where_it_leads", root, a_link),
        test_with("sandbox::a_link_into_what_is_hidden", root, a_link_into_what_is_hidden),
        test_with("sandbox::what_stays_is_reached_whatever_the_umask", root, reached_whatever_the_umask),
        test_with("sandbox::who_exchanges_a_path_gains_nothing", PYTHON, exchanged),
        test_with("sandbox::system_calls_under_load", root, system_calls_under_load),
        test_with("sandbox::a_system_call_that_is_forbidden", root, forbidden_system_call),
        test("sandbox::system_calls_of_an_ordinary_users_supd", system_calls_of_an_ordinary_user),
        test_with("sandbox::what_cannot_be_applied_fails_the_launch", root, what_cannot_be_applied),
        test_with("sandbox::a_supd_that_may_not_mount", root, a_supd_that_may_not),
        test_with("sandbox::an_ordinary_users_supd_refuses_it", root, an_ordinary_user),
    ]
}

const ALL: &str = "ProtectSystem = \"strict\"\nProtectHome = true\nPrivateTmp = true\n";

/// Says of folders whether it can write there, leaves a file in each that is temporary, and sees what is there.
fn probe(supd: &Supd) -> String {
    let path = supd.app().join("probe.sh");
    let text = format!(
        "to={0}/$1\n\
         for at in /usr /etc /var/lib /home /root /tmp /var/tmp {0}; do\n\
         file=$at/.supd-probe-$$\n\
         if (: > $file) 2>/dev/null; then rm -f $file; echo $at writable; else echo $at refused; fi\n\
         done > $to\n\
         echo x > /dev/null && echo null >> $to\n\
         echo home $(ls -A /home 2>/dev/null) >> $to\n\
         echo tmp $(ls -A /tmp) >> $to\n\
         (: > /tmp/supd-left-$(basename {1})) 2>/dev/null\n\
         echo end >> $to\n\
         [ $1 = worker ] || exit 0\n\
         exec sleep 600\n",
        supd.app().display(),
        supd.path().display(),
    );
    fs::write(&path, text).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
    path.display().to_string()
}

fn unit(supd: &Supd, keys: &str) -> String {
    let (probe, app) = (probe(supd), supd.app());
    format!(
        "[Service]\nExecStart = [\"/bin/sh\", \"{probe}\", \"worker\"]\nReady = \"started\"\n\
         ExecStartPre = [[\"/bin/sh\", \"{probe}\", \"pre\"]]\nReadySettleSec = \"10ms\"\n\
         ReadWritePaths = [{app:?}]\n{keys}\n[Swap]\nDrainSec = \"500ms\"\nSettleSec = \"200ms\"\n\
         ProbationSec = \"100ms\"\n"
    )
}

fn seen(supd: &Supd, by: &str) -> String {
    let path = supd.app().join(by);
    let complete = || fs::read_to_string(&path).ok().filter(|text| text.ends_with("end\n"));
    wait_for("all that it sees", SOON, complete)
}

fn left(supd: &Supd) -> std::path::PathBuf {
    let name = supd.path().file_name().expect("a name").to_string_lossy().into_owned();
    format!("/tmp/supd-left-{name}").into()
}

/// What is mounted where a sandbox mounts, as this process sees it.
fn mounts() -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let at = |line: &str| line.split(' ').nth(4).unwrap_or_default().to_owned();
    let places = ["/", "/usr", "/etc", "/boot", "/home", "/root", "/run/user", "/tmp", "/var/tmp"];
    let ours = |at: &String| places.contains(&at.as_str()) || at.starts_with("/tmp/supd-");
    let mut list: Vec<String> = all.lines().map(at).filter(ours).collect();
    list.sort();
    list
}

fn what_a_worker_finds() {
    let refused = |text: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_suffix(" refused"));
        lines.map(str::to_owned).collect()
    };
    let hides = |text: &str| text.lines().any(|line| line == "home");
    for (keys, not, home) in [
        ("", &[][..], false),
        ("ProtectSystem = true", &["/usr"], false),
        ("ProtectSystem = \"full\"", &["/usr", "/etc"], false),
        (
            "ProtectSystem = \"strict\"",
            &["/usr", "/etc", "/var/lib", "/home", "/root", "/tmp", "/var/tmp"],
            false,
        ),
        ("ProtectHome = \"read-only\"", &["/home", "/root"], false),
        ("ProtectHome = \"tmpfs\"", &["/home", "/root"], true),
        ("ProtectHome = true", &["/home", "/root"], true),
        (ALL, &["/usr", "/etc", "/var/lib", "/home", "/root"], true),
    ] {
        let supd = Supd::start();
        supd.launch("web", &unit(&supd, keys));
        let text = seen(&supd, "worker");
        assert_eq!(refused(&text), not, "{keys}: {text}");
        assert!(text.contains("null\n"), "{keys}: {text}");
        let empty = fs::read_dir("/home").map_or(0, Iterator::count) == 0;
        assert_eq!(hides(&text), home || empty, "{keys}: {text}");
        let private = keys.contains("PrivateTmp");
        let folder = supd.path().file_name().expect("a name").to_string_lossy().into_owned();
        let alone = text.lines().any(|line| line == format!("tmp {folder}"));
        assert_eq!(alone, private, "{keys}: only what supd and ReadWritePaths need: {text}");
        let file = left(&supd);
        assert_eq!(file.exists(), !private && !keys.contains("strict"), "{keys}");
        let _none = fs::remove_file(&file);
    }
}

fn commands_beside() {
    let supd = Supd::start();
    supd.launch("web", &unit(&supd, ALL));
    assert_eq!(seen(&supd, "pre"), seen(&supd, "worker"));
    assert!(!left(&supd).exists());
}

/// However it ends, and be it that supd is killed.
fn nothing_is_left() {
    let before = mounts();
    let supd = Supd::start();
    supd.launch("web", &unit(&supd, ALL));
    seen(&supd, "worker");
    let worker = supd.status("web").pids()[0];
    let inside = fs::read_to_string(format!("/proc/{worker}/mountinfo")).expect("its mounts");
    assert!(inside.contains(" /var/tmp "), "{inside}");
    assert_eq!(mounts(), before);
    let supd = supd.crash_and_restart();
    supd.wait_for_state("web", "active");
    assert_eq!(supd.status("web").pids(), [worker], "{}", supd.log());
    assert_eq!(mounts(), before);
    supd.ctl(&["stop", "web"]).expect(0);
    wait_until("it to end", SOON, || !proc::alive(worker));
    assert_eq!(mounts(), before);
    assert!(!left(&supd).exists());
}

fn under_load() {
    let supd = Supd::start();
    let keys = format!("{ALL}ReadWritePaths = [{:?}]\nWorkers = 2", supd.app());
    let port = serving(&supd, &keys, "ProbationSec = \"0\"\nRetain = \"warm\"");
    goes_on_thrice(&supd, address(port));
    let supd = supd.crash_and_restart();
    let loads = loads(address(port));
    supd.install_worker("5");
    supd.ctl(&["swap", "web"]).expect(0);
    more(&loads);
    nothing_is_lost(loads);
}

/// The socket's folder is read-only for the worker, and empty in its /tmp; its clients are outside.
fn of_another_user_at_a_path() {
    let supd = Supd::start();
    let path = supd.path().join("web.sock");
    let reload = supd.app().join("reloaded");
    fs::write(&reload, "").expect("a file");
    fs::set_permissions(&reload, fs::Permissions::from_mode(0o666)).expect("its mode");
    let keys = format!(
        "{ALL}ReadWritePaths = [{:?}]\nUser = \"nobody\"\n\
         ExecReload = [\"/bin/sh\", \"-c\", 'id -un > {1}; (: > /var/tmp/x) && ls -A /var/tmp >> {1}']",
        supd.app(),
        reload.display()
    );
    let script = supd.app().join("olden.py");
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/olden.py"), &script).expect("a copy");
    let text = format!(
        "[[Socket]]\nName = \"http\"\nListenStream = {path:?}\nSocketMode = \"0666\"\n\n\
         [Service]\nExecStart = [\"/usr/bin/python3\", {script:?}, \"1\", {path:?}, \"lent\"]\n{keys}\n\
         ReadySettleSec = \"100ms\"\n\n[Swap]\nProbationSec = \"0\"\nRetain = \"warm\"\nDrainSec = \"500ms\"\n"
    );
    supd.launch("web", &text);
    let load = Load::start(Plan::new(Target::Unix(path), Mode::Close, 4));
    for _ in 0..2 {
        supd.ctl(&["swap", "web"]).expect(0);
        load.wait_for_more(100, SOON);
    }
    supd.ctl(&["rollback", "web"]).expect(0);
    supd.ctl(&["reload", "web"]).expect(0);
    load.wait_for_more(100, SOON);
    let report = load.stop();
    assert_eq!(report.lost(), 0, "{report}");
    assert_eq!(fs::read_to_string(&reload).expect("what ExecReload wrote"), "nobody\nx\n");
}

/// The kernel asks supd of its bind(2), from the mounts that it is in.
fn binds_for_itself() {
    let supd = Supd::start();
    let port = free_port();
    let program = format!("serve_at = tcp('127.0.0.1', {port}); serve_at.listen(10); serve(serve_at)\n");
    let text = intercept::unit(&supd, &intercept::at(port), &program);
    let keys = format!("[Service]\n{ALL}ReadWritePaths = [{:?}]\n", supd.app());
    supd.launch("web", &text.replace("[Service]\n", &keys));
    intercept::warm_round(&supd);
    let worker = intercept::ask(port);
    assert!(supd.status("web").pids().contains(&worker));
    let inside = fs::read_to_string(format!("/proc/{worker}/mountinfo")).expect("its mounts");
    assert!(inside.contains(" /var/tmp "), "{inside}");
}

/// What is exempted is what a link leads to, as in systemd: a name alone protects nothing.
fn a_link() {
    let supd = Supd::start();
    let (data, link) = (supd.path().join("data"), supd.path().join("link"));
    fs::create_dir(&data).expect("a folder");
    std::os::unix::fs::symlink(&data, &link).expect("a link");
    let script = format!(
        "(: > {0}/a) && (: > {1}/b); (: > {2}/c); exec sleep 600",
        data.display(),
        link.display(),
        supd.path().display()
    );
    let text = format!(
        "[Service]\nExecStart = [\"/bin/sh\", \"-c\", '{script}']\nReady = \"started\"\nReadySettleSec = \"100ms\"\n\
         ProtectSystem = \"strict\"\nReadWritePaths = [{link:?}]\n"
    );
    supd.launch("web", &text);
    wait_until("both files", SOON, || data.join("a").exists() && data.join("b").exists());
    wait_until("the rest", SOON, || {
        supd.logs().contains("/c: Read-only file system") || supd.path().join("c").exists()
    });
    assert!(!supd.path().join("c").exists());
}

/// What systemd recommends for services is enough for one that is steered, swapped and handed over.
fn system_calls_under_load() {
    let supd = Supd::start();
    let keys = format!("{ALL}ReadWritePaths = [{:?}]\nSystemCallFilter = [\"@system-service\"]", supd.app());
    let port = serving(&supd, &keys, "ProbationSec = \"0\"\nRetain = \"warm\"");
    goes_on_thrice(&supd, address(port));
    let worker = supd.status("web").pids()[0];
    let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("its status");
    assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t0\n"), "{status}");
}

/// A folder under /home for one test, gone with it.
fn at_home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("supd-").tempdir_in("/home").expect("a folder in /home")
}

/// Runs this once, as this user, and gives what it wrote to standard output and error.
fn run(supd: &Supd, user: &str, keys: &str, script: &str) -> String {
    let out = supd.app().join("out");
    fs::write(&out, "").expect("a file");
    fs::set_permissions(&out, fs::Permissions::from_mode(0o666)).expect("its mode");
    let script = format!("exec > {} 2>&1; {script}; echo end; exec sleep 600", out.display());
    let text = format!(
        "[Service]\nExecStart = [\"/bin/sh\", \"-c\", {script:?}]\nReady = \"started\"\nUser = \"{user}\"\n\
         ReadySettleSec = \"10ms\"\n{keys}\n"
    );
    supd.write_unit("web", &text);
    supd.ctl(&["daemon-reload"]).expect(0);
    let start = supd.ctl(&["start", "web"]);
    if start.code() != 0 {
        return format!("{}{}", start.text(), supd.log());
    }
    wait_for("its words", SOON, || fs::read_to_string(&out).ok().filter(|text| text.ends_with("end\n")))
}

/// An administrator's link is followed to where it leads, whatever is covered first; a worker's uncovers nothing.
fn a_link_into_what_is_hidden() {
    let home = at_home();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("its mode");
    let link = |supd: &Supd, to: &std::path::Path| {
        let link = supd.path().join("link");
        std::os::unix::fs::symlink(to, &link).expect("a link");
        link
    };
    for protect in ["\"tmpfs\"", "\"read-only\""] {
        let supd = Supd::start();
        let link = link(&supd, home.path());
        let keys = format!("ProtectHome = {protect}\nReadWritePaths = [{link:?}]");
        let script = format!("echo yes > {0}/x && cat {0}/x; touch /home/supd-y", link.display());
        let said = run(&supd, "nobody", &keys, &script);
        assert!(said.starts_with("yes\n") && !said.contains("link/x"), "{protect}: {said}");
        assert!(said.contains("/home/supd-y"), "{protect}: {said}");
    }
    let supd = Supd::start();
    let link = link(&supd, std::path::Path::new("/home"));
    let said = run(&supd, "nobody", &format!("ProtectHome = true\nReadWritePaths = [{link:?}]"), "ls /home");
    assert!(said.contains("ReadWritePaths at /home, which another key of the unit hides"), "{said}");
}

/// What covers it is made by supd, and as open as what leads to anything.
fn reached_whatever_the_umask() {
    let (supd, home) = (Supd::start(), at_home());
    let data = home.path().join("a/data");
    fs::create_dir_all(&data).expect("a folder");
    for path in [home.path().to_path_buf(), home.path().join("a"), data.clone()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("its mode");
    }
    let keys = format!("UMask = \"0077\"\nProtectHome = \"tmpfs\"\nReadWritePaths = [{data:?}]");
    let said = run(&supd, "nobody", &keys, &format!("echo yes > {0}/x && cat {0}/x", data.display()));
    assert_eq!(said, "yes\nend\n");
}

/// supd makes and mounts as root: a path of the worker's own that leads elsewhere a moment later fails the launch.
fn exchanged() {
    let supd = Supd::start();
    let folder = supd.app().join("own");
    let outside = supd.path().join("outside");
    for path in [&folder, &folder.join("a"), &folder.join("a/conf"), &outside] {
        fs::create_dir_all(path).expect("a folder");
    }
    std::os::unix::fs::chown(&folder, Some(65534), Some(65534)).expect("chown as root");
    std::os::unix::fs::symlink(&outside, folder.join("b")).expect("a link");
    let swap = "import ctypes, sys\nlibc = ctypes.CDLL(None)\na, b = (x.encode() for x in sys.argv[1:])\n\
                while True: libc.renameat2(-100, a, -100, b, 2)\n";
    let mut swapping = Command::new("/usr/bin/python3")
        .args(["-c", swap])
        .args([folder.join("a"), folder.join("b")])
        .spawn()
        .expect("a python");
    let keys = format!(
        "ProtectSystem = true\nProtectHome = true\nReadWritePaths = [{:?}]\nExecReload = [\"/bin/true\"]",
        folder.join("a/conf")
    );
    let text = format!(
        "[Service]\nExecStart = [\"/bin/sleep\", \"600\"]\nReady = \"started\"\nReadySettleSec = \"10ms\"\n\
         RestartSec = \"10ms\"\n{keys}\n"
    );
    supd.write_unit("web", &text);
    supd.ctl(&["daemon-reload"]).expect(0);
    let mut codes = std::collections::BTreeMap::new();
    for _ in 0..30 {
        let started = supd.ctl(&["start", "web"]).code() == 0;
        *codes.entry(started).or_insert(0) += 1;
        for _ in 0..if started { 5 } else { 0 } {
            supd.ctl(&["reload", "web"]);
        }
        supd.ctl(&["stop", "web"]).expect(0);
    }
    swapping.kill().expect("it runs");
    swapping.wait().expect("its end");
    let made: Vec<_> =
        fs::read_dir(&outside).expect("a folder").flatten().map(|entry| entry.path()).collect();
    assert!(made.is_empty(), "{made:?} {codes:?}");
}

/// It ends, supd says why, and who served before serves on.
fn forbidden_system_call() {
    let supd = Supd::start();
    let port = serving(&supd, "", "ProbationSec = \"0\"");
    let loads = loads(address(port));
    let keys = "SystemCallFilter = [\"~@network-io\"]";
    supd.write_unit("web", &supd.worker(port, &[], keys, "ProbationSec = \"0\""));
    let swap = supd.ctl(&["swap", "web"]);
    assert_ne!(swap.code(), 0);
    for said in ["SIGSYS", "most likely it made a system call that SystemCallFilter forbids"] {
        assert!(swap.text().contains(said), "{said}: {swap}");
    }
    more(&loads);
    nothing_is_lost(loads);
    // A typing error never gets as far.
    supd.write_unit("web", &supd.worker(port, &[], "SystemCallFilter = [\"@sytem-service\"]", ""));
    let said = supd.ctl(&["daemon-reload"]).text();
    assert!(said.contains("did you mean \"@system-service\"?"), "{said}");
}

/// Who may not do it otherwise gives up the right to become more than it is.
fn system_calls_of_an_ordinary_user() {
    let user = nix::unistd::geteuid().is_root().then_some(1234);
    let supd = Supd::start_with(&Setup { user, ..Setup::default() });
    let port = serving(&supd, "SystemCallFilter = [\"@system-service\", \"~@privileged\"]", "");
    let worker = supd.status("web").pids()[0];
    let status = fs::read_to_string(format!("/proc/{worker}/status")).expect("its status");
    assert!(status.contains("\nSeccomp:\t2\n") && status.contains("\nNoNewPrivs:\t1\n"), "{status}");
    nothing_is_lost(loads(address(port)));
}

fn what_cannot_be_applied() {
    let supd = Supd::start();
    let port = serving(&supd, "", "ProbationSec = \"0\"");
    let before = supd.status("web").pids();
    let loads = loads(address(port));
    let missing = "ProtectSystem = true\nReadWritePaths = [\"/nonexistent/supd\"]";
    supd.write_unit("web", &supd.worker(port, &[], missing, "ProbationSec = \"0\""));
    let swap = supd.ctl(&["swap", "web"]);
    assert_ne!(swap.code(), 0);
    let said = format!("{}{}", swap.text(), supd.log());
    assert!(said.contains("cannot apply ReadWritePaths at /nonexistent/supd: "), "{said}");
    more(&loads);
    nothing_is_lost(loads);
    assert_eq!(supd.status("web").pids(), before);
}

fn a_supd_that_may_not() {
    let wrapper =
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"].map(str::to_owned).to_vec();
    let supd = Supd::start_with(&Setup { wrapper, ..Setup::default() });
    let keys = format!("PrivateTmp = true\nReadWritePaths = [{:?}]", supd.app());
    supd.write_unit("web", &supd.worker(free_port(), &[], &keys, ""));
    supd.ctl(&["daemon-reload"]).expect(0);
    let start = supd.ctl(&["start", "web"]);
    assert_ne!(start.code(), 0);
    let said = format!("{}{}", start.text(), supd.log());
    assert!(said.contains("cannot apply PrivateTmp at /tmp: ") && said.contains("CAP_SYS_ADMIN"), "{said}");
}

fn an_ordinary_user() {
    let supd = Supd::start_with(&Setup { user: Some(1234), ..Setup::default() });
    supd.write_unit("web", &supd.worker(free_port(), &[], "PrivateTmp = true", ""));
    let said = supd.ctl(&["daemon-reload"]).text();
    let start = supd.ctl(&["start", "web"]);
    assert_ne!(start.code(), 0, "{said}");
    let said = format!("{said}{}{}", start.text(), supd.log());
    assert!(said.contains("PrivateTmp: an ordinary user's supd may not mount"), "{said}");
}
