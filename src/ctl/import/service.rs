//! `[Service]`: what is launched, when it is ready, how it ends.

use super::bind::Bind;
use super::configs::Found;
use super::exec::{Inner, inner, needs_main, signal_of, stay, stay_alike, to_supd};
use super::ports::{self, Server, without_options};
use super::programs::{Program, Takes};
use super::remark::{Kind, Place};
use super::work::{Work, place};
use crate::codec::fault::quoted;
use crate::codec::systemd::Value;
use crate::codec::systemd::command::Command;
use crate::codec::unitfile::as_toml as toml;
use crate::ctl::failure::Failure;
use crate::model::{ExitStatus, settings};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The server of a unit.
pub(super) struct Main {
    /// Where its command line stands.
    pub(super) value: Value,
    pub(super) words: Vec<String>,
    pub(super) inner: Inner,
    /// Type=, as it counts.
    pub(super) kind: String,
}

impl Main {
    pub(super) fn known(&self) -> Option<&'static Program> {
        self.inner.known
    }

    /// What the server is called, for messages.
    pub(super) fn name(&self) -> &str {
        super::programs::file_name(self.words.get(self.inner.at).map_or("the server", String::as_str))
    }

    fn forks(&self) -> bool {
        self.kind == "forking"
    }
}

impl Work<'_> {
    /// The server, or why there is none.
    pub(super) fn main(&mut self) -> Result<Main, Failure> {
        let name = self.job.service.name.to_string();
        let bus = self.last("Service", "BusName");
        let kind = self.last("Service", "Type").map(|value| value.text.clone());
        let commands = self.commands("ExecStart");
        let refuse = |text: String| Failure::new(ExitStatus::Refused, format!("{name}: {text}"));
        let kind =
            kind.unwrap_or_else(|| if bus.is_some() { "dbus".to_owned() } else { "simple".to_owned() });
        if kind == "oneshot" {
            let text = "Type=oneshot: it starts no server that stays; supd runs servers only";
            return Err(refuse(text.to_owned()).next("leave it to systemd, or import the unit of the server"));
        }
        let Some((value, command)) = commands.last().cloned() else {
            let faults = self.cannot_be_split("ExecStart");
            if !faults.is_empty() {
                return Err(super::gather::wrong(&faults));
            }
            return Err(refuse("there is no ExecStart, so there is nothing to run".to_owned()));
        };
        for (value, command) in &commands[..commands.len() - 1] {
            let what = format!("{} is not the last ExecStart", quoted(&command.program));
            self.remark(Kind::LeftOut, value, &what, "use ExecStartPre for what comes before the server");
        }
        if command.ignore_failure {
            let what = "-: a worker that fails has failed";
            self.remark(Kind::Changed, value, what, "SuccessExitStatus names exit statuses that are none");
        }
        let command = to_supd(&command, false);
        let words: Vec<String> = std::iter::once(command.program).chain(command.arguments).collect();
        Ok(Main { value: value.clone(), inner: inner(&words), words, kind })
    }

    /// Where the server listens, as far as files say it.
    pub(super) fn listens(&mut self, main: &Main) -> (Found, bool) {
        let environment = self.variables();
        let words =
            crate::codec::variables::expand(&main.words, |name| environment.get(name).map(String::as_str));
        let words = words.map_or_else(|_| main.words.clone(), |expanded| expanded.words);
        let found = inner(&words);
        let arguments = words.get(found.at + 1..).unwrap_or_default();
        let directory = self.job.service.unit.last("Service", "WorkingDirectory");
        let directory = directory.map_or("/".to_owned(), |value| self.text(value));
        let directory = Path::new(directory.trim_start_matches('-'));
        let server = Server { known: main.known(), arguments, environment: &environment, directory };
        ports::find(&server, self.look)
    }

    /// The environment, as far as files say it. EnvironmentFile wins, as in systemd.
    fn variables(&mut self) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for value in self.job.service.unit.all("Service", "Environment") {
            let words = self.words(&[value]);
            let pairs = words.iter().filter_map(|word| word.split_once('='));
            variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        for value in self.job.service.unit.all("Service", "EnvironmentFile") {
            let path = PathBuf::from(self.text(value).trim_start_matches('-'));
            if let super::look::Seen::Text(text) = self.look.text(&path) {
                variables.extend(crate::codec::environment::parse(&path, text.as_bytes()).variables);
            }
        }
        variables
    }

    /// ExecStart, less what made a daemon of it. `descriptor`: the server gets its one socket as a
    /// number, in the place of its own address.
    pub(super) fn launch(&mut self, main: &Main, descriptor: bool) {
        let (mut words, from) = (main.words.clone(), place(&main.value));
        let first = main.inner.at + 1;
        if let (true, Some(known)) = (main.forks(), main.known()) {
            stay(&mut words, first, known.foreground);
            for (name, value) in known.environment {
                self.draft.service.set(&format!("Environment.{name}"), toml::text(value), Some(&from));
            }
        }
        if let (true, Some(Program { takes: Takes::Descriptor(added), listens, .. })) =
            (descriptor, main.known())
        {
            let mut arguments = words.split_off(first);
            without_options(&mut arguments, listens);
            words.extend(arguments);
            words.extend(added.iter().map(|word| (*word).to_owned()));
        }
        if words != main.words {
            let why = if descriptor {
                "the server takes supd's socket"
            } else {
                "the server stays in the foreground"
            };
            let what = format!("{why}: {}", shown(&words[first.min(words.len())..]));
            self.remark(
                Kind::Changed,
                &main.value,
                &what,
                &format!("it was: {}", shown(&main.words[first.min(main.words.len())..])),
            );
        }
        let program = words.remove(0);
        let command = settings::Command { ignore_failure: false, program, arguments: words };
        self.draft.service.set("ExecStart", toml::commands(&[command]), Some(&from));
        if main.inner.wrapped {
            self.draft.service.set("PassListenPID", "false", Some(&from));
            self.draft.service.comment("PassListenPID", "the server has another process ID than its wrapper");
        }
        if main.forks() && main.known().is_none() {
            let what = format!("Type=forking: {} is not known, and must stay in the foreground", main.name());
            self.remark(
                Kind::ToDo,
                &main.value,
                &what,
                "look for the option in its manual: --foreground, --no-daemon, -F",
            );
        }
        for key in ["PIDFile", "GuessMainPID"] {
            if let Some(value) = self.last("Service", key) {
                self.remark(
                    Kind::LeftOut,
                    value,
                    "",
                    "the server in the foreground is the process that supd started",
                );
            }
        }
    }

    /// Ready: what Type= comes to.
    pub(super) fn ready(&mut self, main: &Main, intercepted: bool) {
        let from = self.job.service.unit.last("Service", "Type").map(place);
        let notifies = main.known().is_some_and(|known| known.notifies);
        let mut ready = None;
        let access = self.job.service.unit.last("Service", "NotifyAccess");
        if access.is_some_and(|value| value.text == "none") && !main.kind.starts_with("notify") {
            // It says what holds for this Type= anyway.
            self.draft.service.remove("NotifyAccess");
        }
        match main.kind.as_str() {
            "notify" => ready = intercepted.then_some("notify"),
            "notify-reload" => {
                ready = intercepted.then_some("notify");
                let signal = self
                    .last("Service", "ReloadSignal")
                    .map_or("SIGHUP", |value| value.text.as_str())
                    .to_owned();
                self.draft.service.set("ReloadSignal", toml::text(&signal), from.as_ref());
            }
            "simple" | "exec" | "idle" | "forking" if notifies => ready = intercepted.then_some("notify"),
            // Ready = "listen" is the default there, and says more.
            "simple" | "exec" | "idle" | "forking" if intercepted => {}
            "dbus" => {
                ready = Some("started");
                let what = "the name on the bus is not waited for";
                let remedy = "write Ready = [\"command\"] with a command that asks for it";
                self.remark(Kind::ToDo, &main.value, what, remedy);
            }
            kind => {
                ready = Some("started");
                let what = format!("Type={kind}: that the program was started is no sign that it serves");
                let remedy =
                    "better a check, as in Ready = \"http://127.0.0.1:9000/health\" or [\"command\"]";
                self.remark(Kind::Note, &main.value, &what, remedy);
            }
        }
        if let Some(word) = ready {
            self.draft.service.set("Ready", toml::text(word), from.as_ref());
        }
        let waits = matches!(main.kind.as_str(), "notify" | "notify-reload" | "forking" | "dbus");
        if waits && !self.draft.service.has("TimeoutStartSec") {
            self.draft.service.set("TimeoutStartSec", toml::text("90s"), None);
            self.draft.service.comment("TimeoutStartSec", "systemd's default");
        }
    }

    /// What else is run: before and after, at a reload and at the end.
    pub(super) fn hooks(&mut self, main: &Main) {
        for key in ["ExecStartPre", "ExecStartPost", "ExecStopPost"] {
            let commands = self.commands(key);
            self.hook(key, commands, main);
        }
        self.reload(main);
        self.stop(main);
    }

    fn hook(&mut self, key: &str, commands: Vec<(&Value, Command)>, main: &Main) {
        let mut kept = Vec::new();
        let mut from = None;
        for (value, command) in commands {
            if needs_main(&command) {
                let what = format!("{} goes by $MAINPID, which supd does not set", quoted(&command.program));
                self.remark(
                    Kind::LeftOut,
                    value,
                    &what,
                    "a signal to the server is: supctl kill -s SIGNAL UNIT",
                );
                continue;
            }
            let mut command = to_supd(&command, command.ignore_failure);
            let same = super::programs::find(&command.program).map(|known| known.names);
            if let (true, Some(known)) =
                (main.forks() && same == main.known().map(|known| known.names), main.known())
            {
                stay_alike(&mut command.arguments, 0, known.foreground);
            }
            from.get_or_insert_with(|| place(value));
            kept.push(command);
        }
        if !kept.is_empty() {
            self.draft.service.set(key, toml::commands(&kept), from.as_ref());
        }
    }

    fn reload(&mut self, main: &Main) {
        let commands = self.commands("ExecReload");
        let own = self.last("Service", "ReloadSignal").filter(|_| main.kind == "notify-reload");
        let Some((value, _)) = commands.first().cloned() else { return };
        let sent = commands.iter().find_map(|(_, command)| signal_of(command));
        let known = main.known().map(|known| known.reloads).filter(|signal| !signal.is_empty());
        let signal = sent.or_else(|| known.map(str::to_owned));
        match signal {
            Some(signal) if own.is_none() => {
                self.draft.service.set("ReloadSignal", toml::text(&signal), Some(&place(value)));
                let what = format!("ReloadSignal = {} in its place", quoted(&signal));
                let others = commands.iter().filter(|(_, command)| signal_of(command).is_none());
                let others: Vec<String> = others.map(|(_, command)| shown_command(command)).collect();
                let remedy = match others.as_slice() {
                    [] => String::new(),
                    others => format!("supd sends the signal alone; not run any more: {}", others.join("; ")),
                };
                self.remark(Kind::Changed, value, &what, &remedy);
            }
            Some(_) => {}
            None => self.hook("ExecReload", commands, main),
        }
    }

    /// A generation ends by KillSignal. What stops a server by its PID file, or by its name, would
    /// stop the other generation.
    fn stop(&mut self, main: &Main) {
        let commands = self.commands("ExecStop");
        let pid_file = self.job.service.unit.last("Service", "PIDFile").map(|value| value.text.clone());
        let (mut kept, mut sent) = (Vec::new(), None);
        for (value, command) in commands {
            let signal = signal_of(&command);
            let by_file = command.arguments.iter().any(|word| {
                word == "--pidfile" || pid_file.as_ref().is_some_and(|file| word.contains(file.as_str()))
            });
            let own = main.forks() || by_file || main.known().is_some() || needs_main(&command);
            if signal.is_none() && !own {
                let what = "it is run for each generation that ends, while another one serves";
                self.remark(Kind::Note, value, what, "take it out if it cannot tell the two apart");
                kept.push((value, command));
                continue;
            }
            let what = format!(
                "a generation ends by KillSignal; this may stop the one that serves: {}",
                shown_command(&command)
            );
            self.remark(Kind::LeftOut, value, &what, "");
            sent = sent.or(signal.map(|signal| (signal, place(value))));
        }
        self.hook("ExecStop", kept, main);
        self.kill_signal(main, sent);
    }

    fn kill_signal(&mut self, main: &Main, sent: Option<(String, Place)>) {
        if let Some(value) = self.last("Service", "KillSignal") {
            self.draft.service.set("KillSignal", toml::text(&value.text), Some(&place(value)));
        } else if let Some(known) = main.known().filter(|known| !known.ends.is_empty()) {
            self.draft.service.set("KillSignal", toml::text(known.ends), None);
            self.draft.service.comment("KillSignal", format!("the graceful end of {}", main.name()));
        } else if let Some((signal, from)) = sent {
            self.draft.service.set("KillSignal", toml::text(&signal), Some(&from));
        }
        let stop = self.job.service.unit.last("Service", "TimeoutStopSec");
        let span = stop.and_then(|value| crate::codec::timespan::parse(&value.text).ok()?);
        if let (Some(value), Some(span)) = (stop, span.filter(|span| !span.is_zero() && span.as_secs() < 30))
        {
            let what = format!(
                "at a swap, requests that take longer than {} are cut",
                crate::codec::timespan::format(span)
            );
            self.remark(Kind::Note, value, &what, "supd's own default is 5min: take TimeoutStopSec out");
        }
    }

    /// Handoff: how the server gets what is bound for it.
    pub(super) fn handoff(&mut self, main: &Main, intercepted: bool, binds: &[Bind]) {
        if binds.is_empty() && self.job.sockets.is_empty() {
            return;
        }
        let word = if intercepted { "intercept" } else { "inherit" };
        self.draft.service.set("Handoff", toml::text(word), None);
        let what = match (intercepted, main.known().map(|known| known.takes)) {
            (true, Some(Takes::IfConfigured)) => {
                "with server.systemd-socket-activation = \"enable\" it takes LISTEN_FDS: then write \"inherit\""
            }
            (true, _) => "it binds for itself",
            (false, Some(Takes::Descriptor(_))) => "the socket is descriptor 3",
            (false, _) => "it takes LISTEN_FDS",
        };
        self.draft.service.comment("Handoff", what);
        if main.known().is_some_and(|known| known.alone) {
            self.draft.service.set("Exclusive", toml::text("process"), None);
            self.draft.service.comment("Exclusive", "two of them would share one set of data");
        }
    }
}

fn shown(words: &[String]) -> String {
    let quote = |word: &String| {
        if word.contains(char::is_whitespace) || word.is_empty() { format!("'{word}'") } else { word.clone() }
    };
    let words: Vec<String> = words.iter().map(quote).collect();
    let mut text: String = words.join(" ").chars().take(200).collect();
    if text.is_empty() {
        text.push_str("(no arguments)");
    }
    text
}

fn shown_command(command: &Command) -> String {
    let words: Vec<String> =
        std::iter::once(command.program.clone()).chain(command.arguments.iter().cloned()).collect();
    shown(&words)
}
