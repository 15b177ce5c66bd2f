//! supd's own death at a moment that a test has chosen: between any two effects. There is none in a release build.
//!
//! Where SUPD_TEST_DEATH is set, a number in the file `death` of the runtime folder says how many moments are to pass
//! before.

#[cfg(debug_assertions)]
pub(super) fn moment(runtime: &std::path::Path) {
    use std::sync::OnceLock;

    static ASKED: OnceLock<bool> = OnceLock::new();
    if !ASKED.get_or_init(|| std::env::var_os("SUPD_TEST_DEATH").is_some()) {
        return;
    }
    let place = runtime.join("death");
    let Ok(text) = std::fs::read_to_string(&place) else { return };
    match text.trim().parse::<u64>() {
        Ok(0) => {
            let _ = std::fs::remove_file(place);
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
        Ok(left) => drop(std::fs::write(place, (left - 1).to_string())),
        // It is being written just now.
        Err(_) => {}
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn moment(_: &std::path::Path) {}
