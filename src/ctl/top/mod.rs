//! `supctl top`: what `supctl status --watch` asks, drawn as a screen that is looked at and acted on.
//!
//! One thread looks, and one more does what a person has confirmed: what draws waits for neither.

mod draw;
mod screen;

use super::act::error_of;
use super::args;
use super::client::Client;
use super::context::Context;
use super::failure::Failure;
use crate::codec::json::{HistoryEntry, HistoryView, OutcomeView, StatusView};
use crate::codec::varlink::{Answer, Meta, Method};
use crate::model::{ExitStatus, UnitName};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use screen::{Next, Screen};
use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// The history is read again after so many looks, or when a swap goes on.
const HISTORY_EVERY: u32 = 5;

/// So many of what happened last are shown.
const ENTRIES: u64 = 8;

/// A key is heard of at once, and what was looked up within this.
const FRAME: Duration = Duration::from_millis(200);

/// Look at units, generations and shares as they change, and promote, abort or roll back
#[derive(Debug, clap::Args)]
#[command(about = "Look at what runs as it changes, and act on it")]
#[command(after_help = "\
Examples:
  supctl top            every unit
  supctl top web        this one selected

Keys: up and down, or k and j, select a unit; p promotes its swap, a aborts it, r rolls back, each
after y; ? is help; q, Esc or Ctrl-C ends. What was asked for goes on when this ends. The graph is
of open connections, a look a second. It needs a terminal of 60 columns and 16 lines; for programs
and pipes there are supctl status --watch and supctl --json status --watch.")]
pub(super) struct Top {
    /// The unit to select first
    #[arg(value_name = "UNIT", value_parser = args::unit)]
    unit: Option<UnitName>,
}

/// What the other threads bring.
enum News {
    Status(Box<StatusView>),
    History(Vec<HistoryEntry>),
    /// Why there is no status.
    Gone(String),
    /// What supd said to what a person asked for, and whether it was done.
    Said(bool, String),
    /// This signal came.
    Signal(i32),
}

impl Top {
    pub(super) fn run(self, context: &Context) -> Result<ExitStatus, Failure> {
        if context.json || context.columns.is_none() || !io::stdin().is_terminal() {
            let text = "top draws on a terminal, and this is none, or it is for programs";
            return Err(Failure::new(ExitStatus::Usage, text).next("supctl --json status --watch"));
        }
        let (sender, news) = mpsc::channel();
        let client = context.client()?;
        // The first answer decides whether there is anything to draw.
        let first = look(&client)?;
        let mut screen = Screen::new(context.paint.0, self.unit.as_ref().map(UnitName::as_str));
        screen.status(first);
        if let Some(unit) = self.unit.as_ref().filter(|unit| !screen.has(unit.as_str())) {
            let text = format!("there is no unit {unit}");
            return Err(Failure::new(ExitStatus::Refused, text).next("supctl status"));
        }
        let looker = sender.clone();
        thread::spawn(move || keep_looking(&client, &looker));
        let mut terminal = ratatui::try_init().map_err(|error| lost(&error))?;
        let ended = follow(&mut terminal, &mut screen, (&news, &sender), context);
        let restored = ratatui::try_restore().map_err(|error| lost(&error));
        ended.and(restored).map(|()| ExitStatus::Done)
    }
}

fn lost(error: &io::Error) -> Failure {
    Failure::new(ExitStatus::Failed, format!("the terminal is lost: {error}")).next("supctl status --watch")
}

/// Draws and hears until a person has seen enough.
fn follow(
    terminal: &mut ratatui::DefaultTerminal,
    screen: &mut Screen,
    (news, sender): (&Receiver<News>, &Sender<News>),
    context: &Context,
) -> Result<(), Failure> {
    loop {
        terminal.draw(|frame| draw::draw(screen, frame)).map_err(|error| lost(&error))?;
        if event::poll(FRAME).map_err(|error| lost(&error))? {
            let heard = event::read().map_err(|error| lost(&error))?;
            match heard {
                Event::Key(key) if key.kind != KeyEventKind::Release => match screen.key(key) {
                    Next::Stay => {}
                    Next::Leave => return Ok(()),
                    Next::Act(method) => begin(method, sender.clone(), context)?,
                },
                _ => {}
            }
        }
        while let Ok(came) = news.try_recv() {
            match came {
                News::Status(status) => screen.status(*status),
                News::History(entries) => screen.history(entries),
                News::Gone(why) => screen.gone(why),
                News::Said(done, text) => screen.said(done, text),
                News::Signal(signal) => {
                    let text = "supctl ends here";
                    let failure = Failure::new(ExitStatus::Timeout, text);
                    return Err(Failure { signal: Some(signal), ..failure });
                }
            }
        }
    }
}

fn look(client: &Client) -> Result<StatusView, Failure> {
    read(&client.ask(&Method::Status { unit: None, count: true }, &Meta::default(), None)?)
}

fn read<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, Failure> {
    if let Some(error) = error_of(answer) {
        return Err(Failure::from_error(&error, None));
    }
    serde_json::from_str(answer.raw()).map_err(|fault| {
        Failure::new(ExitStatus::Refused, format!("supd's answer is not understood: {fault}"))
    })
}

/// Looks until nobody wants to know, or a signal came.
fn keep_looking(client: &Client, sender: &Sender<News>) {
    let (mut looks, mut swaps) = (0, Vec::new());
    loop {
        let (news, history) = match look(client) {
            Ok(status) => {
                let now: Vec<_> = status.units.iter().map(|unit| unit.last_swap.clone()).collect();
                let due = looks % HISTORY_EVERY == 0 || now != swaps;
                swaps = now;
                (News::Status(Box::new(status)), due)
            }
            Err(Failure { signal: Some(signal), .. }) => (News::Signal(signal), false),
            Err(failure) => (News::Gone(failure.text), false),
        };
        looks += 1;
        let ends = matches!(news, News::Signal(_));
        if sender.send(news).is_err() || ends {
            return;
        }
        if history {
            let method = Method::History { unit: None, since_us: None, before: None, limit: Some(ENTRIES) };
            let asked = client.ask(&method, &Meta::default(), None);
            // What is not told is told with the next look.
            if let Ok(HistoryView { entries, .. }) = asked.and_then(|answer| read(&answer)) {
                let _nobody = sender.send(News::History(entries));
            }
        }
        if let Err(Failure { signal: Some(signal), .. }) = client.pause(LOOK) {
            let _nobody = sender.send(News::Signal(signal));
            return;
        }
    }
}

/// Asks supd for it, beside what draws.
fn begin(method: Method, sender: Sender<News>, context: &Context) -> Result<(), Failure> {
    let client = context.client()?;
    let meta = Meta { request_id: None, ..context.meta.clone() };
    thread::spawn(move || {
        let said = client.ask(&method, &meta, None).and_then(|answer| read::<OutcomeView>(&answer));
        let news = match said {
            Ok(outcome) => News::Said(true, outcome.text),
            Err(failure) => News::Said(false, failure.text),
        };
        let _nobody = sender.send(news);
    });
    Ok(())
}
