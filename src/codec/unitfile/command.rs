//! Command lines: one text that is split, one list of words, or a list of commands.

use super::document::{Node, Value};
use super::report::{Bad, Place, Reading, bad};
use super::values::{each, text};
use crate::codec::fault::quoted;
use crate::codec::variables::mistaken_variable;
use crate::codec::words::split;
use crate::model::settings::Command;

/// What a command is for, as far as it changes how it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A failure can be ignored with a leading `-`.
    Hook,
    /// Its failure is what it is for: no `-`.
    Verdict,
}

/// Reads exactly one command.
pub(super) fn one(node: &Node, purpose: Use, warnings: &mut Vec<Bad>) -> Reading<Command> {
    let mut commands = many(node, purpose, warnings)?;
    match (commands.pop(), commands.is_empty()) {
        (Some(command), true) => Ok(command),
        (Some(_), false) => {
            bad("one command is wanted, not several", "write one list of words: [\"program\", \"argument\"]")
        }
        (None, _) => bad("there is no command", "write [\"program\", \"argument\"]"),
    }
}

/// Reads commands: a text is one, a list of texts is one, a list with lists in it is several.
pub(super) fn many(node: &Node, purpose: Use, warnings: &mut Vec<Bad>) -> Reading<Vec<Command>> {
    match &node.value {
        Value::Text(line) => Ok(vec![from_line(node.place, line, purpose, warnings)?]),
        Value::List(nodes) if nodes.is_empty() => Ok(Vec::new()),
        Value::List(nodes) if nodes.iter().any(|node| matches!(node.value, Value::List(_))) => {
            each(nodes, |node| match &node.value {
                Value::Text(line) => from_line(node.place, line, purpose, warnings),
                Value::List(words) if words.is_empty() => bad("there is no command", "take the [] out"),
                Value::List(words) => from_words(words, purpose, warnings),
                other => bad(
                    format!("{} where a command is wanted", other.kind()),
                    "write [[\"program\", \"argument\"], …]",
                ),
            })
        }
        Value::List(nodes) => {
            refuse_two_lines(nodes)?;
            Ok(vec![from_words(nodes, purpose, warnings)?])
        }
        other => {
            bad(format!("{} where a command is wanted", other.kind()), "write [\"program\", \"argument\"]")
        }
    }
}

/// `["/bin/a -x", "/bin/b"]` is one program with a space in its name; hardly anybody means that.
fn refuse_two_lines(nodes: &[Node]) -> Reading<()> {
    match nodes.first().map(|node| (node.place, &node.value)) {
        Some((place, Value::Text(first))) if first.trim().contains(char::is_whitespace) => {
            let what = format!("a list of texts is one command, and its program would be {}", quoted(first));
            let remedy = "give each word its own quotes; several commands are [[\"a\", \"x\"], [\"b\"]]; \
                          a program with a space in its name is [[\"/a b\"]]";
            Err(vec![Bad::at(place, what, remedy)])
        }
        _ => Ok(()),
    }
}

fn from_words(nodes: &[Node], purpose: Use, warnings: &mut Vec<Bad>) -> Reading<Command> {
    let mut words = each(nodes, argument)?;
    for (node, word) in nodes.iter().zip(&words) {
        warn_of_word(node.place, word, warnings);
    }
    let program = words.remove(0);
    words.shrink_to_fit();
    let place = nodes.first().map(|node| node.place);
    command(program, words, purpose).map_err(|bad| vec![Bad { place, ..bad }])
}

/// A word of a list: anything but NUL, an empty one too.
fn argument(node: &Node) -> Reading<String> {
    match &node.value {
        Value::Text(word) if word.contains('\0') => bad("an argument cannot hold a NUL byte", "take it out"),
        Value::Text(word) => Ok(word.clone()),
        Value::Integer(number) => {
            bad(format!("{number} is a number"), format!("put it in quotes: \"{number}\""))
        }
        _ => text(node),
    }
}

/// Words that a shell would act upon.
const SHELL_WORDS: [&str; 12] = ["|", "||", "&", "&&", ";", ">", ">>", "<", "<<", "2>", "2>&1", "|&"];

fn from_line(place: Place, line: &str, purpose: Use, warnings: &mut Vec<Bad>) -> Reading<Command> {
    let words = match split(line) {
        Ok(words) if words.is_empty() => {
            return bad("there is no command", "write [\"program\", \"argument\"]");
        }
        Ok(words) => words,
        Err(fault) => return bad(fault.to_string(), "write a list of words: [\"program\", \"argument\"]"),
    };
    let mut shell_words = Vec::new();
    for word in &words {
        let redirects = word.text.len() > 1 && word.text.starts_with(['>', '<', '|']);
        if !word.literal
            && (SHELL_WORDS.contains(&word.text.as_str()) || redirects || word.text.contains('`'))
        {
            shell_words.push(quoted(&word.text));
        }
        warn_of_word(place, &word.text, warnings);
    }
    if let Some(first) = shell_words.first() {
        let others = if shell_words.len() > 1 { " and others" } else { "" };
        let what = format!("no shell reads this: {first}{others} will be handed to the program");
        warnings.push(Bad::at(place, what, "write [\"/bin/sh\", \"-c\", \"…\"] if a shell is meant"));
    }
    let mut words = words.into_iter().map(|word| word.text);
    let program = words.next().unwrap_or_default();
    command(program, words.collect(), purpose).map_err(|bad| vec![Bad { place: Some(place), ..bad }])
}

/// Dollars and specifiers that do nothing.
fn warn_of_word(place: Place, word: &str, warnings: &mut Vec<Bad>) {
    if let Some(dollar) = mistaken_variable(word) {
        let what = format!("{} is no variable as supd reads it, and stays as it is", quoted(dollar));
        warnings.push(Bad::at(place, what, "write ${NAME}, or $$ for a dollar"));
    }
    let specifiers = ["%i", "%I", "%n", "%N", "%t/", "%S/", "%C/", "%L/", "%E/", "%h/"];
    if let Some(specifier) = specifiers.into_iter().find(|specifier| word.contains(specifier)) {
        let what = format!("supd has no specifiers: {} stays as it is", quoted(specifier));
        warnings.push(Bad::at(place, what, "write what it stands for, or ${NAME} with Environment"));
    }
}

/// Takes systemd's prefixes off the program.
fn command(program: String, arguments: Vec<String>, purpose: Use) -> Result<Command, Bad> {
    let (ignore_failure, program) = match program.strip_prefix('-') {
        Some(rest) => (true, rest.to_owned()),
        None => (false, program),
    };
    if ignore_failure && purpose == Use::Verdict {
        return Err(Bad::new(
            "a leading - would ignore the very failure that this is about",
            "take the - out; SuccessExitStatus says which exits of a worker are clean",
        ));
    }
    let prefix = program.chars().next().filter(|first| matches!(first, '@' | '+' | '!' | ':' | '|' | '-'));
    if let Some(prefix) = prefix {
        let remedy = match prefix {
            '@' => "the program's own name is its argv[0]; make a link of the name that it should see",
            '+' | '!' => {
                "every command runs as User; let root's part be done before, by the package or by systemd"
            }
            ':' => "write $$ for each dollar that is to stay",
            '|' => "write [\"/bin/sh\", \"-c\", \"…\"]",
            _ => "write one - and no more",
        };
        return Err(Bad::new(format!("the prefix {prefix} of systemd is not offered"), remedy));
    }
    let reason = if program.is_empty() {
        "the program is empty"
    } else if program.contains('$') {
        "the program cannot be a variable"
    } else if program.chars().any(char::is_control) {
        "the program holds a control character"
    } else if program.ends_with('/') || program == "." || program == ".." || program == "~" {
        "the program is a directory"
    } else if program.starts_with("~/") {
        "no shell reads this: ~ is no home directory"
    } else if program.split('/').any(|part| part == "..") {
        "the program's path has a .. in it"
    } else if program.len() > 4095 {
        "the program's path is longer than 4095 bytes"
    } else {
        return Ok(Command { ignore_failure, program, arguments });
    };
    Err(Bad::new(reason, "write the program's path, or its name if it is found in PATH"))
}
