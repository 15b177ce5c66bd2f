//! Releases: installed, deployed, rolled back, taken away, on a real disk, by whoever may; and what goes
//! wrong on the way.

mod archives;
mod broken;
mod ci;
mod flags;
mod life;
mod prepare;
mod rights;
mod verbs;

use crate::harness::{Output, Running, Setup, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_until};
use crate::{Test, fixture};
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn tests() -> Vec<Test> {
    let all = [
        life::tests(),
        archives::tests(),
        broken::tests(),
        prepare::tests(),
        ci::tests(),
        flags::tests(),
        rights::tests(),
        verbs::tests(),
    ];
    all.into_iter().flatten().collect()
}

/// A supd with a unit `web` that has releases, and a place where these are built.
pub(crate) struct Shop {
    pub(crate) supd: Supd,
    port: u16,
}

impl Shop {
    pub(crate) fn open() -> Self {
        Self::open_with("", "")
    }

    /// `service` and `swap` are further lines of these tables.
    fn open_with(service: &str, swap: &str) -> Self {
        Self::open_in(&Setup::default(), service, swap)
    }

    fn open_in(setup: &Setup, service: &str, swap: &str) -> Self {
        let shop = Self { supd: Supd::start_with(setup), port: free_port() };
        shop.unit(service, swap);
        shop.supd.ctl(&["daemon-reload"]).expect(0);
        shop
    }

    /// Writes the unit's file.
    pub(crate) fn unit(&self, service: &str, swap: &str) {
        let text = format!(
            "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{}\"\nBacklog = 4096\n\n[Service]\n\
             ExecStart = [\"bin/server\"]\nEnvironment = {{ DAEMON_TEST_ROLE = \"worker\" }}\n\
             ReadySettleSec = \"50ms\"\nTimeoutStopSec = \"10s\"\nRestartSec = \"100ms\"\n{}{service}\n[Swap]\nDrainSec = \"0s\"\nSettleSec = \"0s\"\n{}{swap}\n",
            self.port,
            if service.contains("TimeoutStartSec") { "" } else { "TimeoutStartSec = \"30s\"\n" },
            if swap.contains("ProbationSec") { "" } else { "ProbationSec = \"200ms\"\n" },
        );
        self.supd.write_unit("web", &text);
    }

    /// A folder with a release in it: a server that answers with `version`, with these arguments.
    pub(crate) fn build(&self, version: &str, arguments: &str) -> PathBuf {
        let folder = self.supd.app().join(format!("dist-{version}"));
        let worker = self.supd.app().join(format!("worker-{version}"));
        fixture::mark(&worker, version);
        fs::create_dir_all(folder.join("bin")).expect("a folder");
        // The tests' binary is 30 MB: what is installed is a line that starts it.
        program(&folder.join("bin/server"), &format!("exec {} {arguments}", worker.display()));
        fs::write(folder.join("version"), version).expect("a file");
        folder
    }

    /// The same as an archive, compressed by what `tar` calls it.
    fn pack(&self, folder: &Path, name: &str) -> PathBuf {
        let archive = self.supd.app().join(name);
        let mut tar = Command::new("tar");
        tar.arg("--auto-compress").arg("-cf").arg(&archive).arg("-C").arg(folder).arg(".");
        assert!(tar.status().expect("tar").success(), "packing {name}");
        archive
    }

    /// Builds and deploys; what supctl said.
    pub(crate) fn deploy(&self, version: &str) -> Output {
        let folder = self.build(version, "");
        self.ctl(&["deploy", "web", version, text(&folder)])
    }

    /// The supd alone.
    pub(crate) fn close(self) -> Supd {
        self.supd
    }

    pub(crate) fn ctl(&self, arguments: &[&str]) -> Output {
        self.supd.ctl(arguments)
    }

    fn start(&self, arguments: &[&str]) -> Running {
        self.supd.ctl_start(arguments)
    }

    /// `supctl --json releases web`, by label: verdict, newest, held.
    fn releases(&self) -> Vec<(String, String, bool, Option<String>)> {
        let output = self.ctl(&["--json", "releases", "web"]).expect(0);
        let view: Value = serde_json::from_str(&output.stdout).expect("JSON");
        let of = |release: &Value| {
            let text = |key: &str| release[key].as_str().map(str::to_owned);
            (
                text("label").expect("a label"),
                text("verdict").expect("a verdict"),
                release["newest"].as_bool().expect("newest"),
                text("held"),
            )
        };
        view["releases"].as_array().expect("a list").iter().map(of).collect()
    }

    fn labels(&self) -> Vec<String> {
        self.releases().into_iter().map(|(label, ..)| label).collect()
    }

    fn store(&self) -> PathBuf {
        self.supd.state_folder().join("releases")
    }

    fn place(&self, label: &str) -> PathBuf {
        self.store().join("web").join(label)
    }

    /// What is on disk besides the releases that are listed: nothing, soon.
    fn expect_no_leftovers(&self) {
        let listed = self.labels();
        let extra = || -> Vec<PathBuf> {
            let mut extra = Vec::new();
            for entry in fs::read_dir(self.store()).into_iter().flatten().flatten() {
                let (path, is_unit) = (entry.path(), entry.file_name() == "web");
                let inside: Vec<_> = fs::read_dir(&path).into_iter().flatten().flatten().collect();
                let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
                let strange = inside.iter().filter(|entry| !is_unit || !listed.contains(&name(entry)));
                extra.extend(strange.map(fs::DirEntry::path));
            }
            extra
        };
        wait_until("nothing to be left of what is not installed", SOON, || {
            let extra = extra();
            if !extra.is_empty() {
                println!("still there: {extra:?}");
            }
            extra.is_empty()
        });
    }

    /// The release of the active generation.
    fn active(&self) -> Option<String> {
        let status = self.supd.status("web");
        let active = status.0["active"].as_u64()?;
        let all = status.0["generations"].as_array()?;
        let one = all.iter().find(|one| one["generation"].as_u64() == Some(active))?;
        one["release"].as_str().map(str::to_owned)
    }

    fn load(&self, mode: Mode) -> Load {
        Load::start(Plan::new(Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))), mode, 4))
    }

    /// Who answers now.
    fn answers(&self) -> String {
        let load = self.load(Mode::Close);
        load.wait_for_more(20, SOON);
        let tally = load.stop();
        assert_eq!(tally.lost(), 0, "{tally}");
        let versions: Vec<String> = tally.versions().keys().cloned().collect();
        versions.join("+")
    }
}

/// A shell script.
fn program(path: &Path, line: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, format!("#!/bin/sh\n{line}\n")).expect("a program");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
