//! What a unit file may say and this supd cannot do yet. A line goes when its work comes.

use super::check::Key;
use super::layer::Layer;
use super::report::{Bad, Report};
use crate::model::settings::{ProtectHome, ProtectSystem, Settings};

/// What is said of such a key.
pub const NOT_YET: &str = "not available yet";

/// Notes every key that needs something that is not there yet, unless it is faulty already.
pub(super) fn faults(settings: &Settings, layer: &Layer, report: &mut Report<'_>) {
    let service = &settings.service;
    let no_sandbox = "take it out, or begin ExecStart with bwrap";
    let list = [
        (Key::Service("ProtectSystem"), service.protect_system != ProtectSystem::No, no_sandbox),
        (Key::Service("ProtectHome"), service.protect_home != ProtectHome::No, no_sandbox),
        (Key::Service("PrivateTmp"), service.private_tmp, no_sandbox),
        (Key::Service("ReadWritePaths"), !service.read_write_paths.is_empty(), no_sandbox),
        (Key::Service("SystemCallFilter"), !service.system_call_filter.is_empty(), no_sandbox),
    ];
    for (key, needed, instead) in list {
        let place = key.place(layer);
        if needed && key.is_set(layer) && !report.has_fault_at(place) {
            report.fault(place, key.name(), Bad::new(NOT_YET, instead));
        }
    }
}
