//! An install: from a source to a release that counts. Nothing counts before the ledger has it.
//!
//! ```text
//! Unpacking ─▶ Placing ─▶ Preparing (each ExecInstall) ─▶ Sealing ─▶ Recording ─▶ installed
//!     └────────────┴─────────────────┴──────────────────────┴──────────┴─▶ failed: nothing is left of it
//! ```

mod ends;

use super::super::effect::{Action, JobKind, JobWork, Launch};
use super::super::swap::Plan;
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::release::{Content, Release, Verdict};
use crate::model::{
    ClientId, Generation, Happening, JobId, Label, Progress, RecordId, Reply, Settings, Stops, SwapKind,
    Tick, WaitFor,
};
use std::sync::Arc;
use std::time::Duration;

/// How long one ExecInstall may take where TimeoutStartSec is infinite.
const PREPARE_LONGEST: Duration = Duration::from_secs(3600);

/// What follows an install that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deploy {
    /// Where to stop on the way.
    pub stops: Stops,
    /// Abort a running swap first.
    pub replace: bool,
    /// How far to wait.
    pub wait: WaitFor,
}

/// An install under way; a unit has one at a time.
#[derive(Debug, Clone)]
pub(super) struct Install {
    label: Label,
    settings: Arc<Settings>,
    /// Names the folder that it is unpacked into.
    staging: JobId,
    stage: Stage,
    client: Option<ClientId>,
    /// Who asked for it, also once that one has hung up.
    author: ClientId,
    then: Then,
    /// Who joined it, and how far they wait.
    joined: Vec<(ClientId, WaitFor)>,
}

/// What follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Nothing,
    Swap(Deploy),
    /// There was a swap to be, and the unit was stopped since; a start does not bring it back.
    Stopped,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Unpacking,
    Placing { job: JobId, content: Content },
    Preparing { job: JobId, command: usize, until: Tick, content: Content },
    Sealing { job: JobId, content: Content },
    Recording { record: RecordId, before: Vec<Release> },
}

impl Stage {
    fn word(&self) -> &'static str {
        match self {
            Self::Unpacking => "is being unpacked",
            Self::Placing { .. } => "is being put in place",
            Self::Preparing { .. } => "is being prepared by ExecInstall",
            Self::Sealing { .. } => "is being sealed and written to the disk",
            Self::Recording { .. } => "is on its way into the ledger",
        }
    }
}

impl Plan {
    /// The second half of a deploy.
    pub(super) fn of_deploy(label: Label, settings: Arc<Settings>, how: Deploy) -> Self {
        Self { kind: SwapKind::Swap, settings, release: Some(label), origin: None, stops: how.stops }
    }
}

impl Install {
    pub(super) fn hung_up(&mut self, client: ClientId) {
        self.client = self.client.filter(|asker| *asker != client);
        self.joined.retain(|(joined, _)| *joined != client);
    }

    fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.client.into_iter().chain(self.joined.iter().map(|(client, _)| *client))
    }

    pub(super) fn label(&self) -> &Label {
        &self.label
    }

    /// For status.
    pub(super) fn note(&self) -> String {
        format!("release {} {}", self.label, self.stage.word())
    }

    /// What it sets out to do.
    pub(super) fn intent(&self) -> String {
        let swap = if matches!(self.then, Then::Swap(_)) { " and swap to it" } else { "" };
        format!("install release {}{swap}", self.label)
    }

    /// When the stage ends by itself; the hands bound all others.
    pub(super) fn deadline(&self) -> Option<Tick> {
        match self.stage {
            Stage::Preparing { until, .. } => Some(until),
            Stage::Unpacking | Stage::Placing { .. } | Stage::Sealing { .. } | Stage::Recording { .. } => {
                None
            }
        }
    }

    /// Whether the ledger may come to list it.
    pub(super) fn is_recorded(&self) -> bool {
        matches!(self.stage, Stage::Recording { .. })
    }

    fn job(&self) -> Option<JobId> {
        match self.stage {
            Stage::Unpacking => Some(self.staging),
            Stage::Placing { job, .. } | Stage::Preparing { job, .. } | Stage::Sealing { job, .. } => {
                Some(job)
            }
            Stage::Recording { .. } => None,
        }
    }
}

impl Unit {
    /// Whether this release is being installed.
    pub(super) fn deploys(&self, label: &Label) -> bool {
        self.install.as_ref().is_some_and(|install| install.label == *label)
    }

    /// The same, and it is past the point to which nothing of an installed one is touched: the same label
    /// once more is only compared with it.
    pub(super) fn is_put_in_place(&self, label: &Label) -> bool {
        self.install
            .as_ref()
            .is_some_and(|install| install.label == *label && install.stage != Stage::Unpacking)
    }

    pub(super) fn ask_install(
        &mut self,
        client: ClientId,
        label: Label,
        settings: Arc<Settings>,
        deploy: Option<Deploy>,
        turn: &mut Turn<'_>,
    ) {
        if let Err(reply) = self.may_install(&label, &settings, deploy) {
            return self.reply(client, reply, turn);
        }
        self.install_failure = None;
        let staging = turn.job();
        turn.act(Action::Unpack { job: staging, label: label.clone(), settings: settings.clone(), client });
        let then = deploy.map_or(Then::Nothing, Then::Swap);
        let install = Install {
            label,
            settings,
            staging,
            stage: Stage::Unpacking,
            client: Some(client),
            author: client,
            then,
            joined: Vec::new(),
        };
        self.tell(&install, turn);
        self.install = Some(install);
    }

    /// What can be refused before a byte is read.
    fn may_install(
        &self,
        label: &Label,
        settings: &Arc<Settings>,
        deploy: Option<Deploy>,
    ) -> Result<(), Reply> {
        let wait = Some(format!("wait {}", self.name));
        if let Some(install) = &self.install {
            let text = format!("{}; supctl abort {} ends that", install.note(), self.name);
            return Err(Reply::refused(text, wait));
        }
        if self.trees.contains(label) && self.release(label).is_none() {
            let text = format!("the files of an earlier release {label} are not gone yet");
            return Err(Reply::refused(text, Some(format!("releases {}", self.name))));
        }
        if !settings.service.releases {
            return Err(self.without_releases(label));
        }
        if let Err(full) = self.has_room(label, settings) {
            return Err(Reply::refused(full, Some(format!("undeploy {} LABEL", self.name))));
        }
        match (deploy, &self.life, &self.swap) {
            (Some(_), Life::Stopping(_), _) => Err(Reply::refused("is stopping", wait)),
            (Some(Deploy { replace: false, .. }), _, Some(swap)) => {
                let text =
                    format!("a swap to generation {} is under way; --replace aborts it first", swap.to);
                let lasts = swap.is_first() || swap.step.has_switched() || self.next.is_some();
                Err(Reply::refused(text, if lasts { wait } else { self.command("abort") }))
            }
            // An install that may take minutes, and then a refusal, would be the worse answer.
            (Some(deploy), _, None) if !self.is_active(label) => {
                self.has_place(&Plan::of_deploy(label.clone(), settings.clone(), deploy))
            }
            (_, _, _) => Ok(()),
        }
    }

    /// Joins an install that is under way.
    pub(super) fn join_install(&mut self, client: ClientId, wait: WaitFor) -> bool {
        let Some(install) = &mut self.install else { return false };
        install.joined.push((client, wait));
        true
    }

    fn tell(&self, install: &Install, turn: &mut Turn<'_>) {
        for client in install.clients() {
            turn.act(Action::Progress(client, Progress::Note(install.note())));
        }
    }

    fn enter(&mut self, install: Install, turn: &mut Turn<'_>) {
        self.tell(&install, turn);
        self.install = Some(install);
    }

    // Outcomes.

    pub(super) fn unpacked(&mut self, job: JobId, result: Result<Content, String>, turn: &mut Turn<'_>) {
        let waits = |install: &mut Install| install.staging == job && install.stage == Stage::Unpacking;
        let Some(mut install) = self.install.take_if(waits) else { return };
        let content = match result {
            Ok(content) => content,
            Err(reason) => return self.install_failed(&install, &reason, turn),
        };
        let known = self.release(&install.label).map(|release| release.content.digest == content.digest);
        // One that lost its files gets them again.
        let known = known.filter(|same| !same || self.trees.contains(&install.label));
        match known {
            Some(same) => {
                turn.act(Action::Discard { job: install.staging });
                self.known_already(install, same, turn);
            }
            None => {
                let job = turn.job();
                let (staging, label) = (install.staging, install.label.clone());
                let settings = install.settings.clone();
                self.trees.insert(label.clone());
                turn.act(Action::Place { job, staging, label, settings });
                install.stage = Stage::Placing { job, content };
                self.enter(install, turn);
            }
        }
    }

    fn known_already(&mut self, install: Install, same: bool, turn: &mut Turn<'_>) {
        if same {
            return self.installed(install, false, turn);
        }
        let text = format!("release {} is installed already, with other content", install.label);
        let next = Some(format!("releases {}", self.name));
        self.answer_install(&install, &Reply::refused(text, next), turn);
    }

    /// Whether this is the outcome of a step of the install; then it goes on.
    pub(super) fn install_finished(
        &mut self,
        job: JobId,
        result: &Result<(), String>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let its = |install: &mut Install| install.stage != Stage::Unpacking && install.job() == Some(job);
        let Some(install) = self.install.take_if(its) else { return false };
        match (&install.stage, result) {
            (Stage::Preparing { command, .. }, Err(reason)) => {
                let text = format!("ExecInstall ({} of {}): {reason}", command + 1, exec(&install).len());
                self.install_failed(&install, &text, turn);
            }
            (_, Err(reason)) => self.install_failed(&install, reason, turn),
            (Stage::Placing { content, .. }, Ok(())) => {
                let content = content.clone();
                self.prepare(install, 0, content, turn);
            }
            (Stage::Preparing { command, content, .. }, Ok(())) => {
                let (next, content) = (command + 1, content.clone());
                self.prepare(install, next, content, turn);
            }
            (Stage::Sealing { content, .. }, Ok(())) => {
                let content = content.clone();
                self.list(install, content, turn);
            }
            (Stage::Unpacking | Stage::Recording { .. }, Ok(())) => {}
        }
        true
    }

    /// The next ExecInstall, or the seal.
    fn prepare(&mut self, mut install: Install, command: usize, content: Content, turn: &mut Turn<'_>) {
        let job = turn.job();
        let Some(work) = exec(&install).get(command).cloned().map(JobWork::Command) else {
            let (label, settings) = (install.label.clone(), install.settings.clone());
            turn.act(Action::Seal { job, label, settings });
            install.stage = Stage::Sealing { job, content };
            return self.enter(install, turn);
        };
        let launch = Arc::new(Launch {
            generation: Generation(0),
            settings: install.settings.clone(),
            release: Some(install.label.clone()),
            origin: Generation(0),
            pinned: false,
        });
        turn.act(Action::Run { job, kind: JobKind::Install, work, launch, worker: None, fault: None });
        let until = turn.now.after(install.settings.service.timeout_start.unwrap_or(PREPARE_LONGEST));
        install.stage = Stage::Preparing { job, command, until, content };
        self.enter(install, turn);
    }

    /// ExecInstall takes too long.
    pub(super) fn install_due(&mut self, turn: &mut Turn<'_>) {
        let Some(install) = self.install.take() else { return };
        if let Some(job) = install.job() {
            turn.act(Action::EndJob { job });
        }
        self.install_failed(&install, "ExecInstall took longer than TimeoutStartSec", turn);
    }

    fn list(&mut self, mut install: Install, content: Content, turn: &mut Turn<'_>) {
        let before = self.durable.releases.clone();
        let label = install.label.clone();
        match self.durable.releases.iter_mut().find(|release| release.label == label) {
            Some(known) => known.content = content,
            None => {
                self.durable.releases.push(Release { label: label.clone(), content, verdict: Verdict::New });
            }
        }
        self.drop_old_releases(&install.settings);
        let record = self.record(Happening::Installed { label }, Some(install.author), turn);
        install.stage = Stage::Recording { record, before };
        self.enter(install, turn);
    }

    /// Whether this record says that a release is installed; then it counts, or it does not.
    pub(super) fn install_recorded(
        &mut self,
        id: RecordId,
        failure: Option<&str>,
        turn: &mut Turn<'_>,
    ) -> bool {
        let its =
            |install: &mut Install| matches!(install.stage, Stage::Recording { record, .. } if record == id);
        let Some(install) = self.install.take_if(its) else { return false };
        match (failure, &install.stage) {
            (Some(reason), Stage::Recording { before, .. }) => {
                self.durable.releases.retain(|release| release.label != install.label);
                self.relist(before);
                if self.release(&install.label).is_none() {
                    self.unlist(&install.label, turn);
                }
                self.install_failed(&install, &format!("the ledger cannot be written: {reason}"), turn);
            }
            (_, _) => self.installed(install, true, turn),
        }
        true
    }

    /// A record that failed is tried again by itself: it must not say what is not so any more. One that
    /// followed it lists the release, too, and may get through.
    fn unlist(&mut self, label: &Label, turn: &mut Turn<'_>) {
        let taken_back = Happening::Undeployed { label: label.clone() };
        match &mut self.unsaved {
            Some(unsaved) if unsaved.save.record.is_none() => {
                if matches!(&unsaved.happening, Happening::Installed { label: its } if its == label) {
                    unsaved.happening = taken_back;
                }
            }
            Some(_) => {
                self.record(taken_back, None, turn);
            }
            None => {}
        }
    }
}

fn exec(install: &Install) -> &[crate::model::settings::Command] {
    &install.settings.service.exec_install
}
