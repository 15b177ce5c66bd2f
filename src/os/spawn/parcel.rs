//! A plan as bytes, for the launcher: which is the same program, so that no version and no byte order
//! is to be told. What is of the wrong form is none.

use super::super::cgroup::{self, Joining};
use super::{Account, Common, Environment, Plan, Spare, Stream};
use crate::model::sandbox::{Mount, View};
use crate::model::settings::{Directory, DirectoryKind, EnvironmentFile, Limit, Resource};
use crate::model::system_calls::SystemCalls;
use crate::os::original::RESOURCES;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// Something that a plan is made of.
trait Parcel: Sized {
    fn put(&self, to: &mut Vec<u8>);
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! number {
    ($($type:ty),*) => { $(impl Parcel for $type {
        fn put(&self, to: &mut Vec<u8>) {
            to.extend(self.to_ne_bytes());
        }
        fn take(from: &mut &[u8]) -> Option<Self> {
            let (bytes, rest) = from.split_first_chunk()?;
            *from = rest;
            Some(Self::from_ne_bytes(*bytes))
        }
    })* };
}

number!(u8, u32, u64, i32);

/// What is as good as another type.
macro_rules! like {
    ($type:ty, $as:ty, $there:expr, $back:expr) => {
        impl Parcel for $type {
            fn put(&self, to: &mut Vec<u8>) {
                let there: fn(&Self) -> $as = $there;
                there(self).put(to);
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let back: fn($as) -> Option<Self> = $back;
                back(Parcel::take(from)?)
            }
        }
    };
}

like!(bool, u8, |flag| u8::from(*flag), |byte| Some(byte != 0));
like!(PathBuf, OsString, |path| path.as_os_str().to_owned(), |text| Some(text.into()));
like!(String, OsString, |text| text.into(), |text| text.into_string().ok());
like!(Resource, u8, |known| place(&RESOURCES, known), |at| RESOURCES.get(usize::from(at)).copied());
like!(DirectoryKind, u8, |known| place(&KINDS, known), |at| KINDS.get(usize::from(at)).copied());
like!(View, u8, |known| place(&View::ALL, known), |at| View::ALL.get(usize::from(at)).copied());

const KINDS: [DirectoryKind; 4] =
    [DirectoryKind::Runtime, DirectoryKind::State, DirectoryKind::Cache, DirectoryKind::Logs];

/// What is not in the list would not be found again.
fn place<T: PartialEq>(list: &[T], known: &T) -> u8 {
    list.iter().position(|one| one == known).and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn length(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl Parcel for OsString {
    fn put(&self, to: &mut Vec<u8>) {
        length(self.len()).put(to);
        to.extend(self.as_bytes());
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let length = u32::take(from)?;
        let (bytes, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
        *from = rest;
        Some(Self::from_vec(bytes.to_vec()))
    }
}

impl<T: Parcel> Parcel for Vec<T> {
    fn put(&self, to: &mut Vec<u8>) {
        length(self.len()).put(to);
        self.iter().for_each(|one| one.put(to));
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        (0..u32::take(from)?).map(|_| T::take(from)).collect()
    }
}

impl<T: Parcel> Parcel for Option<T> {
    fn put(&self, to: &mut Vec<u8>) {
        self.is_some().put(to);
        self.iter().for_each(|one| one.put(to));
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        if bool::take(from)? { T::take(from).map(Some) } else { Some(None) }
    }
}

impl<A: Parcel, B: Parcel> Parcel for (A, B) {
    fn put(&self, to: &mut Vec<u8>) {
        self.0.put(to);
        self.1.put(to);
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?))
    }
}

impl Parcel for Stream {
    fn put(&self, to: &mut Vec<u8>) {
        let (kind, path): (u8, Option<&PathBuf>) = match self {
            Self::Journal { identifier, instead } => {
                5u8.put(to);
                identifier.put(to);
                return instead.put(to);
            }
            Self::Log(path) => (0, Some(path)),
            Self::File(path) => (1, Some(path)),
            Self::Append(path) => (2, Some(path)),
            Self::Null => (3, None),
            Self::Inherit => (4, None),
        };
        kind.put(to);
        path.into_iter().for_each(|path| path.put(to));
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        Some(match u8::take(from)? {
            0 => Self::Log(Parcel::take(from)?),
            1 => Self::File(Parcel::take(from)?),
            2 => Self::Append(Parcel::take(from)?),
            3 => Self::Null,
            4 => Self::Inherit,
            5 => Self::Journal { identifier: Parcel::take(from)?, instead: Parcel::take(from)? },
            _ => return None,
        })
    }
}

/// Every field of a structure, in one order: one that is forgotten here does not compile.
macro_rules! fields {
    ($($type:path { $($field:ident),* $(,)? })*) => { $(impl Parcel for $type {
        fn put(&self, to: &mut Vec<u8>) {
            let Self { $($field),* } = self;
            $($field.put(to);)*
        }
        fn take(from: &mut &[u8]) -> Option<Self> {
            Some(Self { $($field: Parcel::take(from)?),* })
        }
    })* };
}

fields! {
    Account { user, group, supplementary_groups }
    Directory { kind, path }
    Environment { defaults, unit, ours }
    EnvironmentFile { path, optional }
    Joining { base, name, own, limits }
    cgroup::Limit { key, controller, file, value }
    Limit { resource, soft, hard }
    Mount { at, view, required, key }
    SystemCalls { allowed, numbers }
    Spare { program, identity, folder }
}

macro_rules! plan {
    ($($field:ident),* $(,)?) => {
        impl<'a> Plan<'a> {
            /// Everything that is this plan's own.
            pub(super) fn pack(&self) -> Vec<u8> {
                let Self { listeners: _, common: _, $($field),* } = self;
                let mut bytes = Vec::with_capacity(2048);
                $($field.put(&mut bytes);)*
                bytes
            }

            /// The plan again, with what is no bytes.
            pub(super) fn unpack(
                mut bytes: &[u8],
                listeners: Vec<BorrowedFd<'a>>,
                common: Common<'a>,
            ) -> Option<Self> {
                let plan = Self { listeners, common, $($field: Parcel::take(&mut bytes)?),* };
                bytes.is_empty().then_some(plan)
            }
        }
    };
}

plan! {
    program, executable, arguments, environment, environment_files, spare, pass_listen_pid, account,
    working_directory, umask, limits, nice, oom_score_adjust, no_new_privileges, ambient_capabilities,
    capability_bounding_set, directories, mounts, system_calls, standard_output, standard_error, intercept, notify_socket, group,
}

#[cfg(test)]
mod tests {
    use super::super::{Roots, Variable};
    use super::*;
    use crate::os::original::Original;

    #[test]
    fn a_plan_comes_out_as_it_went_in() {
        let (original, roots) = (Original::read().unwrap(), Roots::system());
        let common = Common { original: &original, roots: &roots, prepare: |_, _| Ok(()) };
        let one = |name: &str| -> Vec<Variable> { vec![(name.into(), OsString::from_vec(vec![0xff, b'=']))] };
        let limits = RESOURCES.map(|resource| Limit { resource, soft: None, hard: Some(u64::MAX - 1) });
        let bound =
            cgroup::Limit { key: "K".into(), controller: "c".into(), file: "f".into(), value: "v".into() };
        let mut plan = Plan {
            program: "bin/server".into(),
            executable: Some("/srv/bin/server".into()),
            arguments: vec!["-x".into(), "".into(), OsString::from_vec(vec![0xfe])],
            environment: Environment { defaults: one("A"), unit: one("B"), ours: Vec::new() },
            environment_files: vec![EnvironmentFile { path: "/e".into(), optional: true }],
            spare: Some(Spare { program: "/p".into(), identity: "/i".into(), folder: "/f".into() }),
            listeners: Vec::new(),
            pass_listen_pid: true,
            account: Account { user: Some("u".into()), group: None, supplementary_groups: vec!["g".into()] },
            working_directory: "/w".into(),
            umask: 0o27,
            limits: limits.to_vec(),
            nice: Some(-5),
            oom_score_adjust: None,
            no_new_privileges: true,
            ambient_capabilities: vec!["CAP_CHOWN".into()],
            capability_bounding_set: Some(Vec::new()),
            directories: KINDS.map(|kind| Directory { kind, path: "d".into() }).to_vec(),
            mounts: View::ALL
                .map(|view| Mount { at: "/m".into(), view, required: true, key: "k".into() })
                .to_vec(),
            system_calls: Some(SystemCalls { allowed: true, numbers: vec![1, 200] }),
            standard_output: Stream::Log("/l".into()),
            standard_error: Stream::Inherit,
            intercept: true,
            notify_socket: Some("/n".into()),
            group: Some(Joining {
                base: "/b".into(),
                name: "n".into(),
                own: "o".into(),
                limits: vec![bound],
            }),
            common,
        };
        let journal = Stream::Journal { identifier: "web".into(), instead: "/l".into() };
        for stream in [journal, Stream::File("/o".into()), Stream::Append("/a".into()), Stream::Null] {
            plan.standard_error = stream;
            let bytes = plan.pack();
            let again = Plan::unpack(&bytes, Vec::new(), common).unwrap();
            assert_eq!(format!("{again:?}"), format!("{plan:?}"));
            // Cut short, or with more than there should be: none, and no panic.
            for end in 0..bytes.len() {
                assert!(Plan::unpack(&bytes[..end], Vec::new(), common).is_none(), "{end}");
            }
            assert!(Plan::unpack(&[&bytes[..], b"x"].concat(), Vec::new(), common).is_none());
        }
    }
}
