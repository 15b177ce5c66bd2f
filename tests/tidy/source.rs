//! Rust as text: code told from words, names, functions. No parser: what it gets wrong, a planted
//! test shows.

/// The text with comments, strings and characters blanked out, line by line in place, so that only
/// code is searched.
pub(crate) fn code(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match token(rest, out.chars().next_back()) {
            Some(length) => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                length
            }
            None => {
                out.push(first);
                first.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    out
}

/// The length of the comment or literal that begins here, if one does.
pub(crate) fn token(rest: &str, before: Option<char>) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if !in_name && (rest.starts_with("r\"") || rest.starts_with("r#")) {
        let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
        if !rest[1 + hashes..].starts_with('"') {
            return None;
        }
        let close = format!("\"{}", "#".repeat(hashes));
        let body = 2 + hashes;
        return Some(rest[body..].find(&close).map_or(rest.len(), |end| body + end + close.len()));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        // A character, not a lifetime: closed after one character or one escape.
        let mut characters = inside.chars();
        let escaped = characters.next()? == '\\';
        let closed = escaped || characters.next() == Some('\'');
        return closed.then(|| quoted(rest, '\''));
    }
    None
}

/// The length of a literal between two quotes.
pub(crate) fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The identifier at the beginning.
pub(crate) fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

/// Whether the line has `wanted`, not as the tail or the head of a longer name.
pub(crate) fn has_word(line: &str, wanted: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(wanted).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + wanted.len()..].chars().next();
        let open = !wanted.ends_with(is_name) || !after.is_some_and(is_name);
        let start = !wanted.starts_with(is_name) || !before.is_some_and(is_name);
        open && start
    })
}

/// Name, line and length of each function with a body.
pub(crate) fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let boundary = code[..at].chars().next_back().is_none_or(|c| c.is_whitespace() || c == '(');
        let name = word(&code[at + 3..]);
        if !boundary || name.is_empty() {
            continue;
        }
        let Some(open) = body(&code[at..]).map(|open| at + open) else { continue };
        let mut depth = 0_usize;
        let close = code[open..].char_indices().find_map(|(offset, c)| {
            depth = match c {
                '{' => depth + 1,
                '}' => depth - 1,
                _ => return None,
            };
            (depth == 0).then_some(open + offset)
        });
        let Some(close) = close else { continue };
        let line = code[..at].matches('\n').count() + 1;
        found.push((name.to_owned(), line, code[at..=close].lines().count()));
    }
    found
}

/// Where the body of a function begins; none if it has none. A `;` inside brackets is an array's.
pub(crate) fn body(code: &str) -> Option<usize> {
    let mut brackets = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '[' | '(' => brackets += 1,
            ']' | ')' => brackets = brackets.checked_sub(1)?,
            '{' if brackets == 0 => return Some(at),
            ';' if brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The code without its `#[cfg(test)] mod tests { … }`, which sits at the bottom.
pub(crate) fn product(code: &str) -> String {
    let end = code.find("#[cfg(test)]\nmod tests {").unwrap_or(code.len());
    code[..end].to_owned()
}

#[test]
fn code_is_told_from_words() {
    let text = "let c = '\"'; // \"\nlet s = \"a // b\"; f::<'a>(r#\"x\"y\"#); /* z\n */ '\\'' g";
    let code = code(text);
    assert_eq!(code.lines().count(), text.lines().count());
    let words: Vec<&str> = code.split_whitespace().collect();
    assert_eq!(words, ["let", "c", "=", ";", "let", "s", "=", ";", "f::<'a>(", ");", "g"]);
}
