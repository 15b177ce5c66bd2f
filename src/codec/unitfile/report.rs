//! Faults and warnings as they are found: by byte, told by line and column at the end.

use super::Source;
use crate::codec::fault::Fault;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// How many faults of one unit are told; garbage has one in every line.
pub(super) const FAULTS_MAX: usize = 100;

/// How many characters of a message, or of its remedy, are told. Both repeat words of the file, and a
/// word may be as long as the file.
const TOLD_MAX: usize = 400;

/// How many characters of a key are told.
const KEY_MAX: usize = 100;

/// A byte of one of the sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Index into the sources, in the order in which their faults are told.
    pub file: usize,
    /// Byte offset.
    pub at: usize,
}

/// What is wrong with a value. The place is that of the value unless a part of it is meant.
#[derive(Debug, Clone)]
pub(super) struct Bad {
    pub place: Option<Place>,
    pub what: String,
    pub remedy: String,
}

impl Bad {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: None, what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn at(place: Place, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: Some(place), what: what.into(), remedy: remedy.into() }
    }
}

/// A value, or everything that is wrong with it.
pub(super) type Reading<T> = Result<T, Vec<Bad>>;

/// The one fault of a value.
pub(super) fn bad<T>(what: impl Into<String>, remedy: impl Into<String>) -> Reading<T> {
    Err(vec![Bad::new(what, remedy)])
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    place: Place,
    key: String,
    what: String,
    remedy: String,
}

impl Finding {
    fn new(place: Place, key: &str, bad: Bad) -> Self {
        Self {
            place: bad.place.unwrap_or(place),
            key: clipped(key.to_owned(), KEY_MAX),
            what: clipped(bad.what, TOLD_MAX),
            remedy: clipped(bad.remedy, TOLD_MAX),
        }
    }
}

/// The first characters of a text.
fn clipped(mut text: String, max: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(max) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// Collects what is found in all sources of one unit.
pub(super) struct Report<'s> {
    files: Vec<File<'s>>,
    faults: Vec<Finding>,
    warnings: Vec<Finding>,
    /// Faults past [`FAULTS_MAX`].
    dropped: usize,
    /// While one source is read for itself: what is missing there may stand in another.
    pub alone: bool,
    /// Keys that were asked for, so that a test can see that every known key is read.
    #[cfg(test)]
    pub asked: BTreeSet<&'static str>,
}

struct File<'s> {
    source: &'s Source,
    /// Byte offset of each line.
    starts: Vec<usize>,
    /// Lines that are no TOML: what follows from them is not told.
    broken: BTreeSet<usize>,
}

impl<'s> Report<'s> {
    pub(super) fn new(sources: impl Iterator<Item = &'s Source>) -> Self {
        let files = sources
            .map(|source| {
                let ends = source.text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
                let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
                File { source, starts, broken: BTreeSet::new() }
            })
            .collect();
        Self {
            files,
            faults: Vec::new(),
            warnings: Vec::new(),
            dropped: 0,
            alone: false,
            #[cfg(test)]
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn source(&self, file: usize) -> &'s Source {
        self.files[file].source
    }

    /// The paths of the sources, in their order.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.source.path.clone()).collect()
    }

    /// The line of a place, from 0, and its text.
    pub(super) fn line(&self, place: Place) -> (usize, &'s str) {
        let file = &self.files[place.file];
        let line = file.starts.partition_point(|start| *start <= place.at).saturating_sub(1);
        let start = file.starts[line];
        let end = file.starts.get(line + 1).copied().unwrap_or(file.source.text.len());
        (line, file.source.text[start..end].trim_end_matches(['\n', '\r']))
    }

    /// Marks the line as unreadable; false if it was marked before.
    pub(super) fn mark_broken(&mut self, place: Place) -> bool {
        let (line, _) = self.line(place);
        self.files[place.file].broken.insert(line)
    }

    /// Whether any line of the file is unreadable.
    pub(super) fn is_broken(&self, file: usize) -> bool {
        !self.files[file].broken.is_empty()
    }

    /// Whether further faults are only counted: then none need be worked out in detail.
    pub(super) fn is_full(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    /// Counts a fault that is not told.
    pub(super) fn count_only(&mut self) {
        self.dropped += 1;
    }

    /// Whether anything is wrong.
    pub(super) fn has_faults(&self) -> bool {
        !self.faults.is_empty()
    }

    /// Whether something is wrong at this very place.
    pub(super) fn has_fault_at(&self, place: Place) -> bool {
        self.faults.iter().any(|fault| fault.place == place)
    }

    /// Notes the fault of a line that is no TOML, whether or not it is marked.
    pub(super) fn syntax(&mut self, place: Place, key: &str, bad: Bad) {
        self.push_fault(Finding::new(place, key, bad));
    }

    /// Notes a fault, but none that only follows from a line that is no TOML.
    pub(super) fn fault(&mut self, place: Place, key: &str, bad: Bad) {
        let finding = Finding::new(place, key, bad);
        if !self.files[finding.place.file].broken.contains(&self.line(finding.place).0) {
            self.push_fault(finding);
        }
    }

    fn push_fault(&mut self, finding: Finding) {
        if self.faults.contains(&finding) {
            return;
        }
        if self.is_full() {
            self.dropped += 1;
        } else {
            self.faults.push(finding);
        }
    }

    /// Notes a warning; none while a source is read for itself, since it may not be in effect.
    pub(super) fn warn(&mut self, place: Place, key: &str, bad: Bad) {
        let finding = Finding::new(place, key, bad);
        if !self.alone && self.warnings.len() < FAULTS_MAX && !self.warnings.contains(&finding) {
            self.warnings.push(finding);
        }
    }

    /// The line and the column of a place, both from 1; columns are counted in characters.
    pub(super) fn position(&self, place: Place) -> (u32, u32) {
        let file = &self.files[place.file];
        let (line, _) = self.line(place);
        let before = file.source.text.get(file.starts[line]..place.at).unwrap_or_default();
        let before = before.strip_prefix('\u{feff}').unwrap_or(before);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).saturating_add(1);
        (number(line), number(before.chars().count()))
    }

    /// What was found, in the order of the sources: faults, then warnings.
    pub(super) fn finish(mut self) -> (Vec<Fault>, Vec<Fault>) {
        let (mut faults, mut warnings) =
            (std::mem::take(&mut self.faults), std::mem::take(&mut self.warnings));
        faults.sort();
        warnings.sort();
        let tell = |findings: Vec<Finding>| -> Vec<Fault> {
            let told = findings.into_iter().map(|Finding { place, key, what, remedy }| {
                let (line, column) = self.position(place);
                let file = self.source(place.file).path.clone();
                Fault { line, column, key, ..Fault::of_file(file, what, remedy) }
            });
            told.collect()
        };
        let (mut faults, warnings) = (tell(faults), tell(warnings));
        if let (true, Some(last)) = (self.dropped > 0, faults.last()) {
            let what = format!("and {} more faults in the files of this unit", self.dropped);
            faults.push(Fault::of_file(last.file.clone(), what, "begin with the first"));
        }
        (faults, warnings)
    }
}
