//! `Logs`: the log of a generation, opened and passed to who asked.

use super::control::{Call, rights};
use super::hands::Hands;
use super::launch::{Logged, identifier};
use crate::codec::json::{FORMAT, JournalView, LogView};
use crate::codec::varlink::{self, Scope};
use crate::machine::Machine;
use crate::model::settings::{Output, Service};
use crate::model::{ExitStatus, Generation, Reply, Settings, Tick, UnitName};
use crate::os::logfile::{group_of, open_log};
use crate::store::pins;
use nix::errno::Errno;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

/// Where what a generation wrote is.
struct Log {
    generation: Generation,
    path: PathBuf,
    /// Its log, open.
    file: Option<File>,
    /// Where the journal has it.
    journal: Option<JournalView>,
}

impl Hands {
    /// Answers `Logs` to one who may.
    pub(super) fn pass_log(
        &mut self,
        call: &Call,
        unit: &UnitName,
        wanted: Option<Generation>,
        machine: &Machine,
        now: Tick,
    ) {
        match self.log(unit, wanted, machine, now) {
            Ok(Log { generation, file: Some(file), .. }) if !self.sees(call, group_of(&file)) => {
                self.hide(call, unit, generation);
            }
            Ok(Log { generation, path, file, journal }) => {
                let path = path.display().to_string();
                let descriptor = file.is_some().then_some(0);
                let view = LogView { format: FORMAT, generation: generation.0, path, descriptor, journal };
                match file {
                    Some(file) => self.control.pass(call.client, &view, file.into()),
                    // Who may read the journal is the journal's to say.
                    None => self.control.log(call.client, &view),
                }
            }
            Err(reply) => self.control.reply(call.client, &reply, Vec::new(), None),
        }
    }

    /// Whether this client may see what a generation of this group has left. A unit that was removed and
    /// made anew may be somebody else's, and its name and its old generations are the same.
    pub(super) fn sees(&self, call: &Call, group: Option<u32>) -> bool {
        rights::may(&call.peer, Scope::Unit, self.control.masters(), group)
    }

    pub(super) fn hide(&mut self, call: &Call, unit: &UnitName, generation: Generation) {
        let text = format!(
            "{unit}: generation {generation} was launched under another ControlGroup: it is for members of that, \
             too, and for root"
        );
        self.control.refuse(call.client, &varlink::Error::not_allowed(text));
    }

    fn log(
        &self,
        unit: &UnitName,
        wanted: Option<Generation>,
        machine: &Machine,
        now: Tick,
    ) -> Result<Log, Reply> {
        let kept = self.logs_of(unit);
        let active = machine.status(unit, now).and_then(|status| status.active);
        // Of a unit that is stopped, who served last; of one whose first start failed, why.
        let last = || self.recorder.durable(unit).active.map(|active| active.generation);
        let Some(generation) = wanted.or(active).or_else(last).or(kept.last().copied()) else {
            let text = format!("{unit}: it has no logs: nothing was launched");
            return Err(Reply::refused(text, Some(format!("status {unit}"))));
        };
        let path = self.ground.log(unit, generation);
        let settings = self.settings_of(unit, generation, machine);
        // One that failed is soon forgotten; it wrote where the one does that serves.
        let known = generation.0 <= self.recorder.durable(unit).generation_last;
        let like = active.filter(|_| known).and_then(|active| self.settings_of(unit, active, machine));
        let journal = self.in_journal(unit, generation, settings.as_ref().or(like.as_ref()).map(|it| &**it));
        match open_log(&path) {
            Ok(file) => Ok(Log { generation, path, file: Some(file), journal }),
            Err(error) if error.errno == Errno::ENOENT => match journal {
                Some(journal) => Ok(Log { generation, path, file: None, journal: Some(journal) }),
                None => Err(none(unit, generation, settings.as_deref(), &kept)),
            },
            Err(error) => Err(Reply::new(ExitStatus::Failed, false, format!("{unit}: {error}"))),
        }
    }

    /// Where the journal has what a generation wrote, which may be long forgotten here.
    fn in_journal(
        &self,
        unit: &UnitName,
        generation: Generation,
        settings: Option<&Settings>,
    ) -> Option<JournalView> {
        let journaled = match settings {
            Some(settings) => self.ground.kept(&settings.service) == Logged::Journal,
            None => self.has_journal(unit) && generation.0 <= self.recorder.durable(unit).generation_last,
        };
        let identifier = settings.map_or(unit.as_str(), identifier).to_owned();
        let cgroup = self.cgroups.of_generation(unit, generation);
        (journaled && generation.0 > 0).then_some(JournalView {
            identifier,
            uid: nix::unistd::geteuid().as_raw(),
            cgroup,
        })
    }

    /// Whether the journal may have something of a unit that says nothing of it.
    pub(super) fn has_journal(&self, unit: &UnitName) -> bool {
        self.ground.journal && self.recorder.durable(unit).generation_last > 0
    }

    /// Whether there is a log of any generation.
    pub(super) fn has_logs(&self, unit: &UnitName) -> bool {
        !self.logs_of(unit).is_empty()
    }

    fn logs_of(&self, unit: &UnitName) -> Vec<Generation> {
        pins::numbered(&self.ground.logs.join(unit.as_str()), ".log")
    }

    /// What a generation was launched from, as far as that is still known.
    fn settings_of(
        &self,
        unit: &UnitName,
        generation: Generation,
        machine: &Machine,
    ) -> Option<Arc<Settings>> {
        let known = machine.launch(unit, generation).map(|launch| launch.settings.clone());
        known.or_else(|| self.pins.load(unit, generation).ok().map(Arc::new))
    }
}

/// There is no such log: where it goes instead, or which there are.
fn none(unit: &UnitName, generation: Generation, settings: Option<&Settings>, kept: &[Generation]) -> Reply {
    if let Some(elsewhere) = settings.and_then(|settings| elsewhere(&settings.service)) {
        let text = format!("{unit}: generation {generation} has no log: its {elsewhere}");
        return Reply::refused(text, Some(format!("status {unit}")));
    }
    let Some((last, before)) = kept.split_last() else {
        let text = format!("{unit}: generation {generation} has no log, nor has any other");
        return Reply::refused(text, Some(format!("status {unit}")));
    };
    let before: Vec<String> = before.iter().map(ToString::to_string).collect();
    let all = if before.is_empty() { last.to_string() } else { format!("{} and {last}", before.join(", ")) };
    let text = format!("{unit}: generation {generation} has no log (any more); there are those of {all}");
    Reply::refused(text, Some(format!("logs {unit} --generation {last}")))
}

/// Where the output of a unit without logs goes.
fn elsewhere(service: &Service) -> Option<String> {
    let place = |output: &Output| match output {
        Output::Auto | Output::Journal => None,
        Output::File(path) | Output::Append(path) => Some(format!("to {}", path.display())),
        Output::Null => Some("nowhere (null)".to_owned()),
        Output::Inherit => Some("where supd's own goes (inherit)".to_owned()),
    };
    let output = place(&service.standard_output)?;
    let error = match &service.standard_error {
        Output::Inherit => output.clone(),
        other => place(other)?,
    };
    Some(if output == error {
        format!("output goes {output}")
    } else {
        format!("output goes {output}, its errors {error}")
    })
}

#[cfg(test)]
mod tests {
    use super::super::testbed::settings;
    use super::*;

    fn told(service: &str, kept: &[u64]) -> String {
        let settings = settings(&format!("ExecStart = [\"/bin/true\"]\n{service}"));
        let kept: Vec<Generation> = kept.iter().copied().map(Generation).collect();
        none(&settings.unit, Generation(8), Some(&settings), &kept).text
    }

    #[test]
    fn whoever_asks_for_a_log_that_is_not_there_hears_what_is() {
        assert_eq!(
            told("", &[5, 6, 9]),
            "web: generation 8 has no log (any more); there are those of 5, 6 and 9"
        );
        assert_eq!(told("", &[9]), "web: generation 8 has no log (any more); there are those of 9");
        assert_eq!(told("", &[]), "web: generation 8 has no log, nor has any other");
        for (service, place) in [
            ("StandardOutput = \"file:/a\"", "output goes to /a"),
            (
                "StandardOutput = \"append:/a\"\nStandardError = \"file:/b\"",
                "output goes to /a, its errors to /b",
            ),
            ("StandardOutput = \"null\"", "output goes nowhere (null)"),
            ("StandardOutput = \"inherit\"", "output goes where supd's own goes (inherit)"),
        ] {
            assert_eq!(
                told(service, &[9]),
                format!("web: generation 8 has no log: its {place}"),
                "{service}"
            );
        }
        assert!(told("StandardOutput = \"null\"\nStandardError = \"auto\"", &[]).ends_with("any other"));
    }
}
