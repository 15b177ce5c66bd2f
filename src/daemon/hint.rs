//! What the last words of a failed generation say about its unit file.

use crate::model::Settings;
use crate::model::settings::{Handoff, Ready};
use crate::model::text::says_in_use;

/// No more listeners are named.
const NAMED_MAX: usize = 8;

/// What the hands saw of a failed generation that binds for itself.
#[derive(Debug, Default)]
pub(super) struct Seen<'a> {
    /// Nothing of it had ended before it was ended: it was not ready in time.
    pub ended_by_supd: bool,
    /// On these of its unit's sockets nobody listened.
    pub missing: Vec<usize>,
    /// What it bound that is not its unit's.
    pub strangers: Vec<&'a str>,
    /// It made a system call that SystemCallFilter forbids.
    pub forbidden: bool,
}

/// What is to be mended, if that can be told.
#[must_use]
pub(super) fn hint(settings: &Settings, log: &[String], seen: &Seen<'_>) -> Option<String> {
    let in_use = log.iter().any(|line| says_in_use(line));
    if seen.forbidden && !settings.service.system_call_filter.is_empty() {
        return Some(
            "most likely it made a system call that SystemCallFilter forbids: the kernel's log has its number where \
             audit is on (journalctl -k, syscall=), and 'strace -f' on the program its name; without @basic-io and \
             @file-system a program that cannot be executed ends like this, too"
                .to_owned(),
        );
    }
    match settings.service.handoff {
        Handoff::Inherit => in_use.then(|| forgotten_handoff(settings)).flatten(),
        Handoff::Intercept => {
            nobody_listened(settings, seen).or_else(|| in_use.then(|| taken(settings, seen)))
        }
    }
}

/// A server that binds for itself an address that supd has bound already fails as it would beside any
/// other: then the unit forgot to say so.
fn forgotten_handoff(settings: &Settings) -> Option<String> {
    let ours = settings.sockets.first()?;
    let others = if settings.sockets.len() > 1 { ", or another address of its unit," } else { "" };
    Some(format!(
        "it seems to bind {}{others} itself, which supd has bound for it: write Handoff = \"intercept\" under \
         [Service], or have it take LISTEN_FDS",
        ours.address
    ))
}

/// It is told what it lacks: a bind of all addresses stands for one of two listeners only.
fn nobody_listened(settings: &Settings, seen: &Seen<'_>) -> Option<String> {
    let asked = seen.ended_by_supd && settings.service.ready == Ready::Listen;
    let missing = seen.missing.iter().filter_map(|at| settings.sockets.get(*at)).filter(|_| asked);
    let named = missing.map(|socket| format!("{} ({})", socket.address, socket.name));
    let named: Vec<String> = named.take(NAMED_MAX).collect();
    let some = seen.missing.len() < settings.sockets.len();
    // HAProxy's way: a slot listens before its worker has it.
    let why = if some {
        ": each [[Socket]] needs a bind(2) of its own"
    } else {
        ": if it answers all the same, it saw that its socket listens already, and left listen(2) out; write Ready = \
         \"tcp\" then"
    };
    (!named.is_empty()).then(|| format!("nobody listened on {}{why}", named.join(", ")))
}

/// It binds what another has, and that is none of the unit's.
fn taken(settings: &Settings, seen: &Seen<'_>) -> String {
    let bind_as = settings.sockets.iter().find_map(|socket| socket.bind_as.as_ref());
    match (&*seen.strangers, bind_as) {
        ([], Some(path)) => format!(
            "somebody else has what it binds: at {} another socket is in use, or a file that its user may not \
             remove; or it is an address that is no [[Socket]] of its unit",
            path.display()
        ),
        ([], None) => {
            "somebody has what it binds beside the addresses of its unit, most often the generation \
                       before: write a [[Socket]] for it"
                .to_owned()
        }
        (named, _) => format!(
            "somebody has what it binds beside the addresses of its unit ({}), most often the generation before: \
             write a [[Socket]] for it",
            named.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, hint};
    use crate::daemon::testbed::recipe;

    #[test]
    fn who_finds_its_address_taken_is_told_why() {
        let settings = |text: &str| recipe(1, text).settings.clone();
        let log = |line: &str| vec!["starting".to_owned(), line.to_owned()];
        let unit = settings("ExecStart = [\"/bin/x\"]\n[[Socket]]\nListenStream = 8080");
        for line in [
            "OSError: [Errno 98] Address already in use",
            "listen tcp :8080: bind: address already in use",
            "Error: listen EADDRINUSE: address already in use :::8080",
            "java.net.BindException: Address already in use",
            "Os { code: 98, kind: AddrInUse, message: \"Address in use\" }",
        ] {
            let hint = hint(&unit, &log(line), &Seen::default()).unwrap();
            assert!(hint.contains("[::]:8080") && hint.contains("Handoff = \"intercept\""), "{hint}");
        }
        assert_eq!(hint(&unit, &log("no module named web"), &Seen::default()), None);
        let alone = settings("ExecStart = [\"/bin/x\"]");
        let none = hint(&alone, &log("address already in use"), &Seen::default());
        assert_eq!(none, None, "no address is ours");
    }

    #[test]
    fn who_binds_for_itself_is_told_what_it_lacks_and_what_is_in_its_way() {
        let unit = "ExecStart = [\"/bin/x\"]\nHandoff = \"intercept\"\n[[Socket]]\nName = \"a\"\nListenStream = \
                    8080\n[[Socket]]\nName = \"b\"\nListenStream = 8081";
        let unit = recipe(1, unit).settings.clone();
        let seen = |ended_by_supd, missing: &[usize]| Seen {
            forbidden: false,
            ended_by_supd,
            missing: missing.to_vec(),
            strangers: Vec::new(),
        };
        assert_eq!(
            hint(&unit, &[], &seen(true, &[1])).unwrap(),
            "nobody listened on [::]:8081 (b): each [[Socket]] needs a bind(2) of its own"
        );
        assert_eq!(
            hint(&unit, &[], &seen(true, &[0, 1])).unwrap(),
            "nobody listened on [::]:8080 (a), [::]:8081 (b): if it answers all the same, it saw that its socket \
             listens already, and left listen(2) out; write Ready = \"tcp\" then"
        );
        assert_eq!(hint(&unit, &[], &seen(false, &[1])), None, "it ended before");
        let log = ["bind: Address already in use".to_owned()];
        let seen = Seen { strangers: vec!["127.0.0.1:9090"], ..Seen::default() };
        assert!(hint(&unit, &log, &seen).unwrap().contains("of its unit (127.0.0.1:9090), most often"));
    }

    #[test]
    fn who_was_forbidden_a_system_call_is_told_where_to_look() {
        let filtered = "ExecStart = [\"/bin/x\"]\nSystemCallFilter = [\"@system-service\"]";
        let seen = Seen { forbidden: true, ..Seen::default() };
        let hint = |text: &str| hint(&recipe(1, text).settings, &[], &seen);
        assert!(hint(filtered).unwrap().contains("SystemCallFilter"));
        assert_eq!(hint("ExecStart = [\"/bin/x\"]"), None, "it has a filter of its own");
    }
}
