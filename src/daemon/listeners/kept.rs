//! The listeners of a unit as another supd has left them.

use super::super::sources::Sources;
use super::lending::Lending;
use super::{Bound, Listeners};
use crate::model::kept::{KeptListener, KeptLoan, KeptUnit};
use crate::model::{Few, Generation, UnitName};
use crate::os::kept::{Given, Giving};
use crate::os::listener::Listener;
use crate::os::steering::{Slot, Steering};
use std::path::Path;

impl Listeners {
    /// What another supd needs to go on with them.
    pub fn keep<'a>(&'a self, giving: &mut Giving<'a>) -> KeptUnit {
        let loans = |loans: &Few<Generation, Slot>| {
            let each = loans
                .iter()
                .map(|(generation, slot)| KeptLoan { generation: *generation, slot: (*slot).into() });
            each.collect::<Vec<KeptLoan>>()
        };
        KeptUnit {
            steered: self.lending.steered,
            lent: loans(&self.lending.lent),
            left: loans(&self.lending.left),
            steering: self.lending.steering.keep(giving),
            listeners: self.all().map(|listener| listener.keep(giving)).collect(),
            notify: Vec::new(),
            generations: Vec::new(),
            stored: Vec::new(),
            intercepts: Vec::new(),
        }
    }

    /// Goes on with them.
    ///
    /// # Errors
    /// The first that cannot be, in a sentence.
    pub fn go_on(
        unit: UnitName,
        kept: &KeptUnit,
        given: &mut Given,
        private_folder: &Path,
    ) -> Result<(Self, Vec<String>), String> {
        let steering = Steering::go_on(&kept.steering, given).map_err(|error| error.to_string())?;
        let again = |kept: &KeptListener, given: &mut Given| {
            let listener = Listener::go_on(kept, given, &steering, private_folder);
            let (listener, fault) = listener.map_err(|error| error.to_string())?;
            Ok((Bound { listener, guards: Vec::new(), watched: None }, fault))
        };
        let all = kept.listeners.iter().map(|kept| again(kept, given)).collect::<Result<Vec<_>, String>>()?;
        let (bound, faults): (Vec<Bound>, Vec<Option<String>>) = all.into_iter().unzip();
        let loans = |loans: &[KeptLoan]| {
            let mut all = Few::new();
            for loan in loans {
                all.insert(loan.generation, Slot::try_from(loan.slot).unwrap_or(0));
            }
            all
        };
        let (lent, left) = (loans(&kept.lent), loans(&kept.left));
        let mut lending = Lending::default();
        (lending.steered, lending.steering, lending.lent, lending.left) =
            (kept.steered, steering, lent, left);
        Ok((Self { bound, lending, ..Self::new(unit) }, faults.into_iter().flatten().collect()))
    }

    /// Hears from here on what is done to them.
    pub fn listen_on(&mut self, sources: &mut Sources) -> Vec<String> {
        self.guard(sources)
    }
}
