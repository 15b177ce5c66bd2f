//! Metrics, asked of the real supd over real sockets.

use crate::harness::{Running, Setup, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::peers::{VENV, python};
use crate::wait::{SOON, wait_for, wait_until};
use crate::{Need, Test, test, test_with};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

const PARSER: &[Need] = &[Need::File(VENV, "./tests/run installs prometheus_client from PyPI")];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("metrics::off_until_supd_toml_says_so", off_until_supd_toml_says_so),
        test("metrics::what_happened_is_counted", what_happened_is_counted),
        test("metrics::nobody_who_asks_is_in_the_way", nobody_who_asks_is_in_the_way),
        test("metrics::a_path_a_file_and_a_reexec", a_path_a_file_and_a_reexec),
        test_with("metrics::the_reader_of_prometheus_reads_it", PARSER, the_reader_of_prometheus_reads_it),
        test("metrics::a_taken_port_is_tried_again", a_taken_port_is_tried_again),
    ]
}

fn configure(supd: &Supd, keys: &str) {
    fs::write(supd.path().join("supd.toml"), format!("[Metrics]\n{keys}\n")).expect("supd.toml");
    supd.ctl(&["daemon-reload"]).expect(0);
}

fn on_port(supd: &Supd) -> u16 {
    let port = free_port();
    configure(supd, &format!("Listen = \"127.0.0.1:{port}\""));
    port
}

fn connect(port: u16) -> TcpStream {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let stream = TcpStream::connect(address).expect("somebody listens for who asks for metrics");
    stream.set_read_timeout(Some(SOON)).expect("a socket");
    stream
}

/// The head and the content.
fn exchange(mut stream: impl Read + Write, request: &str) -> (String, String) {
    stream.write_all(request.as_bytes()).expect("saying a request");
    let mut said = Vec::new();
    // What was said already counts, however the connection ends.
    let _reset = stream.read_to_end(&mut said);
    let said = String::from_utf8(said).expect("UTF-8");
    let (head, content) = said.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {said:?}"));
    (head.to_owned(), content.to_owned())
}

fn ask(port: u16, request: &str) -> (String, String) {
    exchange(connect(port), request)
}

const GET: &str = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn scrape(port: u16) -> BTreeMap<String, f64> {
    let (head, content) = ask(port, GET);
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(head.contains(&format!("Content-Length: {}", content.len())), "{head}");
    read(&content)
}

/// A strict reader of exposition format 0.0.4: every line is of the family whose TYPE stands above it, and no
/// series is there twice.
fn read(content: &str) -> BTreeMap<String, f64> {
    assert!(content.ends_with('\n'), "it is cut off");
    let (mut series, mut families, mut family) = (BTreeMap::new(), Vec::new(), ("", ""));
    for line in content.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram"].contains(&family.1), "{line}");
            assert_eq!(family.1 == "counter", family.0.ends_with("_total"), "{line}");
            assert!(!families.contains(&family.0), "{line} twice");
            families.push(family.0);
            continue;
        }
        if line.starts_with("# HELP ") {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        let (bare, labels) = match name.split_once('{') {
            Some((bare, labels)) => (bare, labels.strip_suffix('}').expect("a closing brace")),
            None => (name, ""),
        };
        let suffix = bare.strip_prefix(family.0).unwrap_or_else(|| panic!("{line} is of no family"));
        let suffixes: &[&str] = if family.1 == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        let mut rest = labels;
        while !rest.is_empty() {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            let mut escaped = false;
            let end = after.char_indices().find(|(_, c)| {
                let ends = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            });
            rest = &after[end.unwrap_or_else(|| panic!("{line}")).0 + 1..];
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        assert!(series.insert(name.to_owned(), value).is_none(), "{line} twice");
    }
    series
}

/// Waits for a series to have this value: a page is told for a second.
fn wait_for_value(port: u16, name: &str, value: f64) {
    let mut last = BTreeMap::new();
    wait_until(&format!("{name} {value}"), SOON, || {
        last = scrape(port);
        last.get(name) == Some(&value)
    });
}

fn off_until_supd_toml_says_so() {
    let supd = Supd::start();
    let path = supd.runtime().join("metrics.sock");
    assert!(!path.exists());
    configure(&supd, &format!("Listen = {:?}", path.display().to_string()));
    wait_until("the socket", SOON, || UnixStream::connect(&path).is_ok());
    fs::remove_file(supd.path().join("supd.toml")).expect("removing supd.toml");
    supd.ctl(&["daemon-reload"]).expect(0);
    wait_until("the socket to go", SOON, || !path.exists());

    // An address that others reach is refused, and nothing changes.
    let port = free_port();
    let text = format!("[Metrics]\nListen = \"0.0.0.0:{port}\"\n");
    fs::write(supd.path().join("supd.toml"), text).expect("supd.toml");
    let checked = supd.ctl(&["check", &supd.path().join("supd.toml").display().to_string()]);
    assert!(checked.text().contains("can be reached from other machines"), "{checked}");
    supd.ctl(&["daemon-reload"]);
    wait_until("the reason in the log", SOON, || supd.logs().contains("can be reached from other machines"));
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err(), "it listens");
}

fn what_happened_is_counted() {
    let supd = Supd::start();
    let asked = on_port(&supd);
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    let target = Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(Plan::new(target.clone(), mode, 4)));
    loads.iter().for_each(|load| load.wait_for_more(200, SOON));
    wait_until("connections to be counted", SOON, || {
        let found = scrape(asked);
        found.get("supd_connections{unit=\"web\",generation=\"1\"}").is_some_and(|count| *count >= 4.0)
    });
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "25%"]).expect(0);
    let share = |generation| format!("supd_share_ratio{{unit=\"web\",generation=\"{generation}\"}}");
    wait_for_value(asked, &share(2), 0.25);
    assert_eq!(scrape(asked)[&share(1)], 0.75);
    supd.ctl(&["promote", "web"]).expect(0);
    wait_for_value(asked, "supd_swaps_total{unit=\"web\",kind=\"swap\",result=\"committed\"}", 1.0);
    supd.ctl(&["rollback", "web"]).expect(0);
    wait_for_value(asked, "supd_swaps_total{unit=\"web\",kind=\"rollback\",result=\"committed\"}", 1.0);
    let found = scrape(asked);
    assert_eq!(found["supd_swaps_total{unit=\"web\",kind=\"start\",result=\"committed\"}"], 1.0);
    assert_eq!(found["supd_units{state=\"active\"}"], 1.0);
    assert_eq!(found["supd_units{state=\"down\"}"], 0.0);
    assert_eq!(found["supd_rollbacks_total{unit=\"web\"}"], 0.0);
    assert_eq!(found["supd_worker_restarts_total{unit=\"web\"}"], 0.0);
    assert!(found["supd_ready_seconds_count{unit=\"web\"}"] >= 2.0, "{found:?}");
    assert!(found["supd_switch_seconds_sum{unit=\"web\"}"] > 0.0, "{found:?}");
    assert!(found["supd_resident_memory_bytes"] > 100_000.0, "{found:?}");
    let active = supd.status("web").active().expect("one that serves");
    let pid = supd.status("web").pids_in(active)[0];
    let launches = found["supd_worker_launches_total{unit=\"web\"}"];
    for load in loads {
        let tally = load.stop();
        assert_eq!(tally.lost(), 0, "{tally}");
    }
    crate::proc::signal(pid, nix::sys::signal::Signal::SIGKILL);
    wait_for_value(asked, "supd_worker_restarts_total{unit=\"web\"}", 1.0);
    let found = scrape(asked);
    assert_eq!(found["supd_worker_launches_total{unit=\"web\"}"], launches + 1.0);
    assert!(found["supd_worker_failures_total{unit=\"web\"}"] >= 1.0, "{found:?}");
}

fn nobody_who_asks_is_in_the_way() {
    let supd = Supd::start();
    let port = on_port(&supd);
    wait_until("the port", SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    for (request, status) in [
        ("GET / HTTP/1.1\r\n\r\n", "404"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", "405"),
        ("\x16\x03\x01 hello\r\n\r\n", "400"),
        (&format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(8 << 10)), "431"),
    ] {
        let (head, _) = ask(port, request);
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
        assert!(head.contains("Connection: close"), "{head}");
    }
    let (head, content) = ask(port, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && content.is_empty(), "{head}");
    assert!(!head.contains("Content-Length: 0"), "{head}");

    // Forty who say half a request, and as many who say one and read nothing.
    let before = crate::proc::descriptors(supd.pid());
    let mut there: Vec<TcpStream> = Vec::new();
    for half in [true, false] {
        for _ in 0..40 {
            let mut stream = connect(port);
            stream.write_all(if half { &GET.as_bytes()[..20] } else { GET.as_bytes() }).expect("saying");
            there.push(stream);
        }
    }
    assert!(scrape(port).contains_key("supd_build_info{version=\"0.1.0\"}"));
    assert!(crate::proc::descriptors(supd.pid()) <= before + 18, "they are all there");
    supd.ctl(&["status"]).expect(0);
    drop(there);
    wait_until("all of them to be forgotten", SOON, || crate::proc::descriptors(supd.pid()) <= before);
}

fn a_path_a_file_and_a_reexec() {
    let supd = Supd::start_with(&Setup { copied: true, ..Setup::default() });
    let (path, file) = (supd.runtime().join("metrics.sock"), supd.path().join("supd.prom"));
    let place = |path: &std::path::Path| format!("{:?}", path.display().to_string());
    configure(&supd, &format!("Listen = {}\nFile = {}\nIntervalSec = \"1s\"", place(&path), place(&file)));
    let asked = || {
        let stream = UnixStream::connect(&path).ok()?;
        stream.set_read_timeout(Some(SOON)).ok()?;
        Some(read(&exchange(stream, GET).1))
    };
    assert_eq!(wait_for("an answer at the path", SOON, asked)["supd_reexecs_total"], 0.0);
    let written = || fs::read_to_string(&file).ok().map(|content| read(&content));
    assert_eq!(wait_for("the file", SOON, written)["supd_units{state=\"active\"}"], 0.0);
    supd.ctl(&["reexec"]).expect(0);
    assert_eq!(wait_for("an answer of the next image", SOON, asked)["supd_reexecs_total"], 1.0);
    wait_until("the next image's file", SOON, || {
        written().is_some_and(|found| found["supd_reexecs_total"] == 1.0)
    });
    let supd = supd.crash_and_restart();
    assert_eq!(wait_for("an answer of the next supd", SOON, asked)["supd_reexecs_total"], 0.0);
    // A folder that is gone is told once, and in the way of nothing.
    configure(&supd, "File = \"/nonexistent/supd.prom\"\nIntervalSec = \"1s\"");
    wait_until("the reason in the log", SOON, || supd.logs().contains("/nonexistent/supd.prom"));
    supd.ctl(&["status"]).expect(0);
}

fn a_taken_port_is_tried_again() {
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let supd = Supd::start();
    configure(&supd, &format!("Listen = \"127.0.0.1:{port}\""));
    wait_until("the reason in the log", SOON, || supd.logs().contains("somebody else's"));
    supd.ctl(&["status"]).expect(0);
    drop(taken);
    wait_until("it to listen", SOON, || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    scrape(port);
}

/// Whoever defines the format reads it as this file's own reader does.
fn the_reader_of_prometheus_reads_it() {
    const READ: &str = "import sys\n\
        from prometheus_client.parser import text_string_to_metric_families as read\n\
        for family in read(open(sys.argv[1]).read()):\n    \
            for sample in family.samples: print(sample.name, sample.value)\n";
    let supd = Supd::start();
    let asked = on_port(&supd);
    supd.install_worker("1");
    supd.launch("web", &supd.worker(free_port(), &[], "", ""));
    wait_for_value(asked, "supd_swaps_total{unit=\"web\",kind=\"start\",result=\"committed\"}", 1.0);
    let (_, content) = ask(asked, GET);
    let file = supd.path().join("page");
    fs::write(&file, &content).expect("the test's own file");
    let output = Running::start(Command::new(python()).args(["-c", READ]).arg(&file)).finish(SOON).expect(0);
    assert_eq!(output.stdout.lines().count(), read(&content).len(), "{output}");
    assert!(output.stdout.contains("\nsupd_ready_seconds_bucket 1"), "{output}");
}
