//! What a load balancer is told where nobody serves for a moment (TrafficOff, TrafficOn).

use crate::exclusive::{answer, ask};
use crate::harness::{Supd, free_port};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Test, proc, test};

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("traffic::off_before_and_on_after", off_before_and_on_after),
        test("traffic::not_taken_off", not_taken_off),
        test("traffic::given_up_while_it_settles", given_up),
        test("traffic::not_put_on_at_once", not_put_on_at_once),
        test("traffic::the_next_one_fails", next_fails),
        test("traffic::supd_dies_while_it_is_off", supd_dies),
        test("traffic::stopped_while_it_is_off", stopped),
    ]
}

/// What was said to it, in that order, and which worker was there then.
fn told(supd: &Supd) -> Vec<String> {
    let text = fs::read_to_string(supd.app().join("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// It writes down what it is told; as long as there is a file `deaf` it fails.
fn unit(supd: &Supd, port: u16, arguments: &[&str], settle: &str) -> String {
    let balancer = supd.app().join("balancer");
    let app = supd.app().display().to_string();
    let text = format!("#!/bin/sh\n[ ! -e {app}/deaf ] || exit 7\necho \"$1\" >> {app}/told\n");
    fs::write(&balancer, text).expect("a program");
    fs::set_permissions(&balancer, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    let service = format!(
        "Exclusive = \"process\"\nRestart = \"no\"\nTrafficOff = [[{balancer:?}, \"off\"], [{balancer:?}, \
         \"quite off\"]]\nTrafficOn = [{balancer:?}, \"on\"]\nTrafficSettleSec = \"{settle}\""
    );
    supd.worker(port, arguments, &service, "")
}

fn serving(supd: &Supd, settle: &str) -> u16 {
    let port = free_port();
    supd.install_worker("1");
    supd.launch("web", &unit(supd, port, &[], settle));
    assert_eq!(told(supd), [""; 0], "nobody has to know of a start");
    port
}

fn words(supd: &Supd) -> (String, String) {
    let status = supd.status("web");
    ["traffic", "health"].map(|key| status.0[key].as_str().expect("a word").to_owned()).into()
}

fn is(supd: &Supd, traffic: &str, health: &str) -> bool {
    words(supd) == (traffic.to_owned(), health.to_owned())
}

fn deaf(supd: &Supd) -> PathBuf {
    let deaf = supd.app().join("deaf");
    fs::write(&deaf, "").expect("a file");
    deaf
}

fn off_before_and_on_after() {
    let supd = Supd::start();
    let port = serving(&supd, "700ms");
    assert!(is(&supd, "on", "up"), "{:?}", words(&supd));
    let old = supd.status("web").pids()[0];
    supd.install_worker("2");
    supd.write_unit("web", &unit(&supd, port, &["late=700"], "700ms"));
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("both commands to have run", SOON, || told(&supd).len() == 2);
    holds_for("the old one serves while it settles", Duration::from_millis(400), || {
        is(&supd, "diverting", "drain") && proc::alive(old) && answer(ask(port)).contains("X-Served-By: 1/")
    });
    wait_until("the traffic to be off", SOON, || is(&supd, "off", "drain"));
    wait_until("the old one to be gone", SOON, || !proc::alive(old));
    let early = ask(port);
    assert_eq!(told(&supd), ["off", "quite off"]);
    swap.finish(SOON).expect(0);
    assert!(answer(early).contains("X-Served-By: 2/"));
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd), ["off", "quite off", "on"]);
}

/// Who cannot tell it does not take the only one that serves away.
fn not_taken_off() {
    let supd = Supd::start();
    let port = serving(&supd, "0");
    let old = supd.status("web").pids();
    supd.install_worker("2");
    let deaf = deaf(&supd);
    let refused = supd.ctl(&["swap", "web"]).expect(1);
    assert!(refused.text().contains("TrafficOff failed: exit status 7"), "{refused}");
    assert!(refused.text().contains("was not touched"), "{refused}");
    assert_eq!(supd.status("web").pids(), old);
    wait_until("it to be tried to tell it otherwise", SOON, || supd.log().contains("TrafficOn failed"));
    assert_eq!(words(&supd).0, "restoring");
    fs::remove_file(deaf).expect("a file");
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd), ["on"]);
    supd.ctl(&["swap", "web"]).expect(0);
    assert!(answer(ask(port)).contains("X-Served-By: 2/"));
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd), ["on", "off", "quite off", "on"]);
}

fn given_up() {
    let supd = Supd::start();
    let port = serving(&supd, "1min");
    let old = supd.status("web").pids();
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("both commands to have run", SOON, || told(&supd).len() == 2);
    let refused = supd.ctl(&["promote", "web"]).expect(3);
    assert!(refused.text().contains("the traffic is being taken off"), "{refused}");
    supd.ctl(&["abort", "web"]).expect(0);
    swap.finish(SOON).expect(1);
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd), ["off", "quite off", "on"]);
    assert_eq!(supd.status("web").pids(), old);
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
}

fn not_put_on_at_once() {
    let supd = Supd::start();
    let port = serving(&supd, "0");
    supd.install_worker("2");
    supd.write_unit("web", &unit(&supd, port, &["late=500"], "0"));
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("the traffic to be off", SOON, || is(&supd, "off", "drain"));
    let deaf = deaf(&supd);
    swap.finish(SOON).expect(0);
    wait_until("it to be tried", SOON, || supd.log().contains("TrafficOn failed: exit status 7"));
    let status = supd.ctl(&["status", "web"]).expect(0);
    assert!(status.text().contains("TrafficOn fails, and is tried again"), "{status}");
    assert_eq!(words(&supd).0, "restoring");
    assert!(answer(ask(port)).contains("X-Served-By: 2/"), "it serves all the same");
    fs::remove_file(deaf).expect("a file");
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd), ["off", "quite off", "on"]);
}

/// It is on again once who served before does.
fn next_fails() {
    let supd = Supd::start();
    let port = serving(&supd, "0");
    supd.install_worker("2");
    supd.write_unit("web", &unit(&supd, port, &["die=3"], "0"));
    supd.ctl(&["swap", "web"]).expect(6);
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd), ["off", "quite off", "on"]);
}

fn in_the_gap(supd: &Supd, port: u16) {
    supd.write_unit("web", &unit(supd, port, &["late=60000"], "0"));
    let _swap = supd.ctl_start(&["swap", "web"]);
    wait_until("the next one to be launched", SOON, || supd.log().contains("web/g2: launched"));
    assert_eq!(told(supd), ["off", "quite off"]);
}

fn supd_dies() {
    let supd = Supd::start();
    let port = serving(&supd, "0");
    in_the_gap(&supd, port);
    let supd = supd.crash_and_restart();
    supd.wait_for_state("web", "active");
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd).last().map(String::as_str), Some("on"));
    assert!(answer(ask(port)).contains("X-Served-By: 1/"));
}

fn stopped() {
    let supd = Supd::start();
    let port = serving(&supd, "0");
    in_the_gap(&supd, port);
    let pid = supd.status("web").pids()[0];
    supd.ctl(&["stop", "web"]).expect(0);
    assert!(!proc::alive(pid));
    assert_eq!(told(&supd), ["off", "quite off"], "nobody serves");

    supd.write_unit("web", &unit(&supd, port, &[], "0"));
    supd.ctl(&["start", "web"]).expect(0);
    wait_until("the traffic to be on", SOON, || is(&supd, "on", "up"));
    assert_eq!(told(&supd), ["off", "quite off", "on"]);
}
