//! A wall clock that jumps. It is the kernel's for all processes, so libfaketime gives supd one of
//! its own to be moved; CLOCK_MONOTONIC, which no kernel lets jump, stays true.

use super::Serving;
use crate::harness::{Setup, folder};
use crate::wait::{SOON, wait_until};
use crate::{Need, Test, test_with};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const FAKETIME: &[Need] = &[Need::Program("faketime", "faketime")];

pub(super) fn tests() -> Vec<Test> {
    vec![test_with("hostile::clock::jumps_in_mid_swap", FAKETIME, jumps_in_mid_swap)]
}

/// The library that the program of its name preloads.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let files = folders.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    files.filter(|file| file.exists()).last().expect("libfaketime beside faketime")
}

/// supd with a wall clock of its own, which goes by the file `clock`.
pub(crate) fn with_clock(clock: &Path) -> Setup {
    let wrapper = vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library().display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_NO_CACHE=1".to_owned(),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "NO_FAKE_STAT=1".to_owned(),
    ];
    Setup { wrapper, ..Setup::default() }
}

/// To the next century, to the beginning of time and back, each while a swap is in probation: it
/// lasts as long as ever, is committed, and the clock's lines in the log are all that shows it.
fn jumps_in_mid_swap() {
    const PROBATION: Duration = Duration::from_secs(1);
    let place = folder();
    let clock = place.path().join("clock");
    fs::write(&clock, "+0").expect("setting the clock");
    let serving = Serving::start_with(&with_clock(&clock));
    for (jump, year) in [("@2191-03-01 00:00:00", "2191-"), ("@1970-01-02 00:00:00", "1970-"), ("+0", "")] {
        serving.candidate(&[], "", "ProbationSec = \"1s\"");
        let swap = serving.supd.ctl_start(&["swap", "web"]);
        serving.supd.wait_for_state("web", "probation");
        fs::write(&clock, jump).expect("setting the clock");
        let done = swap.finish(SOON).expect(0);
        assert!(done.took >= PROBATION, "the jump to {jump} cut the probation short:\n{done}");
        wait_until("supd to have seen the jump", SOON, || {
            serving.supd.log().lines().any(|line| !year.is_empty() && line.starts_with(year))
                || year.is_empty()
        });
        serving.serving();
    }
    // The times in the ledger go back and forth, and it is read in its own order all the same.
    let active = serving.supd.status("web").active();
    let supd = serving.took_over().crash_and_restart();
    let after = supd.wait_for_state("web", "active");
    assert!(after.active() >= active, "an earlier generation came back: {}", after.0);
}
