//! What the last words of a failed generation say about its unit file.

use crate::model::Settings;
use crate::model::settings::Handoff;

/// How programs say EADDRINUSE: libc, Go, Node.js, Java, Rust; and by its number.
const IN_USE: [&str; 6] =
    ["address already in use", "address in use", "eaddrinuse", "os error 98", "errno 98", "bindexception"];

/// A server that binds for itself an address that supd has bound already fails as it would beside any
/// other: then the unit forgot to say so.
#[must_use]
pub(super) fn forgotten_handoff(settings: &Settings, log: &[String]) -> Option<String> {
    let says = |line: &String| {
        let line = line.to_lowercase();
        IN_USE.iter().any(|word| line.contains(word))
    };
    let ours = settings.sockets.first().filter(|_| settings.service.handoff == Handoff::Inherit)?;
    log.iter().any(says).then(|| {
        let others = if settings.sockets.len() > 1 { ", or another address of its unit," } else { "" };
        format!(
            "it seems to bind {}{others} itself, which supd has bound for it: write Handoff = \"intercept\" under \
             [Service], or have it take LISTEN_FDS",
            ours.address
        )
    })
}

#[cfg(test)]
mod tests {
    use super::forgotten_handoff;
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
            let hint = forgotten_handoff(&unit, &log(line)).unwrap();
            assert!(hint.contains("[::]:8080") && hint.contains("Handoff = \"intercept\""), "{hint}");
        }
        assert_eq!(forgotten_handoff(&unit, &log("no module named web")), None);
        let alone = settings("ExecStart = [\"/bin/x\"]");
        assert_eq!(forgotten_handoff(&alone, &log("address already in use")), None, "no address is ours");
    }
}
