//! Programs that run other files: a copy of them pins nothing.

/// Names of interpreters, and of wrappers that become another program, without version suffixes.
const INTERPRETERS: [&str; 48] = [
    "bash",
    "bun",
    "busybox",
    "chroot",
    "chrt",
    "dash",
    "deno",
    "dotnet",
    "dumb-init",
    "elixir",
    "env",
    "erl",
    "flock",
    "gdb",
    "ionice",
    "java",
    "jruby",
    "ksh",
    "lua",
    "luajit",
    "mono",
    "nice",
    "node",
    "nodejs",
    "nohup",
    "npm",
    "nsenter",
    "numactl",
    "perl",
    "php",
    "pypy",
    "python",
    "rlwrap",
    "ruby",
    "runuser",
    "setpriv",
    "setsid",
    "sh",
    "stdbuf",
    "strace",
    "su",
    "sudo",
    "taskset",
    "timeout",
    "tini",
    "unshare",
    "uv",
    "valgrind",
];

/// Whether a program of this file name runs files other than itself: `python3.11` and `node` do.
#[must_use]
pub fn is_interpreter(file_name: &str) -> bool {
    let stem = file_name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.binary_search(&stem).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{INTERPRETERS, is_interpreter};

    #[test]
    fn versions_do_not_hide_an_interpreter() {
        assert!(INTERPRETERS.is_sorted());
        for yes in ["env", "python", "python3", "python3.11", "node", "lua5.4", "perl", "php8.2"] {
            assert!(is_interpreter(yes), "{yes}");
        }
        for no in ["nginx", "gunicorn", "server", "shard", ""] {
            assert!(!is_interpreter(no), "{no}");
        }
    }
}
