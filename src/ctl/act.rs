//! What verbs that act have in common: ask, show what happens, say how it ended.

use super::client::{Client, Observer};
use super::context::{Context, Read, cannot_write};
use super::failure::{Failure, about, last_words};
use super::logs;
use super::render::live::Live;
use super::render::text::{Colour, clean};
use super::source::{Opened, SourceArgs};
use crate::codec::json::{CatView, OutcomeView, SettingView};
use crate::codec::varlink::{self, Answer, Meta, Method};
use crate::model::text::says_in_use;
use crate::model::{ExitStatus, Generation, UnitName};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::{self, Stdout};
use std::time::{Duration, Instant};

/// How often the living line is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Asks supd to do something and shows what comes of it.
pub(super) fn act(context: &Context, method: &Method) -> Result<ExitStatus, Failure> {
    ask(context, method, None)
}

/// The same with a SOURCE that goes along; a rehearsal only looks at it.
pub(super) fn act_with(
    context: &Context,
    method: &Method,
    source: &SourceArgs,
) -> Result<ExitStatus, Failure> {
    if context.meta.dry_run {
        source.look(context)?;
        return ask(context, method, None);
    }
    ask(context, method, Some(source.open(context)?))
}

fn ask(context: &Context, method: &Method, source: Option<Opened>) -> Result<ExitStatus, Failure> {
    let client = context.client()?;
    let mut show = (!context.json).then(|| Show::new(context, method));
    let observer = show.as_mut().map(|show| show as &mut dyn Observer);
    let descriptor = source.as_ref().map(Opened::descriptor);
    let answer = client.pass(method, &context.meta, descriptor, observer).map(|(answer, _)| answer);
    if let Some(show) = &mut show {
        show.live.end();
    }
    match (answer, source) {
        (Err(failure), Some(source)) if source.is_sending() && was_heard(&failure) => Err(cut_off(failure)),
        (Err(failure), _) => Err(goes_on(failure, method)),
        (Ok(answer), source) => {
            source.map_or(Ok(()), |source| source.finish(answer.error.is_none()))?;
            tell(context, method, show, &answer)
        }
    }
}

fn tell(
    context: &Context,
    method: &Method,
    show: Option<Show>,
    answer: &Answer,
) -> Result<ExitStatus, Failure> {
    let unwritten = |failure: Failure| match context.meta.dry_run {
        true => failure,
        false => unwritten(&failure, method, answer),
    };
    let Some(mut show) = show else { return print_json(context, answer).map_err(unwritten) };
    if let Some(error) = error_of(answer) {
        let failure = Failure::from_error(&error, method.unit().map(UnitName::as_str));
        return Err(with_last_words(context, method.unit(), &error, failure));
    }
    let outcome: OutcomeView = serde_json::from_str(answer.raw()).unwrap_or_default();
    show.live.line(&outcome.text, Some(Colour::Good));
    let written = match (show.live.failure(), outcome.next) {
        (Some(error), _) => Err(cannot_write(&error)),
        (None, Some(next)) => context.print([format!("  Next: supctl {}", clean(&next))]),
        (None, None) => Ok(Read::Yes),
    };
    written.map_err(unwritten)?;
    Ok(ExitStatus::Done)
}

/// What a generation wrote that failed is in the answer, unless it is in the journal, which supd itself does not ask.
fn with_last_words(
    context: &Context,
    unit: Option<&UnitName>,
    error: &varlink::Error,
    mut failure: Failure,
) -> Failure {
    let generation = match error {
        varlink::Error::Failed(its)
        | varlink::Error::RolledBack(its)
        | varlink::Error::Down(its)
        | varlink::Error::TimedOut(its) => {
            its.ended.as_ref().filter(|_| its.log_file.is_none()).map(|ended| ended.generation)
        }
        _ => None,
    };
    let (Some(unit), Some(generation)) = (unit, generation) else { return failure };
    // It is a help, and no more: why there is none would hide why this failed.
    let Ok(client) = context.client() else { return failure };
    if let Ok(Some(wrote)) = logs::last_words(&client, unit, Generation(generation)) {
        failure.details.extend(last_words(&wrote));
        failure.details.push(format!("All of it: supctl logs {unit} --generation {generation}"));
        if wrote.iter().any(|line| says_in_use(line)) && inherits(&client, unit) {
            let hint = "It seems to bind an address itself which supd has bound for it: write Handoff = \"intercept\" \
                        under [Service], or have it take LISTEN_FDS.";
            failure.details.push(hint.to_owned());
        }
    }
    failure
}

/// Whether the unit's workers are to take the listeners that they are given.
fn inherits(client: &Client, unit: &UnitName) -> bool {
    let method = Method::Cat { unit: unit.clone(), generation: None };
    let answer = client.ask(&method, &Meta::default(), None);
    let view: CatView =
        answer.ok().and_then(|answer| serde_json::from_str(answer.raw()).ok()).unwrap_or_default();
    let inherit = |one: &SettingView| one.key == "Handoff" && one.value.as_deref() == Some("\"inherit\"");
    view.settings.iter().any(inherit) && view.settings.iter().any(|one| one.table.starts_with("Socket"))
}

/// supd has answered, and that cannot be shown. What is done is done: the status is that of the answer,
/// for "not touched" would have CI deploy once more.
fn unwritten(failure: &Failure, method: &Method, answer: &Answer) -> Failure {
    let unit = method.unit().map(UnitName::as_str);
    let told = match error_of(answer) {
        Some(error) => Failure::from_error(&error, unit),
        None => {
            let outcome: OutcomeView = serde_json::from_str(answer.raw()).unwrap_or_default();
            Failure::new(ExitStatus::Done, about(&outcome.text, unit))
        }
    };
    let text = format!("{}; supd answered nevertheless: {}", failure.text, told.text);
    let status = || unit.map_or_else(|| "supctl status".to_owned(), |unit| format!("supctl status {unit}"));
    let next = Some(told.next.clone().unwrap_or_else(status));
    Failure { text, next, ..told }
}

/// Whether supd had the request: what keeps others from it says for itself what to do.
fn was_heard(failure: &Failure) -> bool {
    !matches!(failure.status, ExitStatus::NoSupd | ExitStatus::NotAllowed)
}

/// Who stops in the middle of an archive has sent none: supd refuses what has no end.
fn cut_off(failure: Failure) -> Failure {
    let text = "SOURCE was cut off, so nothing is installed".to_owned();
    let next = Some("the same command once more".to_owned());
    Failure { text, next, status: ExitStatus::Failed, ..failure }
}

/// The error of an answer; one that this supctl does not know is refused in its own words.
pub(super) fn error_of(answer: &Answer) -> Option<varlink::Error> {
    let name = answer.error.as_deref()?;
    Some(varlink::Error::parse(name, answer.raw()).unwrap_or_else(|| {
        let reason = format!("supd answered with {name} {}: it is newer than supctl", answer.raw());
        varlink::Error::Refused(varlink::error::Refusal { reason, ..Default::default() })
    }))
}

/// An error as it came, less the protocol's own fields.
#[derive(Serialize)]
struct RawError<'a> {
    error: &'a str,
    parameters: Option<&'a RawValue>,
}

/// Prints an answer as it came; an error with its name.
pub(super) fn print_json(context: &Context, answer: &Answer) -> Result<ExitStatus, Failure> {
    match (&answer.error, error_of(answer)) {
        (Some(name), Some(error)) => {
            let raw = RawError { error: name, parameters: answer.parameters.as_deref() };
            context.print([serde_json::to_string(&raw).unwrap_or_default()])?;
            Ok(error.exit_status())
        }
        (None, _) | (_, None) => {
            context.print([answer.raw()])?;
            Ok(ExitStatus::Done)
        }
    }
}

/// Whoever stops waiting is told that supd does not stop, and how to join it again.
fn goes_on(failure: Failure, method: &Method) -> Failure {
    let interrupted = failure.signal.is_some();
    if failure.next.is_some() || !(interrupted || failure.status == ExitStatus::Timeout) {
        return failure;
    }
    let verb = match method {
        Method::Swap { .. } => "swap",
        Method::Rollback { .. } => "rollback",
        Method::Restart { .. } => "restart",
        Method::Install { .. } => "install",
        Method::Deploy { .. } => "deploy",
        Method::Undeploy { .. } => "request",
        Method::Start { .. } => "start",
        Method::Stop { .. } => "stop",
        Method::Promote { .. } => "promotion",
        Method::Reload { .. } => "reload",
        Method::Wait { .. } | Method::Status { .. } | Method::Releases { .. } | Method::Cat { .. } => "wait",
        Method::History { .. }
        | Method::Watch { .. }
        | Method::Kill { .. }
        | Method::Abort { .. }
        | Method::Share { .. }
        | Method::Drain { .. }
        | Method::Logs { .. }
        | Method::Connect { .. }
        | Method::DaemonReload
        | Method::Reexec
        | Method::Shutdown => "request",
    };
    let next = match method.unit() {
        // Whoever lost the connection cannot know how far it came, and wait knows no more.
        Some(_) if !interrupted && matches!(method, Method::Install { .. } | Method::Deploy { .. }) => {
            "the same command once more: what is done already is not done twice".to_owned()
        }
        Some(unit) if !matches!(method, Method::Reload { .. } | Method::Kill { .. }) => {
            format!("supctl wait {unit}")
        }
        Some(unit) => format!("supctl status {unit}"),
        None => "supctl status".to_owned(),
    };
    match (interrupted, verb) {
        (true, "wait") => Failure { text: "what is under way goes on".into(), ..failure }.next(next),
        (true, verb) => Failure { text: format!("the {verb} goes on"), ..failure }.next(next),
        (false, _) => failure.next(next),
    }
}

/// Shows steps as they come.
struct Show {
    live: Live<Stdout>,
}

impl Show {
    fn new(context: &Context, method: &Method) -> Self {
        let subject = method.unit().map(UnitName::as_str).unwrap_or_default();
        let mut live = Live::new(io::stdout(), context.columns, context.paint, subject);
        live.wait_for("supd's answer", Instant::now());
        Self { live }
    }
}

impl Observer for Show {
    fn step(&mut self, outcome: &OutcomeView) {
        self.live.step(outcome, Instant::now());
    }

    fn tick(&mut self) {
        self.live.tick(Instant::now());
    }

    fn period(&self) -> Duration {
        if self.live.is_live() { FRAME } else { Duration::MAX }
    }
}
