//! supd.unit(5) and supd.toml(5): each key with its default, its bounds and its words, as the code that reads unit
//! files has them.

use super::mdoc::{Item, items};
use super::{lists, page};
use crate::report;
use std::collections::BTreeSet;
use supd::codec::fault::Fault;
use supd::codec::unitfile::{Loaded, METRICS, Source, Sources, check_defaults, keys, parse, rows};
use supd::model::UnitName;

/// What the code makes of a unit with this line in this table.
fn read(table: &str, line: &str) -> Result<Loaded, Vec<Fault>> {
    let tables = ["[Unit]", "[[Socket]]", "[Service]", "[Swap]"].map(|header| {
        let own = if header == table { line } else { "" };
        let listen = header == "[[Socket]]" && !own.starts_with("Listen");
        let start = header == "[Service]" && !own.starts_with("ExecStart ");
        let listen = if listen { "ListenStream = 8080\n" } else { "" };
        let start = if start { "ExecStart = \"/usr/bin/server\"\n" } else { "" };
        format!("{header}\n{listen}{start}{own}\n")
    });
    let main = Source::new("web.unit", tables.concat());
    parse(&Sources {
        unit: UnitName::new("web").expect("a name"),
        defaults: None,
        main,
        drop_ins: Vec::new(),
    })
}

/// All that the page says of a key: of several that stand together the last has what is said of each, and lists in
/// it are part of it.
fn said(all: &[Item], table: &str, key: &str) -> String {
    let is_key = |item: &Item| item.kind == "Ic";
    let its =
        |item: &Item| is_key(item) && item.section.0 == table && item.names.iter().any(|name| name == key);
    let mut said = String::new();
    let mut whole = false;
    for item in all.iter().skip_while(|item| !its(item)) {
        if whole && is_key(item) {
            break;
        }
        said.push_str(&item.head);
        said.push('\n');
        said.push_str(&item.lines.join("\n"));
        said.push('\n');
        whole |= !item.lines.is_empty();
    }
    said.replace("\\(dq", "\"").replace("\\-", "-")
}

#[test]
fn every_key_is_explained_in_its_place() {
    let all = items(&page("supd.unit.5"));
    let mut found = Vec::new();
    for (table, keys) in keys() {
        let there: Vec<&str> = all
            .iter()
            .filter(|item| item.section.0 == table && item.kind == "Ic")
            .flat_map(|item| item.names.iter().map(String::as_str))
            .collect();
        let told = |key: &&str| format!("man/supd.unit.5: {table} does not explain {key}");
        found.extend(keys.iter().filter(|key| !there.contains(key)).map(told));
        let told =
            |key: &&&str| format!("man/supd.unit.5: {table} explains {key}, which there is not, or twice");
        let mut seen = BTreeSet::new();
        found.extend(
            there.iter().filter(|key| !keys.contains(key) || !seen.insert(**key)).map(|key| told(&key)),
        );
    }
    report(found);
}

#[test]
fn every_default_is_the_right_one() {
    let tables = rows(&read("", "").unwrap().settings, None);
    let all = items(&page("supd.unit.5"));
    let mut found = Vec::new();
    for (table, keys) in keys() {
        let effective = tables.iter().find(|effective| effective.header() == table);
        for key in keys.iter().filter(|key| !["Name", "ListenStream", "ExecStart"].contains(key)) {
            let row = effective.and_then(|table| table.rows.iter().find(|row| row.key == *key));
            let wanted = row.map_or("none", |row| row.value.as_str());
            let said = said(&all, table, key);
            let said = said
                .split(
                    "
Default: ",
                )
                .nth(1)
                .and_then(|rest| rest.lines().next())
                .unwrap_or("nothing");
            let right = said.strip_prefix(wanted).is_some_and(|rest| rest.starts_with(['.', ';', ':']));
            if !right {
                found.push(format!(
                    "man/supd.unit.5: the default of {key} is {wanted}, and the page says {said}"
                ));
            }
        }
    }
    report(found);
}

#[test]
fn what_no_defaults_can_say_is_named() {
    let page = page("supd.toml.5");
    let mut found = Vec::new();
    for (table, keys) in keys() {
        let header = table.replace("[[", "[").replace("]]", "]");
        for key in keys {
            let faults = check_defaults(&Source::new("supd.toml", format!("{header}\n{key} = \"\"\n")));
            let barred = faults.iter().any(|fault| fault.what.contains("cannot hold for every unit"));
            let named = [format!("\n.Ic {key}\n"), format!("\n.Ic {key} ,\n"), format!("\n.Ic {key} ;\n")];
            if barred != named.iter().any(|named| page.contains(named)) {
                found.push(format!(
                    "man/supd.toml.5: {key} of {header} is {}",
                    if barred { "refused" } else { "taken" }
                ));
            }
        }
    }
    report(found);
}

#[test]
fn every_key_and_every_name_of_metrics_is_explained() {
    let page = page("supd.toml.5");
    let mut found = Vec::new();
    for key in METRICS {
        if !page.contains(&format!("\n.It Ic {key}\n")) {
            found.push(format!("man/supd.toml.5: [Metrics] does not explain {key}"));
        }
    }
    let source = std::fs::read_to_string("src/codec/metrics/mod.rs").expect("what makes metrics");
    let quoted = source.split("#[cfg(test)]").next().unwrap_or_default().split('"').skip(1).step_by(2);
    let names: BTreeSet<&str> = quoted.filter(|word| word.starts_with("supd_")).collect();
    assert!(names.len() > 20, "the code was not understood: {names:?}");
    let told = |name: &&&str| format!("man/supd.toml.5: it does not name {name}");
    found
        .extend(names.iter().filter(|name| !page.contains(&format!("\n.Li {name}"))).map(|name| told(&name)));
    report(found);
}

/// The two ends of a range in a remedy: `write a number from 1 to 127`.
fn ends(remedy: &str) -> Option<[String; 2]> {
    let (_, range) = remedy.split_once(" from ")?;
    let (least, most) = range.split_once(" to ")?;
    let plain = |word: &str| word.split([';', ' ']).next().unwrap_or_default().trim_matches('"').to_owned();
    Some([plain(least), plain(most)])
}

/// The words of a remedy that lists what may be written: `write one of "queue", "refuse"`.
fn choices(remedy: &str) -> Vec<String> {
    let lists =
        remedy.starts_with("write one of ") || remedy.starts_with("write \"") && remedy.contains(" or ");
    let lists = lists || remedy.contains("false, \"");
    let words = remedy.split('"').skip(1).step_by(2).map(|word| format!("\"{word}\""));
    words.filter(|word| lists && !word.contains(' ')).collect()
}

#[test]
fn bounds_and_words_are_the_right_ones() {
    let all = items(&page("supd.unit.5"));
    let (mut found, mut seen) = (BTreeSet::new(), 0);
    for (table, keys) in keys() {
        for key in keys {
            let said = said(&all, table, key);
            for value in
                ["99999999999999999", "-21", "\"9999999999s\"", "\"999999T\"", "\"qqqqqqqqqq\"", "true"]
            {
                let faults = read(table, &format!("{key} = {value}")).err().unwrap_or_default();
                for remedy in faults.iter().filter(|fault| fault.key == *key).map(|fault| &fault.remedy) {
                    let words = ends(remedy).into_iter().flatten().chain(choices(remedy));
                    for word in words.inspect(|_| seen += 1).filter(|word| !said.contains(word.as_str())) {
                        found.insert(format!("man/supd.unit.5: {key} does not say {word}: {remedy}"));
                    }
                }
            }
            let endless = read(table, &format!("{key} = \"infinity\"")).is_ok();
            if key.ends_with("Sec") && endless != said.contains("infinity") {
                found.insert(format!(
                    "man/supd.unit.5: {key} {} infinity",
                    if endless { "takes" } else { "does not take" }
                ));
            }
        }
    }
    assert!(seen > 100, "the code was not understood: {seen}");
    report(found);
}

#[test]
fn keys_that_need_a_stop_and_a_start_say_so() {
    let all = items(&page("supd.unit.5"));
    let wanted = lists::needs_new_bind();
    let says =
        |key: &&&str| said(&all, "[[Socket]]", key).replace('\n', " ").contains("needs a stop and a start");
    let (_, keys) = keys().find(|(table, _)| *table == "[[Socket]]").expect("the table of sockets");
    let there: BTreeSet<String> = keys.iter().filter(says).map(|key| (*key).to_owned()).collect();
    assert_eq!(
        there, wanted,
        "man/supd.unit.5 (left) and needs_new_bind in src/os/listener/options.rs (right)"
    );
}

#[test]
fn examples_of_files_can_be_used() {
    let (mut found, mut seen) = (Vec::new(), 0);
    for name in ["supd.unit.5", "supd.toml.5"] {
        let page = page(name);
        let (_, examples) = page.split_once("\n.Sh EXAMPLES\n").expect("examples");
        for example in examples.split(".Bd -literal -offset indent\n").skip(1) {
            let text = example.split("\n.Ed\n").next().unwrap_or_default().replace("\\-", "-");
            seen += 1;
            let faults = match name {
                "supd.toml.5" => check_defaults(&Source::new(name, text)),
                _ => {
                    let unit = UnitName::new("web").expect("a name");
                    let main = Source::new(name, text);
                    let read = parse(&Sources { unit, defaults: None, main, drop_ins: Vec::new() });
                    read.map_or_else(|faults| faults, |_| Vec::new())
                }
            };
            found.extend(faults.iter().map(|fault| format!("man/{name}: an example: {fault}")));
        }
    }
    assert!(seen >= 4, "{seen}");
    report(found);
}
