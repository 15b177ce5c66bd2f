//! Every decision of supd, and nothing else: events go in, effects come out.
//!
//! **What is absent:** no I/O, no clock, no log, no `unsafe`, no `_` arm over phases or events.

pub mod effect;
pub mod event;

pub use effect::{Action, Effect, JobKind, JobWork, Launch, Level};
pub use event::{Event, Input, Request, Restored};

use crate::model::{Tick, UnitName, status::UnitStatus};

/// All units and what becomes of them.
#[derive(Debug, Default)]
pub struct Machine {}

impl Machine {
    /// Takes one input and says what is to be done. The only way anything changes.
    pub fn step(&mut self, _now: Tick, _input: Input, _out: &mut Vec<Effect>) {}

    /// When [`Input::Clock`] is due: the earliest deadline of all phases; computed, never stored.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        None
    }

    /// What `supctl status` shows.
    #[must_use]
    pub fn status(&self, _unit: &UnitName, _now: Tick) -> Option<UnitStatus> {
        None
    }

    /// Every unit, by name.
    pub fn units(&self) -> impl Iterator<Item = &UnitName> {
        std::iter::empty()
    }

    /// The recipe of a generation that is known.
    #[must_use]
    pub fn launch(&self, _unit: &UnitName, _generation: crate::model::Generation) -> Option<&Launch> {
        None
    }
}
