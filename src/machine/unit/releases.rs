//! Which releases there are, which one is taken, and which may go.

use super::super::effect::{Action, Level};
use super::super::turn::Turn;
use super::{Life, Unit};
use crate::model::release::{Release, Verdict};
use crate::model::{ClientId, ExitStatus, Generation, Happening, Label, RecordId, Reply, Settings};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// The most releases of one unit: each is named in every record of the ledger.
const RELEASES_MAX: usize = 100;

/// A release that is taken away: out of the list, and on its way out of the ledger.
#[derive(Debug, Clone)]
pub(super) struct Undeploying {
    record: RecordId,
    /// That record says so; else it is one after it, which only does not list it any more.
    told: bool,
    client: Option<ClientId>,
    /// To be put back if the ledger does not take it.
    before: Vec<Release>,
    label: Label,
}

/// Why a release must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    /// It serves, or the next start takes it.
    Active {
        up: bool,
    },
    Candidate,
    Retained,
    Drained {
        generation: Generation,
        workers: u32,
    },
    FirstConnection,
    /// It is on its way in.
    Installed,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active { up: true } => f.write_str("is active: the next start takes it"),
            Self::Active { up: false } => f.write_str("was active last: the next start takes it"),
            Self::Candidate => f.write_str("is on its way to be active"),
            Self::Retained => f.write_str("is retained: a rollback goes to it"),
            Self::Drained { generation, workers: 0 } => {
                write!(
                    f,
                    "is drained still: generation {generation} has just ended, somebody may wait for it"
                )
            }
            Self::Drained { generation, workers } => {
                write!(f, "is drained still: generation {generation} has {workers} worker(s)")
            }
            Self::FirstConnection => f.write_str("is what the first connection launches"),
            Self::Installed => f.write_str("is being installed"),
        }
    }
}

impl Undeploying {
    /// Nobody is to be told any more.
    pub(super) fn hung_up(&mut self, client: ClientId) {
        self.client = self.client.filter(|asker| *asker != client);
    }
}

impl Unit {
    pub(super) fn release(&self, label: &Label) -> Option<&Release> {
        self.durable.releases.iter().find(|release| release.label == *label)
    }

    /// Whether a release may be launched: one whose record is on its way may yet come to nothing, and
    /// one whose files are gone is only remembered.
    pub(super) fn counts(&self, label: &Label) -> bool {
        self.release(label).is_some() && self.trees.contains(label) && !self.is_put_in_place(label)
    }

    /// What the disk has of what is listed. What it has not is not forgotten: a disk may come late.
    pub(super) fn looked(&mut self, trees: &BTreeSet<Label>) {
        for release in &self.durable.releases {
            if trees.contains(&release.label) {
                self.trees.insert(release.label.clone());
            } else {
                self.trees.remove(&release.label);
            }
        }
    }

    /// Last installed, never one that failed, was aborted or rolled back from, unless `force`.
    fn newest(&self, force: bool) -> Option<&Label> {
        let fit =
            |release: &&Release| self.counts(&release.label) && (force || release.verdict != Verdict::Bad);
        self.durable.releases.iter().rev().find(fit).map(|release| &release.label)
    }

    /// Whether one more can be installed; why not.
    pub(super) fn has_room(&self, label: &Label, settings: &Settings) -> Result<(), String> {
        let listed = self.durable.releases.len();
        let goes = self.beyond(listed + 1, settings).count();
        if self.release(label).is_some() || listed - goes < RELEASES_MAX {
            return Ok(());
        }
        Err(format!("{RELEASES_MAX} releases are installed already, which is the most"))
    }

    /// The release that a swap takes.
    pub(super) fn choose(
        &self,
        settings: &Settings,
        label: Option<&Label>,
        force: bool,
    ) -> Result<Option<Label>, Reply> {
        match (settings.service.releases, label) {
            (false, None) => Ok(None),
            (false, Some(label)) => Err(self.without_releases(label)),
            (true, Some(label)) if self.counts(label) => Ok(Some(label.clone())),
            (true, Some(label)) => Err(self.no_such_release(label)),
            (true, None) => match self.newest(force) {
                Some(newest) => Ok(Some(newest.clone())),
                None => Err(self.nothing_installed()),
            },
        }
    }

    /// The release that a start or a restart takes: what was active last, else the newest.
    pub(super) fn choose_last(&self, settings: &Settings) -> Result<Option<Label>, Reply> {
        let last = self.durable.active.as_ref().and_then(|kept| kept.release.as_ref());
        // If its files are gone that is said: another one is not what was asked for.
        let last = last.filter(|label| self.release(label).is_some() && !self.is_put_in_place(label));
        self.choose(settings, last.filter(|_| settings.service.releases), false)
    }

    /// Whether this release receives the traffic by now.
    pub(super) fn is_active(&self, label: &Label) -> bool {
        let active = self.durable.active.as_ref().filter(|kept| kept.release.as_ref() == Some(label));
        matches!(self.life, Life::Up)
            && active.and_then(|kept| self.groups.get(&kept.generation)).is_some_and(|group| !group.is_gone())
    }

    pub(super) fn without_releases(&self, label: &Label) -> Reply {
        let text = format!(
            "has no releases, so there is no {label}: with Releases = true, or a relative program with a slash \
             in ExecStart, it would"
        );
        Reply::refused(text, Some(format!("cat {}", self.name)))
    }

    pub(super) fn no_such_release(&self, label: &Label) -> Reply {
        if self.release(label).is_some() && !self.is_put_in_place(label) {
            let text = format!("the files of release {label} are gone from the disk");
            return Reply::refused(text, Some(format!("deploy {} {label} SOURCE", self.name)));
        }
        let text = format!("there is no release {label}");
        Reply::refused(text, Some(format!("releases {}", self.name)))
    }

    pub(super) fn nothing_installed(&self) -> Reply {
        let text = if self.durable.releases.is_empty() {
            "no release is installed"
        } else if !self.durable.releases.iter().any(|release| self.counts(&release.label)) {
            "no release has its files on the disk"
        } else {
            "every release that is installed failed, was aborted or rolled back from; name one, or use --force"
        };
        if let Some(install) = &self.install {
            return Reply::refused(format!("{text}; {}", install.note()), self.command("wait"));
        }
        Reply::refused(text, Some(format!("deploy {} LABEL SOURCE", self.name)))
    }

    /// Why a release must stay; `None`: it may go.
    fn holds(&self, label: &Label) -> Option<Hold> {
        let durable = &self.durable;
        let is = |kept: &Option<crate::model::Kept>| {
            kept.as_ref().is_some_and(|kept| kept.release.as_ref() == Some(label))
        };
        let mut planned = self.swap.iter().map(|swap| &swap.plan);
        if is(&durable.active) {
            Some(Hold::Active { up: matches!(self.life, Life::Up) })
        } else if is(&durable.candidate) || planned.any(|plan| plan.release.as_ref() == Some(label)) {
            Some(Hold::Candidate)
        } else if is(&durable.previous) || is(&durable.retained) {
            Some(Hold::Retained)
        } else if let Some(group) = self
            .groups
            .values()
            .chain(self.ended_groups())
            .find(|group| group.launch.release.as_ref() == Some(label))
        {
            Some(Hold::Drained { generation: group.generation(), workers: group.remaining() })
        } else if matches!(self.life, Life::Arming { .. } | Life::Waiting { .. })
            && self.choose_last(&self.settings).ok().flatten().as_ref() == Some(label)
        {
            Some(Hold::FirstConnection)
        } else {
            self.deploys(label).then_some(Hold::Installed)
        }
    }

    /// Drops the oldest releases beyond KeepReleases that nothing holds from the list; their files
    /// go once that is on disk.
    pub(super) fn drop_old_releases(&mut self, settings: &Settings) {
        let old: Vec<Label> = self.beyond(self.durable.releases.len(), settings).cloned().collect();
        self.durable.releases.retain(|release| !old.contains(&release.label));
    }

    /// The oldest beyond KeepReleases, of so many, that nothing holds.
    fn beyond(&self, count: usize, settings: &Settings) -> impl Iterator<Item = &Label> {
        // The last one is what this is about.
        let keep = (settings.swap.keep_releases as usize).max(1);
        let oldest = self.durable.releases.iter().take(count.saturating_sub(keep));
        oldest.map(|release| &release.label).filter(|label| self.holds(label).is_none())
    }

    pub(super) fn ask_undeploy(&mut self, client: ClientId, label: Label, turn: &mut Turn<'_>) {
        let busy = if self.undeploying.is_some() {
            Some("another release is on its way out of the ledger")
        } else {
            let recorded = self.install.as_ref().is_some_and(super::install::Install::is_recorded);
            recorded.then_some("another release is on its way into the ledger")
        };
        if let Some(busy) = busy {
            return self.reply(client, Reply::refused(busy, self.command("releases")), turn);
        }
        if self.release(&label).is_none() {
            let reply = self.no_such_release(&label);
            return self.reply(client, reply, turn);
        }
        if let Some(why) = self.holds(&label) {
            let next = Some(match why {
                Hold::Drained { .. } => format!("wait {} --wait=drained", self.name),
                Hold::Installed => format!("wait {}", self.name),
                Hold::Active { .. } | Hold::Candidate | Hold::Retained | Hold::FirstConnection => {
                    format!("releases {}", self.name)
                }
            });
            return self.reply(client, Reply::refused(format!("release {label} {why}"), next), turn);
        }
        let before = self.durable.releases.clone();
        self.durable.releases.retain(|release| release.label != label);
        let record = self.record(Happening::Undeployed { label: label.clone() }, Some(client), turn);
        self.undeploying = Some(Undeploying { record, told: true, client: Some(client), before, label });
    }

    /// If this record says that a release was taken away, that is over.
    pub(super) fn undeploy_recorded(&mut self, record: RecordId, failure: Option<&str>, turn: &mut Turn<'_>) {
        let Some(mut done) = self.undeploying.take_if(|undeploying| undeploying.record == record) else {
            return;
        };
        let later = self.unsaved.as_ref().and_then(|unsaved| unsaved.save.record);
        if let (Some(_), Some(later)) = (failure, later) {
            // That one does not list it either, and may get through.
            (done.record, done.told) = (later, false);
            self.undeploying = Some(done);
            return;
        }
        let reply = match failure {
            None => {
                turn.note(Level::Info, None, format!("release {} is taken away", done.label));
                if !done.told {
                    self.tell_later(Happening::Undeployed { label: done.label.clone() }, done.client);
                }
                Reply::done(true, format!("release {} is taken away", done.label))
            }
            Some(reason) => {
                self.relist(&done.before);
                // What is tried again by itself must not say what is not so any more.
                let taken_back = Happening::Undeployed { label: done.label.clone() };
                if let Some(unsaved) = self.unsaved.as_mut().filter(|it| it.happening == taken_back) {
                    unsaved.happening = Happening::Installed { label: done.label.clone() };
                }
                let text = format!("release {} stays: the ledger cannot be written: {reason}", done.label);
                Reply::new(ExitStatus::Failed, false, text)
            }
        };
        if let Some(client) = done.client {
            self.reply(client, reply, turn);
        }
    }

    /// Puts back what was taken off the list since, in its place.
    pub(super) fn relist(&mut self, before: &[Release]) {
        let now = std::mem::take(&mut self.durable.releases);
        let as_it_is = |old: &Release| now.iter().find(|one| one.label == old.label).cloned();
        let mut all: Vec<Release> =
            before.iter().map(|old| as_it_is(old).unwrap_or_else(|| old.clone())).collect();
        all.extend(now.iter().filter(|one| !before.iter().any(|old| old.label == one.label)).cloned());
        self.durable.releases = all;
    }

    /// Removes the files of what is in no list any more. Not while a record is on its way: until
    /// it is on disk, a crash would go back to a list that has it.
    pub(super) fn remove_unlisted(&mut self, turn: &mut Turn<'_>) {
        if self.unsaved.is_some() {
            return;
        }
        let stays = |label: &Label| self.release(label).is_some() || self.deploys(label);
        let gone: Vec<Label> = self.trees.iter().filter(|label| !stays(label)).cloned().collect();
        for label in gone {
            self.trees.remove(&label);
            turn.act(Action::Remove { label });
        }
    }

    /// Every release and what it is to the unit: a word, in the order of installation.
    pub(in crate::machine) fn releases(&self) -> Vec<crate::model::status::ReleaseStatus> {
        let newest = self.newest(false);
        let of = |release: &Release| crate::model::status::ReleaseStatus {
            release: release.clone(),
            newest: newest == Some(&release.label),
            held: self.holds(&release.label).map(|why| why.to_string()),
        };
        self.durable.releases.iter().map(of).collect()
    }

    /// Says which releases have no files. They stay on the list.
    pub(super) fn note_missing(&self, turn: &mut Turn<'_>) {
        for release in self.durable.releases.iter().filter(|release| !self.trees.contains(&release.label)) {
            let text = format!("the files of release {} are gone from the disk", release.label);
            turn.note(Level::Error, None, text);
        }
    }

    /// The settings of a generation of this release, if one is known: a rollback goes by them.
    pub(super) fn settings_of(&self, label: &Label) -> Arc<Settings> {
        let known = self.recipes.values().rev().find(|recipe| recipe.release.as_ref() == Some(label));
        known.map_or(&self.settings, |recipe| &recipe.settings).clone()
    }
}
