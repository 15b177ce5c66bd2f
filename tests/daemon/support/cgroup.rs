//! A cgroup of version 2 for one supd of a test: right below the root, which is mounted for it alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// In a mount namespace of its own: $0 is where to mount, $1 the group, $2 whose it is to be.
const ENTER: &str = "mount -t cgroup2 none \"$0\" && mkdir -p \"$0/$1\" && cd \"$0/$1\" && \
    chown \"$2\" . cgroup.procs cgroup.subtree_control cgroup.threads && \
    echo $$ > cgroup.procs && cd / && shift 2 && exec \"$@\"";

/// Removes it, and all that is below it; with $2 whoever is in there is killed first.
const LEAVE: &str = "mount -t cgroup2 none \"$0\" && cd \"$0\" && \
    if [ \"$2\" ]; then echo 1 > \"$1/cgroup.kill\"; \
    timeout 5 sh -c 'until grep -q \"populated 0\" \"$0/cgroup.events\"; do :; done' \"$1\"; fi && \
    find \"$1\" -depth -type d -exec rmdir {} + && cd /";

/// What goes in front of a supd that works in `folder` so that it starts there, and may do so as `user`.
pub(crate) fn enter(folder: &Path, name: &str, user: u32) -> Vec<OsString> {
    let mut words: Vec<OsString> = ["unshare", "--mount", "sh", "-c", ENTER].map(Into::into).to_vec();
    words.extend([mount(folder).into(), name.into(), user.to_string().into()]);
    words
}

/// Its folder, as the process sees it.
pub(crate) fn seen(pid: u32, folder: &Path, name: &str) -> PathBuf {
    let inside = mount(folder).strip_prefix("/").expect("an absolute path").join(name);
    Path::new(&format!("/proc/{pid}/root")).join(inside)
}

/// It goes, unless somebody else is in it. A test that failed leaves nobody there.
pub(crate) fn leave(folder: &Path, name: &str) {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", LEAVE]).arg(mount(folder)).arg(name);
    command.arg(if std::thread::panicking() { "1" } else { "" });
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

fn mount(folder: &Path) -> PathBuf {
    folder.join("cgroup")
}
