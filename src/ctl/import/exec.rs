//! Command lines: from systemd's to supd's, and from a daemon's to a worker's.

use super::programs::{Edit, Program, WRAPPERS, file_name, find};
use crate::codec::systemd::command::Command;
use crate::model::settings;

/// Where in the words of a command the server itself stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inner {
    pub(super) known: Option<&'static Program>,
    /// Index of its program among all words.
    pub(super) at: usize,
    /// Whether a wrapper stands between that has the process ID.
    pub(super) wrapped: bool,
}

/// Finds the server behind wrappers such as `bundle exec` and `python3 -m`.
pub(super) fn inner(words: &[String]) -> Inner {
    let (mut at, mut wrapped) = (0, false);
    while let Some(word) = words.get(at) {
        if let Some(known) = find(word) {
            return Inner { known: Some(known), at, wrapped };
        }
        let name = file_name(word);
        let Some((_, own, same)) = WRAPPERS.iter().find(|(wrapper, _, _)| is_version(name, wrapper)) else {
            break;
        };
        let rest = &words[at + 1..];
        let skip = rest.iter().take_while(|word| own.contains(&word.as_str()) || is_assignment(word)).count();
        if rest.len() == skip {
            wrapped |= !same;
            break;
        }
        at += 1 + skip;
        wrapped |= !same;
    }
    Inner { known: None, at: at.min(words.len().saturating_sub(1)), wrapped }
}

/// python3.11 is python3.
fn is_version(name: &str, program: &str) -> bool {
    let rest = name.strip_prefix(program);
    rest.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
}

/// NAME=value before the program of env(1).
fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| crate::codec::environment::is_variable_name(name))
}

/// Keeps a server in the foreground. `first` is the index of its first argument.
pub(super) fn stay(words: &mut Vec<String>, first: usize, edits: &[Edit]) {
    for edit in edits {
        let own = &words[first.min(words.len())..];
        match edit {
            Edit::Drop(word) => {
                if let Some(at) = own.iter().position(|own| own == word) {
                    words.remove(first + at);
                }
            }
            Edit::Add(added, others) => {
                let is_there =
                    |word: &String| added.first() == Some(&word.as_str()) || others.contains(&word.as_str());
                if !own.iter().any(is_there) {
                    words.extend(added.iter().map(|word| (*word).to_owned()));
                }
            }
            Edit::Set(option, value) => match own.iter().position(|own| own == option) {
                Some(at) if first + at + 1 < words.len() => words[first + at + 1] = (*value).to_owned(),
                _ => words.extend([*option, *value].map(str::to_owned)),
            },
            Edit::Directive(option, name, value) => directive(words, first, (option, name, value), true),
        }
    }
}

/// The same for another command of the same server, such as its check of the configuration: what
/// is not there is not added.
pub(super) fn stay_alike(words: &mut [String], first: usize, edits: &[Edit]) {
    let mut own = words.to_vec();
    for edit in edits {
        if let Edit::Directive(option, name, value) = edit {
            directive(&mut own, first, (option, name, value), false);
        }
    }
    words.clone_from_slice(&own);
}

fn directive(words: &mut Vec<String>, first: usize, (option, name, value): (&str, &str, &str), add: bool) {
    let at = words.iter().skip(first).position(|word| word == option).map(|at| first + at + 1);
    let Some(text) = at.and_then(|at| words.get_mut(at)) else {
        if add {
            words.extend([option.to_owned(), format!("{name} {value};")]);
        }
        return;
    };
    let others = text.split(';').map(str::trim).filter(|one| !one.is_empty());
    let others = others.filter(|one| one.split_whitespace().next() != Some(name));
    let mut all = vec![format!("{name} {value};")];
    all.extend(others.map(|one| format!("{one};")));
    *text = all.join(" ");
}

/// The signal that a command sends to the main process: `kill -HUP $MAINPID`, or a
/// start-stop-daemon that stops. `None`: it does something else.
pub(super) fn signal_of(command: &Command) -> Option<String> {
    let arguments: Vec<&str> = command.arguments.iter().map(String::as_str).collect();
    let after = |names: &[&str]| {
        let at = arguments.iter().position(|word| names.contains(word))?;
        arguments.get(at + 1).copied()
    };
    let name = match file_name(&command.program) {
        "kill" if arguments.iter().any(|word| is_main(word)) => {
            let glued = arguments.iter().find_map(|word| word.strip_prefix('-').filter(|name| *name != "s"));
            after(&["-s", "--signal", "-n"]).or(glued).unwrap_or("TERM")
        }
        "start-stop-daemon" if arguments.iter().any(|word| matches!(*word, "--stop" | "-K")) => {
            let retry = after(&["--retry", "-R"]).and_then(|schedule| schedule.split('/').next());
            let retry = retry.filter(|first| first.parse::<u32>().is_err());
            after(&["--signal", "-s"]).or(retry).unwrap_or("TERM").trim_start_matches('-')
        }
        _ => return None,
    };
    crate::model::Signal::parse(&name.to_ascii_uppercase()).map(|signal| signal.to_string())
}

fn is_main(word: &str) -> bool {
    matches!(word, "$MAINPID" | "${MAINPID}")
}

/// Whether a command goes by the process ID that only systemd knows.
pub(super) fn needs_main(command: &Command) -> bool {
    command.arguments.iter().any(|word| word.contains("$MAINPID") || word.contains("${MAINPID}"))
}

/// A command of supd.
pub(super) fn to_supd(command: &Command, ignore_failure: bool) -> settings::Command {
    let dollars = |word: &String| if command.literal { word.replace('$', "$$") } else { word.clone() };
    settings::Command {
        ignore_failure,
        program: command.program.clone(),
        arguments: command.arguments.iter().map(dollars).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::systemd::command::commands;

    fn words(line: &str) -> Vec<String> {
        crate::codec::words::split_relaxed(line)
    }

    #[test]
    fn daemons_become_workers() {
        for (before, after) in [
            ("nginx -g 'daemon on; master_process on;'", "nginx -g 'daemon off; master_process on;'"),
            ("nginx", "nginx -g 'daemon off;'"),
            ("nginx -c x -g 'user a'", "nginx -c x -g 'daemon off; user a;'"),
            (
                "redis-server /x.conf --daemonize yes",
                "redis-server /x.conf --daemonize no --supervised systemd",
            ),
            ("lighttpd -f x", "lighttpd -f x -D"),
            ("lighttpd -D -f x", "lighttpd -D -f x"),
            ("haproxy -D -f x", "haproxy -f x -Ws"),
            ("php-fpm8.2 -D -y x", "php-fpm8.2 -y x --nodaemonize"),
            ("apachectl start", "apachectl -D FOREGROUND"),
            ("bundle exec puma -d -C x", "bundle exec puma -C x"),
            ("python3 -m gunicorn --daemon app", "python3 -m gunicorn app"),
        ] {
            let mut found = words(before);
            let inner = inner(&found);
            stay(&mut found, inner.at + 1, inner.known.unwrap().foreground);
            assert_eq!(found, words(after), "{before}");
        }
        let mut check = words("nginx -t -g 'daemon on;'");
        stay_alike(&mut check, 1, find("nginx").unwrap().foreground);
        assert_eq!(check, words("nginx -t -g 'daemon off;'"));
    }

    #[test]
    fn servers_are_found_behind_wrappers() {
        for (line, at, wrapped) in [
            ("/srv/venv/bin/python3.11 /srv/venv/bin/gunicorn app", 1, false),
            ("env A=1 B=2 /usr/bin/puma", 3, false),
            ("bundle exec puma", 2, true),
        ] {
            let found = inner(&words(line));
            assert!(found.known.is_some() && (found.at, found.wrapped) == (at, wrapped), "{line}: {found:?}");
        }
        assert!(inner(&words("npm start")).wrapped);
        assert!(inner(&words("python3 app.py")).known.is_none());
        assert!(inner(&[]).known.is_none());
    }

    #[test]
    fn signals_are_found_in_commands() {
        for (line, signal) in [
            ("/bin/kill -HUP $MAINPID", Some("SIGHUP")),
            ("kill -s USR2 ${MAINPID}", Some("SIGUSR2")),
            ("kill -SIGQUIT $MAINPID", Some("SIGQUIT")),
            ("kill $MAINPID", Some("SIGTERM")),
            ("kill -HUP 1", None),
            (
                "/sbin/start-stop-daemon --quiet --stop --retry QUIT/5 --pidfile /run/nginx.pid",
                Some("SIGQUIT"),
            ),
            ("start-stop-daemon --stop --retry 5 --pidfile x", Some("SIGTERM")),
            ("/usr/bin/reload", None),
        ] {
            let command = &commands(line).unwrap()[0];
            assert_eq!(signal_of(command).as_deref(), signal, "{line}");
        }
    }
}
