//! A slot for each generation: warm rollbacks, shares, and servers that know no graceful stop.

use crate::harness::{Supd, free_port};
use crate::load::{Load, Mode, Plan, Target};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, proc, test, test_with};
use nix::sys::signal::Signal;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        test("steer::warm_rollback_launches_nothing", warm_rollback_launches_nothing),
        test("steer::standby_that_ended_is_launched_again", standby_that_ended_is_launched_again),
        test("steer::standby_has_its_time", standby_has_its_time),
        test("steer::standby_out_of_memory", standby_out_of_memory),
        test("steer::standby_is_told", standby_is_told),
        test("steer::standby_that_is_stopped", standby_that_is_stopped),
        test("steer::standby_whose_children_are_stopped", standby_whose_children_are_stopped),
        test_with(
            "steer::standby_whose_children_are_stopped_without_ebpf",
            &[Need::Program("setpriv", "util-linux")],
            standby_whose_children_are_stopped_without_ebpf,
        ),
        test(
            "steer::server_without_a_graceful_stop_loses_nothing",
            server_without_a_graceful_stop_loses_nothing,
        ),
        test("steer::canary_gets_its_share", canary_gets_its_share),
        test("steer::canary_by_steps", canary_by_steps),
        test("steer::canary_that_dies", canary_that_dies),
        // Only a program in eBPF, which root may load, carries over what waits.
        test_with("steer::probation_under_load", &[Need::Root], probation_under_load),
        test("steer::wrong_shares", wrong_shares),
        test("steer::drain_verb", drain_verb),
        test("steer::several_listeners_switch_together", several_listeners_switch_together),
        test("steer::unix_path_is_steered", unix_path_is_steered),
    ]
}

fn target(port: u16) -> Target {
    Target::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// A supd whose unit `web` has gone from version 1 to 2.
fn swapped(swap: &str) -> (Supd, u16) {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", swap));
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    (supd, port)
}

const WARM: &str = "Retain = \"warm\"\nProbationSec = \"0\"";

fn state_of(supd: &Supd, generation: u64) -> String {
    let status = supd.status("web");
    let all = status.0["generations"].as_array().cloned().unwrap_or_default();
    let one = all.iter().find(|one| one["generation"] == generation);
    one.map_or_else(String::new, |one| one["state"].as_str().unwrap_or_default().to_owned())
}

fn connections_of(supd: &Supd, generation: u64) -> Option<u64> {
    let status = supd.status("web");
    let all = status.0["generations"].as_array()?;
    all.iter().find(|one| one["generation"] == generation)?["connections"].as_u64()
}

fn share_of(supd: &Supd, generation: u64) -> Option<f64> {
    let status = supd.status("web");
    let all = status.0["generations"].as_array()?;
    all.iter().find(|one| one["generation"] == generation)?["share"].as_f64()
}

/// What is on the way when the answer comes may still be the other's; what begins after it is not.
fn warm_rollback_launches_nothing() {
    let _machine = crate::harness::whole_machine();
    let (supd, port) = swapped(WARM);
    let before = supd.status("web");
    assert_eq!((state_of(&supd, 1).as_str(), state_of(&supd, 2).as_str()), ("standby", "active"));
    assert_eq!((share_of(&supd, 1), share_of(&supd, 2)), (Some(0.0), Some(100.0)));
    let loads = [Mode::Close, Mode::KeepAlive]
        .map(|mode| Load::start(Plan::new(target(port), mode, 8).slow_every(50)));
    loads.iter().for_each(|load| load.wait_for_more(100, SOON));
    // What was counted less than a second ago is not counted again.
    wait_until("the kept connections to be counted", SOON, || connections_of(&supd, 2) >= Some(8));
    let rolled = supd.ctl(&["rollback", "web"]).expect(0);
    assert!(rolled.text().contains("stands by"), "{rolled}");
    assert!(rolled.text().contains("still on generation 2 (as of "), "{rolled}");
    assert!(rolled.text().contains("s ago), which stands by"), "{rolled}");
    let after = loads[0].now();
    loads.iter().for_each(|load| load.wait_for_more(300, SOON));
    let now = supd.status("web");
    assert_eq!(now.active(), Some(1));
    assert_eq!(now.pids(), before.pids(), "a worker was launched, or ended");
    assert_eq!(state_of(&supd, 2), "standby");
    let [closing, kept] = loads.map(Load::stop);
    assert_eq!((closing.lost(), kept.lost()), (0, 0), "{closing}\n{kept}");
    let since = closing.versions_since(after);
    assert!(since.keys().eq(["1"]), "after the rollback: {since:?}\n{closing}");
    // It is no toggle.
    let refused = supd.ctl(&["rollback", "web"]).expect(3);
    assert!(refused.text().contains("supctl swap web"), "{refused}");
}

/// Without the one that stood by its program is there still.
fn standby_that_ended_is_launched_again() {
    let (supd, port) = swapped(WARM);
    let standby = supd.status("web").pids_in(1);
    supd.ctl(&["drain", "web", "--generation", "1"]).expect(0);
    assert!(standby.iter().all(|pid| !proc::alive(*pid)), "drained, and {standby:?} lives");
    supd.ctl(&["rollback", "web"]).expect(0);
    assert_eq!(supd.status("web").active(), Some(3));
    let load = Load::start(Plan::new(target(port), Mode::Close, 2));
    load.wait_for_more(50, SOON);
    let tally = load.stop();
    assert!(tally.versions().keys().eq(["1"]), "{tally}");
}

fn standby_has_its_time() {
    let (supd, _) = swapped("Retain = \"warm\"\nProbationSec = \"0\"\nStandbySec = \"1s\"");
    wait_until("the standby to be let go", SOON, || supd.status("web").pids_in(1).is_empty());
    let status = supd.status("web");
    assert_eq!((status.active(), status.retained()), (Some(2), Some(1)), "its release stays");
    supd.ctl(&["rollback", "web"]).expect(0);
}

/// It dies, and whoever is launched in its place does so as well: who serves goes on, and a way back is refused
/// until there is memory again.
fn standby_out_of_memory() {
    let supd = Supd::start();
    let (port, full) = (free_port(), supd.path().join("full"));
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/hungry.py");
    let unit = |version: &str| {
        format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\nExecStart = [\"/usr/bin/python3\", \
             {app:?}, {version:?}, {full:?}]\nReadySettleSec = \"0\"\nLimitAS = \"1G\"\nRestartSec = \"100ms\"\n\n\
             [Swap]\n{WARM}\n"
        )
    };
    supd.launch("web", &unit("1"));
    supd.write_unit("web", &unit("2"));
    supd.ctl(&["swap", "web"]).expect(0);
    let [standby] = supd.status("web").pids_in(1)[..] else { panic!("one worker") };
    let load = Load::start(Plan::new(target(port), Mode::Close, 2));
    load.wait_for_more(50, SOON);
    std::fs::write(&full, "").expect("a file");
    proc::signal(standby, Signal::SIGUSR1);
    wait_until("it to die of that", SOON, || !proc::alive(standby));
    // Its program is a script, of which there is no copy: that is said, and first what has become of it.
    let refused = supd.ctl(&["rollback", "web"]).expect(3);
    assert!(
        refused.text().contains("generation 1 stands by no more (worker 0 ended: exit status 1"),
        "{refused}"
    );
    assert!(refused.text().contains("not pinned") && refused.text().contains("--anyway"), "{refused}");
    let refused = supd.ctl(&["rollback", "web", "--anyway"]).expect(1);
    assert!(refused.text().contains("exit status 1"), "{refused}");
    let status = supd.status("web");
    assert_eq!((status.state(), status.active()), ("active", Some(2)), "{refused}");
    load.wait_for_more(50, SOON);
    let tally = load.stop();
    assert!(tally.lost() == 0 && tally.versions().keys().eq(["2"]), "{tally}");
    std::fs::remove_file(&full).expect("a file");
    supd.ctl(&["rollback", "web", "--anyway"]).expect(0);
    only(&target(port), "1");
}

/// Alive and ready by all that it said, and it would accept nothing: who serves goes on.
fn standby_that_is_stopped() {
    let (supd, port) = swapped(WARM);
    let standby = supd.status("web").pids_in(1);
    standby.iter().for_each(|pid| proc::signal(*pid, Signal::SIGSTOP));
    wait_until("the signal to count", SOON, || standby.iter().all(|pid| proc::is_stopped(*pid)));
    let load = Load::start(Plan::new(target(port), Mode::Close, 2));
    load.wait_for_more(50, SOON);
    let refused = supd.ctl(&["rollback", "web"]).expect(1);
    assert!(refused.text().contains("kill -CONT"), "{refused}");
    assert_eq!(supd.status("web").active(), Some(2));
    load.wait_for_more(50, SOON);
    standby.iter().for_each(|pid| proc::signal(*pid, Signal::SIGCONT));
    supd.ctl(&["rollback", "web"]).expect(0);
    assert_eq!((supd.status("web").active(), supd.status("web").pids_in(1)), (Some(1), standby));
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
}

fn standby_whose_children_are_stopped() {
    children_are_stopped(&Supd::start());
}

fn standby_whose_children_are_stopped_without_ebpf() {
    children_are_stopped(&Supd::without_ebpf());
}

/// The first process runs, and nobody who accepts for it.
fn children_are_stopped(supd: &Supd) {
    let port = free_port();
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/forking.py");
    let unit = |version: &str| {
        format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\nExecStart = \
             [\"/usr/bin/python3\", {app:?}, {version:?}, \"2\"]\nReadySettleSec = \"0\"\n\n[Swap]\n{WARM}\n"
        )
    };
    supd.launch("web", &unit("1"));
    supd.write_unit("web", &unit("2"));
    supd.ctl(&["swap", "web"]).expect(0);
    let [first] = supd.status("web").pids_in(1)[..] else { panic!("one worker") };
    let [one, other] = proc::children(first)[..] else { panic!("two children") };
    let send = |pid, signal, stopped| {
        proc::signal(pid, signal);
        wait_until("the signal to count", SOON, || proc::is_stopped(pid) == stopped);
    };
    send(one, Signal::SIGSTOP, true);
    send(other, Signal::SIGSTOP, true);
    let refused = supd.ctl(&["rollback", "web"]).expect(1);
    let cure = format!("accepts nothing: kill -CONT {one} {other}");
    assert!(refused.text().contains(&cure), "{refused}");
    assert_eq!(supd.status("web").active(), Some(2));
    only(&target(port), "2");
    // One of them is enough, and of the other it is told.
    send(one, Signal::SIGCONT, false);
    supd.ctl(&["rollback", "web"]).expect(0);
    let told = format!("only the others accept: kill -CONT {other}");
    wait_until("that to be told", SOON, || supd.log().contains(&told));
    assert_eq!(supd.status("web").active(), Some(1));
    only(&target(port), "1");
    send(other, Signal::SIGCONT, false);
}

/// StandbySignal once nobody waits for it any more, ActiveSignal before anybody does again.
fn standby_is_told() {
    let supd = Supd::start();
    let (port, noted) = (free_port(), supd.path().join("signals"));
    let swap =
        format!("{WARM}\nSettleSec = \"200ms\"\nStandbySignal = \"SIGUSR1\"\nActiveSignal = \"SIGUSR2\"");
    let unit = |version: &str| {
        let environment = format!("Environment = {{ SIGNALS = {noted:?} }}\n\n[Swap]");
        abrupt(&format!("\"127.0.0.1:{port}\""), version, &swap).replacen("[Swap]", &environment, 1)
    };
    let told = |lines: &[&str]| {
        wait_until("the signals", SOON, || {
            std::fs::read_to_string(&noted).is_ok_and(|text| text.lines().eq(lines.iter().copied()))
        });
    };
    supd.launch("web", &unit("1"));
    supd.write_unit("web", &unit("2"));
    supd.ctl(&["swap", "web"]).expect(0);
    told(&["1 SIGUSR1"]);
    supd.ctl(&["rollback", "web"]).expect(0);
    told(&["1 SIGUSR1", "1 SIGUSR2", "2 SIGUSR1"]);
    only(&target(port), "1");
}

/// Its connections have DrainSec to end before it is told anything: swap after swap, nothing is lost.
fn server_without_a_graceful_stop_loses_nothing() {
    let _machine = crate::harness::whole_machine();
    let supd = Supd::start();
    let port = free_port();
    let swap = "ProbationSec = \"200ms\"\nDrainSec = \"60s\"\nMaxGenerations = 8";
    let unit = |version: &str| abrupt(&format!("\"127.0.0.1:{port}\""), version, swap);
    supd.launch("web", &unit("1"));
    let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(Plan::new(target(port), mode, 4)));
    for version in 2..6 {
        loads.iter().for_each(|load| load.wait_for_more(200, SOON));
        supd.write_unit("web", &unit(&version.to_string()));
        supd.ctl(&["swap", "web"]).expect(0);
    }
    loads.iter().for_each(|load| load.wait_for_more(200, SOON));
    let [closing, kept] = loads.map(Load::stop);
    assert_eq!((closing.lost(), kept.lost()), (0, 0), "{closing}\n{kept}");
    assert!(closing.versions().len() >= 5, "{closing}");
    // The clients are gone, so nobody is waited for any more.
    wait_until("only the last one to be left", SOON, || {
        supd.status("web").0["generations"].as_array().is_some_and(|all| all.len() == 1)
    });
}

/// Of many connections so many reach the candidate, within four and a half standard deviations: chance alone is
/// further off once in 150,000 runs, and a share that is wrong by a tenth is found 24 times of 25. (The best of
/// several short draws lets much more pass.)
fn canary_gets_its_share() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", "ProbationSec = \"0\""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "25%"]).expect(0);
    assert_eq!(supd.status("web").state(), "canary");
    assert_eq!((share_of(&supd, 1), share_of(&supd, 2)), (Some(75.0), Some(25.0)));
    let among = |count: u64| {
        let load = Load::start(Plan::new(target(port), Mode::Close, 4));
        load.wait_for_more(count, SOON);
        let tally = load.stop();
        assert_eq!(tally.lost(), 0, "{tally}");
        let versions = tally.versions();
        let of = |version: &str| versions.get(version).map_or(0.0, |served| served.count as f64);
        (of("2"), of("1") + of("2"))
    };
    let (candidate, all) = among(12_000);
    let off = (candidate - all * 0.25).abs();
    assert!(off <= 4.5 * (all * 0.25 * 0.75).sqrt(), "too many or too few: {candidate} of {all}");

    supd.ctl(&["share", "web", "0"]).expect(0);
    let (candidate, all) = among(300);
    assert_eq!(candidate, 0.0, "of {all}");
    supd.ctl(&["share", "web", "100"]).expect(0);
    assert_eq!(supd.status("web").active(), Some(2));
    let (candidate, all) = among(300);
    assert_eq!(candidate, all);
}

fn canary_by_steps() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    let check =
        "Canary = [\"10% 300ms\", \"50% 300ms\"]\nCheckCommand = [\"/bin/true\"]\nProbationSec = \"0\"";
    supd.launch("web", &supd.worker(port, &[], "", check));
    supd.install_worker("2");
    let load = Load::start(Plan::new(target(port), Mode::Close, 4));
    let swap = supd.ctl(&["swap", "web"]).expect(0);
    for share in ["10 %", "50 %"] {
        assert!(swap.text().contains(share), "{swap}");
    }
    assert_eq!(supd.status("web").active(), Some(2));
    assert_eq!(load.stop().lost(), 0);
    // What the check objects to does not grow.
    let objects = check.replace("/bin/true", "/bin/false");
    supd.write_unit("web", &supd.worker(port, &[], "", &objects));
    supd.install_worker("3");
    let swap = supd.ctl(&["swap", "web"]).expect(1);
    assert!(swap.text().contains("CheckCommand failed") && !swap.text().contains("50 %"), "{swap}");
    assert_eq!(supd.status("web").active(), Some(2));
}

/// Who has a share and dies loses what it has accepted and no more: what waits goes to who serves.
fn canary_that_dies() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    supd.install_worker("2");
    supd.ctl(&["swap", "web", "--canary", "50"]).expect(0);
    let load = Load::start(Plan::new(target(port), Mode::Close, 4));
    load.wait_for_more(100, SOON);
    let candidate = supd.status("web").pids_in(2);
    candidate.iter().for_each(|pid| proc::signal(*pid, Signal::SIGKILL));
    wait_until("the canary to be over", SOON, || supd.status("web").state() == "active");
    let after = load.now();
    load.wait_for_more(300, SOON);
    let tally = load.stop();
    assert!(tally.versions().keys().eq(["1", "2"]), "{tally}");
    let since = tally.versions_since(after);
    assert!(since.keys().eq(["1"]), "{since:?}\n{tally}");
    // What it had accepted was its own to lose: one request of each client at most.
    assert!(tally.lost() <= 4, "{tally}");
}

/// A release that is good until it is not: it dies in its probation, with a queue. What it had accepted
/// was its own to lose, so here it dies between two requests; what waited, and what begins later, is
/// served by who was there before, and nobody asks for that.
fn probation_under_load() {
    let _machine = crate::harness::whole_machine();
    for how in ["exits", "killed"] {
        let supd = Supd::start();
        let port = free_port();
        let unit = |program: &str, version: &str, arguments: &str| {
            let app = format!("{}/tests/daemon/apps/{program}.py", env!("CARGO_MANIFEST_DIR"));
            format!(
                "[[Socket]]\nName = \"http\"\nListenStream = \"127.0.0.1:{port}\"\n\n[Service]\nExecStart = \
                 [\"/usr/bin/python3\", {app:?}, {version:?}{arguments}]\nReadySettleSec = \"0\"\n\n[Swap]\n\
                 ProbationSec = \"10min\"\nSettleSec = \"500ms\"\n"
            )
        };
        supd.launch("web", &unit("abrupt", "1", ""));
        let before = supd.status("web");
        let loads = [Mode::Close, Mode::KeepAlive].map(|mode| Load::start(Plan::new(target(port), mode, 8)));
        loads.iter().for_each(|load| load.wait_for_more(200, SOON));

        supd.write_unit("web", &unit("brittle", "2", &format!(", {how:?}, \"100\"")));
        let swap = supd.ctl(&["swap", "web"]).expect(6);
        assert!(swap.text().contains("probation"), "{swap}");
        loads.iter().for_each(|load| load.wait_for_more(200, SOON));
        let after = supd.status("web");
        assert_eq!((after.state(), after.active()), ("active", Some(1)), "{}", after.0);
        assert_eq!(after.pids_in(1), before.pids_in(1), "it was not touched");

        let [closing, kept] = loads.map(Load::stop);
        let versions = closing.versions();
        assert!(versions.keys().eq(["1", "2"]) && versions["2"].count == 100, "{how}: {closing}");
        assert!(kept.versions().keys().eq(["1"]), "{how}: {kept}");
        assert_eq!((closing.lost(), kept.lost()), (0, 0), "{how}: {closing}\n{kept}");
        let last_words = supd.ctl(&["logs", "web", "--generation", "2"]).expect(0).stdout;
        let waiting = last_words.lines().find_map(|line| line.split("waiting: ").nth(1));
        let waiting: u32 = waiting.and_then(|count| count.parse().ok()).unwrap_or_default();
        assert!(waiting > 0, "{how}: nobody waited when it died, so nothing is proved: {last_words}");
    }
}

fn wrong_shares() {
    let supd = Supd::start();
    supd.install_worker("1");
    let port = free_port();
    supd.launch("web", &supd.worker(port, &[], "", ""));
    for (wrong, said) in [
        ("-1", "cannot be negative"),
        ("-0.5%", "cannot be negative"),
        ("101", "cannot be more than 100%"),
        ("100.01", "cannot be more than 100%"),
        ("5,5", "no percentage"),
        ("five", "no percentage"),
        ("NaN", "no percentage"),
        ("0.001", "at most two decimals"),
        ("", "an empty text"),
    ] {
        for before in [&["share", "web"][..], &["swap", "web", "--canary"]] {
            let output = supd.ctl(&[before, &[wrong]].concat()).expect(2);
            assert!(output.text().contains(said), "{output}");
        }
    }
    assert_eq!(supd.status("web").newest(), Some(1), "something was launched");
    for (steps, said) in [
        ("\"25% 1s\", \"5% 1s\"", "a step does not grow"),
        ("\"5% 1s\", \"5% 1s\"", "a step does not grow"),
        ("\"-1% 1s\"", "Canary"),
        ("\"101% 1s\"", "Canary"),
        ("\"five 1s\"", "Canary"),
    ] {
        let file = supd.path().join("steps.unit");
        let text = supd.worker(free_port(), &[], "", &format!("Canary = [{steps}]"));
        std::fs::write(&file, text).expect("a file");
        let refused = supd.ctl(&["check", &file.display().to_string()]).expect(78);
        assert!(refused.text().contains(said), "{steps}: {refused}");
    }
    let refused = supd.ctl(&["share", "web", "5"]).expect(3);
    assert!(refused.text().contains("swap web --canary 5%"), "{refused}");
    // Where one slot is lent to all, nothing can be shared.
    let fifo = format!(
        "[[Socket]]\nName = \"in\"\nListenFIFO = \"{0}/f\"\n[[Socket]]\nName = \"http\"\nListenStream = \
         \"127.0.0.1:{1}\"\n[Service]\nExecStart = [\"/usr/bin/sleep\", \"600\"]\nReady = \"started\"\n",
        supd.path().display(),
        free_port()
    );
    supd.launch("fifo", &fifo);
    let refused = supd.ctl(&["swap", "fifo", "--canary", "5"]).expect(1);
    assert!(refused.text().contains("FIFO"), "{refused}");
}

fn drain_verb() {
    let (supd, _) = swapped(WARM);
    let refused = supd.ctl(&["drain", "web", "--generation", "2"]).expect(3);
    assert!(refused.text().contains("it is active") && refused.text().contains("stop web"), "{refused}");
    let never = supd.ctl(&["drain", "web", "--generation", "7"]).expect(3);
    assert!(never.text().contains("generation 7"), "{never}");
    supd.install_worker("3");
    supd.ctl(&["swap", "web", "--hold"]).expect(0);
    let refused = supd.ctl(&["drain", "web", "--generation", "3"]).expect(3);
    assert!(refused.text().contains("abort web"), "{refused}");
    supd.ctl(&["abort", "web"]).expect(0);
    supd.ctl(&["drain", "web", "--generation", "1"]).expect(0);
    assert!(supd.status("web").pids_in(1).is_empty());
    let gone = supd.ctl(&["drain", "web", "--generation", "1"]).expect(0);
    assert!(gone.text().contains("no process"), "{gone}");
}

/// TCP over both families: both lead to the one that is active.
fn several_listeners_switch_together() {
    let supd = Supd::start();
    supd.install_worker("1");
    let (one, other) = (free_port(), free_port());
    let more = format!("\n[[Socket]]\nName = \"six\"\nListenStream = \"[::1]:{other}\"\n");
    let unit = supd.worker(one, &[], "", WARM).replacen("[Service]", &format!("{more}\n[Service]"), 1);
    supd.launch("web", &unit);
    supd.install_worker("2");
    supd.ctl(&["swap", "web"]).expect(0);
    let targets = [target(one), Target::Tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, other)))];
    for (verb, version) in [("status", "2"), ("rollback", "1")] {
        supd.ctl(&[verb, "web"]).expect(0);
        targets.iter().for_each(|target| only(target, version));
    }
}

/// The path leads to one slot at a time, and back; so to a part of it nobody can be led.
fn unix_path_is_steered() {
    let supd = Supd::start();
    let path = supd.path().join("web.sock");
    let unit = |version: &str| abrupt(&format!("{path:?}"), version, WARM);
    supd.launch("web", &unit("1"));
    supd.write_unit("web", &unit("2"));
    let refused = supd.ctl(&["swap", "web", "--canary", "30%"]).expect(3);
    assert!(refused.text().contains("a path leads to one generation at a time"), "{refused}");
    let steps = format!("{}Canary = [\"30% 1s\"]\n", unit("2"));
    supd.write_unit("steps", &steps);
    let file = supd.path().join("units/steps.unit");
    let refused = supd.ctl(&["check", &file.display().to_string()]).expect(78);
    assert!(refused.text().contains("a path leads to one generation at a time"), "{refused}");
    std::fs::remove_file(file).expect("it was there");
    let load = Load::start(Plan::new(Target::Unix(path.clone()), Mode::Close, 2));
    supd.ctl(&["swap", "web"]).expect(0);
    only(&Target::Unix(path.clone()), "2");
    let before = supd.status("web").pids();
    supd.ctl(&["rollback", "web"]).expect(0);
    only(&Target::Unix(path), "1");
    assert_eq!(supd.status("web").pids(), before);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
}

/// Whoever connects now reaches this version, and nothing is lost.
fn only(target: &Target, version: &str) {
    let load = Load::start(Plan::new(target.clone(), Mode::Close, 2));
    load.wait_for_more(50, SOON);
    let tally = load.stop();
    assert_eq!(tally.lost(), 0, "{tally}");
    assert!(tally.versions().keys().eq([version]), "{target:?}: {tally}");
}

/// A unit of the server that is dead at once when it is told to stop.
fn abrupt(address: &str, version: &str, swap: &str) -> String {
    let name = if address.contains('/') { "path" } else { "http" };
    let app = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/daemon/apps/abrupt.py");
    format!(
        "[[Socket]]\nName = \"{name}\"\nListenStream = {address}\n\n[Service]\nExecStart = [\"/usr/bin/python3\", {app:?}, \
         {version:?}]\nReadySettleSec = \"0\"\n\n[Swap]\n{swap}\n"
    )
}
