//! The words about a unit in the descriptor store of a service manager, as JSON.

use super::kept;
use super::shape::{Shape, member, object, shape};
use crate::model::UnitName;
use crate::model::kept::KeptUnit;
use serde_json::Value;

/// The number of this format. What has a higher one is not read.
pub const FORMAT: u64 = 1;

/// A unit, and the names of the descriptors that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Which.
    pub unit: UnitName,
    /// What [`kept::encode`] says of it.
    pub kept: String,
    /// Under which name each descriptor is stored, by its place; absent: it is not, and nothing is said of it.
    pub names: Vec<Option<String>>,
}

shape!(Words { unit: "unit", kept: "kept", names: "names" });

impl Words {
    /// Of a unit without what has no name.
    #[must_use]
    pub fn of(unit: &UnitName, kept: &KeptUnit, names: Vec<Option<String>>) -> Self {
        let mut kept = kept.clone();
        let is_named =
            |at: u32| usize::try_from(at).ok().and_then(|at| names.get(at)).is_some_and(Option::is_some);
        kept.stored.retain(|stored| is_named(stored.file));
        // Whoever asks by what the next supd has not waits for ever: it is not to be gone on with.
        for asking in kept.intercepts.iter().filter(|asking| !is_named(asking.calls)) {
            let its = kept.generations.iter_mut().filter(|it| it.generation == asking.generation);
            its.for_each(|it| it.workers.retain(|worker| *worker != asking.worker));
        }
        kept.intercepts.retain(|asking| is_named(asking.calls));
        Self { unit: unit.clone(), kept: kept::encode(&kept), names }
    }

    /// Whether all that it names is there.
    pub fn is_whole(&self, is_there: impl Fn(&str) -> bool) -> bool {
        self.names.iter().flatten().all(|name| is_there(name))
    }
}

/// As one line.
#[must_use]
pub fn encode(words: &Words) -> String {
    let mut value = words.write();
    if let Some(map) = value.as_object_mut() {
        map.insert("format".into(), FORMAT.into());
    }
    value.to_string()
}

/// From that line.
///
/// # Errors
/// Why not, in a sentence.
pub fn decode(text: &[u8]) -> Result<Words, String> {
    let value: Value = serde_json::from_slice(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let map = object(&value).map_err(|misfit| misfit.to_string())?;
    match member::<u64>(map, "format").map_err(|misfit| misfit.to_string())? {
        FORMAT => Words::read(&value).map_err(|misfit| misfit.to_string()),
        format => Err(format!("it has format {format}, and this supd knows {FORMAT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::kept::{KeptGeneration, KeptIntercept, KeptSteering, KeptStored};
    use crate::model::{Generation, Tick};

    fn words(names: &[Option<&str>]) -> Words {
        let generation = Generation(3);
        let asks = |worker, calls| KeptIntercept {
            generation,
            worker,
            calls,
            served: Vec::new(),
            nonblocking: false,
            last: None,
            waiting: Vec::new(),
        };
        let stored =
            |name: &str, file| KeptStored { generation, worker: 0, name: name.into(), poll: true, file };
        let workers = vec![0, 1, 2];
        let kept = KeptUnit {
            steered: false,
            lent: Vec::new(),
            left: Vec::new(),
            steering: KeptSteering {
                active: 0,
                candidate: None,
                sticky: false,
                salt: 0,
                table: None,
                place: 0,
            },
            listeners: Vec::new(),
            notify: Vec::new(),
            generations: vec![KeptGeneration {
                generation,
                origin: generation,
                steered: false,
                launched: Some(Tick(5)),
                workers,
            }],
            stored: vec![stored("a", 0), stored("b", 1)],
            intercepts: vec![asks(1, 2), asks(2, 3)],
        };
        let names = names.iter().map(|name| name.map(str::to_owned)).collect();
        Words::of(&UnitName::new("web").unwrap(), &kept, names)
    }

    #[test]
    fn of_what_has_no_name_nothing_is_said() {
        let all = words(&[Some("a"), Some("b"), Some("c"), Some("d")]);
        let some = words(&[Some("a"), None, None, Some("d")]);
        let kept = |words: &Words| kept::decode(words.kept.as_bytes()).unwrap();
        assert_eq!((kept(&all).stored.len(), kept(&all).generations[0].workers.len()), (2, 3));
        assert_eq!(kept(&some).stored[0].name, "a");
        assert_eq!((kept(&some).stored.len(), kept(&some).intercepts.len()), (1, 1));
        // Who asks by what is not there is nobody to go on with.
        assert_eq!(kept(&some).generations[0].workers, [0, 2]);
        assert_eq!(decode(encode(&some).as_bytes()), Ok(some.clone()));
        assert!(some.is_whole(|name| ["a", "d"].contains(&name)) && !all.is_whole(|name| name != "c"));
        let later = encode(&some).replacen(&format!("\"format\":{FORMAT},\"kept"), "\"format\":9,\"kept", 1);
        assert!(decode(later.as_bytes()).unwrap_err().contains("format 9"), "{later}");
    }
}
