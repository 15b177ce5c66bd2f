//! nginx.conf: `listen` of each server, in files that others include.

use super::{AnyHost, Reader};
use crate::ctl::import::remark::Place;
use std::path::{Path, PathBuf};

#[derive(Default)]
struct State {
    /// Where relative includes begin.
    base: PathBuf,
    /// The blocks that are open, outermost first: http, server, location …
    open: Vec<String>,
    /// Whether the open server has said where it listens.
    listens: bool,
}

pub(super) fn read(reader: &mut Reader<'_>, path: &Path) {
    let base = path.parent().unwrap_or(path).to_owned();
    file(reader, path, &mut State { base, ..State::default() });
}

fn file(reader: &mut Reader<'_>, path: &Path, state: &mut State) {
    let Some(text) = reader.text(path) else { return };
    let mut words: Vec<String> = Vec::new();
    let mut begun = 1;
    for (line, token) in Tokens::new(&text) {
        let place = (path.to_owned(), begun);
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    begun = line;
                }
                words.push(word);
            }
            Token::End => directive(reader, &std::mem::take(&mut words), &place, state),
            Token::Open => {
                let name = words.first().cloned().unwrap_or_default();
                if name == "server" {
                    state.listens = false;
                }
                state.open.push(name);
                words.clear();
            }
            Token::Close => {
                let name = state.open.pop().unwrap_or_default();
                // A server of http that says nothing is at port 80.
                if name == "server"
                    && !state.listens
                    && state.open.last().is_some_and(|outer| outer == "http")
                {
                    reader.bind("80", None, AnyHost::V4, &(path.to_owned(), line));
                }
                words.clear();
            }
        }
    }
}

fn directive(reader: &mut Reader<'_>, words: &[String], place: &Place, state: &mut State) {
    let Some((name, arguments)) = words.split_first() else { return };
    match (name.as_str(), arguments.first()) {
        ("include", Some(pattern)) => {
            let base = state.base.clone();
            reader.include(pattern, &base, |reader, path| file(reader, path, state));
        }
        ("listen", Some(address)) if state.open.last().is_some_and(|block| block == "server") => {
            state.listens = true;
            listen(reader, address, &arguments[1..], place);
        }
        _ => {}
    }
}

fn listen(reader: &mut Reader<'_>, address: &str, options: &[String], place: &Place) {
    let has = |name: &str| options.iter().any(|option| option == name);
    let backlog = options.iter().find_map(|option| option.strip_prefix("backlog=")).map(str::to_owned);
    for bind in reader.bind(address, Some(80), AnyHost::V4, place) {
        bind.datagram = has("udp") || has("quic");
        bind.v6only = bind.address.starts_with('[') && !has("ipv6only=off");
        bind.backlog.clone_from(&backlog);
        bind.mode = bind.is_path().then(|| "0666".to_owned());
    }
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Words, `{`, `}` and `;` with their lines.
struct Tokens<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: u32,
}

impl<'t> Tokens<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.chars().peekable(), line: 1 }
    }

    fn take(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        self.line += u32::from(next == '\n');
        Some(next)
    }

    fn word(&mut self, first: char) -> String {
        if first == '"' || first == '\'' {
            let mut word = String::new();
            while let Some(next) = self.take().filter(|next| *next != first) {
                word.push(if next == '\\' { self.take().unwrap_or('\\') } else { next });
            }
            return word;
        }
        let mut word = String::from(first);
        while let Some(next) = self.rest.next_if(|c| !c.is_whitespace() && !matches!(c, ';' | '{' | '}')) {
            word.push(next);
            // ${name} is of the word, braces and all.
            if next == '$' && self.rest.peek() == Some(&'{') {
                word.extend(std::iter::from_fn(|| self.rest.next_if(|c| *c != '}' && *c != '\n')));
                word.extend(self.rest.next_if_eq(&'}'));
            }
        }
        word
    }
}

impl Iterator for Tokens<'_> {
    type Item = (u32, Token);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let first = self.take()?;
            let line = self.line;
            return Some(match first {
                space if space.is_whitespace() => continue,
                '#' => {
                    while self.rest.next_if(|c| *c != '\n').is_some() {}
                    continue;
                }
                '{' => (line, Token::Open),
                '}' => (line, Token::Close),
                ';' => (line, Token::End),
                first => (line, Token::Word(self.word(first))),
            });
        }
    }
}
