//! `supd --check-left`: which processes run that a supd over this runtime folder has begun and not ended. It only
//! looks, whether a supd is there or not. A package asks before its programs go: without them nobody could end these.

use super::{cgroups, leftovers};
use crate::os::clock::BootId;
use crate::os::places::{Caller, Given, Places};
use crate::store::runtime::Runtime;
use std::collections::BTreeMap;

/// What is left, a line each.
///
/// # Errors
/// Why that cannot be known, in a sentence.
pub fn check(given: &Given) -> Result<Vec<String>, String> {
    let places = Places::resolve(given, &Caller::this()).map_err(|unknown| unknown.to_string())?;
    let boot = BootId::read().map_err(|error| error.to_string())?;
    let runtime = Runtime::there(&places.runtime).map_err(|error| error.to_string())?;
    Ok(runtime.map_or_else(Vec::new, |runtime| left(&runtime, &boot)))
}

/// A number alone says nothing: it may be another process's by now. So each is told by its start time and the boot;
/// but those in groups that only supd makes.
fn left(runtime: &Runtime, boot: &BootId) -> Vec<String> {
    let mut found: BTreeMap<i32, String> = BTreeMap::new();
    for (name, pid) in cgroups::members(runtime.root()) {
        found.insert(pid, name);
    }
    let mut unread = Vec::new();
    for (path, record) in runtime.leftovers() {
        match record {
            Some(record) if record.boot == boot.to_string() => {
                let what = if runtime.is_job(&path) { " (a command)" } else { "" };
                if let Some(process) = leftovers::head(&record, boot) {
                    found.insert(process.pid(), format!("{}.g{}{what}", record.unit, record.generation));
                }
            }
            Some(_) => {}
            // A supd that runs may have removed it meanwhile.
            None if !path.exists() => {}
            None => unread.push(format!("{} cannot be read: its process may run", path.display())),
        }
    }
    if let Some(keeper) = runtime.keeper_process(boot).and_then(|keeper| keeper.matches_live(boot)) {
        found.insert(keeper.pid(), "supd-keeper".to_owned());
    }
    found.into_iter().map(|(pid, name)| format!("{name}: process {pid}")).chain(unread).collect()
}
