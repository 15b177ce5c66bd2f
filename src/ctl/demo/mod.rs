//! `supctl demo`: the whole of supd's promise, seen in a quarter of a minute.
//!
//! | file | subject |
//! |---|---|
//! | [`keeper`] | a process that owns the folder and supd, and takes both away however the demo ends |
//! | [`unit`], [`server`], [`version`] | what is run: a small HTTP server in four versions, good and bad |
//! | [`load`], [`timeline`] | clients that never ask twice, and who answered them when |
//! | [`story`], [`act`], [`stage`] | what is done meanwhile, and whether it went as told |
//! | [`picture`] | all of it on a terminal, or as lines |
//!
//! The demo's supd, its keeper and its servers are this same program: `cargo run` builds no other,
//! and no version of supd beside it could be another one.

mod act;
mod keeper;
mod load;
mod picture;
mod server;
mod stage;
mod story;
mod timeline;
mod unit;
mod version;

use super::context::Context;
use super::failure::Failure;
use super::signals::Signals;
use crate::model::ExitStatus;
use crate::os::places::CONTROL_SOCKET;
use keeper::Keeper;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use picture::Scene;
use picture::chart::thousands;
use picture::live::Live;
use picture::output::{Closed, Output};
use picture::plain::Plain;
use stage::Stage;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;
use story::{Stop, Story};
use unit::Unit;
use version::Version;

/// How often the picture is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Watch a server being swapped and rolled back under load
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Examples:
  supctl demo         a picture on a terminal, lines elsewhere
  supctl demo | cat   lines

It starts a supd of its own in a temporary folder (TMPDIR, else /tmp), as whoever you are, and asks
only servers of its own, on a free port of 127.0.0.1.

Exit status: 0 no request was lost and every act went as told; 1 otherwise.")]
pub(super) struct Demo {
    #[command(subcommand)]
    role: Option<Role>,
}

/// Processes of the demo itself.
#[derive(Debug, clap::Subcommand)]
enum Role {
    /// Owns what must not be left behind
    #[command(hide = true)]
    Keeper,
    /// Serves
    #[command(hide = true)]
    Server {
        /// As which version
        version: Version,
        /// As long as this is there
        home: PathBuf,
    },
}

impl Demo {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        match self.role {
            None => demo(context),
            Some(Role::Keeper) => keeper::keep(),
            Some(Role::Server { version, home }) => Ok(server::run(version, &home)),
        }
    }
}

/// Where the picture goes.
enum Screen {
    Live(Live),
    Plain(Plain),
}

impl Screen {
    fn new(context: &Context) -> Result<Self, Failure> {
        let failed = |error| trouble(format!("cannot write to standard output: {error}"));
        let output = Output::new(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
        Ok(match context.columns {
            Some(_) => Self::Live(Live::new(output, context.paint.0)),
            None => Self::Plain(Plain::new(output)),
        })
    }

    fn draw(&mut self, scene: &Scene<'_>, ended: &dyn Fn() -> bool) -> Result<(), Closed> {
        match self {
            Self::Live(live) => live.draw(scene, ended),
            Self::Plain(plain) => plain.draw(scene, ended),
        }
    }

    fn say(&mut self, text: &str, ended: &dyn Fn() -> bool) -> Result<(), Closed> {
        match self {
            Self::Live(live) => live.say(text, ended),
            Self::Plain(plain) => plain.say(text, ended),
        }
    }
}

/// Everything that shows the story while it is told.
struct Show<'a> {
    screen: Screen,
    signals: &'a Signals,
    stage: &'a Stage,
    heading: String,
}

fn demo(context: &Context) -> Result<ExitStatus, Failure> {
    let failed = |error: io::Error| trouble(format!("cannot take signals: {error}"));
    let signals = Signals::take().map_err(failed)?;
    let program = program()?;
    let stage = Stage::default();
    let mut show =
        Show { screen: Screen::new(context)?, signals: &signals, stage: &stage, heading: String::new() };
    let keeper = Keeper::start()?;
    show.tell(keeper, &program)?;
    let timeline = stage.timeline();
    let text = format!(
        "{} requests, {}; idle closes: {}.",
        thousands(timeline.requests()),
        timeline.losses(),
        timeline.idle_closes()
    );
    show.screen.say(&text, &|| signals.came().is_some()).map_err(|closed| show.ended_by(closed))?;
    let good = timeline.total().lost == 0 && timeline.requests() > 0 && !stage.failed();
    Ok(if good { ExitStatus::Done } else { ExitStatus::Failed })
}

impl Show<'_> {
    /// Has the story told from its beginning to its end, and everything taken away after it.
    fn tell(&mut self, mut keeper: Keeper, program: &str) -> Result<(), Failure> {
        let home = keeper.home().to_path_buf();
        let stage = self.stage;
        std::thread::scope(|scope| {
            let begun = free_address().and_then(|address| {
                let unit = Unit { home: &home, program, address };
                unit.write(Version::Old)
                    .map_err(|error| trouble(format!("cannot write the unit: {error}")))?;
                keeper.begin()?;
                let clients = load::CLIENTS;
                self.heading =
                    format!("http://{address}  {clients} clients, {} keep their connections", clients / 2);
                let story = Story::new(stage, unit, &home.join("run").join(CONTROL_SOCKET))?;
                Ok(scope.spawn(move || story.tell()))
            });
            let watched = begun.map(|story| {
                let seen = self.watch(&mut keeper, || story.is_finished());
                (story, seen)
            });
            stage.interrupt();
            let cleaned = keeper.end();
            stage.end();
            let (story, seen) = watched?;
            let told = story.join().map_err(|_| trouble("the story broke off".into()))?;
            // The keeper knows best why there is no supd, the story only that there is none.
            cleaned.and(seen)?;
            match told {
                Ok(()) => Ok(()),
                Err(Stop::Failed(failure)) => Err(Failure { status: ExitStatus::Failed, ..failure }),
                Err(Stop::Interrupted) => Err(self.ended_by(Closed::Ended)),
                Err(Stop::NotAsTold(details)) => {
                    let text = "this did not go as told".to_owned();
                    Err(Failure { details, ..trouble(text) })
                }
            }
        })
    }

    /// Draws until the story is told, supd is gone, or somebody wants an end.
    fn watch(&mut self, keeper: &mut Keeper, is_told: impl Fn() -> bool) -> Result<(), Failure> {
        let (stage, signals) = (self.stage, self.signals);
        let ended = || signals.came().is_some();
        loop {
            let last = is_told();
            if last {
                stage.end();
            }
            if stage.has_begun() {
                let (acts, versions) = stage.scene();
                let (timeline, now) = (stage.timeline(), stage.now());
                let heading = &self.heading;
                let scene = Scene { heading, timeline: &timeline, now, acts: &acts, versions: &versions };
                self.screen.draw(&scene, &ended).map_err(|closed| self.ended_by(closed))?;
            }
            if last {
                return Ok(());
            }
            if let Some(failure) = keeper.failure() {
                return Err(failure);
            }
            let frame = PollTimeout::try_from(FRAME).unwrap_or(PollTimeout::ZERO);
            let _interrupted = poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], frame);
            if ended() {
                return Err(self.ended_by(Closed::Ended));
            }
        }
    }

    /// Why there is no more to see.
    fn ended_by(&self, closed: Closed) -> Failure {
        let signal = match closed {
            Closed::Gone => Some(signal_hook::consts::SIGPIPE),
            Closed::Ended => self.signals.came(),
            Closed::Failed(errno) => {
                return trouble(format!("cannot write to standard output: {}", errno.desc()));
            }
        };
        Failure { signal, ..trouble("the demo left nothing behind".into()) }
    }
}

/// This program's file, for the unit.
fn program() -> Result<String, Failure> {
    let path = std::env::current_exe()
        .map_err(|error| trouble(format!("cannot find this program's own file: {error}")))?;
    let text = path.to_str().filter(|_| path.exists());
    text.map(ToOwned::to_owned).ok_or_else(|| {
        let text =
            format!("{} is not there any more, or no UTF-8: supctl cannot start itself", path.display());
        trouble(text)
    })
}

/// An address that was free a moment ago. The demo's supd takes it at once.
fn free_address() -> Result<SocketAddr, Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    bound.map_err(|error| trouble(format!("cannot find a free port: {error}")))
}

fn trouble(text: String) -> Failure {
    Failure::new(ExitStatus::Failed, text)
}
