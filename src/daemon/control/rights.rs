//! Who may call what: a pure function of the kernel's word about the peer.

use crate::codec::varlink::{self, Method, Scope};
use crate::os::groups::gid_of;
use crate::os::peer::Peer;
use nix::unistd::{getegid, geteuid};

/// The group whose members may do everything.
const GROUP: &str = "supd";

/// Whom supd obeys besides root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Masters {
    /// The user that supd runs as.
    pub uid: u32,
    /// The group `supd`, where there is one.
    pub gid: Option<u32>,
}

impl Masters {
    /// Those of this process. The group counts for the supd of the machine, that is root's or
    /// one that runs as this group itself: somebody's private supd does not obey it.
    #[must_use]
    pub fn of_process() -> Self {
        let uid = geteuid().as_raw();
        let gid = gid_of(GROUP).filter(|gid| uid == 0 || *gid == getegid().as_raw());
        Self { uid, gid }
    }

    /// Whether this user is never locked out.
    #[must_use]
    pub fn is_privileged(&self, uid: u32) -> bool {
        uid == 0 || uid == self.uid
    }
}

/// Whether `peer` may call a method of this scope on a unit with this ControlGroup.
#[must_use]
pub fn may(peer: &Peer, scope: Scope, masters: &Masters, control_group: Option<u32>) -> bool {
    let master = masters.is_privileged(peer.uid) || masters.gid.is_some_and(|gid| peer.is_in(gid));
    match scope {
        Scope::Read => true,
        Scope::Manager => master,
        Scope::Unit => master || control_group.is_some_and(|gid| peer.is_in(gid)),
    }
}

/// The answer to one who may not: says who may.
#[must_use]
pub fn refusal(method: &Method, masters: &Masters, control_group: Option<&str>) -> varlink::Error {
    let mut who = vec!["root".to_owned()];
    if masters.uid != 0 {
        who.push(format!("the user that supd runs as (uid {})", masters.uid));
    }
    who.extend(masters.gid.map(|_| format!("members of the group {GROUP}")));
    if method.scope() == Scope::Unit {
        who.extend(control_group.map(|name| match gid_of(name) {
            Some(_) => format!("members of its ControlGroup {name}"),
            None => format!("members of its ControlGroup {name} (which /etc/group does not have)"),
        }));
    }
    let who = match who.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::new(),
    };
    let what = method.unit().map_or_else(|| "this is for".to_owned(), |unit| format!("{unit}: this is for"));
    varlink::Error::not_allowed(format!("{what} {who}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnitName;

    const SUPD_UID: u32 = 500;
    const SUPD_GID: u32 = 501;
    const DEPLOY: u32 = 600;

    fn peer(uid: u32, gid: u32, groups: &[u32]) -> Peer {
        Peer { pid: 1, uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn the_table_of_who_may_what() {
        let masters = Masters { uid: SUPD_UID, gid: Some(SUPD_GID) };
        let (all, unit, read) = ([true, true, true], [true, true, false], [true, false, false]);
        // Who, and whether they may: Read, Unit, Manager.
        let table = [
            ("root", peer(0, 0, &[]), all),
            ("supd's own user", peer(SUPD_UID, 7, &[]), all),
            ("supd's group, as the own one", peer(1000, SUPD_GID, &[]), all),
            ("supd's group, supplementary", peer(1000, 1000, &[4, SUPD_GID]), all),
            ("ControlGroup, as the own one", peer(1000, DEPLOY, &[]), unit),
            ("ControlGroup, supplementary", peer(1000, 1000, &[DEPLOY]), unit),
            ("another group", peer(1000, 1000, &[DEPLOY + 1]), read),
            ("a uid that is the group's number", peer(DEPLOY, 1000, &[]), read),
            ("a gid that is supd's uid", peer(1000, SUPD_UID, &[]), read),
            ("a group of root's that is not root", peer(1000, 0, &[0]), read),
            ("nobody", peer(65_534, 65_534, &[]), read),
        ];
        for (who, peer, expected) in table {
            let scopes = [Scope::Read, Scope::Unit, Scope::Manager];
            assert_eq!(scopes.map(|scope| may(&peer, scope, &masters, Some(DEPLOY))), expected, "{who}");
        }
        let alone = Masters { uid: 0, gid: None };
        let member = peer(1000, 1000, &[SUPD_GID, DEPLOY]);
        assert!(!may(&member, Scope::Unit, &alone, None), "a unit without a ControlGroup");
        assert!(!may(&member, Scope::Manager, &alone, Some(DEPLOY)));
    }

    #[test]
    fn a_refusal_says_who_may() {
        let unit = UnitName::new("web").unwrap();
        let told =
            |method: &Method, masters: &Masters, group: Option<&str>| match refusal(method, masters, group) {
                varlink::Error::NotAllowed(carried) => carried.reason,
                other => panic!("{other:?}"),
            };
        let root = Masters { uid: 0, gid: None };
        assert_eq!(told(&Method::Shutdown, &root, None), "this is for root");
        let all = Masters { uid: 500, gid: Some(501) };
        assert_eq!(
            told(&Method::Abort { unit: unit.clone() }, &all, Some("root")),
            "web: this is for root, the user that supd runs as (uid 500), members of the group supd and \
             members of its ControlGroup root"
        );
        assert!(told(&Method::Abort { unit }, &root, Some("no-such")).contains("/etc/group does not have"));
    }
}
