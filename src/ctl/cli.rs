//! The command line.

use super::abort::Abort;
use super::args;
use super::cat::Cat;
use super::check::Check;
use super::completions::Completions;
use super::connect::Connect;
use super::context::{self, Context};
use super::daemon_reload::DaemonReload;
use super::demo::Demo;
use super::deploy::Deploy;
use super::drain::Drain;
use super::events::Events;
use super::failure::Failure;
use super::history::History;
use super::import::Import;
use super::install::Install;
use super::is_active::IsActive;
use super::kill::Kill;
use super::logs::Logs;
use super::promote::Promote;
use super::reexec::Reexec;
use super::releases::Releases;
use super::reload::Reload;
use super::render::text::Paint;
use super::restart::Restart;
use super::rollback::Rollback;
use super::share::ShareOf;
use super::shutdown::Shutdown;
use super::start::Start;
use super::status::Status;
use super::stop::Stop;
use super::swap::Swap;
use super::top::Top;
use super::undeploy::Undeploy;
use super::wait::Wait;
use crate::codec::varlink::Meta;
use crate::model::ExitStatus;
use crate::os::places::{Caller, control_socket};
use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use std::env::var_os;
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Every exit status, for `--help`.
const EXIT_STATUS: &str = "\
Exit status:
   0  done, or nothing to do
   1  failed before the switch: the old generation was not touched
   2  wrong use of the command line
   3  refused, with the reason and the next command to type
   4  no answer in time: the outcome is unknown
   5  no supd there
   6  switched, then rolled back
   7  failed, and nothing is serving
  77  not allowed
  78  a unit file is wrong

A first swap and a rollback:
  supctl status           what runs
  supctl swap web         bring what is on disk now, without losing a request
  supctl rollback web     and back

supctl VERB --help has examples for each verb.";

/// Swap releases of your servers and roll them back, without one request lost
#[derive(Debug, Parser)]
#[command(name = "supctl", version, after_help = EXIT_STATUS, max_term_width = 100)]
#[command(subcommand_value_name = "VERB", subcommand_help_heading = "Verbs")]
#[command(disable_help_subcommand = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of every verb")]
pub(super) struct Global {
    /// The folder of supd's control socket [default: /run/supd, or XDG_RUNTIME_DIR/supd if there is one]
    #[arg(long, value_name = "DIR", env = "SUPD_RUNTIME", hide_env_values = true, global = true)]
    runtime: Option<PathBuf>,
    /// Print supd's reply as it came, for programs
    #[arg(long, global = true)]
    json: bool,
    /// No colours (nor with NO_COLOR set, nor where standard output is no terminal)
    #[arg(long, global = true)]
    no_color: bool,
    /// Only say what would be done
    #[arg(long, global = true)]
    dry_run: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", value_parser = args::reason, global = true)]
    reason: Option<String>,
    /// An id of yours: a repetition of the request is answered with the first outcome
    #[arg(long, value_name = "ID", value_parser = args::request_id, global = true)]
    request_id: Option<String>,
    /// Wait no longer than this (exit status 4); supd goes on
    #[arg(long, value_name = "TIME", value_parser = args::span, global = true)]
    timeout: Option<Duration>,
}

/// The verbs, in the order of the help: what is typed, and what does it.
macro_rules! verbs {
    ($($(#[$more:meta])* $typed:literal $verb:ident($does:ty),)*) => {
        #[derive(Debug, Subcommand)]
        pub(super) enum Verb {
            $($(#[$more])* #[command(name = $typed)] $verb($does),)*
        }

        /// What clap knows of one verb.
        fn described(typed: &str) -> Option<Command> {
            match typed {
                $($typed => Some(<$does as Args>::augment_args(Command::new($typed))),)*
                _ => None,
            }
        }
    };
}

verbs! {
    "status" Status(Status),
    "top" Top(Top),
    "is-active" IsActive(IsActive),
    "start" Start(Start),
    "stop" Stop(Stop),
    "restart" Restart(Restart),
    "reload" Reload(Reload),
    "kill" Kill(Kill),
    "daemon-reload" DaemonReload(DaemonReload),
    "deploy" Deploy(Deploy),
    "install" Install(Install),
    "swap" Swap(Swap),
    "rollback" Rollback(Rollback),
    "share" Share(ShareOf),
    #[command(visible_alias = "bind")]
    "promote" Promote(Promote),
    "abort" Abort(Abort),
    "drain" Drain(Drain),
    "connect" Connect(Connect),
    "wait" Wait(Wait),
    "releases" Releases(Releases),
    "undeploy" Undeploy(Undeploy),
    "logs" Logs(Logs),
    "history" History(History),
    "events" Events(Events),
    "check" Check(Check),
    "cat" Cat(Cat),
    "import" Import(Import),
    "reexec" Reexec(Reexec),
    "shutdown" Shutdown(Shutdown),
    "demo" Demo(Demo),
    "completions" Completions(Completions),
}

/// The whole command line as clap knows it: the completions are made of it, and man/supctl.1.
#[must_use]
pub fn command() -> Command {
    Cli::command()
}

impl Cli {
    /// Reads the command line of this process; what is wrong with it ends the process.
    pub(super) fn of_process() -> Self {
        let words: Vec<OsString> = std::env::args_os().collect();
        Self::with_one_verb(&words).unwrap_or_else(|| Self::parse_from(words))
    }

    /// To describe every verb to clap takes longer than a rollback does. With the one that is asked for a command
    /// line is read as with all, or it is not read: then it is all of them that help, or an error, is about.
    fn with_one_verb(words: &[OsString]) -> Option<Self> {
        let verb = words.iter().skip(1).find_map(|word| described(word.to_str()?))?;
        let command = Global::augment_args(Command::new("supctl")).subcommand(verb).subcommand_required(true);
        Self::from_arg_matches(&command.try_get_matches_from(words).ok()?).ok()
    }
}

impl Global {
    /// What the verbs need of it.
    pub(super) fn context(self) -> Context {
        Context {
            socket: control_socket(self.runtime.as_deref(), &Caller::this()),
            json: self.json,
            meta: Meta { reason: self.reason, request_id: self.request_id, dry_run: self.dry_run },
            deadline: self.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            paint: Paint(context::colours(self.no_color, |name| var_os(name), io::stdout().is_terminal())),
            columns: context::columns(|name| var_os(name)),
        }
    }

    /// Whether errors are painted.
    pub(super) fn colour_errors(&self) -> bool {
        context::colours(self.no_color, |name| var_os(name), io::stderr().is_terminal())
    }
}

impl Verb {
    /// Does it. Gives the exit status.
    pub(super) fn run(self, context: &Context) -> Result<u8, Failure> {
        let status = match self {
            Self::Status(verb) => verb.run(context),
            Self::Top(verb) => verb.run(context),
            Self::IsActive(verb) => verb.run(context),
            Self::Start(verb) => verb.run(context),
            Self::Stop(verb) => verb.run(context),
            Self::Restart(verb) => verb.run(context),
            Self::Reload(verb) => verb.run(context),
            Self::Kill(verb) => verb.run(context),
            Self::DaemonReload(DaemonReload {}) => DaemonReload::run(context),
            Self::Deploy(verb) => verb.run(context),
            Self::Install(verb) => verb.run(context),
            Self::Swap(verb) => verb.run(context),
            Self::Rollback(verb) => verb.run(context),
            Self::Share(verb) => verb.run(context),
            Self::Drain(verb) => verb.run(context),
            // It may end as another program did.
            Self::Connect(verb) => return verb.run(context),
            Self::Promote(verb) => verb.run(context),
            Self::Abort(verb) => verb.run(context),
            Self::Wait(verb) => verb.run(context),
            Self::Releases(verb) => verb.run(context),
            Self::Undeploy(verb) => verb.run(context),
            Self::Logs(verb) => verb.run(context),
            Self::History(verb) => verb.run(context),
            Self::Events(verb) => verb.run(context),
            Self::Check(verb) => verb.run(context),
            Self::Cat(verb) => verb.run(context),
            Self::Import(verb) => verb.run(context),
            Self::Reexec(Reexec {}) => Reexec::run(context),
            Self::Shutdown(Shutdown {}) => Shutdown::run(context),
            Self::Demo(verb) => verb.run(context),
            Self::Completions(verb) => verb.run(),
        };
        status.map(ExitStatus::code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Whatever is read with one verb is read with all of them, and as the same.
    #[test]
    fn one_verb_reads_as_all_do() {
        let read = |line: &str| {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let one = Cli::with_one_verb(&words).map(|cli| format!("{cli:?}"));
            (one, Cli::try_parse_from(words).ok().map(|cli| format!("{cli:?}")))
        };
        for line in [
            "supctl rollback web",
            "supctl --runtime /run/x --json rollback web 1.4.2 --from 8 --stop --wait=drained",
            "supctl status",
            "supctl status swap",
            "supctl swap web --canary 5% --reason why --timeout 5s --request-id swap",
            "supctl deploy web 2 app.tar --hold",
            "supctl daemon-reload --dry-run",
            "supctl connect web --generation 3 --exec curl -f http://web/",
        ] {
            let (one, all) = read(line);
            assert!(one.is_some() && one == all, "{line}: {one:?} {all:?}");
        }
        // Something else is said of all verbs, or is their help.
        for line in [
            "supctl",
            "supctl swp web",
            "supctl --reason swap rollback web",
            "supctl --reason rollback",
            "supctl rollback",
            "supctl rollback --help",
            "supctl --help",
            "supctl --version",
            "supctl bind web",
        ] {
            assert_eq!(read(line).0, None, "{line}");
        }
        assert!(Cli::command().get_subcommands().all(|verb| described(verb.get_name()).is_some()));
    }

    #[test]
    fn help_teaches() {
        let help = Cli::command().render_help().to_string();
        for status in ExitStatus::ALL {
            assert!(help.contains(&format!("\n  {:>2}  ", status.code())), "{status:?}");
        }
        for verb in Cli::command().get_subcommands() {
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = verb.get_name();
            assert!(
                after.contains(&format!("supctl {name}")) || after.contains(&format!("supctl --json {name}")),
                "{name} has no example"
            );
            let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
            assert!((1..=62).contains(&about.len()), "{name}: {about}");
            for line in after.lines() {
                assert!(line.chars().count() <= 100, "{line}");
            }
        }
    }

    #[test]
    fn every_example_of_the_help_can_be_typed() {
        for verb in Cli::command().get_subcommands() {
            let after = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples = after.lines().skip_while(|line| *line != "Examples:").skip(1);
            let mut seen = 0;
            for line in examples.take_while(|line| line.starts_with("  ")) {
                // What it does stands behind three spaces, and several commands behind &&.
                let typed = line.trim_start().split("   ").next().unwrap();
                let typed = typed.split(['<', '>', '|']).next().unwrap();
                for command in typed.split(" && ") {
                    let words: Vec<&str> = command.split_whitespace().collect();
                    assert_eq!(words[0], "supctl", "{line}");
                    let parsed = Cli::try_parse_from(&words);
                    assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
                    seen += 1;
                }
            }
            assert!(seen > 0, "{}", verb.get_name());
        }
    }

    #[test]
    fn wrong_use_says_the_rule() {
        for (line, said) in [
            (&["supctl"][..], "Usage: supctl"),
            (&["supctl", "swp", "web"], "'swap'"),
            (&["supctl", "swap"], "<UNIT>"),
            (&["supctl", "swap", "../web"], "a name is 1 to 64"),
            (
                &["supctl", "swap", "web", "--wait=soon"],
                "[possible values: ready, active, committed, drained]",
            ),
            (&["supctl", "swap", "web", "--canary", "-1"], "0 to 100"),
            (&["supctl", "swap", "web", "--canary", "-0.5%"], "0 to 100"),
            (&["supctl", "deploy", "web", "2", "app.tar", "--canary", "-1"], "0 to 100"),
            (&["supctl", "share", "web", "-5"], "0 to 100"),
            (&["supctl", "swap", "web", "--canary", "--hold"], "--hold is an option, and the share"),
            (&["supctl", "deploy", "web", "2", "app.tar", "--canary", "-q"], "-q is an option"),
            (&["supctl", "swap", "web", "--hold", "--canary", "5%"], "cannot be used with"),
            (&["supctl", "rollback", "web", "--from", "x"], "GEN"),
            (&["supctl", "kill", "web", "-s", "FOO"], "RTMIN+3"),
            (&["supctl", "status", "--watch", "--check"], "cannot be used with"),
            (&["supctl", "--timeout", "5m", "status"], "5min"),
            (&["supctl", "check"], "<FILE>"),
        ] {
            let error = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(ExitStatus::Usage.code()), "{line:?}");
            assert!(error.to_string().contains(said), "{line:?}: {error}");
        }
    }
}
