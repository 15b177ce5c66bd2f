//! The story: what is done to the server while the load runs, and what must come of it.
//!
//! Nothing here is shown that was not checked: who is active, which processes run, and who answered.

use super::keeper::log;
use super::load::Load;
use super::stage::{Interrupted, Stage};
use super::timeline::{TICK, Timeline};
use super::unit::{NAME, Unit};
use super::version::Version;
use crate::codec::json::{OutcomeView, StatusView};
use crate::codec::varlink::{self, Meta, Method};
use crate::ctl::act::error_of;
use crate::ctl::client::{Client, Observer};
use crate::ctl::failure::Failure;
use crate::model::{ExitStatus, Signal, UnitName, WaitFor};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two acts.
const STEADY: Duration = Duration::from_millis(1500);

/// How long supd may take to come up with the first version.
const FIRST: Duration = Duration::from_secs(20);

/// How long version 2.2 serves before its fault.
const BEFORE_FAULT: Duration = Duration::from_millis(700);

/// A request that was answered before a moment is noted no later than this after it.
const NOTED: usize = 4;

/// Why the story ends early.
#[derive(Debug)]
pub(super) enum Stop {
    /// Somebody wants that.
    Interrupted,
    /// The act under way did not go as told; more about it.
    NotAsTold(Vec<String>),
    /// Something is broken.
    Failed(Failure),
}

impl From<Interrupted> for Stop {
    fn from(_: Interrupted) -> Self {
        Self::Interrupted
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        if failure.signal.is_some() { Self::Interrupted } else { Self::Failed(failure) }
    }
}

/// What an act came to.
type Answer = Result<OutcomeView, varlink::Error>;

/// Who tells it, and to whom.
#[derive(Debug)]
pub(super) struct Story<'a> {
    stage: &'a Stage,
    unit: Unit<'a>,
    name: UnitName,
    client: Client,
}

/// Who serves: a generation and its processes.
#[derive(Debug, PartialEq, Eq)]
struct Serving {
    generation: Option<u64>,
    pids: Vec<i32>,
}

impl<'a> Story<'a> {
    /// A story on this stage, with the supd whose control socket this is.
    pub(super) fn new(stage: &'a Stage, unit: Unit<'a>, control: &Path) -> Result<Self, Failure> {
        let name = UnitName::new(NAME)
            .map_err(|error| Failure::new(ExitStatus::Failed, format!("{NAME}: {error}")))?;
        Ok(Self { stage, unit, name, client: Client::new(control.to_path_buf(), None)? })
    }

    /// Tells it from the beginning to the end.
    pub(super) fn tell(&self) -> Result<(), Stop> {
        self.first()?;
        self.stage.pause(STEADY)?;
        self.write(Version::New)?;
        self.works(&format!("supctl swap {NAME}"), &self.swap(), Version::Old, Version::New)?;
        self.breaks()?;
        self.stage.pause(STEADY)?;
        let (unit, wait) = (self.name.clone(), WaitFor::Drained);
        let rollback = Method::Rollback { unit, label: None, from: None, stop: false, anyway: false, wait };
        self.works(&format!("supctl rollback {NAME}"), &rollback, Version::New, Version::Old)?;
        self.gives_up()?;
        self.stage.pause(STEADY)?;
        Ok(())
    }

    /// Version 1.0 is there; the load begins.
    fn first(&self) -> Result<(), Stop> {
        let until = Instant::now() + FIRST;
        loop {
            let status = self.status()?;
            match status.as_ref().map(|status| status.units.first().map(|unit| unit.state.as_str())) {
                Some(Some("active")) => break,
                // Its file was refused, or its port was taken.
                Some(None | Some("down" | "stopped")) => return Err(self.not_up().into()),
                Some(Some(_)) | None if Instant::now() >= until => return Err(self.not_up().into()),
                Some(Some(_)) | None => self.stage.pause(TICK)?,
            }
        }
        let failed = |error| Failure::new(ExitStatus::Failed, format!("cannot start the load: {error}"));
        self.stage.begin(Load::start(self.unit.address).map_err(failed)?);
        self.stage.raise("supd", Version::Old);
        self.stage.lower(true, "serves");
        Ok(())
    }

    /// A change from one version to another that goes well; then the old one is gone.
    fn works(&self, command: &str, method: &Method, from: Version, to: Version) -> Result<(), Stop> {
        self.stage.raise(command, to);
        let mut news = News { stage: self.stage, story: None, ready: None, switched: None };
        match self.ask(method, &mut news)? {
            Ok(_) => {}
            Err(error) => return self.not_as_told(&error),
        }
        let ready = news.ready.map_or(String::new(), |after| format!("ready after {}; ", seconds(after)));
        self.stage.lower(true, format!("{ready}{from} is gone"));
        // From now on nobody else answers.
        let since = Timeline::tick_of(self.stage.now()) + NOTED;
        self.stage.pause(STEADY)?;
        let moment = self.stage.timeline().span(since, usize::MAX);
        if moment.answered[to.index()] == moment.total() && moment.total() > 0 {
            return Ok(());
        }
        self.otherwise(format!(
            "{} of {} answers came from others",
            moment.total(),
            moment.answered[to.index()]
        ))
    }

    /// A version that dies before it is ready: whoever serves is not touched.
    fn breaks(&self) -> Result<(), Stop> {
        let before = self.serving()?;
        self.write(Version::Broken)?;
        self.stage.raise(&format!("supctl swap {NAME}"), Version::Broken);
        let mut news = News { stage: self.stage, story: None, ready: None, switched: None };
        let failure = match self.ask(&self.swap(), &mut news)? {
            Err(varlink::Error::Failed(failure)) => failure,
            Err(error) => return self.not_as_told(&error),
            Ok(outcome) => return self.otherwise(outcome.text),
        };
        if self.serving()? != before {
            return self.otherwise("who serves has changed".into());
        }
        let answered = self.stage.timeline().total().answered[Version::Broken.index()];
        if answered > 0 {
            return self.otherwise(format!("it answered {answered} requests"));
        }
        let how = failure.ended.and_then(|ended| ended.exit).unwrap_or_else(|| "never began".into());
        self.stage.lower(true, format!("died ({how}); {} was not touched", Version::New));
        Ok(())
    }

    /// A version that takes over and dies on probation: supd goes back by itself.
    fn gives_up(&self) -> Result<(), Stop> {
        let before = self.serving()?;
        self.write(Version::Faulty)?;
        self.stage.raise(&format!("supctl swap {NAME}"), Version::Faulty);
        let mut news = News { stage: self.stage, story: Some(self), ready: None, switched: None };
        match self.ask(&self.swap(), &mut news)? {
            Err(varlink::Error::RolledBack(_)) => {}
            Err(error) => return self.not_as_told(&error),
            Ok(outcome) => return self.otherwise(outcome.text),
        }
        if self.serving()? != before {
            return self.otherwise("not the one before is active".into());
        }
        if self.stage.timeline().total().answered[Version::Faulty.index()] == 0 {
            return self.otherwise("it never answered".into());
        }
        self.stage.lower(true, format!("died on probation; back on {} by itself", Version::Old));
        Ok(())
    }

    fn swap(&self) -> Method {
        let (unit, wait) = (self.name.clone(), WaitFor::Drained);
        Method::Swap { unit, label: None, hold: false, canary: None, replace: false, force: false, wait }
    }

    fn write(&self, version: Version) -> Result<(), Failure> {
        let failed = |error| Failure::new(ExitStatus::Failed, format!("cannot write the unit file: {error}"));
        self.unit.write(version).map_err(failed)
    }

    fn ask(&self, method: &Method, news: &mut News<'_>) -> Result<Answer, Failure> {
        let answer = self.client.ask(method, &Meta::default(), Some(news))?;
        Ok(match error_of(&answer) {
            Some(error) => Err(error),
            None => Ok(serde_json::from_str(answer.raw()).unwrap_or_default()),
        })
    }

    fn not_up(&self) -> Failure {
        let text = format!("supd could not bring {NAME} up; it wrote last:");
        Failure { details: log(self.unit.home), ..Failure::new(ExitStatus::Failed, text) }
    }

    /// What there is; `None`: no supd is there yet.
    fn status(&self) -> Result<Option<StatusView>, Failure> {
        let method = Method::Status { unit: Some(self.name.clone()), count: false };
        match self.client.ask(&method, &Meta::default(), None) {
            Err(failure) if failure.status == ExitStatus::NoSupd => Ok(None),
            Err(failure) => Err(failure),
            Ok(answer) => Ok(Some(serde_json::from_str(answer.raw()).unwrap_or_default())),
        }
    }

    fn serving(&self) -> Result<Serving, Failure> {
        let unit = self.status()?.and_then(|status| status.units.into_iter().next()).unwrap_or_default();
        let generation = unit.active;
        let one = unit.generations.into_iter().find(|one| Some(one.generation) == generation);
        Ok(Serving { generation, pids: one.map(|one| one.pids).unwrap_or_default() })
    }

    fn not_as_told(&self, error: &varlink::Error) -> Result<(), Stop> {
        let failure = Failure::from_error(error, Some(NAME));
        self.stage.lower(false, failure.text.clone());
        Err(Stop::NotAsTold(failure.details))
    }

    fn otherwise(&self, what: String) -> Result<(), Stop> {
        self.stage.lower(false, what);
        Err(Stop::NotAsTold(Vec::new()))
    }
}

/// Tells the stage what supd tells on the way.
struct News<'a> {
    stage: &'a Stage,
    /// Who strikes the new version with its fault a while after the switch.
    story: Option<&'a Story<'a>>,
    ready: Option<Duration>,
    switched: Option<Instant>,
}

impl Observer for News<'_> {
    fn step(&mut self, outcome: &OutcomeView) {
        let Some(step) = &outcome.progress else { return };
        let generation = step.generation.unwrap_or_default();
        match step.event.as_str() {
            "launched" => self.stage.tell(format!("generation {generation} launched, waiting for ready")),
            "ready" => {
                self.ready = step.after_ms.map(Duration::from_millis);
                self.stage.tell("ready, settling");
            }
            "switched" => {
                self.switched = Some(Instant::now());
                self.stage.tell("took over, on probation");
            }
            "committed" => self.stage.tell("committed, the old one finishes"),
            "rolling-back" => self.stage.tell("going back"),
            _ => {}
        }
    }

    fn tick(&mut self) {
        let due = self.switched.is_some_and(|at| at.elapsed() >= BEFORE_FAULT);
        let Some(story) = self.story.take_if(|_| due) else { return };
        let strike = Method::Kill { unit: story.name.clone(), signal: Signal(10) };
        // If it fails, the version lives and the act does not go as told.
        let _told_by_the_act = story.client.ask(&strike, &Meta::default(), None);
    }

    fn period(&self) -> Duration {
        TICK
    }
}

fn seconds(span: Duration) -> String {
    super::act::seconds(span)
}
