//! The plugins in their order. Which of them have to do with a sort of requests is found out once for each.

use std::sync::atomic::{AtomicBool, Ordering};

use api::model::{Resource, Text};
use api::{Status, Tree};
use async_trait::async_trait;
use parking_lot::Mutex;

use crate::policies::Invoked;
use crate::webhooks::Rounds;
use crate::{Attributes, Operation};

/// What requests of one sort share.
#[derive(Clone, Copy, Debug)]
pub struct Point<'a> {
    pub resource: &'a Resource,
    /// Empty for the object itself.
    pub subresource: &'a str,
    pub operation: Operation,
}

impl Point<'_> {
    /// The resource itself, not one of its subresources.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.is_sub(group, plural, "")
    }

    pub(crate) fn is_sub(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.resource.plural == plural && self.resource.group == group && self.subresource == subresource
    }

    pub(crate) fn creates(&self) -> bool {
        self.operation == Operation::Create
    }
}

#[async_trait]
pub trait Plugin: Send + Sync {
    /// As `--enable-admission-plugins` names it.
    fn name(&self) -> &'static str;

    /// Whether [`Plugin::admit`] may have to do with such requests.
    fn mutates(&self, _point: &Point<'_>) -> bool {
        false
    }

    /// Whether [`Plugin::validate`] may.
    fn validates(&self, _point: &Point<'_>) -> bool {
        false
    }

    /// May change the object. Deletes have none: it is null, and `attributes.old` is what goes.
    async fn admit(&self, _attributes: &Attributes<'_>, _object: &mut Tree) -> Result<(), Status> {
        Ok(())
    }

    /// Sees the object as it will be stored.
    async fn validate(&self, _attributes: &Attributes<'_>, _object: &Tree) -> Result<(), Status> {
        Ok(())
    }
}

/// How often the plugins have seen a request: what one of them changed may concern those before it.
#[derive(Debug, Default)]
pub struct Round {
    second: AtomicBool,
    again: AtomicBool,
    webhooks: Mutex<Rounds>,
    policies: Mutex<Invoked>,
}

impl Round {
    pub(crate) fn is_second(&self) -> bool {
        self.second.load(Ordering::Relaxed)
    }

    pub(crate) fn ask_again(&self) {
        self.again.store(true, Ordering::Relaxed);
    }

    fn begin_second(&self) -> bool {
        self.again.load(Ordering::Relaxed) && !self.second.swap(true, Ordering::Relaxed)
    }

    /// What the policies keep between the rounds.
    pub(crate) fn with_policies<T>(&self, act: impl FnOnce(&mut Invoked) -> T) -> T {
        act(&mut self.policies.lock())
    }

    /// What the webhooks keep between the rounds.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Rounds) -> T) -> T {
        act(&mut self.webhooks.lock())
    }
}

/// Plugins in the order in which they run.
pub struct Chain {
    plugins: Vec<Box<dyn Plugin>>,
}

/// Which plugins have to do with one sort of requests, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
struct Concerned {
    mutating: u64,
    validating: u64,
}

/// [`Concerned`] for all that is done to a kind, in the order of [`OPERATIONS`].
#[derive(Debug)]
pub struct Plan {
    own: [Concerned; 4],
    subresources: Vec<(Text, [Concerned; 4])>,
}

const OPERATIONS: [Operation; 4] =
    [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];

impl Chain {
    pub fn new(plugins: Vec<Box<dyn Plugin>>) -> Chain {
        assert!(plugins.len() <= 64, "a plan has a bit for each plugin");
        Chain { plugins }
    }

    /// The plan of a kind.
    pub fn plan(&self, resource: &Resource) -> Plan {
        let all = |subresource: &str| {
            OPERATIONS.map(|operation| {
                let point = Point { resource, subresource, operation };
                let mut concerned = Concerned::default();
                for (index, plugin) in self.plugins.iter().enumerate() {
                    concerned.mutating |= u64::from(plugin.mutates(&point)) << index;
                    concerned.validating |= u64::from(plugin.validates(&point)) << index;
                }
                concerned
            })
        };
        let subresources = resource.subresources.iter().map(|sub| (sub.name.clone(), all(&sub.name)));
        Plan { own: all(""), subresources: subresources.collect() }
    }

    /// Runs the plugins, and once more when one of them asks for it.
    pub async fn admit(
        &self,
        plan: &Plan,
        attributes: &Attributes<'_>,
        object: &mut Tree,
    ) -> Result<(), Status> {
        loop {
            for plugin in self.concerned(plan.of(attributes).mutating) {
                plugin.admit(attributes, object).await?;
            }
            if !attributes.round.begin_second() {
                return Ok(());
            }
        }
    }

    pub async fn validate(
        &self,
        plan: &Plan,
        attributes: &Attributes<'_>,
        object: &Tree,
    ) -> Result<(), Status> {
        for plugin in self.concerned(plan.of(attributes).validating) {
            plugin.validate(attributes, object).await?;
        }
        Ok(())
    }

    fn concerned(&self, mut bits: u64) -> impl Iterator<Item = &dyn Plugin> {
        std::iter::from_fn(move || {
            let next = bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
            self.plugins.get(next as usize).map(Box::as_ref)
        })
    }
}

impl Plan {
    /// Whether nobody has to do with what is done to the kind in this way.
    pub fn is_idle(&self, subresource: &str, operation: Operation) -> bool {
        let Concerned { mutating, validating } = self.at(subresource, operation);
        mutating == 0 && validating == 0
    }

    fn of(&self, attributes: &Attributes<'_>) -> Concerned {
        self.at(attributes.subresource, attributes.operation)
    }

    fn at(&self, subresource: &str, operation: Operation) -> Concerned {
        let own = match subresource {
            "" => Some(&self.own),
            name => self.subresources.iter().find(|(own, _)| own == name).map(|(_, found)| found),
        };
        let place = OPERATIONS.iter().position(|own| *own == operation).unwrap_or_default();
        own.map_or_else(Concerned::default, |own| own[place])
    }
}
