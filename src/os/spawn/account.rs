//! Who a worker runs as: looked up in the child, where a slow or broken name service (LDAP, SSSD)
//! delays one launch and not supd.

use super::environment::Variable;
use super::failure::{SpawnFailure, Step};
use nix::errno::Errno;
use nix::unistd::{
    Gid, Group, Uid, User, getegid, geteuid, getgrouplist, getgroups, getuid, setgroups, setresgid, setresuid,
};
use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::path::Path;

/// User, Group and SupplementaryGroups, by name or number, as the unit file has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// User; `None`: as whom supd runs.
    pub user: Option<String>,
    /// Group; `None`: the user's own.
    pub group: Option<String>,
    /// SupplementaryGroups: besides those of which the user is a member.
    pub supplementary_groups: Vec<String>,
}

/// The same in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) uid: Uid,
    pub(super) gid: Gid,
    /// The supplementary groups, all of them.
    pub(super) groups: Vec<Gid>,
    /// HOME, LOGNAME, USER and SHELL.
    pub(super) login: Vec<Variable>,
}

impl Account {
    /// The numbers of the user and of the group as whom it runs. Asks the name services, which may
    /// take their time: for a child.
    ///
    /// # Errors
    /// There is no such user or group, or nobody to ask.
    pub fn ids(&self) -> Result<(u32, u32), SpawnFailure> {
        let identity = self.resolve()?;
        Ok((identity.uid.as_raw(), identity.gid.as_raw()))
    }

    /// Asks the name services.
    pub(super) fn resolve(&self) -> Result<Identity, SpawnFailure> {
        let (uid, entry) = match &self.user {
            Some(user) => find_user(user)?,
            // A person's own supd: HOME and the like are those of the person. Its workers have
            // no others, and what supd inherited does not count.
            None if !geteuid().is_root() => (geteuid(), User::from_uid(geteuid()).ok().flatten()),
            None => (geteuid(), None),
        };
        let ourselves = uid == geteuid() && (self.user.is_none() || !uid.is_root());
        let gid = match (&self.group, &entry) {
            (Some(group), _) => find_group(group)?,
            (None, _) if ourselves => getegid(),
            (None, Some(entry)) => entry.gid,
            (None, None) => {
                let text = "no user has this number: set Group too";
                return Err(SpawnFailure::reason(Step::User, uid, text));
            }
        };
        let login = login(self.user.as_deref(), entry.as_ref());
        Ok(Identity { uid, gid, groups: self.groups(uid, gid, entry.as_ref())?, login })
    }

    /// Those that the user is a member of, and the unit file's. None of supd's own, unless supd is
    /// an ordinary user's and could not change them.
    fn groups(&self, uid: Uid, gid: Gid, entry: Option<&User>) -> Result<Vec<Gid>, SpawnFailure> {
        let mut groups = HashSet::new();
        match (entry, &self.user) {
            _ if uid == geteuid() && !uid.is_root() => groups.extend(getgroups().unwrap_or_default()),
            (Some(entry), Some(_)) => {
                let failed = |errno| SpawnFailure::errno(Step::User, &entry.name, errno);
                let name = CString::new(entry.name.as_str()).map_err(|_| failed(Errno::EINVAL))?;
                groups.extend(getgrouplist(&name, gid).map_err(failed)?);
            }
            _ => {}
        }
        for group in &self.supplementary_groups {
            groups.insert(find_group(group)?);
        }
        Ok(groups.into_iter().collect())
    }
}

impl Identity {
    /// Becomes it: groups first, since afterwards the right to is gone. What is so already is not
    /// asked for, so that an ordinary user's supd can start workers as that user by name.
    pub(super) fn assume(&self, asked: &Account) -> Result<(), SpawnFailure> {
        let right = |errno: Errno, failure: SpawnFailure| match errno {
            Errno::EPERM => failure.hint(format!("supd runs as uid {}, only root may do this", getuid())),
            _ => failure,
        };
        let user = asked.user.clone().unwrap_or_else(|| self.uid.to_string());
        let now: HashSet<Gid> = getgroups().unwrap_or_default().into_iter().collect();
        if now != self.groups.iter().copied().collect() {
            setgroups(&self.groups).map_err(|errno| {
                let what = format!("{} as {user}", asked.supplementary_groups.join(" "));
                right(errno, SpawnFailure::errno(Step::Group, what.trim(), errno))
            })?;
        }
        setresgid(self.gid, self.gid, self.gid).map_err(|errno| {
            let group = asked.group.clone().unwrap_or_else(|| self.gid.to_string());
            right(errno, SpawnFailure::errno(Step::Group, group, errno))
        })?;
        setresuid(self.uid, self.uid, self.uid).map_err(|errno| match errno {
            Errno::EAGAIN => {
                SpawnFailure::errno(Step::User, &user, errno).hint("LimitNPROC of that user is reached")
            }
            errno => right(errno, SpawnFailure::errno(Step::User, &user, errno)),
        })
    }
}

/// A number that is an id: not the two that chown(2) and setresuid(2) take for "leave it".
fn number(text: &str) -> Option<u32> {
    let plain = text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|_| plain)?;
    (number != u32::MAX && number != u32::from(u16::MAX)).then_some(number)
}

/// A user by name, or by number, with or without an entry in the database.
fn find_user(user: &str) -> Result<(Uid, Option<User>), SpawnFailure> {
    let failed = |errno| SpawnFailure::errno(Step::User, user, errno).hint("looking it up");
    if let Some(uid) = number(user).map(Uid::from_raw) {
        return Ok((uid, absent(User::from_uid(uid)).map_err(failed)?));
    }
    match absent(User::from_name(user)).map_err(failed)? {
        Some(entry) => Ok((entry.uid, Some(entry))),
        None => Err(SpawnFailure::reason(Step::User, user, "no such user")),
    }
}

/// A group by name or number; a number needs no entry.
fn find_group(group: &str) -> Result<Gid, SpawnFailure> {
    if let Some(gid) = number(group) {
        return Ok(Gid::from_raw(gid));
    }
    match absent(Group::from_name(group)) {
        Ok(Some(entry)) => Ok(entry.gid),
        Ok(None) => Err(SpawnFailure::reason(Step::Group, group, "no such group")),
        Err(errno) => Err(SpawnFailure::errno(Step::Group, group, errno).hint("looking it up")),
    }
}

/// getpwnam(3): some databases say "not found" by one of these.
fn absent<T>(found: nix::Result<Option<T>>) -> nix::Result<Option<T>> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        found => found,
    }
}

/// systemd.exec(5): HOME, LOGNAME, SHELL and USER where User is set; HOME and SHELL only where
/// they say something: not "/", not nologin.
fn login(user: Option<&str>, entry: Option<&User>) -> Vec<Variable> {
    let Some(entry) = entry else {
        let named = |name: &str| user.map(|user| (name.into(), user.into()));
        return ["LOGNAME", "USER"].into_iter().filter_map(named).collect();
    };
    let mut all: Vec<Variable> = Vec::new();
    if entry.dir.is_absolute() && entry.dir != Path::new("/") {
        all.push(("HOME".into(), entry.dir.clone().into()));
    }
    all.push(("LOGNAME".into(), entry.name.clone().into()));
    let nowhere = [Some(OsStr::new("nologin")), Some(OsStr::new("false")), Some(OsStr::new("true"))];
    if entry.shell.is_absolute() && !nowhere.contains(&entry.shell.file_name()) {
        all.push(("SHELL".into(), entry.shell.clone().into()));
    }
    all.push(("USER".into(), entry.name.clone().into()));
    all
}

#[cfg(test)]
mod tests {
    use super::{Account, login, number};
    use crate::os::task::tests::in_child;
    use nix::unistd::{Gid, Uid, User};

    fn account(user: &str) -> Account {
        Account { user: Some(user.to_owned()), ..Account::default() }
    }

    #[test]
    fn ids_that_mean_leave_it_are_no_ids() {
        assert_eq!(number("0"), Some(0));
        assert_eq!(number("65534"), Some(65534));
        for bad in ["", "65535", "4294967295", "4294967296", "-1", "+1", "root", "1a"] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    #[test]
    fn root_by_name_and_number() {
        in_child(|| {
            for user in ["root", "0"] {
                let found = account(user).resolve().unwrap();
                assert_eq!((found.uid, found.gid), (Uid::from_raw(0), Gid::from_raw(0)));
                assert!(found.login.contains(&("USER".into(), "root".into())), "{:?}", found.login);
            }
        });
    }

    #[test]
    fn what_is_missing_is_named() {
        in_child(|| {
            let text = |account: Account| account.resolve().unwrap_err().to_string();
            assert_eq!(text(account("no-such-user")), "cannot become user no-such-user: no such user");
            assert!(text(account("4711")).contains("set Group too"));
            let group = Account { group: Some("no-such-group".to_owned()), ..account("root") };
            assert_eq!(text(group), "cannot join group no-such-group: no such group");
            let more = Account { supplementary_groups: vec!["nix-da".to_owned()], ..account("root") };
            assert_eq!(text(more), "cannot join group nix-da: no such group");
        });
    }

    #[test]
    fn a_number_without_an_entry_needs_a_group() {
        in_child(|| {
            let found = Account { group: Some("4712".to_owned()), ..account("4711") }.resolve().unwrap();
            assert_eq!((found.uid.as_raw(), found.gid.as_raw(), found.groups.len()), (4711, 4712, 0));
            assert_eq!(found.login.last(), Some(&("USER".into(), "4711".into())));
        });
    }

    #[test]
    fn a_home_that_is_none_is_not_said() {
        in_child(|| {
            let mut user = User::from_uid(Uid::from_raw(0)).unwrap().unwrap();
            user.dir = "/".into();
            user.shell = "/usr/sbin/nologin".into();
            let names: Vec<_> = login(None, Some(&user)).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, ["LOGNAME", "USER"]);
        });
    }
}
