//! The worked examples of units/: each is found good by `supctl check` as it is there. That they serve,
//! are swapped and rolled back under load is in servers/; what a test changes in a unit file for that is
//! below, and no more than that.

use crate::harness::{Running, SUPCTL_BOUND, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::SOON;
use crate::{Need, Test, fixture, test, test_with};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("examples::checked", checked),
        test_with("examples::deployed_from_ci", &[Need::Root], deployed_from_ci),
    ]
}

/// A folder of units/.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("units").join(name)
}

/// Copies a folder of units/ to `to`, unless it is there.
pub(crate) fn copy(name: &str, to: &Path) {
    if !to.exists() {
        let copied = Command::new("cp").arg("-r").arg(folder(name)).arg(to).status().expect("cp");
        assert!(copied.success(), "copying {name}");
    }
}

/// Puts a version of a program of units/ into `app`: the file says which one it is in one line.
pub(crate) fn version(name: &str, app: &Path, version: &str) {
    let text = fs::read_to_string(folder(name)).expect("a program of units/");
    let line = "VERSION = \"1\"\n";
    assert_eq!(text.matches(line).count(), 1, "{name} has no line {line}");
    let file = app.join(Path::new(name).file_name().expect("a file"));
    fs::write(file, text.replace(line, &format!("VERSION = \"{version}\"\n"))).expect("a program");
}

/// A unit file of units/ as it is, but for its address, its folder below /srv, a probation that a test
/// can wait for, and, for an ordinary user, what only root may.
pub(crate) fn unit(name: &str, address: &str, app: &Path) -> String {
    let text = fs::read_to_string(folder(name)).expect("a unit of units/");
    let mut lines: Vec<String> = Vec::new();
    let ordinary = !nix::unistd::geteuid().is_root();
    for line in text.lines() {
        let key = line.split(" = ").next().unwrap_or_default();
        match key {
            "ListenStream" | "ListenDatagram" => lines.push(format!("{key} = \"{address}\"")),
            "User" | "SocketGroup" | "ControlGroup" if ordinary => {}
            "ProbationSec" => {}
            _ => lines.push(in_app(line, app)),
        }
    }
    let swap = lines.iter().position(|line| line == "[Swap]").unwrap_or_else(|| {
        lines.push("[Swap]".into());
        lines.len() - 1
    });
    lines.insert(swap + 1, "ProbationSec = \"2s\"".into());
    lines.join("\n") + "\n"
}

/// "/srv/NAME/…" is where the example would be.
fn in_app(line: &str, app: &Path) -> String {
    let Some((before, after)) = line.split_once("\"/srv/") else { return line.to_owned() };
    let (_, file) = after.split_once('/').expect("/srv/NAME/FILE");
    format!("{before}\"{}/{file}", app.display())
}

/// Every unit file below units/, alone: all of them are on one port.
fn checked() {
    let mut seen = 0;
    for example in fs::read_dir(folder("")).expect("units/").flatten().filter(|entry| entry.path().is_dir()) {
        let files = fs::read_dir(example.path()).expect("an example").flatten().map(|entry| entry.path());
        let units: Vec<PathBuf> = files.filter(|file| file.extension() == Some("unit".as_ref())).collect();
        assert!(!units.is_empty(), "{}: an example without a unit", example.path().display());
        for unit in units {
            let output =
                Command::new(env!("CARGO_BIN_EXE_supctl")).arg("check").arg(&unit).output().expect("supctl");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{text}");
            seen += 1;
            // What a machine lacks, and what only root may, is said as a warning; other warnings are none.
            let strange = |line: &&str| {
                let here =
                    ["is not there", "is not in PATH", "there is no group", "there is no user", "root"];
                line.starts_with("Warning: ") && !here.iter().any(|said| line.contains(said))
            };
            assert_eq!(text.lines().find(strange), None, "{text}");
        }
    }
    assert!(seen >= 10, "{seen} units");
}

/// A host that CI deploys to: its account may what the unit's ControlGroup may, and nothing else.
struct Host {
    supd: Supd,
    port: u16,
}

impl Host {
    /// `ControlGroup` is the group games here: one that every machine has.
    fn start() -> Self {
        let (supd, port) = (Supd::start(), free_port());
        let unit = unit("ci/web.unit", &format!("127.0.0.1:{port}"), &supd.app());
        let unit = unit.replace("\"deploy-web\"", "\"games\"").replace("[Service]", SERVICE);
        supd.write_unit("web", &unit);
        supd.ctl(&["daemon-reload"]).expect(0);
        let supctl = supd.app().join("supctl");
        fs::copy(env!("CARGO_BIN_EXE_supctl"), supctl).expect("supctl");
        fs::set_permissions(supd.runtime(), fs::Permissions::from_mode(0o755)).expect("the runtime folder");
        Self { supd, port }
    }

    /// An `ssh` that reaches no other machine: it drops the host, and runs the rest as CI's account there.
    /// With a file `cut` beside it the connection is lost once the archive is through.
    fn ssh(&self) {
        let app = self.supd.app().display().to_string();
        let text = format!(
            "#!/bin/sh\nshift\nexport PATH=\"{app}:$PATH\" SUPD_RUNTIME={runtime}\n\
             [ -e {app}/cut ] || exec {AS_CI} \"$@\"\n\
             rm {app}/cut\nexec 4<&0\n{AS_CI} \"$@\" <&4 & deploy=$!\n\
             while kill -0 $deploy && ! supctl status web | grep -q probation; do :; done\n\
             kill $deploy\nexit 255\n",
            runtime = self.supd.runtime().display()
        );
        let ssh = self.supd.app().join("ssh");
        fs::write(&ssh, text).expect("ssh");
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).expect("its mode");
    }

    fn deploy(&self, label: &str, arguments: &str) -> crate::harness::Output {
        let dist = self.supd.app().join(format!("dist-{label}"));
        let worker = self.supd.app().join(format!("worker-{label}"));
        fixture::mark(&worker, label);
        fs::create_dir_all(dist.join("bin")).expect("a folder");
        let server = dist.join("bin/server");
        fs::write(&server, format!("#!/bin/sh\nexec {} {arguments}\n", worker.display())).expect("a program");
        fs::set_permissions(&server, fs::Permissions::from_mode(0o755)).expect("its mode");
        let mut command = Command::new(folder("ci/deploy.sh"));
        command.args(["deploy@web1.example.org", label]).arg(&dist);
        let path = std::env::var("PATH").expect("PATH");
        command.env("PATH", format!("{}:{path}", self.supd.app().display()));
        Running::start(&mut command).finish(SUPCTL_BOUND)
    }
}

const AS_CI: &str = "setpriv --reuid=65534 --regid=65534 --groups=60";
const SERVICE: &str = "[Service]\nEnvironment = { DAEMON_TEST_ROLE = \"worker\" }";

/// Every outcome of deploy.sh, by its status and its word, under load; nothing is lost.
fn deployed_from_ci() {
    let host = Host::start();
    host.ssh();
    host.deploy("1", "").expect(0);
    let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, host.port)));
    let load = Load::start(Plan::new(target, Mode::Close, 4));
    load.wait_for_more(100, SOON);
    let said = host.deploy("2", "").expect(0);
    assert!(said.stdout.contains("2 serves"), "{said}");
    let again = host.deploy("2", "").expect(0);
    assert!(again.took < said.took, "the first outcome, at once:\n{again}");
    let early = host.deploy("3", "die=3").expect(1);
    assert!(early.stderr.contains("the one before was not touched"), "{early}");
    let late = host.deploy("4", "ready-then-die=1500").expect(6);
    assert!(late.stderr.contains("was rolled back"), "{late}");
    fs::write(host.supd.app().join("cut"), "").expect("a file");
    let joined = host.deploy("5", "").expect(0);
    assert!(joined.stderr.contains("connection lost") && joined.stdout.contains("5 serves"), "{joined}");
    load.wait_for_more(100, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().into_keys().eq(["1", "2", "5"].map(str::to_owned)), "{tally}");
}
