//! Programs that run other files: a copy of them pins nothing.

/// Names of interpreters, without version suffixes.
const INTERPRETERS: [&str; 22] = [
    "bash", "bun", "dash", "deno", "dotnet", "elixir", "erl", "java", "jruby", "ksh", "lua", "luajit",
    "mono", "node", "nodejs", "npm", "perl", "php", "pypy", "python", "ruby", "sh",
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
        for yes in ["python", "python3", "python3.11", "node", "lua5.4", "perl", "php8.2"] {
            assert!(is_interpreter(yes), "{yes}");
        }
        for no in ["nginx", "gunicorn", "server", "shard", ""] {
            assert!(!is_interpreter(no), "{no}");
        }
    }
}
