//! Directives that supd has too, most of them under the same name.

use super::remark::Kind;
use super::work::{Work, place};
use crate::codec::systemd::boolean;
use crate::codec::timespan;
use crate::codec::unitfile::as_toml as toml;
use std::time::Duration;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// As a text, specifiers filled in.
    Text,
    /// As a text, as it stands: a `%` is one.
    Plain,
    /// A number, or a text where it is none.
    Number,
    /// Yes or no.
    Switch,
    /// Yes or no, or another word.
    SwitchOrWord,
    /// A time; 0 is none.
    Span,
    /// A time in which 0 is no limit.
    Limited,
    /// Permission bits.
    Mode,
    /// All words of all lines.
    Words,
    /// Each line is one.
    Lines,
}

/// Section and key of systemd, key of supd (all of `[Service]`), shape.
const KEYS: &[(&str, &str, &str, Shape)] = &[
    ("Service", "User", "User", Shape::Text),
    ("Service", "Group", "Group", Shape::Text),
    ("Service", "SupplementaryGroups", "SupplementaryGroups", Shape::Words),
    ("Service", "EnvironmentFile", "EnvironmentFile", Shape::Lines),
    ("Service", "PassEnvironment", "PassEnvironment", Shape::Words),
    ("Service", "UMask", "UMask", Shape::Mode),
    ("Service", "LimitCPU", "LimitCPU", Shape::Plain),
    ("Service", "LimitFSIZE", "LimitFSIZE", Shape::Plain),
    ("Service", "LimitDATA", "LimitDATA", Shape::Plain),
    ("Service", "LimitSTACK", "LimitSTACK", Shape::Plain),
    ("Service", "LimitCORE", "LimitCORE", Shape::Plain),
    ("Service", "LimitRSS", "LimitRSS", Shape::Plain),
    ("Service", "LimitNOFILE", "LimitNOFILE", Shape::Number),
    ("Service", "LimitAS", "LimitAS", Shape::Plain),
    ("Service", "LimitNPROC", "LimitNPROC", Shape::Number),
    ("Service", "LimitMEMLOCK", "LimitMEMLOCK", Shape::Plain),
    ("Service", "LimitLOCKS", "LimitLOCKS", Shape::Number),
    ("Service", "LimitSIGPENDING", "LimitSIGPENDING", Shape::Number),
    ("Service", "LimitMSGQUEUE", "LimitMSGQUEUE", Shape::Plain),
    ("Service", "LimitNICE", "LimitNICE", Shape::Plain),
    ("Service", "LimitRTPRIO", "LimitRTPRIO", Shape::Number),
    ("Service", "LimitRTTIME", "LimitRTTIME", Shape::Plain),
    ("Service", "Nice", "Nice", Shape::Number),
    ("Service", "OOMScoreAdjust", "OOMScoreAdjust", Shape::Number),
    ("Service", "NoNewPrivileges", "NoNewPrivileges", Shape::Switch),
    ("Service", "RuntimeDirectory", "RuntimeDirectory", Shape::Words),
    ("Service", "StateDirectory", "StateDirectory", Shape::Words),
    ("Service", "CacheDirectory", "CacheDirectory", Shape::Words),
    ("Service", "LogsDirectory", "LogsDirectory", Shape::Words),
    ("Service", "SyslogIdentifier", "SyslogIdentifier", Shape::Text),
    ("Service", "NotifyAccess", "NotifyAccess", Shape::Plain),
    ("Service", "SuccessExitStatus", "SuccessExitStatus", Shape::Words),
    ("Service", "RestartPreventExitStatus", "RestartPreventExitStatus", Shape::Words),
    ("Service", "KillMode", "KillMode", Shape::Plain),
    ("Service", "FileDescriptorStoreMax", "FileDescriptorStoreMax", Shape::Number),
    ("Service", "FileDescriptorStorePreserve", "FileDescriptorStorePreserve", Shape::SwitchOrWord),
    ("Service", "MemoryMax", "MemoryMax", Shape::Plain),
    ("Service", "TasksMax", "TasksMax", Shape::Number),
    ("Service", "CPUQuota", "CPUQuota", Shape::Plain),
    ("Service", "ProtectSystem", "ProtectSystem", Shape::SwitchOrWord),
    ("Service", "ProtectHome", "ProtectHome", Shape::SwitchOrWord),
    ("Service", "PrivateTmp", "PrivateTmp", Shape::SwitchOrWord),
    ("Service", "TimeoutStartSec", "TimeoutStartSec", Shape::Limited),
    ("Service", "TimeoutStopSec", "TimeoutStopSec", Shape::Limited),
    ("Service", "Restart", "Restart", Shape::Plain),
    ("Service", "RestartSec", "RestartSec", Shape::Span),
    ("Service", "WatchdogSec", "WatchdogSec", Shape::Span),
    ("Unit", "StartLimitBurst", "StartLimitBurst", Shape::Number),
    ("Unit", "StartLimitIntervalSec", "StartLimitIntervalSec", Shape::Span),
    ("Service", "StartLimitBurst", "StartLimitBurst", Shape::Number),
    ("Service", "StartLimitInterval", "StartLimitIntervalSec", Shape::Span),
    ("Unit", "StartLimitInterval", "StartLimitIntervalSec", Shape::Span),
];

impl Work<'_> {
    /// Carries over what supd has under the same meaning.
    pub(super) fn keys(&mut self) {
        if let Some(value) = self.last("Service", "TimeoutSec") {
            for key in ["TimeoutStartSec", "TimeoutStopSec"] {
                self.draft.service.set(key, limited(&value.text), Some(&place(value)));
            }
        }
        for (section, from, to, shape) in KEYS {
            self.key(section, from, to, *shape);
        }
        self.environment();
        self.working_directory();
        self.outputs();
        self.capabilities();
        self.paths();
        self.system_calls();
    }

    fn key(&mut self, section: &str, from: &str, to: &str, shape: Shape) {
        let values = self.all(section, from);
        let (Some(last), Some(first)) = (values.last().copied(), values.first().copied()) else { return };
        let text = match shape {
            Shape::Text => toml::text(&self.text(last)),
            Shape::Plain => toml::text(&last.text),
            Shape::Span => span(&last.text),
            Shape::Number => number(&last.text),
            Shape::Limited => limited(&last.text),
            Shape::Mode => toml::text(&format!("{:0>4}", last.text)),
            Shape::Switch => switch(&last.text).unwrap_or_else(|| toml::text(&last.text)),
            Shape::SwitchOrWord => match switch(&last.text).as_deref() {
                Some(word) => word.to_owned(),
                None => toml::text(&last.text),
            },
            Shape::Words => match self.words(&values) {
                // All that stands there is passed over: an empty list would say more than that.
                words if words.is_empty() => return,
                words => toml::list(&words),
            },
            Shape::Lines => {
                let lines: Vec<String> = values.iter().map(|value| self.text(value)).collect();
                toml::list(&lines)
            }
        };
        let from = if matches!(shape, Shape::Words | Shape::Lines) { first } else { last };
        self.draft.service.set(to, text, Some(&place(from)));
    }

    fn environment(&mut self) {
        for value in self.all("Service", "Environment") {
            for word in self.words(&[value]) {
                match word.split_once('=') {
                    Some((name, text)) if crate::codec::environment::is_variable_name(name) => {
                        let key = format!("Environment.{name}");
                        self.draft.service.set(&key, toml::text(text), Some(&place(value)));
                    }
                    _ => self.remark(
                        Kind::Note,
                        value,
                        &format!("systemd passes over {word:?}: it is no NAME=value"),
                        "",
                    ),
                }
            }
        }
    }

    fn working_directory(&mut self) {
        let Some(value) = self.last("Service", "WorkingDirectory") else { return };
        let text = self.text(value);
        let (path, optional) = text.strip_prefix('-').map_or((text.as_str(), false), |path| (path, true));
        if path == "~" {
            let remedy = "write WorkingDirectory with the path of User's home";
            return self.remark(Kind::ToDo, value, "~ is not looked up", remedy);
        }
        if optional {
            let what = "-: the directory must be there";
            self.remark(Kind::Changed, value, what, "StateDirectory makes one under /var/lib");
        }
        self.draft.service.set("WorkingDirectory", toml::text(path), Some(&place(value)));
    }

    fn outputs(&mut self) {
        for key in ["StandardOutput", "StandardError"] {
            let Some(value) = self.last("Service", key) else { continue };
            let text = self.text(value);
            match text.as_str() {
                "inherit" => {}
                "null" | "journal" => {
                    self.draft.service.set(key, toml::text(text.as_str()), Some(&place(value)));
                }
                // systemd itself takes these two for the journal.
                "syslog" | "syslog+console" | "journal+console" => {
                    self.draft.service.set(key, toml::text("journal"), Some(&place(value)));
                    if text != "syslog" {
                        self.remark(Kind::Changed, value, "the journal alone gets it", "");
                    }
                }
                text if text.starts_with("file:") || text.starts_with("append:") => {
                    self.draft.service.set(key, toml::text(text), Some(&place(value)));
                }
                _ => {
                    self.remark(
                        Kind::LeftOut,
                        value,
                        "",
                        "supd keeps what a worker writes: supctl logs UNIT",
                    );
                }
            }
        }
    }

    /// Lines add to each other, `~` takes away, an empty one empties (systemd.exec(5)).
    fn capabilities(&mut self) {
        for key in ["CapabilityBoundingSet", "AmbientCapabilities"] {
            let values = self.all("Service", key);
            let emptied = self.job.service.unit.emptied("Service", key);
            if let (Some(value), true) =
                (emptied.filter(|_| key == "CapabilityBoundingSet"), values.is_empty())
            {
                self.draft.service.set(key, "[]", Some(&place(value)));
            }
            let Some(first) = values.first().copied() else { continue };
            let (mut named, mut inverted) = (Vec::<String>::new(), None);
            for value in values {
                let (takes, list) =
                    value.text.strip_prefix('~').map_or((false, value.text.as_str()), |list| (true, list));
                let list = list.split_whitespace().map(str::to_ascii_uppercase);
                let inverted = *inverted.get_or_insert(takes);
                // What a line of the other kind says is taken from what there is.
                for name in list {
                    if takes == inverted {
                        named.push(name);
                    } else {
                        named.retain(|known| *known != name);
                    }
                }
            }
            if let (Some(true), Some(name)) = (inverted, named.first_mut()) {
                *name = format!("~{name}");
            }
            self.draft.service.set(key, toml::list(&named), Some(&place(first)));
        }
    }

    fn paths(&mut self) {
        let mut values = self.all("Service", "ReadWritePaths");
        values.extend(self.all("Service", "ReadWriteDirectories"));
        let Some(first) = values.first().copied() else { return };
        let mut paths = Vec::new();
        for value in values {
            for word in self.words(&[value]) {
                let path = word.trim_start_matches(['-', '+']);
                if word.starts_with('-') {
                    let what = "-: every path must be there";
                    self.remark(Kind::Changed, value, what, "take out those that are not");
                }
                paths.push(path.to_owned());
            }
        }
        if paths.is_empty() {
            return;
        }
        self.draft.service.set("ReadWritePaths", toml::list(&paths), Some(&place(first)));
    }

    /// `~` stands before a whole line in systemd, and before a name in supd.
    fn system_calls(&mut self) {
        let values = self.all("Service", "SystemCallFilter");
        let Some(first) = values.first().copied() else { return };
        let mut names = Vec::new();
        for value in values {
            let (tilde, list) =
                value.text.strip_prefix('~').map_or(("", value.text.as_str()), |list| ("~", list));
            for name in list.split_whitespace() {
                let (name, errno) =
                    name.split_once(':').map_or((name, None), |(name, errno)| (name, Some(errno)));
                if let Some(errno) = errno {
                    let what =
                        format!("{name} is answered with {errno}: what is forbidden ends the process here");
                    self.remark(Kind::Changed, value, &what, "allow it, or see that the server does without");
                }
                names.push(format!("{tilde}{name}"));
            }
        }
        if let Some(answer) = self.all("Service", "SystemCallErrorNumber").first().copied() {
            let what = format!(
                "what SystemCallFilter forbids was answered with {}, and ends the process here",
                answer.text
            );
            self.remark(
                Kind::ToDo,
                answer,
                &what,
                "see that the server does without, or take SystemCallFilter out",
            );
        }
        self.draft.service.set("SystemCallFilter", toml::list(&names), Some(&place(first)));
    }
}

fn number(text: &str) -> String {
    let plain = text.parse::<i64>().is_ok_and(|number| number.to_string() == text);
    if plain { text.to_owned() } else { toml::text(text) }
}

fn switch(text: &str) -> Option<String> {
    boolean(text).map(|yes| yes.to_string())
}

/// A time with its units: 5 is 5s. What is none is told by the reader of unit files.
fn span(text: &str) -> String {
    match timespan::parse(text) {
        Ok(Some(span)) => toml::text(&timespan::format(span)),
        Ok(None) => toml::text("infinity"),
        Err(_) => toml::text(text),
    }
}

/// systemd takes 0 as no limit here.
fn limited(text: &str) -> String {
    let none = timespan::parse(text).is_ok_and(|span| span == Some(Duration::ZERO));
    if none { toml::text("infinity") } else { span(text) }
}
