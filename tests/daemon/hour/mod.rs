//! What README and units/first-hour.md tell a newcomer to type is typed: every ```sh block of a section,
//! in its order, in one bash, by an ordinary user with a home of its own; and what a ```text block shows
//! is what comes, but for times, sizes and what "…" stands for.
//!
//! What cannot be had here is stood in for, and no more: cargo (the programs are built already), ssh to
//! another machine, the ports, and the terminal that supd has for itself.

mod page;
mod shell;

use crate::{Need, Test, test_with};
use page::{Kind, Page};
use shell::Shell;

const NEEDS: &[Need] = &[
    Need::File("/usr/bin/python3", "apt-get install python3"),
    Need::Program("curl", "curl"),
    Need::Program("openssl", "openssl"),
    Need::Program("zstd", "zstd"),
];

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = page::tests();
    tests.extend([
        test_with("hour::first_unit", NEEDS, first_unit),
        test_with("hour::releases", NEEDS, releases),
        test_with("hour::from_systemd", NEEDS, from_systemd),
        test_with("hour::first_hour", NEEDS, first_hour),
    ]);
    tests
}

fn first_unit() {
    Shell::start().follow(&Page::read("README.md").section("A first unit of your own"));
}

/// The section shows a unit and what to type; what it deploys is the server of the section above it.
fn releases() {
    let readme = Page::read("README.md");
    let mut shell = Shell::start();
    let first = readme.section("A first unit of your own");
    for block in first.blocks(Kind::Sh).take(2) {
        shell.run(block);
    }
    shell.run("mkdir -p dist/bin && (echo '#!/usr/bin/python3'; cat hello-1.py) > dist/bin/server");
    shell.run("chmod +x dist/bin/server");
    for version in ["1.5.0", "1.5.1"] {
        shell.run(&format!("echo {version} > dist/version; tar -C dist -I zstd -cf app-{version}.tar.zst ."));
    }
    let section = readme.section("Releases");
    let unit = section.blocks(Kind::Toml).next().expect("a unit");
    let only_root_may = |line: &&str| line.starts_with("User") || line.starts_with("ControlGroup");
    let unit: Vec<&str> = unit.lines().filter(|line| !only_root_may(line)).collect();
    shell.run(&format!("cat > units/web.unit <<'END'\n{}\nEND", unit.join("\n")));
    shell.run("supd --units units --runtime run --state state");
    shell.run("export SUPD_RUNTIME=\"$PWD/run\"");
    shell.follow(&section);
    let told = shell.run("supctl --json status web; supctl shutdown");
    assert!(told.contains("\"release\":\"1.5.0\""), "{told}");
}

/// A service with its socket, as a package of Debian would bring it.
fn from_systemd() {
    let mut shell = Shell::start();
    shell.run("printf '[Socket]\\nListenStream=127.0.0.1:8080\\n' > shop.socket");
    shell.run("printf '[Service]\\nType=notify\\nExecStart=/usr/bin/python3 -m shop\\n' > shop.service");
    let told = shell.follow(&Page::read("README.md").section("From systemd"));
    assert!(told.contains("1 file checked"), "{told}");
}

/// The whole page. While the certificate is replaced, clients ask without a pause: nothing is lost.
fn first_hour() {
    let page = Page::read("units/first-hour.md");
    let mut shell = Shell::start();
    for section in page.sections() {
        if section.title != "A new certificate" {
            shell.follow(&section);
            continue;
        }
        let clients = shell.ask("https://localhost:8443", 4);
        clients.wait_for_more(20);
        shell.follow(&section);
        clients.wait_for_more(20);
        let tally = clients.stop();
        println!("while the certificate was replaced: {tally:?}");
        assert_eq!(tally.lost, Vec::<String>::new(), "{} answered", tally.answered);
    }
}
