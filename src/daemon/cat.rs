//! `supctl cat`: what the files of a unit say, and what its generations were launched with.

use super::control::Call;
use super::hands::Hands;
use super::units::Units;
use crate::codec::json::CatView;
use crate::codec::unitfile::rows;
use crate::machine::Machine;
use crate::model::{Generation, Settings, Tick, UnitName};
use std::sync::Arc;

impl Hands {
    /// Answers a call that may be answered.
    pub(super) fn cat(
        &mut self,
        call: &Call,
        unit: &UnitName,
        generation: Option<Generation>,
        machine: &Machine,
        now: Tick,
    ) {
        let view = match generation {
            Some(generation) => match self.launched_with(unit, generation, machine) {
                Ok(settings) if !self.sees(call, Units::control_group(&settings)) => {
                    return self.hide(call, unit, generation);
                }
                Ok(settings) => CatView::pinned(unit.as_str(), generation.0, rows(&settings, None)),
                Err(why) => {
                    let text = format!("{unit}: generation {generation} is not known (any more): {why}");
                    return self.refuse(call.client, text, Some(format!("status {unit}")));
                }
            },
            None => match self.units.read(unit) {
                Ok(loaded) => {
                    let tables = rows(&loaded.settings, Some(&loaded.origins));
                    CatView::on_disk(unit.as_str(), tables, self.running(call, unit, machine, now))
                }
                Err(why) => return self.unreadable(call, unit, why, machine),
            },
        };
        self.control.cat(call.client, &view);
    }

    /// The generation that receives the traffic, and its settings, for one who may see them.
    fn running(
        &self,
        call: &Call,
        unit: &UnitName,
        machine: &Machine,
        now: Tick,
    ) -> Option<(u64, Vec<crate::codec::unitfile::Table>)> {
        let active = machine.status(unit, now)?.active?;
        let settings = self.launched_with(unit, active, machine).ok()?;
        if !self.sees(call, Units::control_group(&settings)) {
            return None;
        }
        Some((active.0, rows(&settings, None)))
    }

    /// The settings of a generation: the machine's, or those of the state folder.
    fn launched_with(
        &self,
        unit: &UnitName,
        generation: Generation,
        machine: &Machine,
    ) -> Result<Arc<Settings>, String> {
        match machine.launch(unit, generation) {
            Some(launch) => Ok(launch.settings.clone()),
            None => self.pins.load(unit, generation).map(Arc::new),
        }
    }
}
