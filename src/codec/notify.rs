//! The datagrams of sd_notify(3): text in, notices out. Total.

use crate::model::Notice;
use crate::model::settings::NotifyAccess;
use crate::model::text::printable;
use std::time::Duration;

/// What one datagram says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// BARRIER=1 with exactly one descriptor, and nothing else in the datagram: the answer is to
    /// close the descriptor once everything before it has been acted on.
    pub barrier: bool,
    /// MAINPID and its kin. A claim, to be checked, then a [`Notice::MainPid`]; it counts before
    /// the notices of the same datagram.
    pub main: Option<MainClaim>,
    /// What it announces, in the order in which it counts whatever the order in the datagram:
    /// who may notify; stopping, or else reloading, then ready; status; errors; time; watchdog;
    /// restarts.
    pub notices: Vec<Notice>,
    /// FDSTORE=1 or FDSTOREREMOVE=1.
    pub store: Option<Store>,
    /// What was ignored, and why: one line each, never more than [`WARNINGS_MAX`].
    pub warnings: Vec<String>,
}

/// Who the sender says is the main process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MainClaim {
    /// MAINPID
    pub pid: Option<i32>,
    /// MAINPIDFDID: the inode of its pidfd.
    pub inode: Option<u64>,
    /// MAINPIDFD=1: the one descriptor is its pidfd.
    pub by_descriptor: bool,
}

/// A request to the descriptor store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Store {
    /// FDSTORE=1: keep the descriptors.
    Keep {
        /// FDNAME; by default `stored`.
        name: String,
        /// FDPOLL=0 was not said: drop them when they poll an error or a hang-up.
        poll: bool,
    },
    /// FDSTOREREMOVE=1: drop those of this name.
    Remove {
        /// FDNAME
        name: String,
    },
}

/// STATUS and error texts are cut to this many bytes.
pub const TEXT_MAX: usize = 1024;
/// No more warnings are kept of one datagram.
pub const WARNINGS_MAX: usize = 8;

/// Reads a datagram that came with this many descriptors.
#[must_use]
pub fn parse(text: &str, descriptors: usize) -> Message {
    let mut reader =
        Reader { lines: text.split('\n').filter(|line| !line.is_empty()).collect(), warnings: Vec::new() };
    if reader.lines.contains(&"BARRIER=1") {
        return reader.barrier(descriptors);
    }
    let mut message =
        Message { main: reader.main(descriptors), notices: reader.notices(), ..Message::default() };
    message.store = reader.store();
    let by_pidfd = message.main.as_ref().is_some_and(|claim| claim.by_descriptor);
    let wanted = by_pidfd || matches!(message.store, Some(Store::Keep { .. }));
    if descriptors > 0 && !wanted {
        reader.warn(format!("{descriptors} descriptors that nobody asked for, closed"));
    }
    message.warnings = reader.warnings;
    message
}

struct Reader<'a> {
    lines: Vec<&'a str>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    fn warn(&mut self, text: String) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(text);
        }
    }

    /// The value of a key; of several the first, as in systemd.
    fn value(&self, key: &str) -> Option<&'a str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }

    /// Whether KEY=1 is there. sd_notify(3) leaves KEY=0 undefined.
    fn flag(&mut self, key: &str) -> bool {
        match self.value(key) {
            Some("1") => true,
            Some(other) => {
                self.warn(format!("{key}={}: only {key}=1 means something, ignored", printable(other, 64)));
                false
            }
            None => false,
        }
    }

    /// A number that has to be there in full; anything else is a warning.
    fn number<T: std::str::FromStr>(&mut self, key: &str, what: &str) -> Option<T> {
        let text = self.value(key)?;
        // Rust reads "+5", which systemd's own clients never write.
        let number = text.parse().ok().filter(|_| !text.starts_with('+'));
        if number.is_none() {
            self.warn(format!("{key}={}: not {what}, ignored", printable(text, 64)));
        }
        number
    }

    fn barrier(mut self, descriptors: usize) -> Message {
        let alone = self.lines.len() == 1;
        if !alone {
            self.warn("BARRIER=1 beside something else: all of it ignored".to_owned());
        } else if descriptors != 1 {
            self.warn(format!("BARRIER=1 with {descriptors} descriptors instead of one, ignored"));
        }
        Message { barrier: alone && descriptors == 1, warnings: self.warnings, ..Message::default() }
    }

    fn main(&mut self, descriptors: usize) -> Option<MainClaim> {
        let pid = self.number::<i32>("MAINPID", "the number of a process").filter(|pid| *pid > 0);
        let inode = self.number::<u64>("MAINPIDFDID", "the inode of a pidfd");
        let by_descriptor = self.flag("MAINPIDFD");
        if by_descriptor && descriptors != 1 {
            self.warn(format!("MAINPIDFD=1 with {descriptors} descriptors instead of one, ignored"));
        }
        let claim = MainClaim { pid, inode, by_descriptor: by_descriptor && descriptors == 1 };
        (claim.pid.is_some() || claim.by_descriptor).then_some(claim)
    }

    fn notices(&mut self) -> Vec<Notice> {
        let mut notices = Vec::new();
        notices.extend(self.notify_access());
        self.state(&mut notices);
        notices.extend(self.value("STATUS").map(|text| Notice::Status(printable(text, TEXT_MAX))));
        let errno = self.number::<i32>("ERRNO", "an errno");
        notices.extend(errno.filter(|errno| (0..=4095).contains(errno)).map(Notice::Errno));
        for key in ["BUSERROR", "VARLINKERROR"] {
            notices.extend(self.value(key).map(|text| Notice::Error(printable(text, TEXT_MAX))));
        }
        notices
            .extend(self.number::<u8>("EXIT_STATUS", "an exit status").map(|n| Notice::ExitStatus(n.into())));
        let mut micros = |key| self.number(key, "a number of microseconds").map(Duration::from_micros);
        notices.extend(micros("EXTEND_TIMEOUT_USEC").map(Notice::ExtendTimeout));
        notices.extend(micros("WATCHDOG_USEC").map(Notice::WatchdogPeriod));
        notices.extend(self.watchdog());
        notices.extend(self.flag("RESTART_RESET").then_some(Notice::RestartReset));
        notices
    }

    fn notify_access(&mut self) -> Option<Notice> {
        let access = match self.value("NOTIFYACCESS")? {
            "none" => NotifyAccess::None,
            "main" => NotifyAccess::Main,
            "exec" => NotifyAccess::Exec,
            "all" => NotifyAccess::All,
            other => {
                let other = printable(other, 64);
                self.warn(format!("NOTIFYACCESS={other}: neither none, main, exec nor all, ignored"));
                return None;
            }
        };
        Some(Notice::NotifyAccess(access))
    }

    /// STOPPING wins over the others. RELOADING beside READY is a reload that has begun and ended:
    /// both are told, in this order, since only RELOADING carries the stamp that shows which
    /// request to reload is answered.
    fn state(&mut self, notices: &mut Vec<Notice>) {
        let [ready, reloading, stopping] = ["READY", "RELOADING", "STOPPING"].map(|key| self.flag(key));
        if stopping {
            notices.push(Notice::Stopping);
            return;
        }
        if reloading {
            let monotonic_usec = self.number("MONOTONIC_USEC", "a number of microseconds");
            notices.push(Notice::Reloading { monotonic_usec });
        }
        if ready {
            notices.push(Notice::Ready);
        }
    }

    fn watchdog(&mut self) -> Option<Notice> {
        match self.value("WATCHDOG")? {
            "1" => Some(Notice::Watchdog),
            "trigger" => Some(Notice::WatchdogTrigger),
            other => {
                let other = printable(other, 64);
                self.warn(format!("WATCHDOG={other}: neither 1 nor trigger, ignored"));
                None
            }
        }
    }

    fn store(&mut self) -> Option<Store> {
        let remove = self.flag("FDSTOREREMOVE");
        let keep = self.flag("FDSTORE") && !remove;
        if !keep && !remove {
            return None;
        }
        let name = self.value("FDNAME").filter(|name| is_descriptor_name(name));
        if name.is_none() && self.value("FDNAME").is_some() {
            self.warn("FDNAME: not 1 to 255 printable ASCII characters without a colon, ignored".to_owned());
        }
        match (name, remove) {
            (Some(name), true) => Some(Store::Remove { name: name.to_owned() }),
            (None, true) => {
                self.warn("FDSTOREREMOVE=1 without a FDNAME, ignored".to_owned());
                None
            }
            (name, false) => {
                let name = name.unwrap_or("stored").to_owned();
                Some(Store::Keep { name, poll: self.value("FDPOLL") != Some("0") })
            }
        }
    }
}

/// sd_pid_notify_with_fds(3): what may stand in LISTEN_FDNAMES.
fn is_descriptor_name(name: &str) -> bool {
    (1..=255).contains(&name.len()) && name.bytes().all(|b| (b' '..0x7f).contains(&b) && b != b':')
}

#[cfg(test)]
mod tests {
    use super::{MainClaim, Message, Store, TEXT_MAX, WARNINGS_MAX, parse};
    use crate::model::Notice;
    use crate::model::settings::NotifyAccess;
    use std::time::Duration;

    /// The notices of a datagram that gives no warning.
    fn notices(text: &str) -> Vec<Notice> {
        let message = parse(text, 0);
        assert_eq!(message.warnings, Vec::<String>::new(), "{text:?}");
        assert_eq!((message.barrier, message.main, message.store), (false, None, None), "{text:?}");
        message.notices
    }

    /// The warnings of a datagram that says nothing else.
    fn warnings(text: &str, descriptors: usize) -> String {
        let Message { warnings, .. } = parse(text, descriptors);
        assert_eq!(parse(text, descriptors), Message { warnings: warnings.clone(), ..Message::default() });
        warnings.join("; ")
    }

    #[test]
    fn every_key_that_stands_alone() {
        let micros = Duration::from_micros;
        for (text, notice) in [
            ("READY=1", Notice::Ready),
            ("READY=1\n", Notice::Ready),
            ("RELOADING=1", Notice::Reloading { monotonic_usec: None }),
            ("RELOADING=1\nMONOTONIC_USEC=12345", Notice::Reloading { monotonic_usec: Some(12345) }),
            ("STOPPING=1", Notice::Stopping),
            ("STATUS=5 of 7 done", Notice::Status("5 of 7 done".to_owned())),
            ("STATUS=", Notice::Status(String::new())),
            ("ERRNO=2", Notice::Errno(2)),
            ("BUSERROR=org.x.Timeout", Notice::Error("org.x.Timeout".to_owned())),
            ("VARLINKERROR=org.x.Gone", Notice::Error("org.x.Gone".to_owned())),
            ("EXIT_STATUS=7", Notice::ExitStatus(7)),
            ("NOTIFYACCESS=none", Notice::NotifyAccess(NotifyAccess::None)),
            ("NOTIFYACCESS=main", Notice::NotifyAccess(NotifyAccess::Main)),
            ("NOTIFYACCESS=exec", Notice::NotifyAccess(NotifyAccess::Exec)),
            ("NOTIFYACCESS=all", Notice::NotifyAccess(NotifyAccess::All)),
            ("WATCHDOG=1", Notice::Watchdog),
            ("WATCHDOG=trigger", Notice::WatchdogTrigger),
            ("WATCHDOG_USEC=20000000", Notice::WatchdogPeriod(micros(20_000_000))),
            ("WATCHDOG_USEC=18446744073709551615", Notice::WatchdogPeriod(micros(u64::MAX))),
            ("EXTEND_TIMEOUT_USEC=500", Notice::ExtendTimeout(micros(500))),
            ("RESTART_RESET=1", Notice::RestartReset),
        ] {
            assert_eq!(notices(text), [notice], "{text:?}");
        }
    }

    #[test]
    fn what_is_not_ours_is_ignored_in_silence() {
        for text in ["", "\n\n", "X_SUPD_SHARE=5", "NEWKEY=1", "ready=1", "READY", "=1", "MONOTONIC_USEC=x"] {
            assert_eq!(notices(text), [], "{text:?}");
        }
    }

    #[test]
    fn stopping_wins_over_ready_and_ready_over_reloading() {
        assert_eq!(notices("READY=1\nRELOADING=1\nSTOPPING=1"), [Notice::Stopping]);
        let reloaded = [Notice::Reloading { monotonic_usec: Some(9) }, Notice::Ready];
        assert_eq!(notices("READY=1\nMONOTONIC_USEC=9\nRELOADING=1"), reloaded);
    }

    #[test]
    fn the_order_is_ours_and_of_two_values_the_first_counts() {
        let text = "WATCHDOG=1\nWATCHDOG_USEC=5\nSTATUS=a\nSTATUS=b\nREADY=1\nNOTIFYACCESS=all";
        let wanted = [
            Notice::NotifyAccess(NotifyAccess::All),
            Notice::Ready,
            Notice::Status("a".to_owned()),
            Notice::WatchdogPeriod(Duration::from_micros(5)),
            Notice::Watchdog,
        ];
        assert_eq!(notices(text), wanted);
    }

    #[test]
    fn bad_values_cost_a_warning() {
        for (text, part) in [
            ("READY=0", "only READY=1 means something"),
            ("STOPPING=yes", "only STOPPING=1"),
            ("ERRNO=ENOENT", "not an errno"),
            ("EXIT_STATUS=256", "not an exit status"),
            ("MAINPID=x", "not the number of a process"),
            ("MAINPID=99999999999", "not the number"),
            ("WATCHDOG_USEC=-1", "not a number of microseconds"),
            ("WATCHDOG_USEC=+1", "not a number of microseconds"),
            ("EXTEND_TIMEOUT_USEC=1s", "not a number"),
            ("WATCHDOG=2", "neither 1 nor trigger"),
            ("NOTIFYACCESS=root", "neither none, main, exec nor all"),
            ("WATCHDOG=\u{1b}[2Jx", "WATCHDOG=x:"),
            ("FDSTOREREMOVE=1", "without a FDNAME"),
        ] {
            let said = warnings(text, 0);
            assert!(said.contains(part), "{text:?}: {said}");
        }
        // A bad stamp does not take the reload with it.
        let message = parse("RELOADING=1\nMONOTONIC_USEC=x", 0);
        assert_eq!(message.notices, [Notice::Reloading { monotonic_usec: None }]);
        assert_eq!(message.warnings.len(), 1);
        assert_eq!(parse("ERRNO=5000", 0).notices, []);
    }

    #[test]
    fn a_status_is_one_bounded_printable_line() {
        let long = format!("STATUS={}", "ä".repeat(2000));
        let [Notice::Status(text)] = &notices(&long)[..] else { panic!("no status") };
        assert_eq!(text.len(), TEXT_MAX);
        assert_eq!(notices("STATUS=\u{1b}[31mred\rX"), [Notice::Status("red?X".to_owned())]);
    }

    #[test]
    fn who_is_main() {
        let main = |text, descriptors| parse(text, descriptors).main;
        let pid = |pid| MainClaim { pid: Some(pid), ..MainClaim::default() };
        assert_eq!(main("MAINPID=42", 0), Some(pid(42)));
        assert_eq!(main("MAINPID=42\nMAINPIDFDID=7", 0), Some(MainClaim { inode: Some(7), ..pid(42) }));
        assert_eq!(main("MAINPIDFD=1", 1), Some(MainClaim { by_descriptor: true, ..MainClaim::default() }));
        assert_eq!(main("MAINPIDFD=1", 2), None);
        assert_eq!(main("MAINPID=0", 0), None);
        assert_eq!(main("MAINPID=-1", 0), None);
        assert_eq!(main("MAINPIDFDID=7", 0), None);
        assert_eq!(parse("MAINPIDFD=1", 1).warnings, Vec::<String>::new());
    }

    #[test]
    fn a_barrier_stands_alone_with_one_descriptor() {
        assert_eq!(parse("BARRIER=1", 1), Message { barrier: true, ..Message::default() });
        assert_eq!(parse("BARRIER=1\n", 1), Message { barrier: true, ..Message::default() });
        assert!(warnings("BARRIER=1", 0).contains("0 descriptors instead of one"));
        assert!(warnings("BARRIER=1", 2).contains("2 descriptors instead of one"));
        assert!(warnings("READY=1\nBARRIER=1", 1).contains("beside something else"));
    }

    #[test]
    fn the_store() {
        let store = |text: &str| parse(text, 1).store;
        let keep = |name: &str, poll| Some(Store::Keep { name: name.to_owned(), poll });
        assert_eq!(store("FDSTORE=1"), keep("stored", true));
        assert_eq!(store("FDSTORE=1\nFDNAME=a b\nFDPOLL=0"), keep("a b", false));
        assert_eq!(store("FDSTORE=1\nFDNAME=a:b"), keep("stored", true));
        assert_eq!(store(&format!("FDSTORE=1\nFDNAME={}", "x".repeat(256))), keep("stored", true));
        assert_eq!(store("FDSTOREREMOVE=1\nFDNAME=a"), Some(Store::Remove { name: "a".to_owned() }));
        assert_eq!(
            store("FDSTOREREMOVE=1\nFDSTORE=1\nFDNAME=a"),
            Some(Store::Remove { name: "a".to_owned() })
        );
    }

    #[test]
    fn descriptors_that_nobody_asked_for() {
        let message = parse("READY=1", 200);
        assert_eq!(message.notices, [Notice::Ready]);
        assert_eq!(message.warnings, ["200 descriptors that nobody asked for, closed"]);
    }

    #[test]
    fn warnings_are_few_whatever_is_sent() {
        let text = "READY=0\nRELOADING=0\nSTOPPING=0\nERRNO=x\nMAINPID=x\nMAINPIDFDID=x\nMAINPIDFD=0\n\
                    EXIT_STATUS=x\nWATCHDOG=x\nWATCHDOG_USEC=x\nNOTIFYACCESS=x\nRESTART_RESET=0";
        assert_eq!(parse(text, 5).warnings.len(), WARNINGS_MAX);
    }

    /// Every text of up to four of these pieces: nothing panics, nothing grows.
    #[test]
    fn total() {
        let pieces =
            ["READY=1", "\n", "=", "BARRIER=1", "MAINPID=", "9", "\u{1b}", "ä", "FDSTORE=1", "STATUS="];
        let mut texts = vec![String::new()];
        for _ in 0..4 {
            texts =
                texts.iter().flat_map(|t| pieces.iter().map(move |piece| format!("{t}{piece}"))).collect();
            for text in &texts {
                let message = parse(text, text.len() % 3);
                assert!(message.notices.len() < 15 && message.warnings.len() <= WARNINGS_MAX);
            }
        }
    }
}
