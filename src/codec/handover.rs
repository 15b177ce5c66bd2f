//! What supd hands to its next image as JSON: in a sealed memfd, whose number is in the environment.

use super::shape::{Misfit, Shape, fields, member, object, shape, tagged, variant};
use super::{kept, ledger, pinned};
use crate::model::Stops;
use crate::model::handover::{Handover, HeldClient, HeldSwap, Rest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The number of this format. A higher one is not read: then supd is asked to stay as it is.
pub const FORMAT: u64 = 2;

/// Without a swap: whoever knows no more than that can go on with it as well.
const FORMAT_WITHOUT: u64 = 1;

/// The word by which a supd says that it can read what it was shown, before the number of the format.
pub const WORD: &str = "handover";

/// More than all clients of supd together may hold, in base64.
pub const BYTES_MAX: u64 = 128 << 20;

shape!(HeldClient { socket: "socket", input: "input", output: "output", asked: "asked", taken: "taken" });
shape!(Stops { unbound: "unbound", hold: "hold", canary: "canary" });
shape!(HeldSwap {
    unit: "unit",
    swap_id: "swap_id",
    kind: "kind",
    from: "from",
    to: "to",
    origin: "origin",
    rest: "rest",
    steered: "steered",
    share: "share",
    warm: "warm",
    stops: "stops",
    stops_left: "stops_left",
    launched: "launched",
    ready: "ready",
    switch: "switch",
    gap: "gap",
    by: "by",
});
shape!(Handover {
    pid: "pid",
    start_time: "start_time",
    version: "version",
    kept_format: "kept_format",
    ledger_format: "ledger_format",
    pinned_format: "pinned_format",
    locks: "locks",
    control: "control",
    control_file: "control_file",
    client_last: "client_last",
    inherited: "inherited",
    mirrored: "mirrored",
    clients: "clients",
    swaps: "swaps",
    salts: "salts",
    reexecs: "reexecs",
});

impl Shape for Rest {
    fn write(&self) -> Value {
        match self {
            Self::Held => "held".into(),
            Self::Canary { stage, until } => {
                tagged("canary", fields([("stage", stage.write()), ("until", until.write())]))
            }
            Self::Probation { until } => tagged("probation", fields([("until", until.write())])),
        }
    }

    fn read(value: &Value) -> Result<Self, Misfit> {
        if value.as_str() == Some("held") {
            return Ok(Self::Held);
        }
        let (word, inner) = variant(value)?;
        let map = object(inner)?;
        match word {
            "canary" => Ok(Self::Canary { stage: member(map, "stage")?, until: member(map, "until")? }),
            "probation" => Ok(Self::Probation { until: member(map, "until")? }),
            _ => Err(Misfit::new("where a swap of this format rests")),
        }
    }
}

/// The number of the format that this takes.
#[must_use]
pub fn format(handover: &Handover) -> u64 {
    if handover.swaps.is_some() { FORMAT } else { FORMAT_WITHOUT }
}

/// As one line.
#[must_use]
pub fn encode(handover: &Handover) -> String {
    let mut value = handover.write();
    if let Some(map) = value.as_object_mut() {
        map.insert("format".into(), format(handover).into());
    }
    value.to_string()
}

/// From that line. Nothing is taken that this supd could not go on with.
///
/// # Errors
/// Why not, in a sentence.
pub fn decode(text: &[u8]) -> Result<Handover, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let map = object(&value).map_err(|misfit| misfit.to_string())?;
    match member::<u64>(map, "format").map_err(|misfit| misfit.to_string())? {
        FORMAT | FORMAT_WITHOUT => {}
        format => return Err(format!("it has format {format}, and this supd knows {FORMAT}")),
    }
    let handover = Handover::read(&value).map_err(|misfit| misfit.to_string())?;
    for (what, format, known) in [
        ("the keeper has format", handover.kept_format, kept::FORMAT),
        ("the ledger has format", handover.ledger_format, ledger::FORMAT),
        ("pinned settings have format", handover.pinned_format, pinned::FORMAT),
    ] {
        if format > known {
            return Err(format!("{what} {format}, and this supd knows {known}"));
        }
    }
    Ok(handover)
}

/// Bytes as they stand in a handover.
#[must_use]
pub fn pack(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Those bytes.
///
/// # Errors
/// They are none.
pub fn unpack(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Author, Generation, Share, SwapId, SwapKind, Tick, UnitName};
    use std::time::Duration;

    fn sample() -> Handover {
        let client = HeldClient {
            socket: 9,
            input: pack(b"{\0"),
            output: String::new(),
            asked: true,
            taken: Some(false),
        };
        Handover {
            pid: 7,
            start_time: 8,
            version: "0.1.0".into(),
            kept_format: kept::FORMAT,
            ledger_format: ledger::FORMAT,
            pinned_format: pinned::FORMAT,
            locks: vec![3, 4],
            control: 5,
            control_file: (1, 2),
            client_last: 6,
            inherited: Vec::new(),
            mirrored: Vec::new(),
            clients: vec![client],
            swaps: [
                Rest::Held,
                Rest::Canary { stage: Some(1), until: Some(Tick(9)) },
                Rest::Canary { stage: None, until: None },
                Rest::Probation { until: Tick(9) },
            ]
            .map(swap)
            .to_vec()
            .into(),
            salts: Some(5),
            reexecs: Some(2),
        }
    }

    fn swap(rest: Rest) -> HeldSwap {
        let (second, generation) = (Some(Duration::from_millis(1500)), |number| Some(Generation(number)));
        HeldSwap {
            unit: UnitName::new("web").unwrap(),
            swap_id: SwapId(4),
            kind: SwapKind::Swap,
            from: generation(2),
            to: Generation(3),
            origin: generation(1),
            rest,
            steered: true,
            share: Share::of_parts(125).unwrap(),
            warm: false,
            stops: Stops { unbound: false, hold: true, canary: Share::of_parts(125) },
            stops_left: true,
            launched: Tick(7),
            ready: second,
            switch: second,
            gap: None,
            by: Some(Author {
                uid: 1000,
                login_uid: None,
                verb: "swap".into(),
                reason: Some("prices".into()),
                request_id: None,
            }),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = encode(&sample());
        assert_eq!(decode(text.as_bytes()), Ok(sample()));
        assert_eq!(unpack(&sample().clients[0].input), Ok(b"{\0".to_vec()));
        for end in 0..text.len() {
            assert!(decode(&text.as_bytes()[..end]).is_err(), "cut at {end}");
        }
    }

    /// From before swaps went over.
    #[test]
    fn what_an_earlier_supd_wrote_is_read() {
        let mut value: Value = serde_json::from_str(&encode(&sample())).unwrap();
        let map = value.as_object_mut().unwrap();
        assert_eq!(map.insert("format".into(), 1.into()), Some(FORMAT.into()), "a swap takes another number");
        assert!(map.remove("swaps").is_some() && map.remove("salts").is_some());
        assert!(map["clients"][0].as_object_mut().unwrap().remove("taken").is_some());
        let read = decode(value.to_string().as_bytes()).unwrap();
        assert_eq!((&read.swaps, read.salts, read.clients[0].taken), (&None, None, None));
        assert!(encode(&read).contains("\"format\":1"), "without one the earlier supd can go on");
    }

    #[test]
    fn what_is_of_a_later_supd_is_not() {
        let later = |old: &str, new: &str| {
            let text = encode(&sample());
            assert_eq!(text.matches(old).count(), 1, "{old}");
            decode(text.replace(old, new).as_bytes()).unwrap_err()
        };
        let why = later(&format!("\"format\":{FORMAT}"), "\"format\":99");
        assert_eq!(why, format!("it has format 99, and this supd knows {FORMAT}"));
        let why = later(&format!("\"kept_format\":{}", kept::FORMAT), "\"kept_format\":99");
        assert_eq!(why, format!("the keeper has format 99, and this supd knows {}", kept::FORMAT));
        assert!(later("\"start_time\":8", "\"start_time\":-8").contains("start_time"));
        assert!(unpack("%").is_err());
    }
}
