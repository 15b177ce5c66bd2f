use super::*;
use serde_json::json;

/// Every method with every parameter away from its default.
pub(in crate::codec::varlink) fn every_method() -> Vec<Method> {
    let unit = UnitName::new("web").unwrap();
    let wait = WaitFor::Drained;
    let label = Label::new("1.5.0").ok();
    let stops = Stops { unbound: true, hold: true, canary: Share::of_parts(25) };
    vec![
        Method::Status { unit: Some(unit.clone()), count: true },
        Method::Cat { unit: unit.clone(), generation: Some(Generation(8)) },
        Method::Releases { unit: Some(unit.clone()) },
        Method::History { unit: Some(unit.clone()), since_us: Some(7), before: Some(8), limit: Some(9) },
        Method::Watch { unit: Some(unit.clone()), after: Some(41) },
        Method::Install { unit: unit.clone(), label: Label::new("1.5.0").unwrap() },
        Method::Deploy {
            unit: unit.clone(),
            label: Label::new("1.5.0").unwrap(),
            stops,
            replace: true,
            wait,
        },
        Method::Undeploy { unit: unit.clone(), label: Label::new("1.5.0").unwrap() },
        Method::Start { unit: unit.clone(), take_from: Some(7), wait },
        Method::Stop { unit: unit.clone(), now: true, keep_listening: true },
        Method::Restart { unit: unit.clone(), wait },
        Method::Reload { unit: unit.clone() },
        Method::Kill { unit: unit.clone(), signal: Signal(10) },
        Method::DaemonReload,
        Method::Swap { unit: unit.clone(), label: label.clone(), stops, replace: true, force: true, wait },
        Method::Rollback {
            unit: unit.clone(),
            label,
            from: Some(Generation(8)),
            stop: true,
            anyway: true,
            wait,
        },
        Method::Share { unit: unit.clone(), share: Share::of_parts(550).unwrap(), wait },
        Method::Drain { unit: unit.clone(), generation: Generation(7) },
        Method::Promote { unit: unit.clone(), wait },
        Method::Abort { unit: unit.clone() },
        Method::Wait { unit: unit.clone(), wait },
        Method::Logs { unit: unit.clone(), generation: Some(Generation(8)) },
        Method::Connect {
            unit,
            generation: Generation(9),
            listener: ListenerName::new("http").ok(),
            dry_run: true,
        },
        Method::Reexec,
        Method::Shutdown,
    ]
}

/// What a method of this scope may carry, filled in.
pub(in crate::codec::varlink) fn meta_of(method: &Method) -> Meta {
    match method {
        Method::Status { .. }
        | Method::Releases { .. }
        | Method::History { .. }
        | Method::Watch { .. }
        | Method::Cat { .. }
        | Method::Wait { .. }
        | Method::Logs { .. }
        | Method::Connect { .. } => Meta::default(),
        _ => Meta { dry_run: true, reason: Some("why not".into()), request_id: Some("r-1".into()) },
    }
}

#[test]
fn what_a_client_writes_is_what_supd_reads() {
    for method in every_method() {
        let meta = meta_of(&method);
        let parameters = method.parameters(&meta);
        assert_eq!(Method::read(method.name(), parameters), Ok((method, meta)));
    }
    let method = Method::Status { unit: None, count: false };
    assert_eq!(method.parameters(&Meta::default()), Map::new());
    assert_eq!(Method::read("Status", Map::new()), Ok((method, Meta::default())));
}

#[test]
fn a_wrong_parameter_is_named() {
    let long = "x".repeat(1025);
    let cases = [
        ("Start", json!({}), "unit"),
        ("Start", json!({"unit": null}), "unit"),
        ("Start", json!({"unit": "../web"}), "unit"),
        ("Start", json!({"unit": 7}), "unit"),
        ("Start", json!({"unit": "web", "wait": "soon"}), "wait"),
        ("Start", json!({"unit": "web", "take_from": 0}), "take_from"),
        ("Start", json!({"unit": "web", "take_from": "nginx.service"}), "take_from"),
        ("Start", json!({"unit": "web", "take_from": 4294967296_u64}), "take_from"),
        ("Start", json!({"unit": "web", "hold": true}), "hold"),
        ("Start", json!({"unit": "web", "Unit": null}), "Unit"),
        ("Status", json!({"reason": "x"}), "reason"),
        ("Shutdown", json!({"unit": "web"}), "unit"),
        ("Shutdown", json!({"reason": long}), "reason"),
        ("Shutdown", json!({"reason": "a\u{0}b"}), "reason"),
        ("Shutdown", json!({"reason": ""}), "reason"),
        ("Shutdown", json!({"request_id": "é".repeat(129)}), "request_id"),
        ("Kill", json!({"unit": "web", "signal": "SIGFOO"}), "signal"),
        ("Kill", json!({"unit": "web"}), "signal"),
        ("Stop", json!({"unit": "web", "now": "yes"}), "now"),
        ("Cat", json!({"unit": "web", "generation": 0}), "generation"),
        ("Cat", json!({"unit": "web", "reason": "x"}), "reason"),
        ("History", json!({"since_us": -1}), "since_us"),
        ("History", json!({"limit": "all"}), "limit"),
        ("Watch", json!({"after": 1.5}), "after"),
        ("Watch", json!({"reason": "x"}), "reason"),
        ("Rollback", json!({"unit": "web", "from": 0}), "from"),
        ("Rollback", json!({"unit": "web", "from": -1}), "from"),
        ("Rollback", json!({"unit": "web", "from": 1.5}), "from"),
        ("Swap", json!({"unit": "web", "label": ".."}), "label"),
        ("Swap", json!({"unit": "web", "canary": 101}), "canary"),
        ("Share", json!({"unit": "web"}), "share"),
        ("Share", json!({"unit": "web", "share": -1}), "share"),
        ("Share", json!({"unit": "web", "share": "5%"}), "share"),
        ("Share", json!({"unit": "web", "share": 0.001}), "share"),
        ("Drain", json!({"unit": "web"}), "generation"),
        ("Connect", json!({"unit": "web"}), "generation"),
        ("Connect", json!({"unit": "web", "generation": 9, "listener": "a/b"}), "listener"),
        ("Connect", json!({"unit": "web", "generation": 9, "reason": "x"}), "reason"),
        ("Swap", json!({"unit": "web", "label": "a/b"}), "label"),
        ("Swap", json!({"unit": "web", "label": "x".repeat(256)}), "label"),
    ];
    for (name, parameters, wrong) in cases {
        let Value::Object(map) = parameters.clone() else { panic!("an object") };
        assert_eq!(Method::read(name, map), Err(Some(Invalid(wrong.into()))), "{name} {parameters}");
    }
    assert_eq!(Method::read("Status2", Map::new()), Err(None));
    let longest = json!({"request_id": "é".repeat(128), "reason": "x".repeat(1024)});
    let Value::Object(map) = longest else { panic!("an object") };
    assert!(Method::read("Shutdown", map).is_ok());
}
