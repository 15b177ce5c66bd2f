//! What is on the screen, and what keys make of it. Nothing here draws or asks.

use crate::codec::json::{HistoryEntry, StatusView, UnitView};
use crate::codec::varlink::Method;
use crate::model::{UnitName, WaitFor};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use std::collections::{BTreeMap, VecDeque};

/// So many looks are kept for the graph.
const SAMPLES: usize = 240;

/// What follows from a key.
#[derive(Debug, PartialEq)]
pub(super) enum Next {
    Stay,
    Leave,
    Act(Method),
}

/// What a person can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Promote,
    Abort,
    Rollback,
}

impl Act {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Promote => "promote",
            Self::Abort => "abort",
            Self::Rollback => "roll back",
        }
    }

    fn method(self, unit: UnitName) -> Method {
        match self {
            Self::Promote => Method::Promote { unit, wait: WaitFor::Active },
            Self::Abort => Method::Abort { unit },
            Self::Rollback => Method::Rollback {
                unit,
                label: None,
                from: None,
                stop: false,
                anyway: false,
                wait: WaitFor::Active,
            },
        }
    }
}

/// What keys are for at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Look,
    Help,
    /// Whether this is to be done, to which unit.
    Confirm(Act, String),
}

/// Everything that is drawn.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) colours: bool,
    pub(super) status: StatusView,
    pub(super) history: Vec<HistoryEntry>,
    /// The name of the unit, which stays selected when others come and go.
    pub(super) selected: Option<String>,
    pub(super) mode: Mode,
    /// Why there is no status any more.
    pub(super) gone: Option<String>,
    /// What is being asked for.
    pub(super) asked: Option<String>,
    /// What supd said to that, and whether it was done.
    pub(super) said: Option<(bool, String)>,
    /// Open connections of each unit, a look each, the last one last.
    samples: BTreeMap<String, VecDeque<u64>>,
}

impl Screen {
    pub(super) fn new(colours: bool, selected: Option<&str>) -> Self {
        Self {
            colours,
            status: StatusView::default(),
            history: Vec::new(),
            selected: selected.map(str::to_owned),
            mode: Mode::Look,
            gone: None,
            asked: None,
            said: None,
            samples: BTreeMap::new(),
        }
    }

    /// Takes a look in.
    pub(super) fn status(&mut self, status: StatusView) {
        self.gone = None;
        self.status = status;
        let units = &self.status.units;
        self.samples.retain(|name, _| units.iter().any(|unit| unit.unit == *name));
        for unit in units {
            let samples = self.samples.entry(unit.unit.clone()).or_default();
            if samples.len() == SAMPLES {
                samples.pop_front();
            }
            samples.push_back(connections(unit).unwrap_or(0));
        }
        if self.unit().is_none() {
            self.selected = units.first().map(|unit| unit.unit.clone());
        }
    }

    pub(super) fn history(&mut self, entries: Vec<HistoryEntry>) {
        self.history = entries;
    }

    pub(super) fn gone(&mut self, why: String) {
        self.gone = Some(why);
    }

    pub(super) fn said(&mut self, done: bool, text: String) {
        self.asked = None;
        self.said = Some((done, text));
    }

    pub(super) fn has(&self, unit: &str) -> bool {
        self.status.units.iter().any(|there| there.unit == unit)
    }

    /// The selected one.
    pub(super) fn unit(&self) -> Option<&UnitView> {
        self.status.units.get(self.place()?)
    }

    /// Its place among them.
    pub(super) fn place(&self) -> Option<usize> {
        let name = self.selected.as_ref()?;
        self.status.units.iter().position(|unit| unit.unit == *name)
    }

    /// Open connections of the selected one, the last look last.
    pub(super) fn samples(&self) -> Vec<u64> {
        let its = self.selected.as_ref().and_then(|name| self.samples.get(name));
        its.map(|samples| samples.iter().copied().collect()).unwrap_or_default()
    }

    fn select(&mut self, step: isize) {
        let last = self.status.units.len().saturating_sub(1);
        let place = self.place().unwrap_or(0).saturating_add_signed(step).min(last);
        self.selected = self.status.units.get(place).map(|unit| unit.unit.clone());
    }

    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) -> Next {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        if control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Next::Leave;
        }
        match std::mem::replace(&mut self.mode, Mode::Look) {
            Mode::Confirm(act, unit) => match (key.code, UnitName::new(&unit)) {
                (KeyCode::Char('y' | 'Y'), Ok(name)) => {
                    self.asked = Some(format!("{} {unit}", act.word()));
                    self.said = None;
                    Next::Act(act.method(name))
                }
                _ => Next::Stay,
            },
            Mode::Help => Next::Stay,
            Mode::Look => self.look(key.code),
        }
    }

    fn look(&mut self, code: KeyCode) -> Next {
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Next::Leave,
            KeyCode::Char('j') | KeyCode::Down => self.select(1),
            KeyCode::Char('k') | KeyCode::Up => self.select(-1),
            KeyCode::PageDown => self.select(10),
            KeyCode::PageUp => self.select(-10),
            KeyCode::Home => self.select(isize::MIN),
            KeyCode::End => self.select(isize::MAX),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Help,
            KeyCode::Char('p') => self.ask(Act::Promote),
            KeyCode::Char('a') => self.ask(Act::Abort),
            KeyCode::Char('r') => self.ask(Act::Rollback),
            _ => {}
        }
        Next::Stay
    }

    /// Asks whether it is meant; one thing at a time.
    fn ask(&mut self, act: Act) {
        if let (Some(unit), None) = (&self.selected, &self.asked) {
            self.mode = Mode::Confirm(act, unit.clone());
        }
    }
}

/// Of all generations; `None`: nobody has counted them.
pub(super) fn connections(unit: &UnitView) -> Option<u64> {
    let counted = unit.generations.iter().filter_map(|generation| generation.connections);
    counted.reduce(|sum, more| sum.saturating_add(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(screen: &mut Screen, code: KeyCode) -> Next {
        screen.key(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn screen(names: &[&str]) -> Screen {
        let mut screen = Screen::new(false, None);
        screen.status(status(names));
        screen
    }

    fn status(names: &[&str]) -> StatusView {
        let unit = |name: &&str| UnitView { unit: (*name).to_owned(), ..UnitView::default() };
        StatusView { units: names.iter().map(unit).collect(), ..StatusView::default() }
    }

    #[test]
    fn nothing_is_done_without_a_yes() {
        let mut screen = screen(&["api", "web"]);
        press(&mut screen, KeyCode::Down);
        for no in [KeyCode::Enter, KeyCode::Char('n'), KeyCode::Esc] {
            press(&mut screen, KeyCode::Char('p'));
            assert_eq!(press(&mut screen, no), Next::Stay, "{no:?} is no");
        }
        assert_eq!(press(&mut screen, KeyCode::Char('y')), Next::Stay, "the question is over");
        press(&mut screen, KeyCode::Char('p'));
        let Next::Act(Method::Promote { unit, .. }) = press(&mut screen, KeyCode::Char('y')) else {
            panic!("it is confirmed")
        };
        assert_eq!(unit.as_str(), "web");
        // The next one waits for the answer to this one.
        press(&mut screen, KeyCode::Char('r'));
        assert_eq!(screen.mode, Mode::Look);
        screen.said(false, "no swap is under way".into());
        press(&mut screen, KeyCode::Char('r'));
        assert_eq!(screen.mode, Mode::Confirm(Act::Rollback, "web".into()));
        // It is about the unit that was asked about, whatever is selected when the answer comes.
        screen.status(status(&["api"]));
        let next = press(&mut screen, KeyCode::Char('y'));
        assert!(matches!(next, Next::Act(Method::Rollback { unit, .. }) if unit.as_str() == "web"));
    }

    #[test]
    fn every_way_out_leads_out() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut screen(&["web"]), code), Next::Leave);
        }
        let mut asked = screen(&["web"]);
        press(&mut asked, KeyCode::Char('a'));
        assert_eq!(asked.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Next::Leave);
    }

    #[test]
    fn the_selection_is_of_a_name_and_stays_within() {
        let mut screen = screen(&["api", "web"]);
        for code in [KeyCode::Up, KeyCode::Down, KeyCode::Down, KeyCode::Char('j')] {
            press(&mut screen, code);
        }
        assert_eq!(screen.selected.as_deref(), Some("web"));
        screen.status(status(&["aaa", "api", "web"]));
        assert_eq!(screen.place(), Some(2));
        screen.status(status(&["api"]));
        assert_eq!(screen.selected.as_deref(), Some("api"));
        screen.status(status(&[]));
        assert_eq!(press(&mut screen, KeyCode::Down), Next::Stay);
        assert_eq!(screen.unit(), None);
    }

    #[test]
    fn samples_are_bounded_and_go_with_their_unit() {
        let mut screen = screen(&["web"]);
        for _ in 0..2 * SAMPLES {
            screen.status(status(&["web"]));
        }
        assert_eq!(screen.samples().len(), SAMPLES);
        screen.status(status(&["api"]));
        assert_eq!((screen.samples.len(), screen.samples().len()), (1, 1));
    }
}
