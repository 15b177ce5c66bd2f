//! Releases: nothing counts that is not on the disk, and nothing goes that is still of use.

use super::books::Book;
use super::{Checked, Rule, must};
use crate::step::Ask;
use crate::world::{Unit, World};
use supd::machine::Launch;
use supd::model::release::Verdict;
use supd::model::{Durable, Happening, Kept, Label, Record, Reply};

/// Whether something runs a release, or may be launched from it again.
fn uses(unit: &Unit, durable: &Durable, label: &Label) -> Option<&'static str> {
    let is = |kept: &Option<Kept>| kept.as_ref().is_some_and(|kept| kept.release.as_ref() == Some(label));
    let runs = unit.procs.iter().any(|proc| proc.launch.release.as_ref() == Some(label) && !proc.is_over());
    [
        (runs, "runs"),
        (is(&durable.active), "is active"),
        (is(&durable.previous), "was active before"),
        (is(&durable.retained), "is retained"),
        (is(&durable.candidate), "is the candidate"),
    ]
    .into_iter()
    .find_map(|(used, how)| used.then_some(how))
}

fn lists(durable: &Durable, label: &Label) -> bool {
    durable.releases.iter().any(|release| release.label == *label)
}

/// Whether there is a release that a boot of the machine may launch.
pub(super) fn launchable(durable: &Durable) -> bool {
    let last = durable.active.as_ref().and_then(|kept| kept.release.as_ref());
    durable.releases.iter().any(|release| release.verdict != Verdict::Bad || Some(&release.label) == last)
}

impl Book {
    /// What a launch runs.
    pub(super) fn runs_release(unit: &Unit, launch: &Launch) -> Checked {
        let Some(label) = &launch.release else {
            let file = launch.settings.service.releases;
            return must(Rule::Releases, !file, || "launches no release of a unit that has some".to_owned());
        };
        must(Rule::Releases, unit.trees.contains(label), || {
            format!("launches release {label}, which is not on the disk")
        })
    }

    pub(super) fn places(&self, unit: &Unit, label: &Label) -> Checked {
        let known = lists(&unit.ledger, label) || lists(&self.sent, label);
        must(Rule::Releases, !known && !unit.trees.contains(label), || {
            format!("places something over release {label}")
        })
    }

    pub(super) fn removes(&self, unit: &Unit, label: &Label) -> Checked {
        let soon = unit.records.iter().map(|in_flight| &in_flight.record.durable);
        let listed = std::iter::once(&unit.ledger).chain(soon).any(|durable| lists(durable, label));
        // What a record on its way still lists was never durable: a boot looks for the files.
        let was_durable = lists(&unit.ledger, label);
        must(Rule::Releases, !was_durable && (!listed || !lists(&self.sent, label)), || {
            format!("removes the files of release {label}, which the ledger lists")
        })?;
        let used = uses(unit, &self.sent, label);
        must(Rule::Releases, used.is_none(), || {
            format!("removes the files of release {label}, which {}", used.unwrap_or_default())
        })
    }

    /// What a record makes of the list.
    pub(super) fn relists(&self, unit: &Unit, record: &Record) -> Checked {
        let durable = &record.durable;
        for (at, release) in durable.releases.iter().enumerate() {
            let label = &release.label;
            let twice = durable.releases[..at].iter().any(|other| other.label == *label);
            must(Rule::Releases, !twice, || format!("release {label} twice"))?;
            must(Rule::Releases, unit.trees.contains(label), || {
                format!("lists release {label}, which is not on the disk")
            })?;
            let before = self.sent.releases.iter().find(|other| other.label == *label);
            let same = before.is_none_or(|before| before.content == release.content);
            must(Rule::Releases, same, || format!("release {label} has changed"))?;
            let installs = matches!(&record.happening, Happening::Installed { label: its } if its == label);
            must(Rule::Releases, before.is_some() || installs || self.unsaved, || {
                format!("lists release {label}, which nobody installed")
            })?;
        }
        for release in self.sent.releases.iter().filter(|release| !lists(durable, &release.label)) {
            let used = uses(unit, durable, &release.label);
            must(Rule::Releases, used.is_none(), || {
                format!("forgets release {}, which {}", release.label, used.unwrap_or_default())
            })?;
        }
        Ok(())
    }

    /// Whether an answer about releases is true, and on disk.
    pub(super) fn stored(&self, unit: &Unit, label: &Label, wanted: bool, reply: &Reply) -> Checked {
        must(Rule::Durable, lists(&unit.ledger, label) == wanted, || {
            let said = &reply.text;
            format!("says {said:?}, and the ledger lists {:?}", unit.ledger.releases)
        })
    }

    /// A deploy has come to its swap: who asked for it wants the unit up.
    pub(super) fn deploys(
        &mut self,
        world: &World,
        swap: supd::model::SwapId,
        client: Option<supd::model::ClientId>,
    ) {
        // Its beginning may be written once more, and the unit be stopped meanwhile.
        if self.swap(swap).is_some() {
            return;
        }
        let asked = client.and_then(|client| world.client(client)).and_then(|client| client.asked);
        let deploy = match asked {
            Some((_, ask)) => matches!(ask, Ask::Install { deploy: true, .. }),
            None => !self.deploying.is_empty(),
        };
        if deploy {
            self.halted = false;
            self.stopped_by_person = false;
        }
    }
}
