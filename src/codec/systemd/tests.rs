//! systemd's own rules, one by one, and any text at all.

use super::command::commands;
use super::specifiers::{Facts, expand};
use super::{Ignored, Name, Unit, boolean, parse};
use crate::codec::unitfile::Source;
use std::path::Path;

fn pairs(text: &str) -> Vec<(String, String, u32)> {
    parse(text).assignments.into_iter().map(|one| (one.key, one.value, one.line)).collect()
}

fn pair(key: &str, value: &str, line: u32) -> (String, String, u32) {
    (key.into(), value.into(), line)
}

#[test]
fn lines_go_on_and_comments_do_not_end_them() {
    let text = "\u{feff}[Service]\n  Exec = a \\\n  # a comment\n\t; another\n  b\\\n\nNext=1 # no comment\nE=x\\\\\n\
                F=\n[Install]\nlast=\\";
    assert_eq!(
        pairs(text),
        [
            pair("Exec", "a  b", 2),
            pair("Next", "1 # no comment", 7),
            pair("E", "x\\\\", 8),
            pair("F", "", 9),
            pair("last", "", 11),
        ]
    );
    assert_eq!(pairs("[A]\r\nx=1\r\ny=a\\\r\n"), [pair("x", "1", 2), pair("y", "a\\", 3)]);
    let lines = parse("x=1\n[A]\nnone\n=2\n[ B ]\n[C\n");
    assert_eq!(lines.ignored, [(1, Ignored::NoSection), (3, Ignored::NoAssignment), (4, Ignored::NoKey)]);
    assert_eq!(lines.broken, Some(6));
    assert_eq!(lines.sections, [("A".to_owned(), 2), (" B ".to_owned(), 5)]);
}

fn unit(texts: &[&str]) -> Unit {
    let sources: Vec<Source> = texts.iter().map(|text| Source::new("x.service", *text)).collect();
    Unit::read(&sources).unwrap()
}

#[test]
fn an_empty_value_takes_back_what_was_before() {
    let unit = unit(&[
        "[Service]\nExecStart=a\nUser=web\nCapabilityBoundingSet=CAP_KILL\n[Service]\nEnvironment=A=1\n",
        "[Service]\nExecStart=\nExecStart=b\nExecStart=c\nUser=\nCapabilityBoundingSet=\nEnvironment=B=2\n",
    ]);
    let all = |key| unit.all("Service", key).iter().map(|value| value.text.clone()).collect::<Vec<_>>();
    assert_eq!(all("ExecStart"), ["b", "c"]);
    assert_eq!(all("Environment"), ["A=1", "B=2"]);
    assert!(unit.last("Service", "User").is_none() && unit.emptied("Service", "User").is_some());
    assert_eq!(unit.emptied("Service", "CapabilityBoundingSet").map(|value| value.line), Some(6));
    let counts: Vec<&str> = unit.values().map(|value| value.text.as_str()).collect();
    assert_eq!(counts, ["A=1", "b", "c", "B=2"]);
    assert!(Unit::read(&[Source::new("x", "[Service\n")]).is_err());
    assert!(Unit::read(&[Source::new("x", "[Service]\nA=\0\n")]).is_err());
}

#[test]
fn names_have_parts() {
    let name = Name::parse("postgresql@15-main.service").unwrap();
    assert_eq!((name.prefix.as_str(), name.instance.as_deref()), ("postgresql", Some("15-main")));
    assert_eq!(name.template().as_deref(), Some("postgresql@.service"));
    assert_eq!(name.to_unit().unwrap().as_str(), "postgresql-15-main");
    assert_eq!(Name::parse("nginx").unwrap().to_string(), "nginx.service");
    assert_eq!(Name::parse("a.b").unwrap().to_string(), "a.b.service");
    assert!(Name::parse("getty@.service").unwrap().is_template());
    for bad in ["", "@x.service", "a.timer", "a/b.service", "a b.service", &"x".repeat(300)] {
        assert!(Name::parse(bad).is_none(), "{bad}");
    }
    let folders = Name::parse("a-b-c@x.service").unwrap().drop_in_folders();
    assert_eq!(
        folders,
        ["a-b-c@x.service.d", "a-b-c@.service.d", "a-b-@.service.d", "a-@.service.d", "service.d"]
    );
    assert_eq!(Name::parse(r"dev\x2dtty@a:b.service").unwrap().to_unit().unwrap().as_str(), "dev-tty-a-b");
    assert!(Name::parse(&"x".repeat(80)).unwrap().to_unit().is_err());
}

#[test]
fn specifiers_are_filled_in() {
    let name = Name::parse(r"foo-bar@15-ma\x2din.service").unwrap();
    let facts = Facts { host: "web1.example".into(), ..Facts::of_system() };
    let fragment = Path::new("/etc/systemd/system/foo-bar@.service");
    let show = |text: &str| expand(text, &name, fragment, &facts).text;
    for (text, shown) in [
        ("%i|%I", r"15-ma\x2din|15/ma-in"),
        ("%n %N", r"foo-bar@15-ma\x2din.service foo-bar@15-ma\x2din"),
        ("%p %P %j", "foo-bar foo/bar bar"),
        ("%f", "/15/ma-in"),
        ("%t/x %S %C %L %E %h %T %V", "/run/x /var/lib /var/cache /var/log /etc /root /tmp /var/tmp"),
        ("%u %U %g %G %s", "root 0 root 0 /bin/sh"),
        ("%H %l", "web1.example web1"),
        ("%y %Y", "/etc/systemd/system/foo-bar@.service /etc/systemd/system"),
        ("100%% 50%", "100% 50%"),
        ("%é %", "%é %"),
    ] {
        assert_eq!(show(text), shown, "{text}");
    }
    let odd = expand("%H%H %b %m %?", &name, fragment, &facts);
    assert_eq!((odd.fixed, odd.unknown), (vec!['H'], vec!['b', 'm']));
}

#[test]
fn commands_have_prefixes_and_semicolons() {
    let found = commands(r#"-@/bin/a zero 'b c' "$D" \d ; +!/bin/e \; x ;"#).unwrap();
    assert_eq!(found.len(), 2);
    assert!(found[0].ignore_failure && found[0].argv0.as_deref() == Some("zero"));
    assert_eq!(found[0].program, "/bin/a");
    assert_eq!(found[0].arguments, ["b c", "$D", r"\d"]);
    // A second kind of rights is no prefix any more.
    assert_eq!((found[1].rights, found[1].program.as_str()), ("+", "!/bin/e"));
    assert_eq!(found[1].arguments, [";", "x"]);
    let plain = commands("!!:/bin/x a;b").unwrap();
    assert_eq!((plain[0].rights, plain[0].literal), ("!!", true));
    assert_eq!(plain[0].arguments, ["a;b"]);
    assert!(commands("").unwrap().is_empty() && commands(" ; ; ").unwrap().is_empty());
    assert!(commands("/bin/x 'a").is_err());
}

#[test]
fn yes_and_no_have_many_words() {
    assert_eq!(["yes", "On", "T", "1"].map(boolean), [Some(true); 4]);
    assert_eq!(["no", "Off", "f", "0"].map(boolean), [Some(false); 4]);
    assert_eq!(boolean("full"), None);
}

#[test]
fn every_short_text_is_read() {
    const ALPHABET: [&str; 9] = ["[", "]", "=", "\\", "\n", "#", "a", "%", "'"];
    let name = Name::parse("a@b").unwrap();
    let facts = Facts::of_system();
    let mut texts = vec![String::new()];
    for _ in 0..5 {
        texts = texts.iter().flat_map(|text| ALPHABET.map(|next| format!("{text}{next}"))).collect();
        for text in &texts {
            let lines = parse(&format!("[S]\n{text}"));
            for one in lines.assignments {
                assert!(!one.key.is_empty() && one.line >= 2, "{text:?}");
                let _commands = commands(&one.value);
                let _text = expand(&one.value, &name, Path::new("/"), &facts);
            }
        }
    }
}
