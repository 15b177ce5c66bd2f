//! The manual has what the code has: each list is taken from the code, and looked for in its page. Two pages are
//! made from the code, as far as it can say what they have to say: `SUPD_BLESS=1` writes them anew.

mod keys;
mod lists;
mod mdoc;
mod supctl;
mod varlink;

use crate::{entries, read, report};
use mdoc::{Item, items};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use supd::machine::FailureKind;
use supd::model::ExitStatus;
use supd::model::status::{GenerationState, Health, SwapResult, Traffic, UnitState};
use supd::os::places::{Caller, Given, Places};

/// Every page, by its file.
fn pages() -> Vec<String> {
    let is_page = |name: &String| name.rsplit_once('.').is_some_and(|(_, end)| end.parse::<u8>().is_ok());
    let pages: Vec<String> = entries("man").into_iter().filter(is_page).collect();
    assert!(pages.len() >= 5, "{pages:?}");
    pages
}

fn page(name: &str) -> String {
    read(&Path::new("man").join(name))
}

/// What `page` explains under a heading by one of these macros.
fn explained(page: &str, heading: &str, kinds: &[&str]) -> BTreeSet<String> {
    let its = |item: &Item| item.is_in(heading) && kinds.contains(&item.kind.as_str());
    items(page).into_iter().filter(its).flat_map(|item| item.names).collect()
}

/// What is to be there and is not.
fn missing<T: AsRef<str>>(
    name: &str,
    heading: &str,
    kinds: &[&str],
    wanted: impl IntoIterator<Item = T>,
) -> Vec<String> {
    let there = explained(&page(name), heading, kinds);
    let mut wanted: Vec<T> = wanted.into_iter().collect();
    assert!(!wanted.is_empty(), "man/{name}: {heading}: nothing is looked for");
    wanted.retain(|word| !there.contains(word.as_ref()));
    let told = |word: &T| format!("man/{name}: {heading} does not explain {}", word.as_ref());
    wanted.iter().map(told).collect()
}

/// The same, and what is there and is nothing.
fn differing(name: &str, heading: &str, kinds: &[&str], wanted: &BTreeSet<String>) -> Vec<String> {
    let there = explained(&page(name), heading, kinds);
    let more = there
        .difference(wanted)
        .map(|word| format!("man/{name}: {heading} explains {word}, which there is not"));
    missing(name, heading, kinds, wanted).into_iter().chain(more.collect::<Vec<_>>()).collect()
}

fn strings(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

// ---- made of the code ----

#[test]
fn pages_that_are_made_of_the_code_are_fresh() {
    let mut stale = Vec::new();
    let made = [
        ("supctl.1", supctl::page(&page("supctl.1.in"))),
        ("supd-protocol.7", varlink::page(&page("supd-protocol.7.in"))),
    ];
    for (name, wanted) in made {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("man").join(name);
        if std::env::var_os("SUPD_BLESS").is_some() {
            std::fs::write(&path, &wanted).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != wanted {
            stale.push(format!("man/{name} is stale: SUPD_BLESS=1 cargo test --test tidy writes it anew"));
        }
    }
    report(stale);
}

#[test]
fn supctl_explains_every_verb_and_flag() {
    let (command, text) = (supctl::command(), page("supctl.1"));
    let verbs: Vec<String> = supctl::verbs(&command).map(|verb| verb.get_name().to_owned()).collect();
    let mut found = missing("supctl.1", "DESCRIPTION", &["Cm"], &verbs);
    let flags = |args: Vec<&clap::Arg>| -> Vec<String> {
        let short = args.iter().filter_map(|arg| arg.get_short()).map(|short| short.to_string());
        let long = args.iter().filter_map(|arg| arg.get_long()).map(|long| format!("-{long}"));
        // A flag is written behind its hyphen.
        short.chain(long).collect()
    };
    found.extend(missing("supctl.1", "OPTIONS", &["Fl"], flags(supctl::global(&command))));
    for verb in supctl::verbs(&command) {
        let (name, own) = (verb.get_name(), supctl::own(verb));
        let flags = flags(own.clone());
        if !flags.is_empty() {
            found.extend(missing("supctl.1", name, &["Fl"], flags));
        }
        let values = own.iter().filter(|arg| arg.is_positional());
        let values: Vec<String> =
            values.flat_map(|arg| arg.get_value_names().unwrap_or_default()).map(|n| n.to_string()).collect();
        if !values.is_empty() {
            found.extend(missing("supctl.1", name, &["Ar"], values));
        }
        if !text.contains(&format!("\n.Ss {name}\n")) {
            found.push(format!("man/supctl.1: VERBS has no {name}"));
        }
        let aliases =
            verb.get_visible_aliases().filter(|alias| !text.contains(&format!("\n.Cm {alias} .\n")));
        found.extend(
            aliases.map(|alias| format!("man/supctl.1: {name} does not say that {alias} is the same")),
        );
    }
    report(found);
}

#[test]
fn the_protocol_has_every_member() {
    let (_, members) = varlink::read(supd::codec::varlink::DESCRIPTION);
    let mut found = Vec::new();
    for (kind, heading) in [("method", "Methods"), ("error", "Errors"), ("type", "Types")] {
        let names: BTreeSet<String> =
            members.iter().filter(|member| member.kind == kind).map(|member| member.name.clone()).collect();
        found.extend(differing("supd-protocol.7", heading, &["Ic"], &names));
    }
    let starts = supd::codec::varlink::DESCRIPTION
        .lines()
        .filter(|line| ["method ", "error ", "type "].iter().any(|kind| line.starts_with(kind)));
    assert_eq!(starts.count(), members.len(), "a member was not read");
    report(found);
}

// ---- written by hand ----

#[test]
fn exit_statuses_are_explained() {
    let all = items(&page("supctl.1"));
    let heads = |all: &[Item]| -> BTreeSet<String> {
        all.iter().filter(|item| item.is_in("EXIT STATUS")).map(|item| item.kind.clone()).collect()
    };
    let wanted: BTreeSet<String> = ExitStatus::ALL.iter().map(|status| status.code().to_string()).collect();
    assert_eq!(heads(&all), wanted, "man/supctl.1");
    assert_eq!(heads(&items(&page("supd.8"))), lists::supd_statuses(), "man/supd.8");
}

#[test]
fn message_ids_are_told() {
    let page = std::fs::read_to_string("man/supd.8").expect("the page");
    for (kind, id) in supd::codec::journal::KINDS {
        assert!(page.contains(&format!(".It Li {kind}\n.Li {id}\n")), "man/supd.8 lacks {kind} {id}");
    }
    let (description, _) =
        supd::codec::varlink::DESCRIPTION.split_once("type HistoryEntry").expect("it is there");
    let (_, told) = description.rsplit_once("what: ").expect("it says what there is");
    for (kind, _) in supd::codec::journal::KINDS.iter().filter(|(kind, _)| *kind != "worker-launched") {
        assert!(told.contains(kind), "{kind} has an id, and is no event");
    }
}

#[test]
fn environment_variables_are_explained() {
    let places = "src/os/places.rs";
    let supd = lists::asked(&[
        "src/daemon",
        places,
        "src/os/manager.rs",
        "src/os/inherited.rs",
        "src/os/journal.rs",
    ]);
    let supctl = lists::asked(&["src/ctl", places]);
    // Those of their sisters are read by what reads LISTEN_FDS and NOTIFY_SOCKET.
    assert!(supd.contains("SUPD_STATE") && supd.contains("JOURNAL_STREAM"), "{supd:?}");
    assert!(supctl.contains("NO_COLOR") && supctl.contains("SUPD_CONNECT"), "{supctl:?}");
    let mut found = missing("supd.8", "ENVIRONMENT", &["Ev"], &supd);
    found.extend(missing("supctl.1", "ENVIRONMENT", &["Ev"], supctl.difference(&strings(&["SUPD_STATE"]))));
    let given = lists::given();
    assert!(given.contains("LISTEN_PIDFDID") && given.contains("SUPD_REASON"), "{given:?}");
    let page = page("supd-protocol.7");
    let there: BTreeSet<String> =
        ["Environment", "COMMANDS"].iter().flat_map(|heading| explained(&page, heading, &["Ev"])).collect();
    found.extend(given.difference(&there).map(|name| format!("man/supd-protocol.7 does not explain {name}")));
    found.extend(
        there
            .difference(&given)
            .map(|name| format!("man/supd-protocol.7 explains {name}, which nobody is given")),
    );
    report(found);
}

#[test]
fn what_a_worker_may_say_is_explained() {
    let words = lists::notify_words();
    assert!(words.contains("BARRIER") && words.contains("VARLINKERROR"), "{words:?}");
    report(differing("supd-protocol.7", "Notify socket", &["Ev"], &words));
}

#[test]
fn events_and_words_are_explained() {
    let (made, described) = (lists::events_made(), lists::events_described());
    assert_eq!(made, described, "what the code makes (left) and what dev.supd.Manager.varlink lists (right)");
    let mut found = differing("supd-protocol.7", "EVENTS", &["Li"], &made);
    found.extend(differing("supd-protocol.7", "Steps on the way", &["Li"], &lists::progress()));
    let mut words: BTreeSet<String> = UnitState::ALL.iter().map(|word| word.word().to_owned()).collect();
    words.extend(GenerationState::ALL.iter().map(|word| word.word().to_owned()));
    words.extend(Traffic::ALL.iter().map(|word| word.word().to_owned()));
    words.extend(Health::ALL.iter().map(|word| word.word().to_owned()));
    words.extend(SwapResult::ALL.iter().map(|word| word.word().to_owned()));
    found.extend(differing("supd-protocol.7", "Words", &["Li"], &words));
    let failures: BTreeSet<String> = FailureKind::ALL.iter().map(|kind| kind.word().to_owned()).collect();
    found.extend(differing("supd-protocol.7", "COMMANDS", &["Li"], &failures));
    report(found);
}

#[test]
fn flags_signals_and_files_of_supd_are_explained() {
    let there = explained(&page("supd.8"), "DESCRIPTION", &["Fl"]);
    let there: BTreeSet<String> = there.iter().map(|flag| flag.trim_start_matches('-').to_owned()).collect();
    let missing_flags =
        lists::supd_flags().into_iter().filter(|flag| !there.contains(flag.trim_start_matches('-')));
    let mut found: Vec<String> =
        missing_flags.map(|flag| format!("man/supd.8 does not explain {flag}")).collect();
    found.extend(missing("supd.8", "SIGNALS", &["Dv"], lists::signals()));
    let root = Caller { root: true, variable: &|_| None };
    let places = Places::resolve(&Given::default(), &root).unwrap();
    let folders =
        places.units.iter().chain([&places.defaults, &places.runtime]).map(|path| path.display().to_string());
    let page = page("supd.8");
    let files = page.split("\n.Sh ").find(|section| section.starts_with("FILES")).unwrap_or_default();
    let named: BTreeSet<String> = files.lines().flat_map(|line| mdoc::marked(line, "Pa")).collect();
    for name in folders.chain(lists::files()).filter(|name| !named.contains(name)) {
        found.push(format!("man/supd.8: FILES does not name {name}"));
    }
    for folder in [&places.state, &places.logs, &places.runtime] {
        if !page.contains(&format!("\n.Ss {}\n", folder.display())) {
            found.push(format!("man/supd.8: FILES has no part about {}", folder.display()));
        }
    }
    report(found);
}

#[test]
fn commands_that_pages_name_can_be_typed() {
    let command = supctl::command();
    let aliases = supctl::verbs(&command).flat_map(|verb| verb.get_visible_aliases());
    let verbs: BTreeSet<&str> = supctl::verbs(&command).map(clap::Command::get_name).chain(aliases).collect();
    let (mut found, mut whole, mut named) = (Vec::new(), 0, 0);
    for name in pages() {
        let page = page(&name).replace("\\-", "-").replace("\\(dq", "\"");
        let mut literal = false;
        for line in page.lines() {
            literal = line.starts_with(".Bd -literal") || literal && line != ".Ed";
            let shown = line.strip_prefix(".Dl ").or_else(|| Some(line).filter(|_| literal));
            let marked = line.strip_prefix(".Li ").or_else(|| line.strip_prefix(".It Li "));
            let Some(typed) = shown.or(marked).map(|typed| typed.trim_matches('"')) else { continue };
            let Some((_, rest)) = typed.split_once("supctl ").filter(|(before, _)| !before.contains('"'))
            else {
                continue;
            };
            let until = |word: &&str| !["<", ">", "|", "||", "&&", "No", ","].contains(word);
            let words: Vec<&str> = rest.split_whitespace().take_while(until).collect();
            // What stands in a sentence may be the verb alone; what is set apart is a whole command line.
            if shown.is_some() {
                whole += 1;
                // A shell puts something into the place of a variable.
                let filled = words.iter().map(|word| if word.starts_with('$') { "1" } else { word });
                let line = std::iter::once("supctl").chain(filled);
                let fault = command.clone().try_get_matches_from(line).err();
                found.extend(fault.map(|fault| format!("man/{name}: {typed}: {fault}")));
            } else {
                named += 1;
                if !words.iter().any(|word| verbs.contains(word))
                    && !words.iter().all(|word| word.starts_with('-'))
                {
                    found.push(format!("man/{name}: there is no such verb: {typed}"));
                }
            }
        }
    }
    assert!(whole > 5 && named > 50, "{whole} {named}");
    report(found);
}

// ---- as readers see them ----

#[test]
fn pages_are_clean_and_can_be_read() {
    let Some(mandoc) = mandoc() else { return };
    let mut found = Vec::new();
    for name in pages() {
        let lint = mandoc(&["-Tlint", "-W", "warning"], &name);
        let said = String::from_utf8_lossy(&lint.stdout).into_owned();
        found.extend(said.lines().map(str::to_owned));
        for form in ["utf8", "ascii", "html"] {
            let shown = mandoc(&["-T", form], &name);
            let text = plain(&String::from_utf8_lossy(&shown.stdout));
            let whole = shown.status.success() && text.contains("SEE") && text.len() > 1000;
            if !whole {
                found.push(format!("man/{name} cannot be shown as {form}"));
            }
        }
    }
    report(found);
}

/// Without what makes letters bold on a printer: the same letter twice, with a step back between.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\u{8}' => drop(out.pop()),
            other => out.push(other),
        }
    }
    out
}

/// Shows a page, or says what is wrong with it. `None`: it is not here, which is told; as root it has to be.
fn mandoc() -> Option<impl Fn(&[&str], &str) -> Output> {
    let run = |words: &[&str], name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
        Command::new("mandoc").args(words).arg(name).current_dir(folder).output()
    };
    match run(&["-Tlint"], "supd.8") {
        Ok(_) => Some(move |words: &[&str], name: &str| run(words, name).expect("it ran a moment ago")),
        Err(error) => {
            let install = "apt-get install mandoc";
            assert!(!nix::unistd::geteuid().is_root(), "mandoc: {error}: {install}");
            eprintln!("skipped, as mandoc is not here: {install}");
            None
        }
    }
}

#[test]
fn pages_name_pages_that_there_are() {
    let (pages, mut found) = (pages(), Vec::new());
    for name in &pages {
        let page = page(name);
        let named = page.lines().filter_map(|line| line.strip_prefix(".Xr ")).map(|rest| {
            let mut words = rest.split(' ');
            format!("{}.{}", words.next().unwrap_or_default(), words.next().unwrap_or_default())
        });
        let own = |file: &String| file.starts_with("sup");
        let lost: BTreeSet<String> = named.clone().filter(own).filter(|file| !pages.contains(file)).collect();
        found.extend(lost.iter().map(|file| format!("man/{name} names {file}, which there is not")));
        for other in pages.iter().filter(|other| *other != name && !named.clone().any(|file| file == **other))
        {
            // Each page is a step from every other.
            if name.starts_with("supd.8") || other == "supd.8" {
                found.push(format!("man/{name} does not name {other}"));
            }
        }
    }
    report(found);
}
