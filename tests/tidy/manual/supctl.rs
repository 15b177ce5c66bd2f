//! man/supctl.1: what the command line says of itself, as clap has it, in the words of mdoc(7).

use super::mdoc::{argument, capital, fill, literal, sentences, text};
use clap::{Arg, Command};
use std::fmt::Write as _;

/// The whole command line.
pub(super) fn command() -> Command {
    let mut command = supd::ctl::command();
    command.build();
    command
}

/// The page, of what only a page says.
pub(super) fn page(template: &str) -> String {
    let command = command();
    let parts = [
        ("OPTIONS", options(&global(&command))),
        ("LIST", list(&command)),
        ("VERBS", verbs(&command).map(verb).collect()),
        ("EXIT", exit(&command)),
    ];
    fill(template, &parts)
}

/// The verbs that people type.
pub(super) fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// What every verb takes.
pub(super) fn global(command: &Command) -> Vec<&Arg> {
    command.get_arguments().filter(|arg| !arg.is_hide_set()).collect()
}

/// What only this verb takes: what has a place first.
pub(super) fn own(verb: &Command) -> Vec<&Arg> {
    let own = || {
        verb.get_arguments()
            .filter(|arg| !arg.is_hide_set() && !arg.is_global_set() && arg.get_id() != "help")
    };
    own().filter(|arg| arg.is_positional()).chain(own().filter(|arg| !arg.is_positional())).collect()
}

fn put(out: &mut String, line: impl AsRef<str>) {
    writeln!(out, "{}", line.as_ref()).expect("writing to a string");
}

/// Which verbs there are, a line each.
fn list(command: &Command) -> String {
    let mut out = String::from(".Bl -tag -width daemon-reload -compact\n");
    for verb in verbs(command) {
        put(&mut out, format!(".It Cm {}", text(verb.get_name())));
        put(&mut out, text(&verb.get_about().map(ToString::to_string).unwrap_or_default()));
    }
    out + ".El\n"
}

fn verb(verb: &Command) -> String {
    let mut out = format!(".Ss {}\n.Nm\n.Cm {}\n", text(verb.get_name()), text(verb.get_name()));
    let own = own(verb);
    for arg in &own {
        let shown = usage(arg);
        let optional = !arg.is_required_set();
        put(&mut out, format!(".{}{shown}", if optional { "Op " } else { "" }));
    }
    out.push_str(".Pp\n");
    out.push_str(&sentences(&full_stop(&verb.get_about().map(ToString::to_string).unwrap_or_default())));
    let aliases: Vec<&str> = verb.get_visible_aliases().collect();
    for alias in aliases {
        put(&mut out, format!("Another name of it is\n.Cm {} .", text(alias)));
    }
    if !own.is_empty() {
        out.push_str(&options(&own));
    }
    out.push_str(&after(&verb.get_after_help().map(ToString::to_string).unwrap_or_default()));
    out
}

/// `Ar UNIT`, `Fl -hold`, `Fl n Ar N`.
fn usage(arg: &Arg) -> String {
    let more = if arg.get_num_args().is_some_and(|range| range.max_values() > 1) { " ..." } else { "" };
    let names: Vec<String> =
        arg.get_value_names().unwrap_or_default().iter().map(|name| text(name)).collect();
    let value = match arg.get_action().takes_values() {
        true => format!(" Ar {}{more}", names.join(" ")),
        false => String::new(),
    };
    match (arg.get_short(), arg.get_long()) {
        (None, None) => value.trim_start().to_owned(),
        (Some(short), None) => format!("Fl {short}{value}"),
        (Some(short), Some(long)) => format!("Fl {short} | \\-{}{value}", text(long)),
        (None, Some(long)) => format!("Fl \\-{}{value}", text(long)),
    }
}

fn options(args: &[&Arg]) -> String {
    let mut out = String::from(".Bl -tag -width Ds\n");
    for arg in args {
        let head = usage(arg);
        put(&mut out, format!(".It {}", head.replace(" | ", " , ")));
        out.push_str(&sentences(&full_stop(&arg.get_help().map(ToString::to_string).unwrap_or_default())));
        if !arg.get_action().takes_values() {
            continue;
        }
        let words: Vec<String> =
            arg.get_possible_values().iter().map(|one| one.get_name().to_owned()).collect();
        if let Some((last, rest)) = words.split_last() {
            put(&mut out, format!("One of {} and {}.", text(&rest.join(", ")), text(last)));
        }
        for default in arg.get_default_values() {
            put(&mut out, format!("Default: {}.", text(&default.to_string_lossy())));
        }
        if let Some(variable) = arg.get_env() {
            put(&mut out, format!("Where it is not given,\n.Ev {}\nsays it.", variable.to_string_lossy()));
        }
    }
    out + ".El\n"
}

fn full_stop(words: &str) -> String {
    match words.ends_with(['.', '!', '?']) || words.ends_with(".)") || words.is_empty() {
        true => words.to_owned(),
        false => format!("{words}."),
    }
}

/// What stands behind the options in the help of a verb.
fn after(help: &str) -> String {
    let mut out = String::new();
    for paragraph in help.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()) {
        match paragraph.strip_prefix("Examples:\n") {
            Some(examples) => {
                out.push_str(".Pp\nExamples:\n");
                out.push_str(&show(examples));
            }
            None => {
                out.push_str(".Pp\n");
                out.push_str(&prose(paragraph));
            }
        }
    }
    out
}

/// Commands with what they do.
fn show(examples: &str) -> String {
    let mut out = String::from(".Bl -tag -width Ds -offset indent\n");
    for line in examples.lines() {
        // What it does stands behind three spaces.
        let (typed, does) = line.trim().split_once("   ").unwrap_or((line.trim(), ""));
        put(&mut out, format!(".It Li {}", argument(typed.trim())));
        out.push_str(&sentences(&capital(&full_stop(does.trim().trim_start_matches("… ")))));
    }
    out + ".El\n"
}

/// Running text, with lines that are set apart in it.
fn prose(paragraph: &str) -> String {
    let mut out = String::new();
    let mut running = String::new();
    for line in paragraph.lines() {
        // `From CI:  a command`, or a command alone.
        let apart = line.strip_prefix("  ").map(|typed| ("", typed));
        if let Some((before, typed)) = apart.or_else(|| line.split_once(":  ")) {
            running.push_str(before);
            running.push_str(if before.is_empty() { "" } else { ":" });
            out.push_str(&sentences(&std::mem::take(&mut running)));
            out.push_str(&literal(&[typed]));
        } else {
            if out.ends_with(".Ed\n") && running.is_empty() {
                out.push_str(".Pp\n");
            }
            running.push_str(line);
            running.push('\n');
        }
    }
    out + &sentences(&running)
}

/// Every exit status, as the help has them.
fn exit(command: &Command) -> String {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = help
        .lines()
        .skip_while(|line| *line != "Exit status:")
        .skip(1)
        .take_while(|line| line.starts_with(' '));
    let mut out = String::from(".Bl -tag -width Ds\n");
    for (status, means) in lines.filter_map(|line| line.trim().split_once("  ")) {
        put(&mut out, format!(".It {status}\n{}", sentences(&capital(&full_stop(means.trim()))).trim_end()));
    }
    out + ".El\n"
}
