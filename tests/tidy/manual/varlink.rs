//! man/supd-protocol.7: the interface as it describes itself, in the words of mdoc(7).

use super::mdoc::{fill, literal, sentences};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use supd::codec::varlink::DESCRIPTION;

/// A declaration that is no longer stands in one line, as there is a margin on its left.
const SHORT: usize = 50;

/// A method, an error or a type, with what is said of it.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) kind: String,
    pub(super) name: String,
    comment: String,
    lines: Vec<String>,
}

/// The page, of what only a page says.
pub(super) fn page(template: &str) -> String {
    let (about, members) = read(DESCRIPTION);
    let of = |kind: &str| members.iter().filter(|member| member.kind == kind).map(show).collect::<String>();
    let listed = |kind: &str| format!(".Bl -tag -width Ds\n{}.El\n", of(kind));
    let parts = [
        ("ABOUT", paragraphs(&about)),
        ("METHODS", listed("method")),
        ("ERRORS", listed("error")),
        ("TYPES", listed("type")),
        ("OUTCOME", outcome(&members)),
    ];
    fill(template, &parts)
}

/// What is said of the interface as a whole, and all that it has, in its order.
pub(super) fn read(description: &str) -> (String, Vec<Member>) {
    let (about, rest) = description.split_once("\ninterface ").expect("an interface");
    let (mut members, mut next) = (Vec::new(), Member::default());
    for line in rest.lines().skip(1) {
        if let Some(comment) = line.strip_prefix('#') {
            next.comment.push_str(comment.trim_start());
            next.comment.push('\n');
        } else if line.is_empty() {
            if !next.name.is_empty() {
                members.push(std::mem::take(&mut next));
            }
        } else {
            if next.name.is_empty() {
                let mut words = line.split([' ', '(']);
                next.kind = words.next().unwrap_or_default().to_owned();
                next.name = words.next().unwrap_or_default().to_owned();
            }
            next.lines.push(line.to_owned());
        }
    }
    members.extend(Some(next).filter(|last| !last.name.is_empty()));
    let about: String =
        about.lines().map(|line| format!("{}\n", line.trim_start_matches('#').trim_start())).collect();
    (about, members)
}

fn show(member: &Member) -> String {
    let mut out = String::new();
    writeln!(out, ".It Ic {}", member.name).expect("writing to a string");
    out.push_str(&explained(&member.comment, &fields(member)));
    let lines = signature(&member.lines);
    out + &literal(&lines.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A member as it is declared, in one line if it is a short one; what every method that acts answers is said once.
fn signature(lines: &[String]) -> Vec<String> {
    let text = lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    let text = text.replace("( ", "(").replace(" )", ")");
    let acts =
        lines.iter().position(|line| line.ends_with(") -> (")).is_some_and(|at| is_outcome(&lines[at + 1..]));
    let (call, reply) = match text.split_once(" -> ") {
        Some((call, _)) if acts => (call, "(outcome)"),
        Some(both) => both,
        None => (text.as_str(), ""),
    };
    let mut out = apart(call);
    if !reply.is_empty() {
        let mut reply = apart(reply);
        let last = out.pop().unwrap_or_default();
        out.push(format!("{last} -> {}", reply.remove(0)));
        out.extend(reply);
    }
    out
}

/// A name with what is in its brackets, one a line if they are several.
fn apart(text: &str) -> Vec<String> {
    let (name, inside) = text.split_once('(').unwrap_or((text, ""));
    let parts: Vec<&str> = inside.trim_end_matches(')').split(", ").collect();
    let Some((last, rest)) = parts.split_last().filter(|(_, rest)| !rest.is_empty() && text.len() > SHORT)
    else {
        return vec![text.to_owned()];
    };
    let rest = rest.iter().map(|part| format!("  {part},"));
    std::iter::once(format!("{name}(")).chain(rest).chain([format!("  {last}"), ")".to_owned()]).collect()
}

/// The lines of what every method that acts answers, less the bracket that opens it.
fn is_outcome(lines: &[String]) -> bool {
    lines.first().is_some_and(|line| line == "  format: int,")
        && lines.iter().any(|line| line == "  progress: ?Progress")
}

/// What every method that acts answers.
fn outcome(members: &[Member]) -> String {
    let all = members.iter().filter_map(|member| {
        let lines = &member.lines;
        let reply = lines.iter().position(|line| line.ends_with(") -> ("))?;
        is_outcome(&lines[reply + 1..]).then(|| lines[reply + 1..].join("\n"))
    });
    let all: BTreeSet<String> = all.collect();
    assert_eq!(all.len(), 1, "methods that act answer differently: {all:?}");
    let lines: Vec<&str> = all.first().map(|text| text.lines().collect()).unwrap_or_default();
    literal(&[&["("], &lines[..]].concat())
}

/// The names of what a member has.
fn fields(member: &Member) -> BTreeSet<String> {
    let text = member.lines.join(" ");
    let parts = text.split(['(', ',']).filter_map(|part| part.split_once(": "));
    parts.map(|(name, _)| name.trim().to_owned()).collect()
}

/// What is said of a member: running text, then its fields where they are explained by name.
fn explained(comment: &str, fields: &BTreeSet<String>) -> String {
    let mut said: Vec<(Option<String>, String)> = vec![(None, String::new())];
    let mut ended = true;
    let words: Vec<&str> = comment.split_whitespace().collect();
    let mut at = 0;
    while at < words.len() {
        let named = if ended { heading(&words[at..], fields) } else { 0 };
        if named > 0 {
            let names = words[at..at + named].join(" ");
            said.push((Some(names.trim_end_matches(':').to_owned()), String::new()));
            at += named;
            ended = false;
            continue;
        }
        let last = &mut said.last_mut().expect("one at least").1;
        last.push_str(words[at]);
        last.push(' ');
        ended = words[at].ends_with('.');
        at += 1;
    }
    let mut out = sentences(&said[0].1);
    if said.len() > 1 {
        out.push_str(".Bl -tag -width Ds\n");
        for (names, text) in &said[1..] {
            let names = names.as_deref().unwrap_or_default().replace(',', " ,");
            writeln!(out, ".It Va {names}").expect("writing to a string");
            out.push_str(&sentences(text));
        }
        out.push_str(".El\n");
    }
    out
}

/// How many words are names of fields with a colon behind the last: `file, line: …`.
fn heading(words: &[&str], fields: &BTreeSet<String>) -> usize {
    for (at, word) in words.iter().enumerate() {
        let (name, more) = match (word.strip_suffix(','), word.strip_suffix(':')) {
            (Some(name), _) => (name, true),
            (None, Some(name)) => (name, false),
            (None, None) => return 0,
        };
        match fields.contains(name) {
            true if more => {}
            true => return at + 1,
            false => return 0,
        }
    }
    0
}

fn paragraphs(about: &str) -> String {
    about.split("\n\n").map(|paragraph| format!(".Pp\n{}", sentences(paragraph))).collect()
}
