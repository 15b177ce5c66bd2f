//! Unit files. One input is a whole unit: lines `#: drop-in` and `#: supd.toml` begin a file of their own.
//!
//! Whatever it says, every fault and every warning is one line of bounded length that stands in one of
//! the files; and settings that are taken say the same after they are written as a unit file, with
//! and without origins, and as what a generation is pinned with.

use supd::codec::fault::Fault;
use supd::codec::pinned;
use supd::codec::unitfile::{
    Loaded, Runner, Source, Sources, check_defaults, effective, effective_with_origins, parse_for,
};
use supd::model::UnitName;

const DROP_IN: &str = "#: drop-in";
const DEFAULTS: &str = "#: supd.toml";
const DROP_INS_MAX: usize = 4;

/// What is wrong, and what to write instead, are never longer, in characters.
const TOLD_MAX: usize = 401;

/// A hundred, and the line that counts the others.
const FAULTS_MAX: usize = 101;

/// # Panics
/// One of the rules above does not hold.
#[must_use]
pub fn check(data: &[u8]) -> bool {
    let sources = sources(&String::from_utf8_lossy(data));
    if let Some(defaults) = &sources.defaults {
        told(&check_defaults(defaults), &sources);
    }
    // Either is as good; both would take twice as long.
    let runner = if data.len() % 2 == 0 { Runner::Root } else { Runner::Ordinary };
    match parse_for(&sources, runner) {
        Err(faults) => {
            assert!(!faults.is_empty(), "refused without a reason");
            told(&faults, &sources);
            false
        }
        Ok(loaded) => {
            told(&loaded.warnings, &sources);
            comes_back(&loaded, &sources, runner);
            true
        }
    }
}

fn sources(text: &str) -> Sources {
    let unit = UnitName::new("web").expect("a name");
    let main = Source::new("web.unit", "");
    let mut sources = Sources { unit, defaults: None, main, drop_ins: Vec::new() };
    let mut current: Option<usize> = None;
    let mut in_defaults = false;
    for line in text.split_inclusive('\n') {
        match line.trim_end() {
            DEFAULTS if sources.defaults.is_none() => {
                sources.defaults = Some(Source::new("supd.toml", ""));
                in_defaults = true;
            }
            DROP_IN if sources.drop_ins.len() < DROP_INS_MAX => {
                current = Some(sources.drop_ins.len());
                in_defaults = false;
                let path = format!("web.unit.d/{}.unit", sources.drop_ins.len());
                sources.drop_ins.push(Source::new(path, ""));
            }
            _ => {
                let defaults = sources.defaults.as_mut().filter(|_| in_defaults);
                let drop_in = current.and_then(|at| sources.drop_ins.get_mut(at));
                let source = defaults.or(drop_in).unwrap_or(&mut sources.main);
                source.text.push_str(line);
            }
        }
    }
    sources
}

fn told(faults: &[Fault], sources: &Sources) {
    assert!(faults.len() <= FAULTS_MAX, "{} faults", faults.len());
    for fault in faults {
        let shown = fault.to_string();
        assert!(!fault.what.is_empty(), "{shown:?}");
        assert!(!shown.contains(char::is_control), "{shown:?}");
        for text in [&fault.key, &fault.what, &fault.remedy] {
            assert!(text.chars().count() <= TOLD_MAX, "{text:?}");
        }
        assert!(stands_in_a_file(fault, sources), "{shown:?}");
    }
}

fn stands_in_a_file(fault: &Fault, sources: &Sources) -> bool {
    let mut all = std::iter::once(&sources.main).chain(&sources.drop_ins).chain(&sources.defaults);
    let Some(source) = all.find(|source| source.path == fault.file) else { return false };
    if fault.line == 0 {
        return fault.column == 0;
    }
    let Some(line) = source.text.split('\n').nth(fault.line as usize - 1) else { return false };
    (1..=line.chars().count() + 1).contains(&(fault.column as usize))
}

fn comes_back(loaded: &Loaded, sources: &Sources, runner: Runner) {
    let settings = &loaded.settings;
    let text = effective(settings);
    for page in [&text, &effective_with_origins(loaded)] {
        let main = Source::new("web.unit", page.as_str());
        let again = Sources { unit: sources.unit.clone(), defaults: None, main, drop_ins: Vec::new() };
        let again = parse_for(&again, runner).unwrap_or_else(|faults| panic!("{page}\n{faults:?}"));
        assert_eq!(&again.settings, settings, "{page}");
        assert_eq!(effective(&again.settings), text);
    }
    assert_eq!(pinned::decode(pinned::encode(settings).as_bytes()).as_ref(), Ok(settings));
}
