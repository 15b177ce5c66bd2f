//! What an ordinary user's supd may not do, whatever the unit says: only the kernel's rules decide
//! here, and a launch or a bind that breaks one fails.

use crate::codec::unitfile::Loaded;
use crate::model::Address;
use crate::model::settings::Service;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Group, User, getegid, geteuid, getgroups};
use std::fs;

/// A key that asks for too much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Beyond {
    /// As origins name it.
    pub(super) table: String,
    pub(super) key: &'static str,
    pub(super) what: String,
    pub(super) remedy: &'static str,
}

/// How far this process may go.
#[derive(Debug, Clone, Copy)]
struct Reach {
    /// The lowest nice level.
    nice: i32,
    oom_score_adjust: i32,
    /// The first port that anybody may bind.
    port: u16,
}

impl Reach {
    fn of_process() -> Self {
        let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
        // getrlimit(2): the ceiling is 20 - rlim_cur.
        let (soft, _) = getrlimit(Resource::RLIMIT_NICE).unwrap_or_default();
        let nice = 20 - i32::try_from(soft.min(40)).unwrap_or(40);
        let now = number("/proc/self/oom_score_adj").unwrap_or(0);
        let port = number("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or(1024);
        Self { nice: nice.min(0), oom_score_adjust: now, port: u16::try_from(port).unwrap_or(u16::MAX) }
    }
}

/// Everything that an ordinary user's supd is refused.
pub(super) fn beyond(loaded: &Loaded) -> Vec<Beyond> {
    beyond_reach(loaded, Reach::of_process())
}

fn beyond_reach(loaded: &Loaded, reach: Reach) -> Vec<Beyond> {
    const ROOT: &str = "run supd as root, or take it out";
    let service = &loaded.settings.service;
    let mut found = Vec::new();
    let mut tell = |table: &str, key, what: String, remedy| {
        found.push(Beyond { table: table.to_owned(), key, what, remedy });
    };
    if service.nice.is_some_and(|nice| nice < reach.nice) {
        tell("Service", "Nice", format!("only root goes below {}", reach.nice), ROOT);
    }
    if service.oom_score_adjust.is_some_and(|score| score < reach.oom_score_adjust) {
        let what = format!("only root goes below what supd has, {}", reach.oom_score_adjust);
        tell("Service", "OOMScoreAdjust", what, ROOT);
    }
    if !service.ambient_capabilities.is_empty() {
        let what = "an ordinary user has no capabilities to give away".to_owned();
        tell("Service", "AmbientCapabilities", what, ROOT);
    }
    for (key, what) in others(service) {
        tell("Service", key, what, "run supd as root or as that user, or take it out");
    }
    for socket in &loaded.settings.sockets {
        if let Address::Ip { port, .. } = &socket.address {
            if *port < reach.port {
                let key = if socket.address.kind() == Some(crate::model::SocketKind::Datagram) {
                    "ListenDatagram"
                } else {
                    "ListenStream"
                };
                let what = format!("only root binds a port below {}", reach.port);
                let remedy = "run supd as root, take a higher port, or lower \
                              net.ipv4.ip_unprivileged_port_start";
                tell(&format!("Socket.{}", socket.name), key, what, remedy);
            }
        }
    }
    found
}

/// Accounts that are not one's own. One that is unknown is told elsewhere.
fn others(service: &Service) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let number = |name: &str| name.parse::<u32>().ok();
    let uid = |name: &str| number(name).or_else(|| Some(User::from_name(name).ok()??.uid.as_raw()));
    let gid = |name: &str| number(name).or_else(|| Some(Group::from_name(name).ok()??.gid.as_raw()));
    let own_groups: Vec<u32> =
        getgroups().unwrap_or_default().into_iter().chain([getegid()]).map(|gid| gid.as_raw()).collect();
    if service.user.as_deref().and_then(uid).is_some_and(|uid| uid != geteuid().as_raw()) {
        found.push(("User", "only root becomes another user".to_owned()));
    }
    // setresgid(2): only what the process has already.
    if service.group.as_deref().and_then(gid).is_some_and(|gid| gid != getegid().as_raw()) {
        found.push(("Group", "only root changes its group".to_owned()));
    }
    let missing = service.supplementary_groups.iter().filter_map(|name| gid(name));
    if missing.into_iter().any(|gid| !own_groups.contains(&gid)) {
        found.push(("SupplementaryGroups", "only root joins groups".to_owned()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Reach, beyond_reach};
    use crate::codec::unitfile::{Runner, Source, Sources, parse_for};
    use crate::model::UnitName;

    fn told(port: u16, service: &str) -> Vec<&'static str> {
        let text = format!(
            "[[Socket]]\nListenStream = \"127.0.0.1:{port}\"\n[Service]\nExecStart = \"/bin/true\"\n{service}\n"
        );
        let sources = Sources {
            unit: UnitName::new("web").unwrap(),
            defaults: None,
            main: Source::new("web.unit", text),
            drop_ins: Vec::new(),
        };
        let loaded = parse_for(&sources, Runner::Ordinary).unwrap();
        let reach = Reach { nice: 0, oom_score_adjust: 100, port: 1024 };
        beyond_reach(&loaded, reach).into_iter().map(|beyond| beyond.key).collect()
    }

    #[test]
    fn what_only_root_may_is_told() {
        let own = nix::unistd::geteuid();
        let group = nix::unistd::getegid();
        assert_eq!(
            told(8080, &format!("User = {own}\nGroup = {group}\nNice = 5\nOOMScoreAdjust = 100")),
            [""; 0]
        );
        let all = format!(
            "Nice = -5\nOOMScoreAdjust = 99\nAmbientCapabilities = [\"CAP_NET_ADMIN\"]\nUser = {}\nGroup = {}\n\
             SupplementaryGroups = [4000000000]",
            own.as_raw() + 1,
            group.as_raw() + 1
        );
        let expected = [
            "Nice",
            "OOMScoreAdjust",
            "AmbientCapabilities",
            "User",
            "Group",
            "SupplementaryGroups",
            "ListenStream",
        ];
        assert_eq!(told(1023, &all), expected);
    }
}
