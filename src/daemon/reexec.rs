//! supd executes the program that is on its disk now, and stays the process that it is: execve(2).
//!
//! Nothing is given up before the new program has said that it can go on with what it would be handed. Then what
//! is under way comes to its end: a swap, a stop, an install, a command. What is the kernel's the keeper has, as if
//! supd died; clients stay connected, and the next image answers them.

use super::chores::Chore;
use super::hands::Hands;
use crate::codec::handover::{self, WORD};
use crate::codec::history::{by, cut};
use crate::codec::json::{ByView, HistoryEntry};
use crate::codec::varlink::Outcome;
use crate::codec::{kept, ledger, pinned};
use crate::machine::{CarriedSwap, Machine};
use crate::model::handover::{Handover, HeldSwap};
use crate::model::settings::Resource;
use crate::model::text::printable;
use crate::model::{ClientId, ExitStatus, Progress, Reply, Tick};
use crate::os::image::{self, Which};
use crate::os::original::set_raw;
use crate::os::process::Stat;
use crate::os::task::Task;
use crate::os::{inherited, sealed};
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the next image finds the number of what it is handed.
pub(super) const VARIABLE: &str = "SUPD_HANDOVER";

/// The new program may take so long to say whether it can read that, and whoever asks it a little longer.
const ANSWER: Duration = Duration::from_secs(8);
const CHECK: Duration = Duration::from_secs(10);

/// What is under way may take so long to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The history may take so long to the disk.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What a program says of itself is cut off here.
const SAID_MAX: usize = 200;

/// One that was asked for.
#[derive(Debug)]
pub struct Reexec {
    /// Who waits for it.
    clients: Vec<ClientId>,
    by: Option<ByView>,
    program: PathBuf,
    /// The file that was asked.
    which: Option<Which>,
    /// The format that it can read, once it has said so.
    knows: u64,
    stage: Stage,
    /// It is given up then.
    until: Tick,
    /// What passes is not waited for any longer.
    late: bool,
    /// What it waits for, as was told last.
    waits_for: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    /// The new program is asked.
    Checking,
    /// It can; something is under way.
    Waiting(String),
    /// The history says that it happens.
    Told,
}

/// What stands in its way.
struct Hindrance {
    text: String,
    /// It is not waited for longer than that is.
    passes: bool,
}

impl Reexec {
    /// When it is given up.
    #[must_use]
    pub fn deadline(&self) -> Tick {
        self.until
    }
}

impl Hands {
    /// Somebody wants the new program, or whoever sent SIGUSR2.
    pub(super) fn reexec(&mut self, client: Option<ClientId>, machine: &Machine, now: Tick) {
        if let (Some(reexec), Some(client)) = (&mut self.reexec, client) {
            return reexec.clients.push(client);
        }
        if self.reexec.is_some() {
            return;
        }
        let author = client.and_then(|client| self.clients.author(client)).map(by);
        let begun = self.may_reexec(now).and_then(|()| {
            let program = image::program().map_err(|error| error.to_string())?;
            let which = image::which(&program);
            self.ask_program(&program, machine)?;
            Ok((program, which))
        });
        let clients = client.into_iter().collect();
        let ((program, which), why) = match begun {
            Ok(begun) => (begun, None),
            Err(why) => ((PathBuf::new(), None), Some(why)),
        };
        let (until, stage) = (now.after(CHECK + PATIENCE), Stage::Checking);
        let (late, waits_for) = (false, String::new());
        self.reexec =
            Some(Reexec { clients, by: author, program, which, knows: 0, stage, until, late, waits_for });
        if let Some(why) = why {
            self.give_up_reexec(&why, now);
        }
    }

    /// Why it cannot be at all.
    fn may_reexec(&mut self, now: Tick) -> Result<(), String> {
        if self.leaving.is_some() || self.story.ending.is_some() {
            return Err("supd is about to end".to_owned());
        }
        if !self.keeping.is_wanted() {
            return Err(
                "supd runs one unit, or a container, alone: it ends with it, and has no keeper".to_owned()
            );
        }
        if !self.has_keeper(now) {
            return Err("there is no keeper, which would have what is supd's meanwhile".to_owned());
        }
        Ok(())
    }

    /// Asks it whether it can read what it would be handed.
    fn ask_program(&mut self, program: &Path, machine: &Machine) -> Result<(), String> {
        let (handover, _) = self.handover(&[], machine);
        let sample = sealed::seal("supd-handover", handover::encode(&handover).as_bytes());
        let sample = sample.map_err(|error| error.to_string())?;
        let ask = || {
            let said = image::ask(program, "--check-handover", sample.as_fd(), ANSWER)?;
            match said.status.success() {
                true => Ok(said.stdout.into_iter().take(SAID_MAX).collect()),
                false => {
                    let words = printable(String::from_utf8_lossy(&said.stderr).trim(), SAID_MAX);
                    Err(format!("it says ({}): {words}", said.status))
                }
            }
        };
        let task = Task::run("ask the new supd", CHECK, &[sample.as_fd()], ask);
        let task = task.map_err(|error| error.to_string())?;
        self.chores.begin(Chore::CheckHandover, task, &mut self.sources)
    }

    /// The new program has said something, or nothing.
    pub(super) fn handover_checked(&mut self, result: Result<Vec<u8>, String>, now: Tick) {
        let Some(reexec) = &mut self.reexec else { return };
        let said = result.and_then(|said| {
            let said = String::from_utf8_lossy(&said).into_owned();
            let parts = said.trim().split_once(&format!(" {WORD} "));
            let known = parts.and_then(|(version, format)| Some((version.to_owned(), format.parse().ok()?)));
            known.ok_or_else(|| "it is no supd that can be handed anything".to_owned())
        });
        match said {
            Ok((version, knows)) => {
                (reexec.stage, reexec.knows) = (Stage::Waiting(version), knows);
                reexec.until = now.after(PATIENCE);
            }
            Err(why) => {
                let why = format!("{} cannot go on in its place: {why}", reexec.program.display());
                self.give_up_reexec(&why, now);
            }
        }
    }

    /// Goes on with it, where nothing stands in its way.
    pub(super) fn tend_reexec(&mut self, machine: &Machine, now: Tick) {
        if self.reexec.is_none() {
            return;
        }
        if self.story.ending.is_some() || self.leaving.is_some() {
            return self.give_up_reexec("supd is about to end", now);
        }
        let hindrance = self.hinders(machine);
        let Some(reexec) = &mut self.reexec else { return };
        let is_late = reexec.until <= now;
        match (&reexec.stage, hindrance) {
            (Stage::Checking, _) if !is_late => {}
            (Stage::Checking, _) => self.give_up_reexec("the new program does not answer", now),
            (_, Some(hindrance)) if is_late && !hindrance.passes => {
                let text = format!("{}, which did not end within {}s", hindrance.text, PATIENCE.as_secs());
                self.give_up_reexec(&text, now);
            }
            (Stage::Waiting(_), Some(hindrance)) if !is_late => {
                if reexec.waits_for != hindrance.text {
                    let text = format!("waits: {}", hindrance.text);
                    reexec.waits_for = hindrance.text;
                    log::info!("reexec {text}");
                    for client in &reexec.clients {
                        self.control.progress(*client, &Progress::Note(text.clone()));
                    }
                }
            }
            (Stage::Waiting(version), None | Some(_)) => {
                let cause = Some(format!("{version} in place of supd {}", env!("CARGO_PKG_VERSION")));
                let by = reexec.by.clone();
                (reexec.stage, reexec.late, reexec.until) = (Stage::Told, is_late, now.after(LAST_WORDS));
                self.recorder.tell(HistoryEntry {
                    what: "reexec".into(),
                    by,
                    cause,
                    ..HistoryEntry::default()
                });
            }
            (Stage::Told, _) if is_late => {
                self.give_up_reexec("the disk does not take supd's last words", now);
            }
            (Stage::Told, _) => {}
        }
    }

    /// What would be lost now.
    fn hinders(&self, machine: &Machine) -> Option<Hindrance> {
        let hinders = |text: String, passes| Some(Hindrance { text, passes });
        let asked = self.reexec.as_ref().map(|reexec| reexec.clients.clone()).unwrap_or_default();
        let unsettled = machine.unsettled();
        match unsettled {
            Some((unit, unsettled)) if !unsettled.is_worker => {
                return hinders(format!("{unit}: {}", unsettled.what), false);
            }
            Some(_) | None => {}
        }
        if !self.inbox.is_empty() || !self.jobs.is_idle() || self.sweeper.is_asked() {
            return hinders("a command is under way".to_owned(), false);
        }
        let knows = self.reexec.as_ref().map_or(0, |reexec| reexec.knows);
        if let Some(swap) = machine.resting().find(|_| knows < handover::FORMAT) {
            return hinders(
                format!("{}: a swap is under way, of which that supd knows nothing", swap.held.unit),
                false,
            );
        }
        if let Some(owed) = machine.resting().find(|swap| self.clients.owes(&swap.held.unit)) {
            return hinders(format!("{}: a request with a request_id is under way", owed.held.unit), false);
        }
        match self.control.unsettled(&asked, |client| machine.goes_on_waiting(client)) {
            0 => {}
            count => return hinders(format!("{count} request(s) are under way"), false),
        }
        match unsettled {
            Some((unit, unsettled)) => hinders(format!("{unit}: {}", unsettled.what), true),
            None if self.chores.that_matter() > 0 => hinders("files are being seen to".to_owned(), true),
            None => None,
        }
    }

    /// Whether supd is to be another image now, and why that may be.
    pub(super) fn is_to_reexec(&self, machine: &Machine) -> bool {
        let told = |reexec: &Reexec| {
            let may = |hindrance: Hindrance| hindrance.passes && reexec.late;
            reexec.stage == Stage::Told
                && self.recorder.is_idle()
                && self.inbox.is_empty()
                && self.hinders(machine).is_none_or(may)
        };
        self.reexec.as_ref().is_some_and(told)
    }

    /// Becomes the new program. It comes back only where that failed; then nothing is given up.
    pub(super) fn become_next(&mut self, machine: &Machine, locks: [BorrowedFd<'_>; 2], now: Tick) {
        let Some(reexec) = &self.reexec else { return };
        let (program, asked) = (reexec.program.clone(), reexec.clients.clone());
        let same = reexec.which.is_some() && image::which(&program) == reexec.which;
        let why = match self.settle_keeper(machine, now) {
            Ok(()) if same => self.execute(&program, &asked, locks, machine),
            Ok(()) => format!("{} has changed since it was asked: try again", program.display()),
            Err(why) => why,
        };
        self.give_up_reexec(&why, now);
    }

    /// Why it was not to be.
    fn execute(
        &mut self,
        program: &Path,
        asked: &[ClientId],
        locks: [BorrowedFd<'_>; 2],
        machine: &Machine,
    ) -> String {
        for (client, cursor) in self.story.watches.cursors() {
            self.control.note_cursor(client, cursor);
        }
        let (mut handover, mut open) = self.handover(asked, machine);
        handover.locks = locks.iter().map(|lock| lock.as_raw_fd().unsigned_abs()).collect();
        let memory = match sealed::seal("supd-handover", handover::encode(&handover).as_bytes()) {
            Ok(memory) => memory,
            Err(error) => return error.to_string(),
        };
        open.extend(locks);
        open.push(memory.as_fd());
        let variable = (OsString::from(VARIABLE), memory.as_raw_fd().to_string().into());
        let environment = std::env::vars_os().filter(|(name, _)| name != VARIABLE).chain([variable]);
        log::info!("goes on as what is {} now", program.display());
        // The next image is to find what this one found.
        let (soft, hard) = self.ground.original.limit(Resource::Nofile);
        let lowered = set_raw(Resource::Nofile, soft, hard);
        let failed = image::replace(program.as_os_str(), std::env::args_os(), environment, &open);
        if lowered.is_ok() {
            let _ = set_raw(Resource::Nofile, hard, hard);
        }
        match failed {
            Ok(never) => match never {},
            Err(errno) => format!("cannot execute {}: {}", program.display(), errno.desc()),
        }
    }

    /// What the next image is to have, and the descriptors that are to stay open for it.
    fn handover(&self, asked: &[ClientId], machine: &Machine) -> (Handover, Vec<BorrowedFd<'_>>) {
        let held = self.control.hold(asked);
        let (control, control_file, client_last) = self.control.identity();
        let mut open = held.open;
        open.extend(self.inherited.iter().map(AsFd::as_fd));
        let handover = Handover {
            pid: std::process::id(),
            start_time: own_start(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kept_format: kept::FORMAT,
            ledger_format: ledger::FORMAT,
            pinned_format: pinned::FORMAT,
            locks: Vec::new(),
            control,
            control_file,
            client_last,
            inherited: self.inherited.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect(),
            mirrored: self.mirror.names().cloned().collect(),
            clients: held.clients,
            swaps: Some(machine.resting().map(|swap| self.held_swap(swap)).collect())
                .filter(|swaps: &Vec<HeldSwap>| !swaps.is_empty()),
            salts: Some(self.salts.seed()),
            reexecs: Some(self.metrics.reexecs()),
        };
        (handover, open)
    }

    fn held_swap(&self, CarriedSwap { held, client }: CarriedSwap) -> HeldSwap {
        let by = client.and_then(|client| self.clients.author(client)).cloned();
        HeldSwap { by, ..held }
    }

    /// A swap of the image before, for the machine.
    pub(super) fn with_author(&mut self, held: HeldSwap) -> CarriedSwap {
        let client = held.by.clone().map(|author| self.clients.stand_in(&held.unit, author));
        CarriedSwap { held, client }
    }

    pub(super) fn give_up_reexec(&mut self, why: &str, now: Tick) {
        let Some(reexec) = self.reexec.take() else { return };
        if reexec.stage == Stage::Told {
            let (what, cause) = ("reexec-failed".into(), Some(cut(why)));
            self.recorder.tell(HistoryEntry { what, by: reexec.by, cause, ..HistoryEntry::default() });
        }
        log::warn!("supd stays as it is: {why}");
        let reply = Reply::new(ExitStatus::Failed, false, format!("supd stays as it is: {why}"));
        let outcome = Outcome::of_reply(&reply, Vec::new(), None);
        for client in reexec.clients {
            self.tell(client, &outcome, now);
        }
    }

    /// The next image tells those who waited for it.
    pub(super) fn tell_reexecuted(&mut self) {
        let Some((clients, before)) = self.reexecuted.take_if(|_| self.inbox.is_empty()) else { return };
        log::info!("goes on where supd {before} was");
        for client in clients {
            self.control.answer(client, &done());
        }
    }
}

/// What those hear who asked.
#[must_use]
pub(super) fn done() -> Outcome {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    Outcome::of_reply(
        &Reply::done(true, format!("supd {version} goes on as process {pid}")),
        Vec::new(),
        None,
    )
}

/// When this process began, as the kernel counts.
fn own_start() -> u64 {
    let pid = i32::try_from(std::process::id()).unwrap_or_default();
    Stat::read(pid).map_or(0, |stat| stat.start)
}

/// Which program it would be.
///
/// # Errors
/// It is not known.
pub(super) fn program() -> Result<String, String> {
    image::program().map(|program| program.display().to_string()).map_err(|error| error.to_string())
}

/// What an earlier image of this process left for this one; `None`: it begins from nothing.
///
/// # Errors
/// It was left something that it cannot use: what that held open is closed.
pub(super) fn inherit() -> Result<Option<Handover>, String> {
    let Some(number) = std::env::var_os(VARIABLE) else { return Ok(None) };
    let taken = take(&number);
    if taken.is_err() {
        image::close_inherited();
        inherited::forget();
    }
    taken.map(Some).map_err(|why| format!("{VARIABLE}={}: {why}", number.to_string_lossy()))
}

fn take(number: &OsString) -> Result<Handover, String> {
    let number = number.to_str().and_then(|text| text.parse().ok()).ok_or("it is no number")?;
    let file = image::inherit(number).map_err(|errno| errno.desc().to_owned())?;
    let handover = handover::decode(&sealed::unseal(&File::from(file), handover::BYTES_MAX)?)?;
    if (handover.pid, handover.start_time) != (std::process::id(), own_start()) {
        return Err(format!("it is for process {}, and this is {}", handover.pid, std::process::id()));
    }
    Ok(handover)
}

/// Whether this program can go on with what comes on its standard input, and what it says to that.
///
/// # Errors
/// Why not.
pub(super) fn check() -> Result<String, String> {
    let text = image::read_all(std::io::stdin().lock(), handover::BYTES_MAX)?;
    handover::decode(&text)?;
    Ok(format!("supd {} {WORD} {}\n", env!("CARGO_PKG_VERSION"), handover::FORMAT))
}
