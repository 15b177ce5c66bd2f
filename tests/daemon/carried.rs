//! A swap that waits for a person or for its time goes over to the next image of supd, with whoever waits for it.

use crate::canary::on_the_new_side;
use crate::harness::{Setup, Supd};
use crate::load::{Load, Mode, Plan, Target};
use crate::survival::{address, loads, more, nothing_is_lost, serving};
use crate::wait::{SOON, holds_for, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let root = &[Need::Root];
    vec![
        test("carried::a_canary_by_hand", || of_a_canary(&Supd::start())),
        test_with("carried::a_canary_without_ebpf", root, || of_a_canary(&Supd::without_ebpf())),
        test_with("carried::a_canary_of_an_ordinary_users_supd", root, of_an_ordinary_user),
        test("carried::the_steps_of_a_file", steps),
        test("carried::who_is_held", held),
        test("carried::probation_to_its_end", probation),
        test("carried::probation_that_fails", probation_fails),
        test("carried::probation_that_a_person_ends", probation_ended),
        test("carried::a_candidate_that_accepts_nothing", accepts_nothing),
        test("carried::one_that_dies_meanwhile_in_probation", dies_in_probation),
        test("carried::one_that_dies_meanwhile_in_a_canary", dies_in_a_canary),
        test("carried::one_that_is_about_to_be_launched_again", in_its_pause),
        test("carried::who_was_drawn_stays", sticky),
        test("carried::what_a_crash_ends", crash),
        test("carried::who_may_ask_again_is_waited_for", who_may_ask_again),
        test("carried::who_waits_for_a_drain_is_waited_for", who_waits_for_a_drain),
        test("carried::who_asked_oneway_hears_nothing", who_asked_oneway),
    ]
}

/// Another image, and the same workers, but for those who were on their way out. It waits for what is on its way to
/// the disk, which may be slow, and not for the end of the swap.
fn goes_on_in_time(supd: &Supd) {
    let status = supd.status("web");
    let before = (supd.pid(), status.pids(), status.last_swap().clone());
    let said = supd.ctl(&["reexec"]).expect(0).text();
    assert!(said.contains("goes on as process") && !said.contains("request"), "{said}");
    let status = supd.status("web");
    assert_eq!(status.last_swap(), &before.2, "the swap has ended meanwhile: {said}");
    let after = status.pids();
    assert!(!after.is_empty() && after.iter().all(|pid| before.1.contains(pid)), "{after:?} of {before:?}");
    assert_eq!(supd.pid(), before.0);
}

/// And the swap is where it was.
fn goes_on(supd: &Supd) {
    let before = supd.status("web").state().to_owned();
    goes_on_in_time(supd);
    assert_eq!(supd.status("web").state(), before, "{}", supd.log());
}

/// Of how many clients each version has served how many.
fn drawn(at: SocketAddr, clients: u32) -> BTreeMap<String, u64> {
    let load = Load::start(Plan::new(Target::Tcp(at), Mode::Close, 2));
    load.wait_for_more(u64::from(clients), SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    tally.versions().iter().map(|(version, served)| (version.clone(), served.count)).collect()
}

/// Nothing of it was given up on the way, and each swap is told of once.
fn told(supd: &Supd, ends: &[&str]) {
    let history = supd.ctl(&["--json", "history", "web"]).expect(0).stdout;
    assert!(!history.contains("supervisor-restarted"), "{history}");
    let read: Value = serde_json::from_str(&history).expect("JSON");
    let entries = read["entries"].as_array().expect("entries");
    let all: Vec<&Value> = entries.iter().filter(|entry| entry["what"] == "ended").skip(1).collect();
    assert_eq!(all.len(), ends.len(), "{history}");
    for (entry, end) in all.iter().zip(ends) {
        assert_eq!((&entry["result"], &entry["by"]["verb"]), (&Value::from(*end), &Value::from("swap")));
    }
}

fn of_a_canary(supd: &Supd) {
    let port = serving(supd, "Workers = 2", "ProbationSec = \"200ms\"");
    let (at, loads) = (address(port), loads(address(port)));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "30%"]).expect(0);
    for _ in 0..3 {
        goes_on(supd);
        more(&loads);
    }
    // Of 2,000 at 30 % it is some 600, by 20 to a standard deviation.
    let its = drawn(at, 2000).get("2").copied().unwrap_or_default();
    assert!((450..=750).contains(&its), "{its} of some 2000 at 30 %");
    supd.ctl(&["share", "web", "0"]).expect(0);
    goes_on(supd);
    assert_eq!(drawn(at, 200).get("2"), None, "it receives nothing");
    supd.ctl(&["share", "web", "50"]).expect(0);
    goes_on(supd);
    assert!(drawn(at, 200).len() == 2, "both receive");
    supd.ctl(&["promote", "web"]).expect(0);
    assert_eq!(supd.status("web").active(), Some(2));
    supd.ctl(&["rollback", "web"]).expect(0);
    supd.install_worker("3");
    supd.ctl(&["swap", "web", "--canary", "1%"]).expect(0);
    goes_on(supd);
    supd.ctl(&["abort", "web"]).expect(0);
    more(&loads);
    nothing_is_lost(loads);
    let history = supd.ctl(&["history", "web"]).expect(0).stdout;
    assert!(!history.contains("supervisor-restarted"), "{history}");
}

fn of_an_ordinary_user() {
    of_a_canary(&Supd::start_with(&Setup { user: Some(1234), ..Setup::default() }));
}

/// Whoever waits for the end of it hears of each step, and of the end.
fn steps() {
    let supd = Supd::start();
    let swap = "Canary = [\"10% 2s\", \"60% 4s\"]\nProbationSec = \"4s\"";
    let port = serving(&supd, "", swap);
    let loads = loads(address(port));
    supd.install_worker("2");
    let swap = supd.ctl_start(&["swap", "web"]);
    for state in ["canary", "probation"] {
        wait_until(state, SOON, || supd.status("web").state() == state);
        goes_on_in_time(&supd);
        more(&loads);
    }
    let swap = swap.finish(SOON).expect(0);
    for said in
        ["receives 10 %", "receives 60 %", "generation 2 receives the traffic", "generation 2 is committed"]
    {
        assert_eq!(swap.text().matches(said).count(), 1, "{said}: {swap}");
    }
    nothing_is_lost(loads);
    told(&supd, &["committed"]);
}

fn held() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    goes_on(&supd);
    assert_eq!(drawn(address(port), 200).get("2"), None, "it receives nothing");
    supd.ctl(&["promote", "web"]).expect(0);
    assert_eq!(supd.status("web").active(), Some(2));
    told(&supd, &["committed"]);
}

/// Neither sooner nor later than it would have been.
fn probation() {
    let supd = Supd::start();
    let port = serving(&supd, "", "ProbationSec = \"8s\"\nRetain = \"warm\"");
    let loads = loads(address(port));
    supd.install_worker("2");
    let swap = supd.ctl_start(&["swap", "web", "--reason", "prices"]);
    wait_until("its probation", SOON, || supd.status("web").state() == "probation");
    let switched = std::time::Instant::now();
    goes_on_in_time(&supd);
    goes_on_in_time(&supd);
    let swap = swap.finish(SOON).expect(0);
    assert!(swap.text().contains("generation 2 is committed; generation 1 stands by"), "{swap}");
    let took = switched.elapsed();
    assert!((Duration::from_secs(6)..Duration::from_secs(16)).contains(&took), "{took:?}");
    more(&loads);
    supd.ctl(&["rollback", "web"]).expect(0);
    nothing_is_lost(loads);
    let history = supd.ctl(&["--json", "history", "web"]).expect(0).stdout;
    assert_eq!(history.matches("prices").count(), 3, "began, switched, committed: {history}");
}

fn probation_fails() {
    let supd = Supd::start();
    let port = serving(&supd, "Restart = \"no\"", "ProbationSec = \"20s\"");
    supd.install_worker("2");
    let swap = supd.ctl_start(&["swap", "web"]);
    wait_until("its probation", SOON, || supd.status("web").state() == "probation");
    goes_on(&supd);
    proc::signal(supd.status("web").pids_in(2)[0], Signal::SIGKILL);
    let swap = swap.finish(SOON).expect(6);
    assert!(swap.text().contains("rolled back to generation 1"), "{swap}");
    assert_eq!(drawn(address(port), 100).get("2"), None);
    told(&supd, &["rolled-back"]);
}

fn probation_ended() {
    let supd = Supd::start();
    serving(&supd, "", "ProbationSec = \"1h\"");
    let wait = |verb: &str, active| {
        supd.install_worker("2");
        supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
        goes_on(&supd);
        supd.ctl(&[verb, "web"]).expect(0);
        assert_eq!(supd.status("web").active(), Some(active), "{verb}");
    };
    wait("rollback", 1);
    wait("promote", 3);
    wait("abort", 3);
}

/// It is on trial still, though another image has begun that.
fn accepts_nothing() {
    let supd = Supd::start();
    let port = serving(&supd, "", "");
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    goes_on(&supd);
    proc::signal(supd.status("web").pids_in(2)[0], Signal::SIGSTOP);
    let clients: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(address(port))).collect();
    wait_until("it to be undone", SOON, || supd.status("web").state() == "active");
    let history = || supd.ctl(&["history", "web"]).expect(0).stdout;
    wait_until("the history to tell of it", SOON, || history().contains("has accepted none"));
    drop(clients);
}

/// Between the image that knew of it and the one that is to go on with it: its end is heard all the same.
fn dies_meanwhile(workers: u32, state: &str, swap: &[&str], ends: (i32, &str)) {
    let supd = Supd::start();
    let port = serving(&supd, &format!("Workers = {workers}"), "ProbationSec = \"1h\"");
    supd.install_worker("2");
    let asked = supd.ctl_start(swap);
    wait_until(state, SOON, || supd.status("web").state() == state);
    let victim = supd.status("web").pids_in(2)[0];
    let reexec = supd.ctl_start(&["reexec"]);
    let environ = format!("/proc/{}/environ", supd.pid());
    let is_next =
        || fs::read(&environ).is_ok_and(|all| String::from_utf8_lossy(&all).contains("SUPD_HANDOVER="));
    wait_until("the next image", SOON, is_next);
    proc::signal(victim, Signal::SIGKILL);
    reexec.finish(SOON).expect(0);
    let (code, said) = ends;
    let asked = asked.finish(SOON).expect(code);
    assert!(asked.text().contains(said), "{asked}");
    wait_until("it to be undone", SOON, || supd.status("web").state() == "active");
    assert_eq!(supd.status("web").active(), Some(1), "{}", supd.log());
    let history = || supd.ctl(&["history", "web"]).expect(0).stdout;
    wait_until("the history to tell of it", SOON, || history().contains("worker 0 ended"));
    assert!(!history().contains("supervisor-restarted"), "{}", history());
    assert_eq!(drawn(address(port), 100).get("2"), None);
}

fn dies_in_probation() {
    for workers in [1, 3] {
        dies_meanwhile(workers, "probation", &["swap", "web"], (6, "rolled back to generation 1"));
    }
}

fn dies_in_a_canary() {
    for workers in [1, 3] {
        let said = (0, "receives 20 %");
        dies_meanwhile(workers, "canary", &["swap", "web", "--canary", "20%"], said);
    }
}

/// Who waits to be launched again is as alive as a swap needs.
fn in_its_pause() {
    let supd = Supd::start();
    let port = serving(&supd, "RestartSec = \"5s\"", "ProbationSec = \"1h\"");
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--wait=active"]).expect(0);
    let before = supd.status("web").pids_in(1)[0];
    proc::signal(before, Signal::SIGKILL);
    wait_until("it to be gone", SOON, || supd.status("web").pids_in(1).is_empty());
    supd.ctl(&["reexec"]).expect(0);
    assert_eq!(supd.status("web").state(), "probation", "{}", supd.log());
    wait_until("it to be launched again", SOON, || supd.status("web").pids_in(1).len() == 1);
    supd.ctl(&["abort", "web"]).expect(0);
    assert_eq!(drawn(address(port), 50).get("2"), None);
}

/// Who has been drawn stays, and more come: the next image draws by the same salt.
fn sticky() {
    let supd = Supd::start();
    let port = serving(&supd, "", "CanarySticky = true");
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "20%"]).expect(0);
    let first = on_the_new_side(port);
    goes_on(&supd);
    assert_eq!(on_the_new_side(port), first);
    supd.ctl(&["share", "web", "50%"]).expect(0);
    let more = on_the_new_side(port);
    assert!(first.is_subset(&more) && more.len() > first.len(), "{first:?} became {more:?}");
}

/// What rests is in the hands of an image; what dies tells nobody.
fn crash() {
    let mut supd = Supd::start();
    let port = serving(&supd, "", "");
    let loads = loads(address(port));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50%"]).expect(0);
    goes_on(&supd);
    proc::signal(supd.pid(), Signal::SIGKILL);
    supd = supd.restart_ended();
    wait_until("it to be given up", SOON, || supd.status("web").state() == "active");
    let history = || supd.ctl(&["history", "web"]).expect(0).stdout;
    wait_until("the history to tell of it", SOON, || history().contains("supervisor-restarted"));
    more(&loads);
    nothing_is_lost(loads);
}

fn who_waits_for_a_drain() {
    let supd = Supd::start();
    serving(&supd, "", "ProbationSec = \"3s\"");
    supd.install_worker("2");
    let swap = supd.ctl_start(&["swap", "web", "--wait=drained"]);
    wait_until("its probation", SOON, || supd.status("web").state() == "probation");
    let reexec = supd.ctl(&["reexec"]).expect(0);
    assert!(reexec.text().contains("waits: 1 request(s) are under way"), "{reexec}");
    assert!(swap.finish(SOON).expect(0).text().contains("generation 1 is drained"));
}

/// The first that the connection hears is the answer to what is asked next.
fn who_asked_oneway() {
    let supd = Supd::start();
    serving(&supd, "", "ProbationSec = \"8s\"");
    supd.install_worker("2");
    let mut stream = UnixStream::connect(supd.control()).expect("its control socket");
    stream.set_read_timeout(Some(SOON)).expect("a bound");
    let swap = "{\"method\":\"dev.supd.Manager.Swap\",\"parameters\":{\"unit\":\"web\"},\"oneway\":true}\0";
    stream.write_all(swap.as_bytes()).expect("a call");
    wait_until("its probation", SOON, || supd.status("web").state() == "probation");
    goes_on_in_time(&supd);
    wait_until("its end", SOON, || supd.status("web").state() == "active");
    stream.write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0").expect("a call");
    let mut bytes = [0; 4096];
    let count = stream.read(&mut bytes).expect("an answer");
    let answer = String::from_utf8_lossy(&bytes[..count]).into_owned();
    assert!(answer.contains("\"vendor\"") && answer.matches('\0').count() == 1, "{answer}");
    assert_eq!(supd.status("web").active(), Some(2));
}

/// Its outcome is kept for a day, and only who has begun it can write that down.
fn who_may_ask_again() {
    let supd = Supd::start();
    serving(&supd, "", "ProbationSec = \"2s\"");
    supd.install_worker("2");
    let ask = || supd.ctl_start(&["--request-id", "deploy-7", "swap", "web"]);
    let swap = ask();
    wait_until("its probation", SOON, || supd.status("web").state() == "probation");
    let reexec = supd.ctl(&["reexec"]).expect(0);
    assert!(reexec.text().contains("waits: web: a request with a request_id is under way"), "{reexec}");
    let (first, again) = (swap.finish(SOON).expect(0), ask().finish(SOON).expect(0));
    assert!(first.text().contains("committed") && again.text().contains("committed"), "{first}\n{again}");
    assert_eq!(supd.status("web").active(), Some(2));
    holds_for("no other swap", Duration::from_millis(300), || supd.status("web").pids_in(3).is_empty());
}
