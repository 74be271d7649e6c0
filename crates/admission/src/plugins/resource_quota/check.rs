//! Charges a request to quotas: what it adds, and whether that is allowed.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{Status, Tree};
use machinery::quota::{self, Amounts, Facts, Measure, Scope};
use registry::tree::{list, text, texts};

use super::facts::{self, DeviceClasses, amounts};
use crate::{Attributes, Operation, Services};

/// A resource of which nothing may be used without a quota.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limited {
    pub group: String,
    pub resource: String,
    /// Parts of the names of the quota's resources.
    pub contains: Vec<String>,
    /// Objects in one of these scopes need a quota with that scope.
    pub scopes: Vec<ScopeExpression>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScopeExpression {
    pub name: String,
    pub operator: String,
    pub values: Vec<String>,
}

impl ScopeExpression {
    fn scope(&self) -> Scope<'_> {
        Scope::of_texts(&self.name, &self.operator, &self.values)
    }
}

/// A request that waits to be charged.
#[derive(Debug)]
pub(super) struct Charge {
    group: String,
    resource: String,
    name: String,
    subresource: String,
    operation: Operation,
    pub dry_run: bool,
    measure: Measure,
    object: Tree,
    old: Option<Tree>,
    classes: DeviceClasses,
    charged_to_pod: Amounts,
}

/// A quota with the usage that it has so far.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    pub name: String,
    pub tree: Arc<Tree>,
    hard: Amounts,
    pub used: Amounts,
}

impl Quota {
    pub fn new(tree: Arc<Tree>) -> Quota {
        Quota {
            name: text(&tree, "metadata.name").to_owned(),
            hard: amounts(&tree, "status.hard"),
            used: amounts(&tree, "status.used"),
            tree,
        }
    }

    fn scopes(&self) -> Vec<Scope<'_>> {
        let plain = texts(&self.tree, "spec.scopes").map(Scope::named);
        let selected = list(&self.tree, "spec.scopeSelector.matchExpressions").iter().map(|expression| {
            let (name, operator) = (text(expression, "scopeName"), text(expression, "operator"));
            Scope::of_trees(name, operator, list(expression, "values"))
        });
        plain.chain(selected).collect()
    }
}

/// What came of a request that may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It changes nothing.
    Free,
    /// It is counted in.
    Charged,
}

impl Charge {
    pub fn new(
        services: &Arc<dyn Services>,
        attributes: &Attributes<'_>,
        measure: Measure,
        object: &Tree,
    ) -> Charge {
        let is_of_devices = measure == Measure::DeviceClaims;
        let namespace = attributes.namespace;
        let (classes, charged_to_pod) = match is_of_devices {
            true => (DeviceClasses::read(services), facts::charged_to_pod(services, object, namespace)),
            false => (Ok(DeviceClasses::default()), Amounts::new()),
        };
        Charge {
            group: attributes.resource.group.to_string(),
            resource: attributes.resource.plural.to_string(),
            name: attributes.name.to_owned(),
            subresource: attributes.subresource.to_owned(),
            operation: attributes.operation,
            dry_run: attributes.dry_run,
            measure,
            object: object.clone(),
            old: attributes.old.cloned(),
            classes: classes.unwrap_or_default(),
            charged_to_pod,
        }
    }

    fn facts<'t>(&self, object: &'t Tree) -> Facts<'t> {
        match facts::of(&self.measure, object) {
            Facts::DeviceClaim(mut claim) => {
                claim.charged_to_pod = self.charged_to_pod.clone();
                Facts::DeviceClaim(claim)
            }
            facts => facts,
        }
    }

    fn forbid(&self, why: &str) -> Status {
        let name = if self.name.is_empty() { "Unknown" } else { &self.name };
        Status::forbidden(&self.group, &self.resource, name, why)
    }

    fn tracks(&self, name: &str) -> bool {
        self.measure.tracks(name, &self.classes)
    }

    fn usage(&self, facts: &Facts<'_>) -> Amounts {
        self.measure.usage(facts, &self.classes)
    }

    /// Adds what the request uses to the quotas that it concerns. Where it is refused they may be changed in part.
    pub fn count(&self, quotas: &mut [Quota], limited: &[Limited]) -> Result<Outcome, Status> {
        let facts = self.facts(&self.object);
        let usage = self.usage(&facts);
        let wanted = self.wanted(&usage, limited);
        let wanted_scopes: Vec<Scope<'_>> = match facts.has_scopes() {
            true => limited.iter().flat_map(|one| &one.scopes).map(ScopeExpression::scope).collect(),
            false => Vec::new(),
        };
        let wanted_scopes: Vec<_> = wanted_scopes.into_iter().filter(|scope| facts.is_in(scope)).collect();

        let (mut concerned, mut covered, mut scopes) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for (index, quota) in quotas.iter().enumerate() {
            let own_scopes = quota.scopes();
            scopes.extend(
                own_scopes.iter().filter(|scope| facts.is_in(scope)).map(|scope| scope.name.to_owned()),
            );
            let tracked: Vec<&str> =
                quota.hard.keys().map(String::as_str).filter(|name| self.tracks(name)).collect();
            if tracked.is_empty() || !facts.is_in_all(&own_scopes) {
                continue;
            }
            if let Some(missing) = facts.missing(&tracked) {
                return Err(self.forbid(&format!("failed quota: {}: {missing}", quota.name)));
            }
            if !tracked.iter().all(|name| quota.used.contains_key(*name)) {
                let why =
                    format!("status unknown for quota: {}, resources: {}", quota.name, tracked.join(","));
                return Err(self.forbid(&why));
            }
            covered.extend(tracked.into_iter().map(str::to_owned));
            concerned.push(index);
        }
        let negative: Vec<&str> =
            usage.iter().filter(|(_, amount)| amount.sign().is_lt()).map(|(name, _)| name.as_str()).collect();
        if !negative.is_empty() {
            let why = format!("quota usage is negative for resource(s): {}", negative.join(","));
            return Err(self.forbid(&why));
        }

        let deltas = self.deltas(&usage, quotas, &concerned);
        if deltas.iter().all(|(_, delta)| delta.is_empty()) {
            return Ok(Outcome::Free);
        }
        let uncovered: Vec<&str> = wanted.iter().copied().filter(|name| !covered.contains(*name)).collect();
        if !uncovered.is_empty() {
            return Err(self.forbid(&format!("insufficient quota to consume: {}", uncovered.join(","))));
        }
        let uncovered: Vec<String> = wanted_scopes
            .iter()
            .filter(|scope| !scopes.contains(scope.name))
            .map(ToString::to_string)
            .collect();
        if !uncovered.is_empty() {
            let why = format!("insufficient quota to match these scopes: [{}]", uncovered.join(" "));
            return Err(Status::failure(500, "", &why));
        }
        let mut outcome = Outcome::Free;
        for (index, delta) in deltas {
            if let Some(quota) = index.map(|index| &mut quotas[index]) {
                outcome = if self.add(quota, &delta)? { Outcome::Charged } else { outcome };
            }
        }
        Ok(outcome)
    }

    /// Names of resources that may not be used without a quota on them.
    fn wanted<'u>(&self, usage: &'u Amounts, limited: &[Limited]) -> BTreeSet<&'u str> {
        let own = limited.iter().filter(|one| one.group == self.group && one.resource == self.resource);
        let parts: Vec<&String> = own.flat_map(|one| &one.contains).collect();
        let used = usage.iter().filter(|(_, amount)| amount.sign().is_gt()).map(|(name, _)| name.as_str());
        used.filter(|name| parts.iter().any(|part| name.contains(part.as_str()))).collect()
    }

    /// What is added to each of the quotas, or in all where there is none.
    fn deltas(
        &self,
        usage: &Amounts,
        quotas: &[Quota],
        concerned: &[usize],
    ) -> Vec<(Option<usize>, Amounts)> {
        let old =
            self.old.as_ref().map(|old| self.facts(old)).filter(|_| self.operation == Operation::Update);
        let growth = old.as_ref().map(|old| quota::growth(usage, &self.usage(old)));
        let whole = || quota::without_zeros(usage.clone());
        let delta = |index: &usize| match (&old, &growth) {
            // an object that moves into the quota's scope is new to it
            (Some(old), Some(growth)) if old.is_in_all(&quotas[*index].scopes()) => {
                quota::without_zeros(growth.clone())
            }
            _ => whole(),
        };
        match concerned {
            [] => vec![(None, growth.map_or_else(whole, quota::without_zeros))],
            concerned => concerned.iter().map(|index| (Some(*index), delta(index))).collect(),
        }
    }

    /// Whether the quota's usage changed.
    fn add(&self, quota: &mut Quota, delta: &Amounts) -> Result<bool, Status> {
        let requested = quota::mask(delta, |name| quota.hard.contains_key(name));
        let mut used = quota.used.clone();
        quota::add(&mut used, &requested);
        // a status says what is the case
        if self.subresource != "status" {
            let now = quota::mask(&used, |name| requested.contains_key(name));
            let exceeded = quota::exceeded(&now, &quota.hard);
            if !exceeded.is_empty() {
                let print = |amounts: &Amounts| {
                    quota::printed(&quota::mask(amounts, |name| exceeded.iter().any(|own| own == name)))
                };
                return Err(self.forbid(&format!(
                    "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                    quota.name,
                    print(&requested),
                    print(&quota.used),
                    print(&quota.hard)
                )));
            }
        }
        let changed = used != quota.used;
        quota.used = used;
        Ok(changed)
    }
}
