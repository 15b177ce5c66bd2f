//! Answers for people: tables, sentences, live lines. `--json` passes all of this by.

pub(in crate::ctl) mod faults;
pub(in crate::ctl) mod history;
pub(in crate::ctl) mod live;
pub(in crate::ctl) mod releases;
pub(in crate::ctl) mod size;
pub(in crate::ctl) mod status;
mod table;
pub(in crate::ctl) mod text;
