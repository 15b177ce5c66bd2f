//! What the world asks: the machine, or something in its place that is wrong on purpose.

use supd::machine::swap_table::StepKind;
use supd::machine::{Effect, Input, Launch, Machine};
use supd::model::kept::KeptGeneration;
use supd::model::{Generation, Tick, UnitName, status::UnitStatus};

/// Decides. The world performs.
pub(crate) trait Brain: Clone {
    /// The same brain as after the start of a new supd: it remembers nothing.
    fn reborn(&self) -> Self;
    fn step(&mut self, now: Tick, input: Input, out: &mut Vec<Effect>);
    fn deadline(&self) -> Option<Tick>;
    fn status(&self, unit: &UnitName, now: Tick) -> Option<UnitStatus>;
    fn launch(&self, unit: &UnitName, generation: Generation) -> Option<Launch>;
    /// The workers with whom another supd could go on.
    fn outlasts(&self, unit: &UnitName) -> Vec<KeptGeneration>;
    /// What the running swap is doing.
    fn swap_step(&self, unit: &UnitName) -> Option<StepKind>;
}

impl Brain for Machine {
    fn reborn(&self) -> Self {
        Self::default()
    }

    fn step(&mut self, now: Tick, input: Input, out: &mut Vec<Effect>) {
        Self::step(self, now, input, out);
    }

    fn deadline(&self) -> Option<Tick> {
        Self::deadline(self)
    }

    fn status(&self, unit: &UnitName, now: Tick) -> Option<UnitStatus> {
        Self::status(self, unit, now)
    }

    fn launch(&self, unit: &UnitName, generation: Generation) -> Option<Launch> {
        Self::launch(self, unit, generation).cloned()
    }

    fn outlasts(&self, unit: &UnitName) -> Vec<KeptGeneration> {
        Self::outlasts(self, unit)
    }

    fn swap_step(&self, unit: &UnitName) -> Option<StepKind> {
        Self::swap_step(self, unit)
    }
}
