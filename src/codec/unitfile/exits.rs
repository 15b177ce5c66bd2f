//! SuccessExitStatus and RestartPreventExitStatus: exit statuses and signals.

use super::document::Node;
use super::report::{Bad, Reading};
use super::values::each_word;
use crate::codec::fault::quoted;
use crate::model::Signal;
use crate::model::settings::ExitSet;

/// The names of sysexits.h, which systemd takes too (systemd.exec(5), PROCESS EXIT CODES).
const NAMES: [(&str, i32); 17] = [
    ("SUCCESS", 0),
    ("FAILURE", 1),
    ("USAGE", 64),
    ("DATAERR", 65),
    ("NOINPUT", 66),
    ("NOUSER", 67),
    ("NOHOST", 68),
    ("UNAVAILABLE", 69),
    ("SOFTWARE", 70),
    ("OSERR", 71),
    ("OSFILE", 72),
    ("CANTCREAT", 73),
    ("IOERR", 74),
    ("TEMPFAIL", 75),
    ("PROTOCOL", 76),
    ("NOPERM", 77),
    ("CONFIG", 78),
];

enum Exit {
    Code(i32),
    Signal(Signal),
}

pub(super) fn read(node: &Node) -> Reading<ExitSet> {
    let mut set = ExitSet::default();
    for exit in each_word(node, one)? {
        match exit {
            Exit::Code(code) => set.codes.push(code),
            Exit::Signal(signal) => set.signals.push(signal),
        }
    }
    set.codes.sort_unstable();
    set.codes.dedup();
    set.signals.sort_unstable();
    set.signals.dedup();
    Ok(set)
}

fn one(word: &str) -> Result<Exit, Bad> {
    if word.bytes().all(|byte| byte.is_ascii_digit()) {
        return match word.parse::<i32>() {
            Ok(code @ 0..=255) => Ok(Exit::Code(code)),
            _ => Err(Bad::new(format!("{} is no exit status", quoted(word)), "write a number from 0 to 255")),
        };
    }
    if let Some((_, code)) = NAMES.iter().find(|(name, _)| *name == word) {
        return Ok(Exit::Code(*code));
    }
    // Without SIG a name could be that of an exit status that supd does not know.
    match Signal::parse(word).filter(|_| word.starts_with("SIG") || word.starts_with("RT")) {
        Some(signal) => Ok(Exit::Signal(signal)),
        None => Err(Bad::new(
            format!("{} is neither an exit status nor a signal", quoted(word)),
            "write numbers and names of signals, as in [\"143\", \"SIGTERM\"]",
        )),
    }
}
