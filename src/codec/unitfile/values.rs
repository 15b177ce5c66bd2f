//! One value of a kind: text, number, time, size, signal, path …

use super::document::{Node, Value};
use super::keys::nearest;
use super::report::{Bad, FAULTS_MAX, Reading, bad};
use crate::codec::fault::quoted;
use crate::codec::words::split;
use crate::codec::{size, timespan};
use crate::model::Signal;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// SIGSTOP, which like SIGKILL no program can handle.
pub(super) const STOP: Signal = Signal(19);

/// A text of one line; never empty, since an empty string takes a key back.
pub(super) fn text(node: &Node) -> Reading<String> {
    match &node.value {
        Value::Text(text) if text.is_empty() => bad("it is empty", "take it out"),
        Value::Text(text) => match text.chars().find(|c| c.is_control()) {
            None => Ok(text.clone()),
            Some(control) => {
                bad(format!("it holds the control character U+{:04X}", u32::from(control)), "take it out")
            }
        },
        other => bad(format!("{} where a text is wanted", other.kind()), "put it in quotes: \"…\""),
    }
}

/// `true` or `false`. systemd's other ways to say so are refused: one word, one meaning.
pub(super) fn boolean(node: &Node) -> Reading<bool> {
    match &node.value {
        Value::Boolean(yes) => Ok(*yes),
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "1" | "y" | "t" => {
                bad(format!("{} is a text", quoted(text)), "write true, without quotes")
            }
            "no" | "false" | "off" | "0" | "n" | "f" => {
                bad(format!("{} is a text", quoted(text)), "write false, without quotes")
            }
            _ => bad(format!("{} is neither true nor false", quoted(text)), "write true or false"),
        },
        Value::Integer(number) => bad(format!("{number} is a number"), "write true or false"),
        other => bad(format!("{} where true or false is wanted", other.kind()), "write true or false"),
    }
}

/// A whole number within `range`.
pub(super) fn integer(node: &Node, range: RangeInclusive<i64>) -> Reading<i64> {
    let limits = || format!("write a number from {} to {}", range.start(), range.end());
    match &node.value {
        Value::Integer(digits) => match digits.parse::<i64>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => bad(format!("{digits} is out of range"), limits()),
        },
        Value::Text(text) if text.parse::<i64>().is_ok_and(|number| range.contains(&number)) => {
            bad(format!("{} is a text", quoted(text)), format!("write {text}, without quotes"))
        }
        Value::Text(text) => bad(format!("{} is no number", quoted(text)), limits()),
        other => bad(format!("{} where a whole number is wanted", other.kind()), limits()),
    }
}

/// A whole number within `range` that fits u32.
pub(super) fn unsigned(node: &Node, range: RangeInclusive<u32>) -> Reading<u32> {
    let wide = i64::from(*range.start())..=i64::from(*range.end());
    integer(node, wide).map(|number| u32::try_from(number).unwrap_or(*range.end()))
}

/// A time span; `None` is "infinity".
pub(super) fn span_or_infinity(node: &Node) -> Reading<Option<Duration>> {
    const REMEDY: &str = "write a time as in \"5s\", \"1min 30s\" or \"infinity\"";
    let text = match &node.value {
        Value::Text(text) | Value::Integer(text) | Value::Float(text) => text,
        other => return bad(format!("{} where a time is wanted", other.kind()), REMEDY),
    };
    timespan::parse(text).or_else(|fault| bad(fault.to_string(), REMEDY))
}

/// A time span with an end.
pub(super) fn span(node: &Node) -> Reading<Duration> {
    match span_or_infinity(node)? {
        Some(span) => Ok(span),
        None => bad("this needs an end", "write a time as in \"5s\" or \"1min 30s\""),
    }
}

/// A time span of whole seconds within `range`, as the kernel counts it.
pub(super) fn whole_seconds(node: &Node, range: RangeInclusive<u64>) -> Reading<Duration> {
    let span = span(node)?;
    if span.subsec_nanos() == 0 && range.contains(&span.as_secs()) {
        return Ok(span);
    }
    let remedy = format!("write whole seconds from {} to {}", range.start(), range.end());
    bad(format!("the kernel does not take {}", timespan::format(span)), remedy)
}

/// A size in bytes; `None` is "infinity".
pub(super) fn size_or_infinity(node: &Node) -> Reading<Option<u64>> {
    const REMEDY: &str = "write bytes as in 4096, \"64K\", \"16M\" or \"1G\"";
    let text = match &node.value {
        Value::Text(text) | Value::Integer(text) | Value::Float(text) => text,
        other => return bad(format!("{} where a size is wanted", other.kind()), REMEDY),
    };
    if text.ends_with('%') {
        return bad("a share of the machine's memory is not offered", REMEDY);
    }
    size::parse(text).or_else(|fault| bad(fault.to_string(), REMEDY))
}

/// A size in bytes within `range`.
pub(super) fn size(node: &Node, range: RangeInclusive<u64>) -> Reading<u64> {
    match size_or_infinity(node)? {
        Some(bytes) if range.contains(&bytes) => Ok(bytes),
        found => {
            let found = found.map_or("infinity".to_owned(), size::format);
            let (least, most) = (size::format(*range.start()), size::format(*range.end()));
            bad(format!("{found} is out of range"), format!("write a size from \"{least}\" to \"{most}\""))
        }
    }
}

/// A percentage in hundredths of a percent.
pub(super) fn percent(text: &str) -> Option<u32> {
    let number = text.strip_suffix('%')?.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 2 {
        return None;
    }
    let hundredths = fraction.parse::<u32>().ok()? * if fraction.len() == 1 { 10 } else { 1 };
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(hundredths)
}

/// Permission bits, in octal and in quotes: TOML would read 660 as six hundred and sixty.
pub(super) fn octal(node: &Node) -> Reading<u32> {
    const REMEDY: &str = "write it in octal and in quotes, as in \"0660\"";
    match &node.value {
        Value::Text(text) => {
            let is_octal = (3..=5).contains(&text.len()) && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
            match u32::from_str_radix(text, 8) {
                Ok(mode) if is_octal && mode <= 0o777 => Ok(mode),
                Ok(mode) if is_octal && mode <= 0o7777 => {
                    bad(format!("{} has setuid, setgid or sticky bits", quoted(text)), REMEDY)
                }
                _ => bad(format!("{} is no mode", quoted(text)), REMEDY),
            }
        }
        Value::Integer(number) if number.len() <= 4 && number.bytes().all(|b| (b'0'..=b'7').contains(&b)) => {
            bad(format!("{number} is a decimal number"), format!("write it in octal: \"{number:0>4}\""))
        }
        other => bad(format!("{} where a mode is wanted", other.kind()), REMEDY),
    }
}

/// A signal by name or number.
pub(super) fn signal(node: &Node) -> Reading<Signal> {
    const REMEDY: &str = "write a name as in \"SIGTERM\"; kill -l lists them";
    let text = match &node.value {
        Value::Text(text) | Value::Integer(text) => text,
        other => return bad(format!("{} where a signal is wanted", other.kind()), REMEDY),
    };
    match Signal::parse(text) {
        Some(signal) => Ok(signal),
        None => match Signal::parse(&text.to_ascii_uppercase()) {
            Some(signal) => {
                bad(format!("{} is no signal", quoted(text)), format!("did you mean \"{signal}\"?"))
            }
            None => bad(format!("{} is no signal", quoted(text)), REMEDY),
        },
    }
}

/// `false`, `true` where that says enough, or one of the words of an enumeration.
pub(super) fn switch<T: Copy>(node: &Node, off: T, on: Option<T>, words: &[(&'static str, T)]) -> Reading<T> {
    match (&node.value, on) {
        (Value::Boolean(false), _) => return Ok(off),
        (Value::Boolean(true), Some(on)) => return Ok(on),
        _ => {}
    }
    let quoted_words: Vec<String> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let remedy =
        format!("write {}false, {}", if on.is_some() { "true, " } else { "" }, quoted_words.join(" or "));
    match &node.value {
        Value::Boolean(_) => bad("true says too little", remedy),
        Value::Text(text) => match words.iter().find(|(name, _)| name == text) {
            Some((_, value)) => Ok(*value),
            None => bad(format!("there is no {}", quoted(text)), remedy),
        },
        other => bad(format!("{} where a word is wanted", other.kind()), remedy),
    }
}

/// One of the words of an enumeration.
pub(super) fn word<T: Copy>(node: &Node, words: &[(&'static str, T)]) -> Reading<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let quoted_names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let remedy = format!("write one of {}", quoted_names.join(", "));
    let Value::Text(text) = &node.value else {
        return bad(format!("{} where a word is wanted", node.value.kind()), remedy);
    };
    match words.iter().find(|(name, _)| name == text) {
        Some((_, value)) => Ok(*value),
        None => match nearest(text, &names) {
            Some(near) => bad(format!("there is no {}", quoted(text)), format!("did you mean \"{near}\"?")),
            None => bad(format!("there is no {}", quoted(text)), remedy),
        },
    }
}

/// An absolute path without `.` and `..`, so that it means the same to whoever reads it.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, Bad> {
    if !text.starts_with('/') {
        return Err(Bad::new(format!("{} is no absolute path", quoted(text)), "begin it with /"));
    }
    if text.split('/').any(|part| part == ".." || part == ".") {
        let what = format!("{} has a . or .. in it", quoted(text));
        return Err(Bad::new(what, "write the path that is meant"));
    }
    if text.len() >= PATH_BYTES_MAX {
        return Err(Bad::new(format!("a path of {} bytes is too long", text.len()), "write a shorter one"));
    }
    let mut path = String::with_capacity(text.len());
    for part in text.split('/').filter(|part| !part.is_empty()) {
        path.push('/');
        path.push_str(part);
    }
    Ok(PathBuf::from(if path.is_empty() { "/".to_owned() } else { path }))
}

/// PATH_MAX of linux/limits.h, with the NUL at the end.
const PATH_BYTES_MAX: usize = 4096;

/// An absolute path as the value of a key.
pub(super) fn path(node: &Node) -> Reading<PathBuf> {
    absolute_path(&text(node)?).map_err(|bad| vec![bad])
}

/// The name or number of a user or a group (systemd.exec(5), "User/Group Name Syntax").
pub(super) fn account(name: &str) -> Result<String, Bad> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit());
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '@' | '$');
    let reason = if is_number && !name.parse::<u32>().is_ok_and(|id| id != 65_535 && id != u32::MAX) {
        "is no number of a user or group"
    } else if name.len() > 256 || name.starts_with(['-', '.', '@', '$']) || !name.chars().all(legal) {
        "is no name of a user or group"
    } else {
        return Ok(name.to_owned());
    };
    Err(Bad::new(
        format!("{} {reason}", quoted(name)),
        "write a name as in \"web\" or a number as in \"997\"",
    ))
}

/// The name or number of a user or a group as the value of a key.
pub(super) fn account_node(node: &Node) -> Reading<String> {
    let name = match &node.value {
        Value::Integer(number) => number.clone(),
        _ => text(node)?,
    };
    account(&name).map_err(|bad| vec![bad])
}

/// Several words: a list of texts and numbers, or one text that is split as systemd splits it.
/// Each comes with the node that it stands in.
pub(super) fn words(node: &Node) -> Reading<Vec<(&Node, String)>> {
    match &node.value {
        Value::Text(line) => match split(line) {
            Ok(words) => Ok(words.into_iter().map(|word| (node, word.text)).collect()),
            Err(fault) => bad(fault.to_string(), "write a list: [\"…\", \"…\"]"),
        },
        Value::List(nodes) => each(nodes, |node| match &node.value {
            Value::Integer(number) => Ok((node, number.clone())),
            _ => text(node).map(|text| (node, text)),
        }),
        Value::Integer(number) => Ok(vec![(node, number.clone())]),
        other => bad(format!("{} where words are wanted", other.kind()), "write a list: [\"…\", \"…\"]"),
    }
}

/// Reads every node, and gives all values or all faults.
pub(super) fn each<'n, T>(
    nodes: impl IntoIterator<Item = &'n Node>,
    mut read: impl FnMut(&'n Node) -> Reading<T>,
) -> Reading<Vec<T>> {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for node in nodes {
        match read(node) {
            Ok(value) => values.push(value),
            // Beyond what is told anyway a suggestion for each would cost seconds.
            Err(_) if faults.len() > FAULTS_MAX => break,
            Err(bads) => faults.extend(bads.into_iter().map(|bad| in_place(node, bad))),
        }
    }
    // Settings live as long as their generation; a vector begins with room for four.
    values.shrink_to_fit();
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

/// Reads every word with `read`.
pub(super) fn each_word<T>(node: &Node, mut read: impl FnMut(&str) -> Result<T, Bad>) -> Reading<Vec<T>> {
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for (node, word) in words(node)? {
        match read(&word) {
            Ok(value) => values.push(value),
            Err(_) if faults.len() > FAULTS_MAX => break,
            Err(bad) => faults.push(in_place(node, bad)),
        }
    }
    if faults.is_empty() { Ok(values) } else { Err(faults) }
}

/// Gives a fault the place of `node` unless it has one.
fn in_place(node: &Node, bad: Bad) -> Bad {
    Bad { place: Some(bad.place.unwrap_or(node.place)), ..bad }
}

#[cfg(test)]
mod tests {
    use super::{absolute_path, account, percent};

    #[test]
    fn percentages_are_hundredths() {
        for (text, hundredths) in [("5%", 500), ("0.5%", 50), ("99.99%", 9999), ("100 %", 10_000), ("0%", 0)]
        {
            assert_eq!(percent(text), Some(hundredths), "{text}");
        }
        for text in ["5", "%", "-1%", "+1%", "1.234%", "1.%", ".5%", "99999999999%", "50000000%"] {
            assert_eq!(percent(text), None, "{text}");
        }
    }

    #[test]
    fn paths_are_made_plain() {
        let plain = |text| absolute_path(text).ok().map(|path| path.display().to_string());
        assert_eq!(plain("//a///b/"), Some("/a/b".into()));
        assert_eq!(plain("/"), Some("/".into()));
        for text in ["a", "./a", "/a/../b", "/./a", "/..", &format!("/{}", "x".repeat(4095))] {
            assert_eq!(plain(text), None);
        }
    }

    #[test]
    fn accounts_are_names_or_numbers() {
        for good in ["web", "_www", "www-data", "997", "0", "u.v", "host$", "a@b"] {
            assert!(account(good).is_ok(), "{good}");
        }
        for bad in ["-x", "a b", "a:b", "a/b", "65535", "4294967295", "99999999999", "é"] {
            assert!(account(bad).is_err(), "{bad}");
        }
    }
}
