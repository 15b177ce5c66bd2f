//! Servers that bind for themselves: what it costs them that supd is asked about bind(2) and listen(2).

use crate::Form;
use crate::contenders::address;
use crate::harness::{Running, Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::numbers::Sample;
use crate::proc;
use crate::report::{Budget, Section};
use crate::support::test::find_program;
use crate::wait::{SOON, pause, wait_for, wait_until};
use nix::sys::signal::Signal;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// One round of one of them.
const ROUND: Duration = Duration::from_millis(700);
const CLIENTS: usize = 16;
/// As many calls of each kind are timed.
const CALLS: usize = 2000;

/// Times its own calls: to the address that is given, if it is the unit's, and to any port, as a resolver
/// binds the sockets that it asks from.
const CALLER: &str = "
import json, socket, sys, time
def spans(kind, address, count):
    all = []
    for _ in range(count):
        s = socket.socket(socket.AF_INET, kind)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        began = time.monotonic()
        s.bind(address)
        all.append((time.monotonic() - began) * 1e6)
        s.close()
    return all
port, count, into = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
said = {'any': spans(socket.SOCK_DGRAM, ('127.0.0.1', 0), count),
        'own': spans(socket.SOCK_STREAM, ('127.0.0.1', port), count)}
open(into + '.new', 'w').write(json.dumps(said))
import os
os.rename(into + '.new', into)
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', port)); s.listen(10)
while True: time.sleep(60)
";

pub(crate) fn run(form: Form, section: &mut Section) {
    calls(section);
    if find_program("nginx").is_some() {
        throughput(form, section);
    } else {
        section.skipped("nginx", "apt-get install nginx-light, or ./tests/run");
    }
}

/// How long bind(2) takes, with somebody who is asked and without.
fn calls(section: &mut Section) {
    let supd = Supd::start();
    let (program, port) = (supd.app().join("caller.py"), free_port());
    fs::write(&program, CALLER).expect("writing a program");
    let (asked, alone) = (supd.app().join("asked"), supd.app().join("alone"));
    supd.launch(
        "web",
        &format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n[Service]\nExecStart = [\"python3\", {program:?}, \
             \"{port}\", \"{CALLS}\", {asked:?}]\nHandoff = \"intercept\"\n[Swap]\nProbationSec = \"0\"\n"
        ),
    );
    let mut command = Command::new("python3");
    command.arg(&program).arg(free_port().to_string()).arg(CALLS.to_string()).arg(&alone);
    let running = Running::start(&mut command);
    let spans = |path: &Path, kind: &str| {
        let text = wait_for("what the calls took", SOON, || fs::read_to_string(path).ok());
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let list = value[kind].as_array().expect("a list").clone();
        Sample::of(list.iter().filter_map(serde_json::Value::as_f64))
    };
    section.judged("a bind that gets a listener of the unit", &spans(&asked, "own"), "us", Budget(200.0));
    section.figure("beside: the same bind, nobody asked", &spans(&alone, "own"), "us");
    section.figure("a bind to any port, as a resolver does", &spans(&asked, "any"), "us");
    section.figure("beside: the same bind, nobody asked", &spans(&alone, "any"), "us");
    proc::signal(running.pid(), Signal::SIGTERM);
    running.finish(SOON);
}

fn configuration(folder: &Path, port: u16) -> PathBuf {
    fs::create_dir_all(folder).expect("a folder");
    let path = folder.join("nginx.conf");
    let text = format!(
        "daemon off;\npid {0}/pid;\nerror_log {0}/error;\nworker_processes 1;\nevents {{}}\nhttp {{\n  \
         access_log off;\n  keepalive_requests 100000000;\n  server {{\n    listen 127.0.0.1:{port};\n    location / {{ add_header X-Served-By \"1/$pid\"; return 200 \"hello\"; }}\n  \
         }}\n}}\n",
        folder.display()
    );
    fs::write(&path, text).expect("nginx's configuration");
    path
}

/// nginx under the filter, and the same nginx without it, in turns.
fn throughput(form: Form, section: &mut Section) {
    let supd = Supd::start();
    let nginx = find_program("nginx").expect("looked for before");
    let ports = [free_port(), free_port()];
    let [ours, alone] = ["ours", "alone"].map(|name| supd.app().join(name));
    let conf = configuration(&ours, ports[0]);
    supd.launch(
        "web",
        &format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{}\"\n[Service]\nExecStart = [{nginx:?}, \"-e\", \"stderr\", \
             \"-c\", {conf:?}]\nHandoff = \"intercept\"\nKillSignal = \"SIGQUIT\"\n[Swap]\nProbationSec = \"0\"\n",
            ports[0]
        ),
    );
    let conf = configuration(&alone, ports[1]);
    // A session of its own, as under supd.
    let mut command = Command::new("setsid");
    let running = Running::start(command.arg(&nginx).args(["-e", "stderr", "-c"]).arg(conf));
    wait_until("nginx alone to listen", SOON, || TcpStream::connect(address(ports[1])).is_ok());
    let mut lost = (0, 0);
    for (mode, name) in [(Mode::Close, "new connections"), (Mode::KeepAlive, "kept-alive")] {
        let mut rates: [Vec<f64>; 2] = Default::default();
        for round in 0..form.rounds {
            for turn in 0..2 {
                let who = (round + turn) % 2;
                let load = Load::start(Plan::new(Target::Tcp(address(ports[who])), mode, CLIENTS));
                pause(ROUND);
                let tally = load.stop();
                rates[who].push(tally.answered() as f64 / tally.ran.as_secs_f64());
                if who == 0 {
                    lost = (lost.0 + tally.lost(), lost.1 + tally.answered() + tally.lost());
                }
            }
        }
        let lost_to = rates[0].iter().zip(&rates[1]).map(|(ours, alone)| 100.0 * (1.0 - ours / alone));
        let what = format!("nginx, {name}: throughput lost to the filter");
        section.judged_difference(&what, &Sample::of(lost_to), Budget(1.0));
        for (rates, who) in rates.iter().zip(["under it", "without"]) {
            section.figure(
                &format!("nginx, {name}, {who}"),
                &Sample::of(rates.iter().copied()),
                "requests/s",
            );
        }
    }
    section.promised("requests lost under it", lost.0, lost.1);
    proc::signal(running.pid(), Signal::SIGTERM);
    running.finish(SOON);
}
