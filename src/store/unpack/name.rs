//! What a member may be called, and where a link may lead.

use super::Bounds;

/// The longest name within a folder that Linux's file systems take.
const COMPONENT_MAX: usize = 255;

/// The name of a member from the top of the tree, without `.`, doubled or ending slashes; the top
/// itself is empty.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn member(bytes: &[u8], bounds: &Bounds) -> Result<String, String> {
    let text = text(bytes, bounds)?;
    if text.starts_with('/') {
        return Err("an absolute name; names start at the top of the release".into());
    }
    let mut name = String::with_capacity(text.len());
    for (depth, part) in text.split('/').filter(|part| !part.is_empty() && *part != ".").enumerate() {
        if part == ".." {
            return Err("a name with \"..\" in it, which may leave the release".into());
        }
        if part.len() > COMPONENT_MAX {
            return Err(format!("a name of {} bytes between slashes (at most {COMPONENT_MAX})", part.len()));
        }
        if depth >= bounds.depth {
            return Err(format!("more than {} folders deep", bounds.depth));
        }
        if !name.is_empty() {
            name.push('/');
        }
        name.push_str(part);
    }
    Ok(name)
}

/// What a symbolic link at `name` leads to. It has to stay within the tree as it is written; what
/// other links make of it is asked of the kernel once all of them are there.
///
/// # Errors
/// The rule that it breaks.
pub(super) fn target<'a>(name: &str, bytes: &'a [u8], bounds: &Bounds) -> Result<&'a str, String> {
    let shown = || shown(bytes);
    let text = text(bytes, bounds).map_err(|why| format!("a link to {}: {why}", shown()))?;
    if text.starts_with('/') {
        return Err(format!("a link to {}, an absolute path; make it a relative one", shown()));
    }
    let mut depth = name.matches('/').count();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return Err(format!("a link to {}, which leaves the release", shown())),
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    Ok(text)
}

fn text<'a>(bytes: &'a [u8], bounds: &Bounds) -> Result<&'a str, String> {
    if bytes.is_empty() {
        return Err("an empty name".into());
    }
    if bytes.len() > bounds.path_bytes {
        return Err(format!("a name of {} bytes (at most {})", bytes.len(), bounds.path_bytes));
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err("a name that is not UTF-8".into());
    };
    match text.chars().find(|c| c.is_control()) {
        Some('\0') => Err("a name with a zero byte in it".into()),
        Some(_) => Err("a name with a control character in it".into()),
        None => Ok(text),
    }
}

/// A name in quotes for a message, whatever bytes it is made of.
pub(super) fn shown(bytes: &[u8]) -> String {
    /// More than this tells nobody more.
    const SHOWN_MAX: usize = 200;
    let cut = &bytes[..bytes.len().min(SHOWN_MAX)];
    let text = match std::str::from_utf8(cut) {
        Ok(text) => text.to_owned(),
        // The cut may have split a character.
        Err(error) if error.error_len().is_none() && cut.len() < bytes.len() => {
            String::from_utf8_lossy(&cut[..error.valid_up_to()]).into_owned()
        }
        Err(_) => return format!("\"{}{}\"", cut.escape_ascii(), rest(cut, bytes)),
    };
    format!("\"{}{}\"", text.escape_debug(), rest(cut, bytes))
}

fn rest(cut: &[u8], bytes: &[u8]) -> &'static str {
    if cut.len() < bytes.len() { "…" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::{Bounds, member, shown, target};

    #[test]
    fn names_are_brought_to_one_form() {
        let name = |text: &str| member(text.as_bytes(), &Bounds::default());
        for (given, meant) in [
            ("a", "a"),
            ("./a/b", "a/b"),
            ("././a//b/./c/", "a/b/c"),
            ("./", ""),
            (".", ""),
            ("a b/ü.txt", "a b/ü.txt"),
            ("..a/b..", "..a/b.."),
            ("\\", "\\"),
        ] {
            assert_eq!(name(given).as_deref(), Ok(meant), "{given}");
        }
        let long = format!("a/{}", "x".repeat(256));
        for (bad, why) in [
            ("", "empty"),
            ("/a", "absolute"),
            ("//", "absolute"),
            ("..", "\"..\""),
            ("a/../b", "\"..\""),
            ("./..", "\"..\""),
            ("a/..", "\"..\""),
            ("a\0b", "zero byte"),
            ("a\nb", "control"),
            ("\u{1b}[2J", "control"),
            ("a\u{85}", "control"),
            (&long, "256 bytes between"),
            (&"x/".repeat(1025), "2050 bytes"),
            (&"x/".repeat(101), "100 folders deep"),
        ] {
            let said = name(bad).unwrap_err();
            assert!(said.contains(why), "{bad:?}: {said}");
        }
        assert!(name(&"x/".repeat(100)).is_ok());
        assert!(member(b"a\xff", &Bounds::default()).unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn links_stay_within() {
        let link = |name: &str, text: &str| target(name, text.as_bytes(), &Bounds::default()).map(drop);
        for (name, good) in [("a", "b"), ("a", "."), ("d/a", ".."), ("d/a", "../b/../c"), ("d/e/a", "../..")]
        {
            assert_eq!(link(name, good), Ok(()), "{name} → {good}");
        }
        for (name, bad) in
            [("a", ".."), ("a", "b/../.."), ("d/a", "../.."), ("a", "./../x"), ("d/a", "x/../../../d")]
        {
            assert!(link(name, bad).unwrap_err().contains("leaves the release"), "{name} → {bad}");
        }
        assert!(link("a", "/etc/passwd").unwrap_err().contains("absolute"));
        assert!(link("a", "").unwrap_err().contains("empty"));
        assert!(link("a", "b\n").unwrap_err().contains("control"));
    }

    #[test]
    fn a_hostile_name_is_shown_in_one_line() {
        assert_eq!(shown(b"a\nb\x1b[1m"), r#""a\nb\u{1b}[1m""#);
        assert_eq!(shown(b"\xff\n"), r#""\xff\n""#);
        assert_eq!(shown("ü".as_bytes()), "\"ü\"");
        let long = shown("aü".repeat(100).as_bytes());
        assert!(long.len() < 210 && long.ends_with("…\""), "{long}");
    }
}
