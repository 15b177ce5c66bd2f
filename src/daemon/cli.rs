//! supd's command line. lexopt and not clap, which supctl has: what supd has read once stays mapped
//! for as long as the machine is up, and clap is a tenth of the program.

use crate::os::places::Given;
use lexopt::{Arg, Parser, ValueExt};
use log::LevelFilter;
use std::ffi::OsString;
use std::path::PathBuf;

/// What `supd --help` says.
const HELP: &str = "\
Owns your ports: a new release takes over, the old one comes back, without one request lost

Usage: supd [OPTIONS]
       supd --unit FILE [OPTIONS]

Options:
      --unit FILE        One unit alone, in the foreground, with its output here; supd ends as it does
      --units DIR        Folder of unit files
                         [default: /etc/supd/units, then /usr/lib/supd/units] [env: SUPD_UNITS]
      --runtime DIR      Folder of sockets, intents and the lock
                         [default: /run/supd] [env: SUPD_RUNTIME]
      --state DIR        Folder of the ledger and of pinned programs
                         [default: /var/lib/supd] [env: SUPD_STATE]
      --log-level LEVEL  How much to say: error, warn, info, debug [default: info]
      --check-handover   Say whether this supd could go on with what is on standard input; supctl
                         reexec asks the new program that
      --check-left       Say which processes a supd over this runtime folder has left; fails if any
  -h, --help             Print help
  -V, --version          Print version
";

/// What supd was called with.
#[derive(Debug, PartialEq, Eq)]
pub struct Cli {
    /// The folders of the flags; what the environment says of them is for
    /// [`Places`](crate::os::places::Places).
    pub given: Given,
    /// `--unit FILE`
    pub unit: Option<PathBuf>,
    /// How much to say.
    pub log_level: LevelFilter,
}

/// What a command line comes to.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// supd is to run.
    Run(Cli),
    /// Whether it could go on with what is on standard input.
    CheckHandover,
    /// What is left of a supd is to be named: these say where it was.
    CheckLeft(Given),
    /// A text is to be shown, and that is all.
    Show(String),
}

impl Cli {
    /// Reads the words behind the program's name.
    ///
    /// # Errors
    /// What is wrong with them and what to type instead, in a sentence.
    pub fn read(words: impl IntoIterator<Item = OsString>) -> Result<Asked, String> {
        let mut words = Parser::from_args(words);
        let mut cli = Self { given: Given::default(), unit: None, log_level: LevelFilter::Info };
        let mut check_left = false;
        let wrong = |error: lexopt::Error| format!("{error}; supd --help shows what there is");
        while let Some(word) = words.next().map_err(wrong)? {
            let folder = match word {
                Arg::Short('h') | Arg::Long("help") => return Ok(Asked::Show(HELP.into())),
                Arg::Short('V') | Arg::Long("version") => {
                    return Ok(Asked::Show(format!("supd {}\n", env!("CARGO_PKG_VERSION"))));
                }
                Arg::Long("check-handover") => return Ok(Asked::CheckHandover),
                Arg::Long("check-left") => {
                    check_left = true;
                    continue;
                }
                Arg::Long("log-level") => {
                    cli.log_level = words.value().and_then(|level| level.parse()).map_err(wrong)?;
                    continue;
                }
                Arg::Long("unit") => &mut cli.unit,
                Arg::Long("units") => &mut cli.given.units,
                Arg::Long("runtime") => &mut cli.given.runtime,
                Arg::Long("state") => &mut cli.given.state,
                Arg::Short(_) | Arg::Long(_) | Arg::Value(_) => return Err(wrong(word.unexpected())),
            };
            let value = words.value().map_err(wrong)?;
            if value.is_empty() {
                return Err("a file or folder with an empty name; supd --help shows what there is".into());
            }
            *folder = Some(value.into());
        }
        if cli.unit.is_some() && cli.given.units.is_some() {
            return Err(
                "--unit is one unit alone and --units are many; supd --help shows what there is".into()
            );
        }
        Ok(if check_left { Asked::CheckLeft(cli.given) } else { Asked::Run(cli) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Asked, String> {
        Cli::read(words.iter().map(OsString::from))
    }

    #[test]
    fn the_flags_are_read_in_both_forms() {
        let given = Given { units: Some("/u".into()), runtime: Some("r".into()), state: Some("/s".into()) };
        let wanted = Cli { given, unit: None, log_level: LevelFilter::Debug };
        let words = ["--units", "/u", "--runtime=r", "--state", "/s", "--log-level", "debug"];
        assert_eq!(read(&words), Ok(Asked::Run(wanted)));
        let none = Cli { given: Given::default(), unit: None, log_level: LevelFilter::Info };
        assert_eq!(
            read(&["--unit", "web.unit"]),
            Ok(Asked::Run(Cli { unit: Some("web.unit".into()), ..none }))
        );
        let none = Cli { given: Given::default(), unit: None, log_level: LevelFilter::Info };
        assert_eq!(read(&[]), Ok(Asked::Run(none)));
    }

    #[test]
    fn help_and_version_are_shown() {
        assert_eq!(read(&["--units", "/u", "-h"]), Ok(Asked::Show(HELP.into())));
        assert_eq!(read(&["--check-handover"]), Ok(Asked::CheckHandover));
        let given = Given { runtime: Some("/r".into()), ..Given::default() };
        assert_eq!(read(&["--check-left", "--runtime", "/r"]), Ok(Asked::CheckLeft(given)));
        assert_eq!(read(&["-V"]), Ok(Asked::Show(format!("supd {}\n", env!("CARGO_PKG_VERSION")))));
    }

    #[test]
    fn what_is_wrong_is_named_with_the_way_on() {
        for (words, what) in [
            (&["--unit", "u.unit", "--units", "/u"][..], "--unit"),
            (&["--unit"], "--unit"),
            (&["-x"], "-x"),
            (&["run"], "run"),
            (&["--state"], "--state"),
            (&["--state="], "empty"),
            (&["--log-level", "loud"], "loud"),
        ] {
            let why = read(words).expect_err("it is wrong");
            assert!(why.contains(what) && why.contains("supd --help"), "{words:?}: {why}");
        }
    }
}
