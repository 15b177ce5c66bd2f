//! What a unit file may say and this supd cannot do yet. A line goes when its work comes.

use super::check::Key;
use super::layer::Layer;
use super::report::{Bad, Report};
use crate::model::settings::Settings;

/// What is said of such a key.
pub const NOT_YET: &str = "not available yet";

/// Notes every key that needs something that is not there yet, unless it is faulty already.
pub(super) fn faults(settings: &Settings, layer: &Layer, report: &mut Report<'_>) {
    let list = [(
        Key::Service("SystemCallFilter"),
        !settings.service.system_call_filter.is_empty(),
        "take it out, or begin ExecStart with bwrap",
    )];
    for (key, needed, instead) in list {
        let place = key.place(layer);
        if needed && key.is_set(layer) && !report.has_fault_at(place) {
            report.fault(place, key.name(), Bad::new(NOT_YET, instead));
        }
    }
}
