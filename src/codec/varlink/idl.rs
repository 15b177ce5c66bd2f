//! The interface description and the types of this code say the same: checked here.

use super::method::tests::{every_method, meta_of};
use super::{DESCRIPTION, Method, error, method};
use crate::codec::json::*;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A struct as a JSON object.
fn object(shape: &impl serde::Serialize) -> Map<String, Value> {
    match serde_json::to_value(shape).unwrap() {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

/// A type of the description.
#[derive(Debug, Clone, PartialEq)]
enum Type {
    Plain(String),
    Optional(Box<Type>),
    Array(Box<Type>),
    Struct(Vec<(String, Type)>),
    Enum(Vec<String>),
}

/// All that a description holds.
#[derive(Debug, Default)]
struct Interface {
    name: String,
    types: BTreeMap<String, Type>,
    methods: BTreeMap<String, (Type, Type)>,
    errors: BTreeMap<String, Type>,
}

/// Words and punctuation, comments taken out.
struct Tokens(std::vec::IntoIter<String>, Option<String>);

impl Tokens {
    fn of(text: &str) -> Self {
        let mut tokens = Vec::new();
        for line in text.lines() {
            let mut rest = line.split('#').next().unwrap_or("").trim();
            while !rest.is_empty() {
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
                let length = match rest.find(|c| !is_word(c)) {
                    _ if rest.starts_with("->") || rest.starts_with("[]") => 2,
                    Some(0) => 1,
                    Some(end) => end,
                    None => rest.len(),
                };
                tokens.push(rest[..length].to_owned());
                rest = rest[length..].trim_start();
            }
        }
        Self(tokens.into_iter(), None)
    }

    fn peek(&mut self) -> Option<&str> {
        if self.1.is_none() {
            self.1 = self.0.next();
        }
        self.1.as_deref()
    }

    fn next(&mut self) -> String {
        self.1.take().or_else(|| self.0.next()).expect("the description does not end here")
    }

    fn expect(&mut self, token: &str) {
        assert_eq!(self.next(), token);
    }

    fn r#type(&mut self) -> Type {
        match self.next().as_str() {
            "?" => Type::Optional(Box::new(self.r#type())),
            "[]" => Type::Array(Box::new(self.r#type())),
            "(" => self.fields(),
            word => Type::Plain(word.to_owned()),
        }
    }

    /// What follows an opening parenthesis: a struct or an enum.
    fn fields(&mut self) -> Type {
        let (mut fields, mut words) = (Vec::new(), Vec::new());
        if self.peek() == Some(")") {
            self.next();
            return Type::Struct(fields);
        }
        loop {
            let name = self.next();
            if self.peek() == Some(":") {
                self.next();
                fields.push((name, self.r#type()));
            } else {
                words.push(name);
            }
            match self.next().as_str() {
                "," => {}
                ")" if words.is_empty() => return Type::Struct(fields),
                ")" if fields.is_empty() => return Type::Enum(words),
                other => panic!("{other} in {fields:?} {words:?}"),
            }
        }
    }
}

fn parse(text: &str) -> Interface {
    let mut tokens = Tokens::of(text);
    let mut interface = Interface::default();
    tokens.expect("interface");
    interface.name = tokens.next();
    while tokens.peek().is_some() {
        let (kind, name) = (tokens.next(), tokens.next());
        let shape = tokens.r#type();
        let before = match kind.as_str() {
            "type" => interface.types.insert(name, shape).is_some(),
            "error" => interface.errors.insert(name, shape).is_some(),
            "method" => {
                tokens.expect("->");
                let out = tokens.r#type();
                interface.methods.insert(name, (shape, out)).is_some()
            }
            other => panic!("{other}"),
        };
        assert!(!before, "named twice");
    }
    interface
}

impl Interface {
    /// Whether `value` is of this type: no field too many, none missing but optional ones.
    fn holds(&self, value: &Value, shape: &Type, place: &str) {
        match shape {
            Type::Optional(_) if value.is_null() => {}
            Type::Optional(inner) => self.holds(value, inner, place),
            Type::Array(inner) => {
                for item in value.as_array().unwrap_or_else(|| panic!("{place}: {value} is no array")) {
                    self.holds(item, inner, place);
                }
            }
            Type::Enum(words) => {
                let word = value.as_str().unwrap_or_else(|| panic!("{place}: {value} is no word"));
                assert!(words.iter().any(|known| known == word), "{place}: {word} is not in {words:?}");
            }
            Type::Struct(fields) => {
                let map = value.as_object().unwrap_or_else(|| panic!("{place}: {value} is no object"));
                let described: BTreeSet<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
                let written: BTreeSet<&str> = map.keys().map(String::as_str).collect();
                assert!(written.is_subset(&described), "{place}: {written:?} against {described:?}");
                for (name, inner) in fields {
                    let value = map.get(name).unwrap_or(&Value::Null);
                    self.holds(value, inner, &format!("{place}.{name}"));
                }
            }
            Type::Plain(name) => {
                let fits = match name.as_str() {
                    "int" => value.is_i64(),
                    "float" => value.is_number(),
                    "bool" => value.is_boolean(),
                    "string" => value.is_string(),
                    "object" => value.is_object(),
                    named => {
                        let shape = self.types.get(named).unwrap_or_else(|| panic!("no type {named}"));
                        return self.holds(value, shape, place);
                    }
                };
                assert!(fits, "{place}: {value} is no {name}");
            }
        }
    }

    /// The same, and every described field is there.
    fn holds_all(&self, map: &Map<String, Value>, shape: &Type, place: &str) {
        self.holds(&Value::from(map.clone()), shape, place);
        let Type::Struct(fields) = shape else { panic!("{place} is no struct") };
        for (name, _) in fields {
            assert!(map.contains_key(name), "{place}: {name} is described and never written");
        }
    }
}

/// A value with every optional field set: nulls of a default replaced by what the other end reads.
fn full_unit() -> UnitView {
    UnitView {
        active: Some(8),
        retained: Some(7),
        listeners: vec![ListenerView {
            queue: Some(0),
            queue_bytes: Some(0),
            mechanism: Some(String::new()),
            ..ListenerView::default()
        }],
        generations: vec![GenerationView {
            release: Some(String::new()),
            share: Some(0.5),
            pids: vec![1],
            connections: Some(0),
            oldest_ms: Some(0),
            queues: vec![full_queue()],
            counted_ms: Some(0),
            pinned: Some(true),
            stored: Some(1),
            cgroup: Some(String::new()),
            memory_bytes: Some(1),
            cpu_us: Some(1),
            tasks: Some(1),
            workers: vec![WorkerView {
                pid: Some(1),
                last_exit: Some(String::new()),
                ..WorkerView::default()
            }],
            ..GenerationView::default()
        }],
        last_swap: Some(SwapView {
            from: Some(7),
            ready_ms: Some(0),
            switch_us: Some(0),
            gap_ms: Some(0),
            cause: Some(String::new()),
            ..SwapView::default()
        }),
        rollback: Some(RollbackView {
            release: Some(String::new()),
            warm_ms: Some(0),
            ..RollbackView::default()
        }),
        cgroup_missing: Some(String::new()),
        notes: vec![String::new()],
        ..UnitView::default()
    }
}

fn full_queue() -> QueueView {
    QueueView { connections: Some(0), bytes: Some(0), ..QueueView::default() }
}

fn full_outcome() -> OutcomeView {
    let progress = ProgressView {
        share: Some(5.0),
        lasts_ms: Some(1),
        event: "note".into(),
        generation: Some(1),
        workers: Some(1),
        ready: Some(1),
        after_ms: Some(1),
        from: Some(1),
        to: Some(1),
        probation_ms: Some(1),
        connections: Some(1),
        oldest_ms: Some(1),
        queue: Some(1),
        queues: vec![full_queue()],
        left_ms: Some(1),
        cause: Some(String::new()),
    };
    OutcomeView {
        format: FORMAT,
        changed: Some(true),
        text: String::new(),
        next: Some(String::new()),
        generation: Some(1),
        swap_id: Some(1),
        progress: Some(progress),
    }
}

fn full_release() -> ReleaseView {
    ReleaseView { verdict: "new".into(), held: Some(String::new()), ..ReleaseView::default() }
}

fn full_cat() -> CatView {
    let text = || Some(String::new());
    let setting =
        SettingView { value: text(), file: text(), line: Some(1), running: text(), ..Default::default() };
    CatView { generation: Some(1), compared_with: Some(1), settings: vec![setting], ..CatView::default() }
}

fn full_entry() -> HistoryEntry {
    let text = || Some(String::new());
    let side = || Some(SideView { generation: 1, release: text() });
    let by = ByView { login_uid: Some(1), reason: text(), ..ByView::default() };
    HistoryEntry {
        unit: text(),
        by: Some(by),
        swap_id: Some(1),
        kind: text(),
        from: side(),
        to: side(),
        generation: Some(1),
        release: text(),
        result: text(),
        cause: text(),
        ready_ms: Some(1),
        switch_us: Some(1),
        times: Some(1),
        ..HistoryEntry::default()
    }
}

#[test]
fn the_description_names_this_interface() {
    assert_eq!(parse(DESCRIPTION).name, super::INTERFACE);
}

#[test]
fn methods_and_their_parameters_agree() {
    let interface = parse(DESCRIPTION);
    let here: BTreeSet<&str> = every_method().iter().map(Method::name).collect();
    let described: BTreeSet<&str> = interface.methods.keys().map(String::as_str).collect();
    assert_eq!(here, described);
    for method in every_method() {
        let (shape, _) = &interface.methods[method.name()];
        interface.holds_all(&method.parameters(&meta_of(&method)), shape, method.name());
    }
}

#[test]
fn a_parameter_is_optional_in_the_description_exactly_if_it_is_in_the_code() {
    let interface = parse(DESCRIPTION);
    for method in every_method() {
        let (Type::Struct(fields), _) = &interface.methods[method.name()] else { panic!("a struct") };
        let full = method.parameters(&meta_of(&method));
        for (name, shape) in fields {
            let mut without = full.clone();
            without.remove(name);
            let read = Method::read(method.name(), without);
            let optional = matches!(shape, Type::Optional(_));
            assert_eq!(read.is_ok(), optional, "{}.{name}: {read:?}", method.name());
            let mut wrong = full.clone();
            wrong.insert(name.clone(), json!({}));
            let expected = Err(Some(super::params::Invalid(name.clone())));
            assert_eq!(Method::read(method.name(), wrong), expected, "{}.{name}", method.name());
        }
    }
}

fn full_journal() -> JournalView {
    JournalView { identifier: "web".into(), uid: 0, cgroup: Some("/web.g1".into()) }
}

/// One of each type, with everything that it can hold.
fn samples() -> Vec<(&'static str, Map<String, Value>)> {
    vec![
        ("Journal", object(&full_journal())),
        ("Unit", object(&full_unit())),
        ("Listener", object(&full_unit().listeners[0])),
        ("Generation", object(&full_unit().generations[0])),
        ("Worker", object(&full_unit().generations[0].workers[0])),
        ("Queue", object(&full_queue())),
        ("LastSwap", object(&full_unit().last_swap)),
        ("RollbackTarget", object(&full_unit().rollback)),
        ("Setting", object(&full_cat().settings[0])),
        ("Release", object(&full_release())),
        ("HistoryEntry", object(&full_entry())),
        ("By", object(&full_entry().by)),
        ("Side", object(&full_entry().from)),
        ("Progress", object(&full_outcome().progress)),
        (
            "Ended",
            object(&EndedView {
                exit: Some(String::new()),
                code: Some(1),
                signal: Some(String::new()),
                ..Default::default()
            }),
        ),
        ("Fault", object(&FaultView::default())),
        ("WaitFor", Map::new()),
    ]
}

#[test]
fn replies_agree() {
    let interface = parse(DESCRIPTION);
    for method in every_method() {
        let (_, shape) = &interface.methods[method.name()];
        if matches!(method, Method::Status { .. }) {
            let status =
                StatusView { notes: vec![String::new()], units: vec![full_unit()], ..Default::default() };
            interface.holds_all(&object(&status), shape, method.name());
            let empty = StatusView { units: vec![UnitView::default()], ..Default::default() };
            interface.holds(&Value::from(object(&empty)), shape, method.name());
        } else if matches!(method, Method::Releases { .. }) {
            let view = ReleasesView { releases: vec![full_release()], ..Default::default() };
            interface.holds_all(&object(&view), shape, method.name());
        } else if matches!(method, Method::History { .. }) {
            let view = HistoryView { entries: vec![full_entry()], before: Some(1), ..Default::default() };
            interface.holds_all(&object(&view), shape, method.name());
            let bare = HistoryView { entries: vec![HistoryEntry::default()], ..Default::default() };
            interface.holds(&Value::from(object(&bare)), shape, method.name());
        } else if matches!(method, Method::Watch { .. }) {
            let view = EventsView { entries: vec![full_entry()], ..Default::default() };
            interface.holds_all(&object(&view), shape, method.name());
        } else if matches!(method, Method::Logs { .. }) {
            let view = LogView { descriptor: Some(0), journal: Some(full_journal()), ..Default::default() };
            interface.holds_all(&object(&view), shape, method.name());
            interface.holds(&Value::from(object(&LogView::default())), shape, method.name());
        } else if matches!(method, Method::Connect { .. }) {
            let view = ConnectView { descriptor: Some(0), ..Default::default() };
            interface.holds_all(&object(&view), shape, method.name());
            interface.holds(&Value::from(object(&ConnectView::default())), shape, method.name());
        } else if matches!(method, Method::Cat { .. }) {
            interface.holds_all(&object(&full_cat()), shape, method.name());
            interface.holds(&Value::from(object(&CatView::default())), shape, method.name());
        } else {
            interface.holds_all(&object(&full_outcome()), shape, method.name());
            interface.holds(&Value::from(object(&OutcomeView::default())), shape, method.name());
        }
    }
    let all = samples();
    let described: Vec<&str> = interface.types.keys().map(String::as_str).collect();
    let mut here: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    here.sort_unstable();
    assert_eq!(here, described);
    for (name, map) in &all[..all.len() - 1] {
        interface.holds_all(map, &interface.types[*name], name);
    }
}

#[test]
fn errors_agree() {
    let interface = parse(DESCRIPTION);
    let ours: Vec<error::Error> = error::tests::every_error()
        .into_iter()
        .filter(|error| error.name().starts_with("dev.supd."))
        .collect();
    let mut seen = BTreeSet::new();
    for error in ours {
        let full = error.name();
        let name = full.rsplit('.').next().unwrap();
        seen.insert(name.to_owned());
        interface.holds_all(&object(&error), &interface.errors[name], name);
    }
    let described: BTreeSet<String> = interface.errors.keys().cloned().collect();
    assert_eq!(seen, described);
}

#[test]
fn errors_say_the_exit_status_that_they_have() {
    for error in error::tests::every_error() {
        let full = error.name();
        let Some(name) = full.strip_prefix("dev.supd.Manager.") else { continue };
        let end = DESCRIPTION.find(&format!("error {name} (")).unwrap();
        let comment = &DESCRIPTION[DESCRIPTION[..end].rfind("\n\n").unwrap()..end];
        let status = format!("(Exit status {}.)", error.exit_status().code());
        assert!(comment.contains(&status), "{name}: {comment}");
    }
}

#[test]
fn words_that_the_description_lists_are_those_of_the_model() {
    use crate::model::status::*;
    let words = |words: Vec<&'static str>| words.join(", ");
    let flat = DESCRIPTION.replace("\n# ", " ");
    for (what, list) in [
        ("state", words(UnitState::ALL.iter().map(|word| word.word()).collect())),
        ("state", words(GenerationState::ALL.iter().map(|word| word.word()).collect())),
        ("traffic", words(Traffic::ALL.iter().map(|word| word.word()).collect())),
        ("health", words(Health::ALL.iter().map(|word| word.word()).collect())),
        ("result", words(SwapResult::ALL.iter().map(|word| word.word()).collect())),
    ] {
        assert!(flat.contains(&format!("{what}: {list}")), "{what}: {list}");
    }
    let Type::Enum(described) = &parse(DESCRIPTION).types["WaitFor"] else { panic!("an enum") };
    assert!(described.iter().all(|word| wait_for(word).is_some()));
    assert_eq!(described.len(), 4);
    for limit in [method::REASON_MAX, method::REQUEST_ID_MAX] {
        assert!(flat.contains(&format!("at most {limit}")));
    }
}
