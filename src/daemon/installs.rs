//! Releases on their way in and out: the sources that clients gave, and the children that unpack,
//! place, seal and remove. What the steps are is the machine's to say.

use super::chores::Chore;
use super::hands::Hands;
use super::launch::account;
use crate::codec::history;
use crate::codec::installing::Installing;
use crate::codec::json::HistoryEntry;
use crate::machine::{Event, RESTARTED};
use crate::model::release::Content;
use crate::model::settings::Settings;
use crate::model::{ClientId, JobId, Label, UnitName};
use crate::os::clock;
use crate::os::members;
use crate::os::task::Task;
use crate::os::unprivileged::Confinement;
use crate::store::unpack::{Bounds, Unpacked};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// How long an archive may take: whoever sends it may be slow.
const UNPACK_BOUND: Duration = Duration::from_secs(3600);

/// How long the end of what ExecInstall left running may take.
const END_BOUND: Duration = Duration::from_secs(20);

/// How long the disk may take to place, seal or remove one.
const STEP_BOUND: Duration = Duration::from_secs(1800);

/// The sources that came with requests which the machine has yet to decide on.
#[derive(Debug, Default)]
pub struct Installs {
    sources: BTreeMap<ClientId, OwnedFd>,
    /// Those that the runtime folder tells of, and what they unpack.
    noted: BTreeMap<UnitName, (JobId, Label)>,
}

impl Installs {
    /// This came with a request of that client.
    pub fn keep(&mut self, client: ClientId, source: OwnedFd) {
        self.sources.insert(client, source);
    }

    /// The request is answered: its source is not needed any more.
    pub fn forget(&mut self, client: ClientId) {
        self.sources.remove(&client);
    }
}

impl Hands {
    /// Unpacks what this client gave.
    pub(super) fn unpack(
        &mut self,
        unit: &UnitName,
        job: JobId,
        label: Label,
        settings: &Settings,
        client: ClientId,
    ) {
        self.note_install(unit, job, label, client);
        let begun = match self.installs.sources.remove(&client) {
            None => Err("no source came with the request".to_owned()),
            Some(source) => {
                let (account, releases) = (account(&settings.service), &self.ground.releases);
                let confinement = Confinement::of_a_child(None);
                let work = || {
                    let bounds = Bounds::default();
                    let unpacked = releases.receive(job, source.as_fd(), &account, confinement, &bounds)?;
                    Ok(unpacked.to_string().into_bytes())
                };
                Task::run("unpacking a release", UNPACK_BOUND, &[source.as_fd()], work)
                    .map_err(|error| error.to_string())
            }
        };
        let chore = Chore::Unpack(unit.clone(), job);
        let begun = begun.and_then(|task| self.chores.begin(chore, task, &mut self.sources));
        if let Err(reason) = begun {
            self.say(unit, Event::Unpacked { job, result: Err(reason) });
        }
    }

    /// Writes down that it is under way. There is no record of that: a full disk would refuse what is about to
    /// make room.
    fn note_install(&mut self, unit: &UnitName, job: JobId, label: Label, client: ClientId) {
        let by = self.clients.author(client).cloned();
        if let Err(error) = self.runtime.save_install(unit, &Installing { label: label.clone(), by }) {
            log::warn!("{unit}: {error}; if supd ends, the history will not have the install of {label}");
        }
        self.installs.noted.insert(unit.clone(), (job, label));
    }

    /// It came to nothing, and that is told; or what came of it is gone again.
    pub(super) fn forget_install(&mut self, unit: &UnitName, its: impl Fn(&(JobId, Label)) -> bool) {
        if !self.installs.noted.get(unit).is_some_and(its) {
            return;
        }
        self.installs.noted.remove(unit);
        if let Err(error) = self.runtime.clear_install(unit) {
            log::warn!("{unit}: {error}; the next supd may tell of an install that failed, and did not");
        }
    }

    /// Tells of those that the last supd did not outlive: what became a release is listed.
    pub(super) fn tell_cut_installs(&mut self) {
        for (unit, Installing { label, by }) in self.runtime.left_installs() {
            let listed = self.recorder.durable(&unit).releases.iter().any(|release| release.label == label);
            if !listed {
                self.recorder.tell(HistoryEntry {
                    what: "install-failed".into(),
                    unit: Some(unit.to_string()),
                    by: by.as_ref().map(history::by),
                    release: Some(label.to_string()),
                    cause: Some(RESTARTED.into()),
                    ..HistoryEntry::default()
                });
                log::warn!("{unit}: release {label} is not installed: supd ended in the middle of it");
            }
            if let Err(error) = self.runtime.clear_install(&unit) {
                log::warn!("{unit}: {error}; the next supd may tell of its install once more");
            }
        }
    }

    /// The child that unpacked has answered.
    pub(super) fn unpacked(&mut self, unit: &UnitName, job: JobId, result: Result<Vec<u8>, String>) {
        let result = result.and_then(|answer| {
            let text = String::from_utf8_lossy(&answer).into_owned();
            let Unpacked { digest, files, bytes } =
                Unpacked::parse(&text).ok_or_else(|| "the child that unpacked it is garbled".to_owned())?;
            let at = u64::try_from(clock::wall().as_micros()).unwrap_or(u64::MAX);
            Ok(Content { digest, files, bytes, at })
        });
        self.say(unit, Event::Unpacked { job, result });
    }

    /// Puts an unpacked tree in its place.
    pub(super) fn place(
        &mut self,
        unit: &UnitName,
        job: JobId,
        staging: JobId,
        label: Label,
        settings: &Arc<Settings>,
    ) {
        let (releases, name, account) =
            (self.ground.releases.clone(), unit.clone(), account(&settings.service));
        // What an earlier one wrote is no use to whoever reads why this one failed.
        let _there_may_be_none = std::fs::remove_file(self.ground.install_log(unit));
        self.step(unit, job, "placing a release", move || releases.place(staging, &name, &label, &account));
    }

    /// Ends what a command left running; only then is it over.
    pub(super) fn end_left(
        &mut self,
        unit: &UnitName,
        job: JobId,
        marks: &members::Marks,
        result: Result<(), String>,
    ) {
        let begun = members::end(marks, END_BOUND).map_err(|error| error.to_string());
        let chore = Chore::End(unit.clone(), job, result);
        let begun = begun.and_then(|task| self.chores.begin(chore, task, &mut self.sources));
        if let Err(why) = begun {
            self.left_ended(unit, job, Ok(()), Err(why));
        }
    }

    pub(super) fn left_ended(
        &mut self,
        unit: &UnitName,
        job: JobId,
        result: Result<(), String>,
        ended: Result<(), String>,
    ) {
        self.runtime.clear_job(job);
        let ended = ended.map_err(|why| format!("what it left running cannot be ended: {why}"));
        self.say(unit, Event::Finished { job, result: result.and(ended) });
    }

    /// Seals a placed tree.
    pub(super) fn seal(&mut self, unit: &UnitName, job: JobId, label: Label, settings: &Arc<Settings>) {
        let (releases, name, account) =
            (self.ground.releases.clone(), unit.clone(), account(&settings.service));
        self.step(unit, job, "sealing a release", move || releases.seal(&name, &label, &account));
    }

    fn step(&mut self, unit: &UnitName, job: JobId, what: &str, work: impl FnOnce() -> Result<(), String>) {
        let begun = Task::run(what, STEP_BOUND, &[], move || work().map(|()| Vec::new()))
            .map_err(|error| error.to_string())
            .and_then(|task| self.chores.begin(Chore::Install(unit.clone(), job), task, &mut self.sources));
        if let Err(reason) = begun {
            self.say(unit, Event::Finished { job, result: Err(reason) });
        }
    }

    /// Removes what a job unpacked.
    pub(super) fn discard(&mut self, unit: &UnitName, job: JobId) {
        self.forget_install(unit, |(its, _)| *its == job);
        let aside = self.ground.releases.set_aside_staged(job);
        self.empty_trash(aside);
    }

    /// Removes the files of a release.
    pub(super) fn remove_release(&mut self, unit: &UnitName, label: &Label) {
        self.forget_install(unit, |(_, its)| its == label);
        let aside = self.ground.releases.set_aside_release(unit, label);
        self.empty_trash(aside);
    }

    /// Removes what an earlier supd left.
    pub(super) fn empty_old_trash(&mut self) {
        if self.ground.releases.has_trash() {
            self.empty_trash(Ok(()));
        }
    }

    /// Out of the way at once, so that the label is free; the rest takes its time.
    fn empty_trash(&mut self, aside: Result<(), String>) {
        let releases = self.ground.releases.clone();
        let begun = aside.and_then(|()| {
            let work = move || releases.empty_trash().map(|()| Vec::new());
            let task = Task::run("removing a release", STEP_BOUND, &[], work);
            let task = task.map_err(|error| error.to_string())?;
            self.chores.begin(Chore::Discard, task, &mut self.sources)
        });
        if let Err(why) = begun {
            stays(&why);
        }
    }
}

/// It is tried again with the next one, and at boot.
pub(super) fn stays(why: &str) {
    log::warn!("files of a release stay on the disk: {why}");
}
