//! `start --take-from`: the listening sockets of a server that runs go to a unit that is to take its place.
//!
//! A child looks for them ([`running`]), supd takes those that it finds, and the machine is asked for a plain
//! start, whose bind goes on with them. The server is left alone: both accept, until a person ends it.

use super::chores::Chore;
use super::control::Call;
use super::hands::Hands;
use super::listeners::{Listeners, Taken};
use super::perform::note;
use crate::codec::history;
use crate::codec::json::HistoryEntry;
use crate::codec::varlink;
use crate::machine::{Level, Machine, Request};
use crate::model::{Address, ClientId, Progress, Reply, Settings, Tick, UnitName};
use crate::os::pidfd::PidFd;
use crate::os::process::{Identity, Stat, is_of};
use crate::os::running::{self, Found, Held};
use nix::errno::Errno;
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a search may take. (A server has thousands of descriptors, of a microsecond or two each.)
const BOUND: Duration = Duration::from_secs(20);

/// So many at a time: each is a child that reads all of /proc.
const MOST: usize = 4;

/// A start that waits for what a search finds.
#[derive(Debug)]
struct Taking {
    unit: UnitName,
    settings: Arc<Settings>,
    request: Request,
    /// The process that was named, held fast since the first look at it.
    process: PidFd,
    /// Whose it must be; `None`: anybody's, for root asks.
    uid: Option<u32>,
    /// What the unit has not bound.
    wanted: Vec<Address>,
    /// What would come of the start, where that is all that is asked.
    rehearsed: Option<Reply>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Takings {
    searching: BTreeMap<ClientId, Taking>,
    /// Those whose start the machine has.
    begun: BTreeMap<ClientId, UnitName>,
}

impl Takings {
    /// Nobody is told.
    pub fn hung_up(&mut self, client: ClientId) {
        self.begun.remove(&client);
    }
}

/// Why nothing is taken.
enum Refusal {
    /// The client may not.
    NotAllowed(String),
    /// In a sentence, and the next command to type.
    Refused(String, Option<String>),
    /// Others have to be waited for.
    Busy(String),
}

impl Hands {
    /// Looks for the sockets of a server before the machine is asked to start the unit. `rehearsed`: it is
    /// not to be asked, and this would come of it.
    pub(super) fn take_from(
        &mut self,
        call: &Call,
        pid: i32,
        (settings, request): (Arc<Settings>, Request),
        rehearsed: Option<Reply>,
        (machine, now): (&Machine, Tick),
    ) {
        let (unit, is_real) = (settings.unit.clone(), rehearsed.is_none());
        let bound = self.listeners.get(&unit);
        let addresses = settings.sockets.iter().map(|socket| &socket.address);
        let is_free = |address: &&Address| bound.is_none_or(|bound| !bound.has(address));
        let wanted: Vec<Address> = addresses.filter(is_free).cloned().collect();
        let would = match rehearsed.clone() {
            Some(reply) => Some(reply),
            None => machine.rehearse(now, &unit, request.clone()),
        };
        // What is refused, or is done already, needs no search. A unit that supd does not know yet is new.
        if let Some(reply) = would.filter(|reply| !reply.text.starts_with("would ")) {
            if !is_real {
                return self.control.reply(call.client, &reply, Vec::new(), None);
            }
            self.asked(call, now);
            return self.bring(call.client, settings, request, machine);
        }
        let begun = self.may_take(call, pid, &unit, &wanted).and_then(|(process, uid)| {
            let taking = Taking { unit: unit.clone(), settings, request, process, uid, wanted, rehearsed };
            self.begin_search(call.client, taking).map_err(|why| Refusal::Refused(why, None))
        });
        match begun {
            Ok(()) if is_real => self.asked(call, now),
            Ok(()) => {}
            Err(Refusal::NotAllowed(text)) => {
                self.control.refuse(call.client, &varlink::Error::not_allowed(text));
            }
            Err(Refusal::Refused(text, next)) => self.refuse(call.client, format!("{unit}: {text}"), next),
            Err(Refusal::Busy(reason)) => {
                let plain = varlink::error::Plain { changed: false, reason };
                self.control.refuse(call.client, &varlink::Error::Busy(plain));
            }
        }
    }

    /// Whether this client may have the sockets of this process; with it, whose it has to be.
    fn may_take(
        &self,
        call: &Call,
        pid: i32,
        unit: &UnitName,
        wanted: &[Address],
    ) -> Result<(PidFd, Option<u32>), Refusal> {
        let refused = |text: String| Err(Refusal::Refused(text, None));
        if wanted.is_empty() {
            let text = "supd has bound every address of it already: there is nothing to take".to_owned();
            return Err(Refusal::Refused(text, Some(format!("start {unit}"))));
        }
        if call.peer.pid == 0 {
            return refused("you are in another PID namespace, where supd knows no process".to_owned());
        }
        if self.takings.searching.len() >= MOST {
            return Err(Refusal::Busy("too many servers are looked into at once: try again".to_owned()));
        }
        if self.takings.searching.values().any(|other| other.unit == *unit) {
            return Err(Refusal::Busy(format!("{unit}: a start with --take-from is under way: try again")));
        }
        let gone = || format!("there is no process {pid}: it has ended, or the number is wrong");
        let process = match PidFd::open(pid) {
            Ok(process) => process,
            Err(error) if error.errno == Errno::ESRCH => return refused(gone()),
            Err(error) if matches!(error.errno, Errno::EINVAL | Errno::ENOENT) => {
                return refused(format!("{pid} is the number of a thread, not of a process"));
            }
            Err(error) => return refused(error.to_string()),
        };
        let uid = Some(call.peer.uid).filter(|uid| *uid != 0);
        let allowed = uid.is_none_or(|uid| is_of(pid, uid));
        // Still there: what was read of this number was read of it.
        match (process.is_over() || Stat::read(pid).is_none_or(|stat| stat.zombie), allowed) {
            (true, _) => refused(gone()),
            (false, false) => Err(Refusal::NotAllowed(format!(
                "{unit}: --take-from is for root and for the user that process {pid} runs as"
            ))),
            (false, true) if pid.unsigned_abs() == std::process::id() => {
                refused("that is supd itself".to_owned())
            }
            (false, true) => Ok((process, uid)),
        }
    }

    fn begin_search(&mut self, client: ClientId, taking: Taking) -> Result<(), String> {
        let task = running::search(taking.process.pid(), taking.uid, &taking.wanted, BOUND)
            .map_err(|error| error.to_string())?;
        self.chores.begin(Chore::TakeFrom(client), task, &mut self.sources)?;
        self.takings.searching.insert(client, taking);
        Ok(())
    }

    /// A search is over: what it found is taken, and the unit started.
    pub(super) fn searched(
        &mut self,
        client: ClientId,
        result: Result<Vec<u8>, String>,
        (machine, now): (&Machine, Tick),
    ) {
        let Some(taking) = self.takings.searching.remove(&client) else { return };
        let found = result.map(|answer| running::decode(&answer));
        let taken = found.and_then(|found| self.take(&taking, found));
        let Taking { unit, settings, request, rehearsed, .. } = taking;
        match (taken, rehearsed) {
            (Err(why), None) => self.reply(client, &Reply::refused(why, None), machine, now),
            (Err(why), Some(_)) => self.refuse(client, format!("{unit}: {why}"), None),
            (Ok(taken), Some(would)) => {
                let then = would.text.strip_prefix("would ").unwrap_or(&would.text);
                let text = format!("would take {} from {}, and {then}", names(&taken), taken.shown);
                self.control.reply(client, &Reply { text, ..would }, Vec::new(), None);
            }
            (Ok(taken), None) => {
                let new = || Listeners::new(unit.clone()).into();
                self.listeners.entry(unit.clone()).or_insert_with(new).expect(taken);
                self.takings.begun.insert(client, unit);
                self.bring(client, settings, request, machine);
            }
        }
    }

    /// Takes what was found, all or nothing.
    fn take(&self, taking: &Taking, found: Found) -> Result<Taken, String> {
        let gone = || format!("process {} has ended meanwhile", taking.process.pid());
        let mut sockets: Vec<(Address, &Held)> = Vec::new();
        for (at, address) in taking.wanted.iter().enumerate() {
            let Some(held) = found.sockets.iter().find(|held| held.wanted == at) else { continue };
            if held.others > 0 && matches!(address, Address::Ip { .. }) {
                return Err(many(&found, address, held.others + 1));
            }
            sockets.push((address.clone(), held));
        }
        if sockets.is_empty() {
            return Err(match found.closed {
                _ if taking.process.is_over() => gone(),
                Some((pid, errno)) => closed(pid, errno),
                None => nothing(&found, &taking.unit, &taking.wanted),
            });
        }
        let mut taken = Vec::new();
        for (address, held) in sockets {
            let fd = running::take(held, taking.uid, &self.boot);
            taken.push((address.clone(), fd.map_err(|why| format!("{address}: {why}; try again"))?));
        }
        let identity = |&(pid, start)| Identity { pid, start, boot: self.boot.clone(), inode: None };
        let processes = found.holders.iter().filter_map(|holder| identity(holder).matches_live(&self.boot));
        let processes = processes.collect();
        let Found { shown, name, remedy, .. } = found;
        Ok(Taken { shown, name, remedy, processes, sockets: taken })
    }

    /// A bind has gone on with what was taken.
    pub(super) fn tell_taken(&mut self, unit: &UnitName) {
        let Some(listeners) = self.listeners.get(unit) else { return };
        let Some((name, _)) = listeners.lender() else { return };
        let addresses: Vec<String> = listeners.borrowed().map(ToString::to_string).collect();
        let text = format!("took {} from {name}, which goes on accepting there", addresses.join(", "));
        note(unit, Level::Info, None, &text);
        let client = self.takings.begun.iter().find(|(_, its)| *its == unit).map(|(client, _)| *client);
        self.recorder.tell(HistoryEntry {
            what: "taken".into(),
            unit: Some(unit.to_string()),
            by: client.and_then(|client| self.clients.author(client)).map(history::by),
            cause: Some(history::cut(&text)),
            ..HistoryEntry::default()
        });
        for client in client.into_iter().flat_map(|client| self.clients.listeners(client)).collect::<Vec<_>>()
        {
            self.control.progress(client, &Progress::Note(text.clone()));
        }
    }

    /// The answer to a start that took sockets, with what is left for a person to do.
    pub(super) fn with_lender(&mut self, client: ClientId, reply: &Reply) -> Reply {
        let unit = self.takings.begun.remove(&client);
        let listeners = unit.as_ref().and_then(|unit| self.listeners.get_mut(unit));
        let (Some(unit), Some(listeners)) = (unit, listeners) else { return reply.clone() };
        listeners.expect_nothing();
        let Some((name, remedy)) = listeners.lender() else { return reply.clone() };
        let text = match reply.status {
            crate::model::ExitStatus::Done => {
                format!("{}; {name} still accepts there: {remedy}, after that only {unit} serves", reply.text)
            }
            _ => format!("{}; {name} accepts there as before", reply.text),
        };
        Reply { text, ..reply.clone() }
    }

    /// A process of a server ended whose sockets this unit has.
    pub(super) fn lender_ended(&mut self, unit: &UnitName) {
        let Some(listeners) = self.listeners.get_mut(unit) else { return };
        let (ended, notes) = listeners.lender_ended(&mut self.sources);
        notes.iter().for_each(|text| note(unit, Level::Warning, None, text));
        if let Some(name) = ended {
            note(unit, Level::Info, None, &format!("{name} has ended: nobody else accepts there any more"));
        }
    }
}

fn names(taken: &Taken) -> String {
    let addresses: Vec<String> = taken.sockets.iter().map(|(address, _)| address.to_string()).collect();
    addresses.join(", ")
}

/// One of its queues would be lost with the server.
fn many(found: &Found, address: &Address, count: usize) -> String {
    let how = if found.shown.starts_with("nginx ") {
        "take reuseport out of its listen directives and restart it first"
    } else if found.shown.starts_with("haproxy ") {
        "write noreuseport under global and restart it first"
    } else {
        "turn SO_REUSEPORT off in it and restart it first"
    };
    format!(
        "{count} sockets listen at {address}, each with a queue of its own (SO_REUSEPORT of {}), and supd can go \
         on with one: {how}",
        found.shown
    )
}

fn nothing(found: &Found, unit: &UnitName, wanted: &[Address]) -> String {
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    let elsewhere = match found.elsewhere.as_slice() {
        [] => "it listens on nothing".to_owned(),
        places => format!("it listens on {}; let the file of {unit} say the same", places.join(", ")),
    };
    format!("{} does not listen on {}: {elsewhere}", found.shown, wanted.join(", "))
}

/// The kernel does not let supd look into a process, and what helps.
pub(super) fn closed(pid: i32, errno: Errno) -> String {
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let scope: u32 = scope.trim().parse().unwrap_or(0);
    let (own, user) = (geteuid().is_root(), geteuid());
    let why = match errno {
        Errno::ENOSYS => {
            "this kernel, or a sandbox, has no pidfd_getfd(2), which came with Linux 5.6".to_owned()
        }
        Errno::EPERM | Errno::EACCES if own => format!(
            "supd needs CAP_SYS_PTRACE for that, in CapabilityBoundingSet= of its own service, and \
             kernel.yama.ptrace_scope below 3 (it is {scope})"
        ),
        Errno::EPERM | Errno::EACCES if scope > 0 => format!(
            "kernel.yama.ptrace_scope is {scope}, so that only root may: run supd as root, or set it to 0 with \
             sysctl"
        ),
        Errno::EPERM | Errno::EACCES => format!(
            "supd runs as user {user} and sees only processes of that user which never had more rights: run it \
             as root"
        ),
        other => other.desc().to_owned(),
    };
    format!("the kernel does not let supd take a socket out of process {pid}: {why}")
}
