//! Golden unit files, properties over broken ones, and rules that the files cannot show.
//!
//! `SUPD_BLESS=1 cargo test unitfile` writes the expected files anew; `SUPD_SEEDS` widens the sweep over
//! broken texts, and `SUPD_SEED` replays one of them.

use super::keys::TABLES;
use super::*;
use crate::model::UnitName;
use crate::model::sandbox::PATHS_MAX;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unitfiles").join(name)
}

/// The files of a folder that end in `ending`, in order.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(ending) && path.is_file());
    files.sort();
    files
}

/// One case: NAME.unit, and where they are NAME.unit.d/*.unit and NAME.supd.toml. Bytes that are
/// not UTF-8 are for the store, which reads files.
fn case(main: &Path) -> Sources {
    let folder = main.parent().unwrap();
    let source =
        |path: &Path| Source::new(path.strip_prefix(folder).unwrap(), fs::read_to_string(path).unwrap());
    let defaults = main.with_extension("supd.toml");
    Sources {
        unit: UnitName::new(main.file_stem().unwrap().to_str().unwrap()).unwrap(),
        defaults: defaults.is_file().then(|| source(&defaults)),
        main: source(main),
        drop_ins: files(&main.with_extension("unit.d"), ".unit").iter().map(|path| source(path)).collect(),
    }
}

fn compare(main: &Path, found: &str) -> Result<(), String> {
    let expected = main.with_extension("expected");
    if std::env::var_os("SUPD_BLESS").is_some() {
        fs::write(&expected, found).unwrap();
    }
    let wanted = fs::read_to_string(&expected).unwrap_or_default();
    if wanted == found {
        return Ok(());
    }
    Err(format!("--- {} wants\n{wanted}\n--- and has\n{found}\n", expected.display()))
}

fn walk(name: &str, show: impl Fn(&Sources) -> String) {
    let cases = files(&folder(name), ".unit");
    assert!(cases.len() >= 8, "only {} cases in {name}", cases.len());
    let differences: Vec<String> =
        cases.iter().filter_map(|main| compare(main, &show(&case(main))).err()).collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn lines(faults: &[Fault]) -> String {
    faults.iter().fold(String::new(), |mut text, fault| {
        writeln!(text, "{fault}").unwrap();
        text
    })
}

#[test]
fn good_files_mean_what_is_expected() {
    walk("good", |sources| match parse(sources) {
        Err(faults) => format!("refused:\n{}", lines(&faults)),
        Ok(loaded) => {
            let all = sources.unit.as_str() == "all-defaults";
            let page = effective_with_origins(&loaded);
            let mut text = String::new();
            for line in page.lines().filter(|line| all || !line.ends_with("# default")) {
                writeln!(text, "{line}").unwrap();
            }
            for warning in &loaded.warnings {
                writeln!(text, "warning: {warning}").unwrap();
            }
            text
        }
    });
}

#[test]
fn bad_files_are_refused_with_every_fault() {
    walk("bad", |sources| match parse(sources) {
        Err(faults) => lines(&faults),
        Ok(_) => "accepted".to_owned(),
    });
}

fn only(text: &str) -> Sources {
    Sources {
        unit: UnitName::new("web").unwrap(),
        defaults: None,
        main: Source::new("web.unit", text),
        drop_ins: Vec::new(),
    }
}

/// Words of the file are repeated, and one word may be as long as the file.
#[test]
fn no_message_is_as_long_as_the_line_that_it_is_about() {
    let long = "K".repeat(100_000);
    for line in [
        format!("{long} = [1"),
        format!("{long} = x"),
        format!("Workers = {}", "9".repeat(100_000)),
        format!("ExecStart = \"/bin/{long}\"\nReady = [[\"{long}\"]]"),
        format!("{long}\u{1b}{long}"),
        format!("Environment = {{ LISTEN_FDS = \"{long}\", \"{long}=\" = 1 }}"),
    ] {
        let faults = parse(&only(&format!("[Service]\n{line}\n"))).expect_err("it has faults");
        for fault in faults {
            let told = [&fault.key, &fault.what, &fault.remedy].map(|text| text.chars().count());
            assert!(told.iter().max() <= Some(&401), "{told:?} in {:.200}", fault.to_string());
        }
    }
}

#[test]
fn what_is_rendered_reads_back_the_same() {
    for main in files(&folder("good"), ".unit") {
        let sources = case(&main);
        let settings = parse(&sources).unwrap_or_else(|faults| panic!("{}", lines(&faults))).settings;
        let again = Sources { unit: sources.unit, ..only(&effective(&settings)) };
        let again =
            parse(&again).unwrap_or_else(|faults| panic!("{}{}", effective(&settings), lines(&faults)));
        assert_eq!(again.settings, settings, "{}", main.display());
    }
}

#[test]
fn every_key_is_read_and_is_of_one_table() {
    let mut known: Vec<&str> = TABLES.iter().flat_map(|(_, _, keys)| *keys).copied().collect();
    known.sort_unstable();
    assert!(known.windows(2).all(|pair| pair[0] != pair[1]), "a key of two tables");

    let sources = only("[[Socket]]\nName = \"http\"\nListenStream = 80\n[Service]\nExecStart = \"x\"\n");
    let mut report = Report::new(std::iter::once(&sources.main));
    let layer = Layer::new(document::read(0, &mut report), Kind::Unit, "web", &mut report);
    read(&layer, &sources, &mut report);
    let asked: Vec<&str> = report.asked.iter().copied().collect();
    assert_eq!(asked, known);
}

#[test]
fn an_ordinary_supd_has_no_root_to_warn_of() {
    let text = "[Unit]\nControlGroup = \"deploy\"\n[Service]\nExecStart = \"/bin/x\"\n";
    let faults = parse(&only(text)).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].key, "ControlGroup");
    let loaded = parse_for(&only(text), Runner::Ordinary).unwrap();
    assert_eq!(loaded.warnings, []);
}

#[test]
fn so_many_paths_are_exempted_and_no_more() {
    let paths = |count: usize| (0..count).map(|n| format!("/srv/{n}")).collect::<Vec<_>>();
    let of = |count| {
        only(&format!(
            "[Service]\nExecStart = \"/bin/a\"\nReady = \"started\"\nReadWritePaths = {:?}\n",
            paths(count)
        ))
    };
    assert!(parse(&of(PATHS_MAX)).is_ok());
    let faults = parse(&of(PATHS_MAX + 1)).unwrap_err();
    assert!(lines(&faults).contains("257 paths, and each is a mount at every launch"), "{faults:?}");
}

#[test]
fn a_text_that_is_too_large_is_not_even_parsed() {
    let faults = parse(&only(&"# \n".repeat(BYTES_MAX))).unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].to_string().starts_with("web.unit:1:1: 786432 bytes, where 262144"), "{}", faults[0]);
}

#[test]
fn garbage_is_told_in_bounds() {
    let lines =
        ["x\n", "[a]\n", "[[Socket]]\n", "a=1\n", "Frobnicate = \"1\"\n", "[[[[", "a.", "\"", "{", "a=["];
    let lists = [("AmbientCapabilities", "'cap_chowm', "), ("Environment", "'x', "), ("ExecStop", "[''], ")];
    let lines = lines.iter().map(|line| line.repeat(60_000 / line.len()));
    let lists = lists.iter().map(|(key, item)| format!("{key} = [{}]\n", item.repeat(60_000 / item.len())));
    for text in lines.chain(lists) {
        let faults = parse(&only(&format!("[Service]\n{text}"))).unwrap_err();
        assert!(faults.len() <= report::FAULTS_MAX + 1, "{text:.20}");
        assert!(faults.iter().all(|fault| fault.to_string().len() < 1000), "{text:.20}");
    }
}

/// SplitMix64: ten lines of it are enough, and every failure can be replayed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap()
    }
}

/// Breaks a text as people, editors and disks do.
fn mutate(text: &str, dice: &mut Dice) -> String {
    const SCRAPS: [&str; 24] = [
        "\"",
        "'",
        "[",
        "]",
        "[[",
        "{",
        "}",
        "=",
        ",",
        "\n",
        "\r\n",
        "\\",
        "\0",
        "\u{feff}",
        "é",
        "#",
        "-",
        "0",
        "99999999999999999999",
        "[[Socket]]\n",
        "[Service]\n",
        "infinity",
        "${A}",
        "\u{1b}",
    ];
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len() + 1);
        match dice.roll(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
            2 => {
                let end = (at + dice.roll(30)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + dice.roll(200)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = dice.roll(bytes.len() + 1);
                bytes.splice(to..to, copy);
            }
            _ => {
                let scrap = SCRAPS[dice.roll(SCRAPS.len())];
                bytes.splice(at..at, scrap.bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn no_text_makes_it_panic_or_lie() {
    let good: Vec<Sources> = files(&folder("good"), ".unit").iter().map(|main| case(main)).collect();
    let bad: Vec<Sources> = files(&folder("bad"), ".unit").iter().map(|main| case(main)).collect();
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (rounds, mut accepted) = (number("SUPD_SEEDS").unwrap_or(6_000), 0);
    let seeds = number("SUPD_SEED").map_or(0..rounds, |seed| seed..seed + 1);
    let is_sweep = seeds.end - seeds.start > 1_000;
    for seed in seeds {
        let mut dice = Dice(seed);
        let seeds = if dice.roll(4) == 0 { &bad } else { &good };
        let mut sources = seeds[dice.roll(seeds.len())].clone();
        sources.main.text = mutate(&sources.main.text, &mut dice);
        if dice.roll(6) == 0 {
            let other = seeds[dice.roll(seeds.len())].main.text.clone();
            sources.drop_ins.push(Source::new("other.unit", mutate(&other, &mut dice)));
        }
        match parse(&sources) {
            Ok(loaded) => {
                accepted += 1;
                let again = Sources { unit: sources.unit.clone(), ..only(&effective(&loaded.settings)) };
                let again = parse(&again).unwrap_or_else(|faults| panic!("seed {seed}: {}", lines(&faults)));
                assert_eq!(again.settings, loaded.settings, "seed {seed}");
            }
            Err(faults) => {
                assert!(!faults.is_empty(), "seed {seed}");
                for fault in faults {
                    let told = fault.to_string();
                    assert!(
                        !told.contains(char::is_control) && !fault.what.is_empty(),
                        "seed {seed}: {told:?}"
                    );
                }
            }
        }
    }
    let telling = (rounds / 50..rounds / 2).contains(&accepted);
    assert!(telling || !is_sweep, "{accepted} of {rounds}: the mutations say little");
}
