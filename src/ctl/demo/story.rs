//! The story: what is done to the server while the load runs, and what must come of it.
//!
//! Nothing here is shown that was not checked: who is active, which processes run, and who answered.

use super::keeper::log;
use super::load::Load;
use super::stage::{Interrupted, Stage};
use super::timeline::{Moment, TICK, Timeline};
use super::unit::{NAME, Unit};
use super::version::Version;
use crate::codec::json::{OutcomeView, StatusView};
use crate::codec::varlink::{self, Meta, Method};
use crate::ctl::act::error_of;
use crate::ctl::client::{Client, Observer};
use crate::ctl::failure::Failure;
use crate::model::{ExitStatus, Signal, Stops, UnitName, WaitFor};
use std::path::Path;
use std::time::{Duration, Instant};

/// Between two acts.
const STEADY: Duration = Duration::from_millis(1500);

/// How long supd may take to come up with the first version.
const FIRST: Duration = Duration::from_secs(20);

/// What the new version receives first.
const CANARY: &str = "10%";

/// How long version 2.2 serves before its fault.
const BEFORE_FAULT: Duration = Duration::from_millis(700);

/// So long may clients stay with a connection that they keep, on the busiest machine.
const RENEWED: Duration = Duration::from_secs(10);

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
        let first = self.serving()?;
        self.write(Version::New)?;
        self.shares()?;
        let (unit, wait) = (self.name.clone(), WaitFor::Committed);
        let promote = Method::Promote { unit: unit.clone(), wait };
        self.takes_over("promote", &promote, Version::Old, Version::New)?;
        self.breaks()?;
        self.stage.pause(STEADY)?;
        let rollback = Method::Rollback { unit, label: None, from: None, stop: false, anyway: false, wait };
        self.takes_over("rollback", &rollback, Version::New, Version::Old)?;
        if self.serving()? != first {
            return self.otherwise("the processes of version 1.0 are not the ones from before".into());
        }
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

    /// The new version, with a part of the new connections.
    fn shares(&self) -> Result<(), Stop> {
        self.stage.raise(&format!("supctl swap {NAME} --canary {CANARY}"), Version::New);
        let mut news = News::of(self.stage);
        let share = CANARY.parse().map_err(|_| Failure::new(ExitStatus::Failed, CANARY.to_owned()))?;
        let method = match self.swap() {
            Method::Swap { unit, label, replace, force, .. } => {
                let stops = Stops { canary: Some(share), ..Stops::default() };
                Method::Swap { unit, label, stops, replace, force, wait: WaitFor::Committed }
            }
            other => other,
        };
        if let Err(error) = self.ask(&method, &mut news)? {
            return self.not_as_told(&error);
        }
        let moment = self.moment()?;
        let candidate = moment.answered[Version::New.index()];
        let percent = candidate * 100 / moment.total().max(1);
        if candidate == 0 || percent >= 50 {
            return self.otherwise(format!("it answered {percent} % of the requests"));
        }
        self.stage.lower(
            true,
            format!("{}it answered {percent} % of the requests, {} the rest", news.ready(), Version::Old),
        );
        Ok(())
    }

    /// A version that takes over from another, which then stands by.
    fn takes_over(&self, verb: &str, method: &Method, from: Version, to: Version) -> Result<(), Stop> {
        self.stage.raise(&format!("supctl {verb} {NAME}"), to);
        let mut news = News::of(self.stage);
        if let Err(error) = self.ask(method, &mut news)? {
            return self.not_as_told(&error);
        }
        self.until_only(to)?;
        // From now on nobody else answers.
        let moment = self.moment()?;
        let others = moment.total() - moment.answered[to.index()];
        if others > 0 || moment.total() == 0 {
            return self.otherwise(format!("{others} of {} answers came from others", moment.total()));
        }
        let status = self.status()?.and_then(|status| status.units.into_iter().next()).unwrap_or_default();
        let switch = status.last_swap.and_then(|swap| swap.switch_us).unwrap_or_default();
        let back = verb == "rollback" && !news.launched;
        let launched = if back { "nothing was launched; " } else { "" };
        self.stage.lower(true, format!("{launched}switched in {switch} us; {from} stands by"));
        Ok(())
    }

    /// Waits until the clients that keep their connections have made new ones; not for ever.
    fn until_only(&self, version: Version) -> Result<(), Stop> {
        let until = Instant::now() + RENEWED;
        while Instant::now() < until {
            let now = Timeline::tick_of(self.stage.now());
            let last = self.stage.timeline().span(now.saturating_sub(NOTED), usize::MAX);
            if last.total() > 0 && last.answered[version.index()] == last.total() {
                break;
            }
            self.stage.pause(TICK)?;
        }
        Ok(())
    }

    /// Who answers from now on, for a while.
    fn moment(&self) -> Result<Moment, Stop> {
        let since = Timeline::tick_of(self.stage.now()) + NOTED;
        self.stage.pause(STEADY)?;
        Ok(self.stage.timeline().span(since, usize::MAX))
    }

    /// A version that dies before it is ready: whoever serves is not touched.
    fn breaks(&self) -> Result<(), Stop> {
        let before = self.serving()?;
        self.write(Version::Broken)?;
        self.stage.raise(&format!("supctl swap {NAME}"), Version::Broken);
        let mut news = News::of(self.stage);
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
        let mut news = News { story: Some(self), ..News::of(self.stage) };
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
        Method::Swap { unit, label: None, stops: Stops::default(), replace: false, force: false, wait }
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
    launched: bool,
    ready: Option<Duration>,
    switched: Option<Instant>,
}

impl<'a> News<'a> {
    fn of(stage: &'a Stage) -> Self {
        Self { stage, story: None, launched: false, ready: None, switched: None }
    }

    fn ready(&self) -> String {
        self.ready.map_or(String::new(), |after| format!("ready after {}; ", super::act::seconds(after)))
    }
}

impl Observer for News<'_> {
    fn step(&mut self, outcome: &OutcomeView) {
        let Some(step) = &outcome.progress else { return };
        let generation = step.generation.unwrap_or_default();
        match step.event.as_str() {
            "launched" => {
                self.launched = true;
                self.stage.tell(format!("generation {generation} launched, waiting for ready"));
            }
            "ready" => {
                self.ready = step.after_ms.map(Duration::from_millis);
                self.stage.tell("ready, settling");
            }
            "canary" => self.stage.tell(format!("receives {CANARY} of the new connections")),
            "switched" => {
                self.switched = Some(Instant::now());
                self.stage.tell("took over, on probation");
            }
            "committed" => self.stage.tell("committed"),
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
