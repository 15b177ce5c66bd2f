//! Brackets that are never closed. The parser takes every line behind one for a part of the value, so
//! each of them is a fault to it, and the faults that they have of their own are not seen.

/// A value whose bracket is open although the next key, or the next table, begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unclosed {
    /// The innermost bracket that is open.
    pub at: usize,
    /// Where the line begins in which the value does.
    pub begin: usize,
    /// Where the next line of the file proper begins.
    pub end: usize,
}

/// All of them, in their order. A look at each byte, no parser: quotes and comments are told apart.
pub(super) fn unclosed(text: &str) -> Vec<Unclosed> {
    let mut scan = Scan { bytes: text.as_bytes(), at: 0, open: Vec::new(), last: b'\n' };
    let (mut found, mut begin, mut line) = (Vec::new(), 0, 0);
    loop {
        if scan.open.is_empty() {
            begin = line;
        } else if let Some(&at) = scan.open.last().filter(|at| scan.is_over(**at, &text[line..])) {
            found.push(Unclosed { at, begin, end: line });
            scan.open.clear();
            begin = line;
        }
        if scan.at >= text.len() {
            break;
        }
        scan.line(scan.open.is_empty());
        line = scan.at;
    }
    if let Some(&at) = scan.open.last() {
        found.push(Unclosed { at, begin, end: text.len() });
    }
    found
}

struct Scan<'t> {
    bytes: &'t [u8],
    /// Everything before it is looked at.
    at: usize,
    /// The brackets that are open.
    open: Vec<usize>,
    /// The last byte that is neither space nor comment.
    last: u8,
}

impl Scan<'_> {
    /// Whether the line at the head of `rest` cannot belong to the value whose bracket is at `open`.
    fn is_over(&self, open: usize, rest: &str) -> bool {
        let line = rest.lines().next().unwrap_or_default().trim();
        let is_name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let table = line.split('#').next().unwrap_or_default().trim();
        let table = table.trim_start_matches('[').trim_end_matches(']');
        if line.starts_with('[') && table.starts_with(|c: char| c.is_ascii_uppercase()) && is_name(table) {
            return true;
        }
        let is_key = line.split_once('=').is_some_and(|(key, _)| is_name(key.trim()));
        // Within braces a key is at home, behind a comma or the brace itself.
        is_key && (self.bytes[open] == b'[' || !matches!(self.last, b',' | b'{'))
    }

    /// Looks at the bytes of one line; at more, where a text of several lines begins in it. A line
    /// outside of every value is looked at from its `=` on: before that stands no bracket that counts.
    fn line(&mut self, outside: bool) {
        let mut counts = !outside;
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\n' => return,
                b'#' => self.at = self.find(b'\n'),
                b'"' | b'\'' => self.quoted(byte),
                b'=' if outside => counts = true,
                b'[' | b'{' if counts => self.open.push(self.at - 1),
                b']' | b'}' if counts => drop(self.open.pop()),
                _ => {}
            }
            if !byte.is_ascii_whitespace() && byte != b'#' {
                self.last = byte;
            }
        }
    }

    /// Goes behind a text, whose first quote is passed already.
    fn quoted(&mut self, quote: u8) {
        let several = self.bytes[self.at..].starts_with(&[quote, quote]);
        if several {
            self.at += 2;
        }
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                // Not closed in its line: that is a fault of its own.
                b'\n' if !several => return,
                b'\\' if quote == b'"' => self.at += 1,
                _ if byte == quote && !several => break,
                _ if several && self.bytes[self.at..].starts_with(&[quote; 3]) => {
                    self.at += 2;
                    break;
                }
                _ => {}
            }
            self.at += 1;
        }
        self.at = (self.at + 1).min(self.bytes.len());
    }

    fn find(&self, byte: u8) -> usize {
        self.bytes[self.at..].iter().position(|one| *one == byte).map_or(self.bytes.len(), |n| self.at + n)
    }
}

#[cfg(test)]
mod tests {
    use super::unclosed;

    fn texts(text: &str) -> Vec<&str> {
        unclosed(text).iter().map(|found| &text[found.begin..found.end]).collect()
    }

    #[test]
    fn the_value_ends_where_the_next_key_or_table_begins() {
        let text = "[Service]\nExecStart = [\"/bin/x\",\n  \"--y\"\n# a comment\nUser = \"web\"\n";
        assert_eq!(texts(text), ["ExecStart = [\"/bin/x\",\n  \"--y\"\n# a comment\n"]);
        assert_eq!(unclosed(text)[0].at, text.find("[\"").unwrap());
        assert_eq!(texts("A = [1\n[[Socket]] # here\nB = {\n[Service]\n"), ["A = [1\n", "B = {\n"]);
        assert_eq!(texts("A = { X = 1\nB = 2\n"), ["A = { X = 1\n"]);
        assert_eq!(texts("A = [[\"x\"], [\"y\"\nB = 2\n"), ["A = [[\"x\"], [\"y\"\n"]);
        assert_eq!(texts("A = [\"x\""), ["A = [\"x\""]);
    }

    #[test]
    fn what_is_closed_is_left_alone() {
        for text in [
            "",
            "[Service]\nA = [\n  \"x\",  # ]\n  [\"y\"],\n]\nB = { C = 1,\n  D = 2 }\n",
            "A = {\n  B = 1,\n  C = [\"[\", '{']\n}\n",
            "A = \"[\"\nB = '{'\nC = \"\"\"\n[\nD = 1\n\"\"\"\nE = '''\n{'''\n",
            "A = \"\\\"[\"\nB = \"not closed [\nC = 1\n",
            "[Service\nA = 1\n[[Socket]\nB = 2\n",
            "A = [\"Key = value\",\n \"B = 1\"]\n",
        ] {
            assert_eq!(texts(text), [""; 0], "{text}");
        }
    }
}
