//! What `supctl status` shows: the machine's word, with what only the kernel knows.

use super::hands::Hands;
use super::perform::note;
use crate::codec::json::{ListenerView, UnitView};
use crate::machine::{Level, Machine};
use crate::model::{Tick, UnitName};
use crate::os::listener::Queues;

/// From so many units on their queues are asked for all at once.
const MANY: usize = 8;

impl Hands {
    /// One unit, or all by name. `None`: there is no such unit.
    pub(super) fn views(
        &self,
        unit: Option<&UnitName>,
        machine: &Machine,
        now: Tick,
    ) -> Option<Vec<UnitView>> {
        match unit {
            Some(unit) => Some(vec![self.view(unit, machine, now, &Queues::default())?]),
            None => {
                let few = self.listeners.len() < MANY;
                let queues = if few { Queues::default() } else { Queues::read() };
                Some(machine.units().filter_map(|unit| self.view(unit, machine, now, &queues)).collect())
            }
        }
    }

    fn view(&self, unit: &UnitName, machine: &Machine, now: Tick, queues: &Queues) -> Option<UnitView> {
        let status = machine.status(unit, now)?;
        let settings = &self.units.get(unit)?.settings;
        let bound = self.listeners.get(unit);
        // The kernel tells nobody that a path was removed: whoever looks finds it mended.
        for text in bound.map(|bound| bound.republish_if_gone()).unwrap_or_default() {
            note(unit, Level::Warning, None, &text);
        }
        let listeners = settings
            .sockets
            .iter()
            .map(|socket| ListenerView {
                name: socket.name.to_string(),
                address: socket.address.to_string(),
                steered: false,
                queue: bound.and_then(|bound| bound.queue(&socket.address, queues)).map(u64::from),
            })
            .collect();
        let pid = |worker| Some(self.workers.get(worker)?.main()?.pid());
        Some(UnitView::new(unit, &settings.description, &status, listeners, pid))
    }

    /// What concerns supd as a whole.
    #[allow(clippy::unused_self, reason = "what a kernel lacks is to be told here")]
    pub(super) fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}
