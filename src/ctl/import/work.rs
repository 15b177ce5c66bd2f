//! One unit while it is imported.

use super::draft::Draft;
use super::gather::{Job, Loaded};
use super::look::Look;
use super::remark::{Kind, Place, Remarks};
use crate::codec::fault::Fault;
use crate::codec::systemd::command::{Command, commands};
use crate::codec::systemd::specifiers::expand;
use crate::codec::systemd::{Facts, Value};
use crate::codec::unitfile::foreign_remedy;
use std::collections::HashSet;

/// What there is to go by, and what was made of it so far.
pub(super) struct Work<'j> {
    pub(super) job: &'j Job,
    pub(super) look: &'j Look,
    pub(super) facts: &'j Facts,
    pub(super) draft: Draft,
    pub(super) remarks: Remarks,
    /// Sections and keys of the service that were dealt with.
    used: HashSet<(String, String)>,
}

/// Where a value stands.
pub(super) fn place(value: &Value) -> Place {
    (value.file.clone(), value.line)
}

impl<'j> Work<'j> {
    pub(super) fn new(job: &'j Job, look: &'j Look, facts: &'j Facts) -> Self {
        let (draft, remarks) = (Draft::default(), Remarks::default());
        Self { job, look, facts, draft, remarks, used: HashSet::new() }
    }

    /// The value of a key of the service, which counts as dealt with.
    pub(super) fn last(&mut self, section: &str, key: &str) -> Option<&'j Value> {
        self.done(section, key);
        self.job.service.unit.last(section, key)
    }

    /// All values of a key of the service, which counts as dealt with.
    pub(super) fn all(&mut self, section: &str, key: &str) -> Vec<&'j Value> {
        self.done(section, key);
        self.job.service.unit.all(section, key)
    }

    pub(super) fn done(&mut self, section: &str, key: &str) {
        self.used.insert((section.to_owned(), key.to_owned()));
    }

    /// What nobody has dealt with.
    pub(super) fn rest(&self) -> Vec<&'j Value> {
        let known = |value: &&Value| !self.used.contains(&(value.section.clone(), value.key.clone()));
        self.job.service.unit.values().filter(known).collect()
    }

    pub(super) fn remark(&mut self, kind: Kind, value: &Value, what: &str, remedy: &str) {
        self.remarks.add(kind, Some(&place(value)), &value.key, what, remedy);
    }

    /// A directive that supd does not have.
    pub(super) fn foreign(&mut self, value: &Value) {
        let remedy = match value.key.as_str() {
            "Alias" => Some("supd knows a unit by one name"),
            key => foreign_remedy(key, Some(&value.text)),
        };
        match remedy {
            // What is left out needs no taking out.
            Some(remedy) => {
                let rest = remedy.strip_prefix("take it out").unwrap_or(remedy);
                let rest = rest.trim_start_matches([',', ':', ';', ' ']);
                self.remark(Kind::LeftOut, value, "", rest.strip_prefix("or ").unwrap_or(rest));
            }
            None => self.remark(Kind::Note, value, "systemd has no such directive here either", ""),
        }
    }

    /// A text of a value with its specifiers filled in.
    pub(super) fn expand(&mut self, text: &str, value: &Value, of: &Loaded) -> String {
        let found = expand(text, &of.name, &of.fragment, self.facts);
        for letter in found.fixed {
            let what = format!("%{letter} is written as it is on this machine now");
            self.remark(Kind::Note, value, &what, "on another machine write what holds there");
        }
        for letter in found.unknown {
            let what = format!("%{letter} cannot be filled in, and stays as it is");
            self.remark(Kind::ToDo, value, &what, "write what it stands for");
        }
        found.text
    }

    /// The same for a value of the service.
    pub(super) fn text(&mut self, value: &Value) -> String {
        let job = self.job;
        self.expand(&value.text, value, &job.service)
    }

    /// The words of values that collect; a line that systemd cannot split is passed over by it.
    pub(super) fn words(&mut self, values: &[&Value]) -> Vec<String> {
        let mut words = Vec::new();
        for value in values {
            match crate::codec::words::split_keeping(&value.text) {
                Ok(split) => {
                    let job = self.job;
                    words.extend(split.iter().map(|word| self.expand(&word.text, value, &job.service)));
                }
                Err(fault) => self.passed_over(value, &fault.to_string()),
            }
        }
        words
    }

    /// The commands of a key, specifiers filled in.
    pub(super) fn commands(&mut self, key: &str) -> Vec<(&'j Value, Command)> {
        let mut found = Vec::new();
        for value in self.all("Service", key) {
            match commands(&value.text) {
                Ok(commands) => {
                    for command in commands {
                        found.push((value, self.filled_in(command, value)));
                    }
                }
                Err(fault) => self.passed_over(value, &fault.to_string()),
            }
        }
        found
    }

    /// The lines of a key that are no commands.
    pub(super) fn cannot_be_split(&self, key: &str) -> Vec<Fault> {
        let fault = |value: &Value, why: &str| {
            let fault =
                Fault::of_file(&value.file, why, "systemd passes over this line, and has nothing to run");
            Fault { line: value.line, column: 1, key: value.key.clone(), ..fault }
        };
        let values = self.job.service.unit.all("Service", key).into_iter();
        values.filter_map(|value| Some(fault(value, &commands(&value.text).err()?.to_string()))).collect()
    }

    fn filled_in(&mut self, command: Command, value: &Value) -> Command {
        let job = self.job;
        let mut expand = |text: &str| self.expand(text, value, &job.service);
        let program = expand(&command.program);
        let arguments = command.arguments.iter().map(|word| expand(word)).collect();
        if let Some(name) = &command.argv0 {
            let what = format!("@: the program is not called {name:?} in its own eyes");
            let remedy = format!("if it goes by that: [\"/bin/bash\", \"-c\", \"exec -a {name} …\"]");
            self.remark(Kind::Changed, value, &what, &remedy);
        }
        if !command.rights.is_empty() {
            let what = format!("{}: it runs as User, as every command does", command.rights);
            self.remark(
                Kind::Changed,
                value,
                &what,
                "let root's part be done before, by the package or by systemd",
            );
        }
        if command.shell {
            self.remark(Kind::Changed, value, "|: no shell reads it", "write [\"/bin/sh\", \"-c\", \"…\"]");
        }
        Command { program, arguments, ..command }
    }

    fn passed_over(&mut self, value: &Value, why: &str) {
        let what = format!("systemd passes over this line: {why}");
        self.remark(Kind::Note, value, &what, "");
    }
}
