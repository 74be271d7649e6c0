//! The search for devices of a node that satisfy all requests of a pod's claims together. It is exhaustive: one device after
//! the other is tried for each request, in the order of pools, slices and devices, and the first solution is taken.
//! Steps are counted, so that a search without end ends.

use std::sync::Arc;

use machinery::quantity::Quantity;
use rustc_hash::{FxHashMap, FxHashSet};

use super::capacity;
use super::pools::{self, Pool, State};
use super::selectors;
use crate::cluster::facts::devices::{
    Allocated, Amounts, Attribute, AttributeConstraint, Device, DeviceClaim, DeviceClass, DeviceId, Exact,
    Inventory, Selector, Share, Slice, Taken,
};
use crate::cluster::{Node, Symbol};

/// The most devices of a claim.
const MOST: usize = 32;
/// How deep a search may go: a level for each claim, request and device. What a stack has room for.
const MOST_LEVELS: usize = 600;
/// So much of an expression's cost is worth a step.
const COST_OF_STEP: u64 = 100;

pub(super) struct Input<'a> {
    pub(super) claims: &'a [Arc<DeviceClaim>],
    pub(super) classes: &'a FxHashMap<Symbol, Arc<DeviceClass>>,
    pub(super) inventory: &'a Inventory,
    pub(super) allocated: &'a Allocated,
}

/// What was found for a claim.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) devices: Vec<Picked>,
    /// Which alternative of each request.
    pub(super) alternatives: Vec<usize>,
}

impl Found {
    /// What others can no longer have.
    pub(super) fn taken(&self, claim: &DeviceClaim) -> Taken {
        let mut taken = Taken::default();
        for picked in &self.devices {
            let request = claim.requests.get(picked.request).and_then(|request| request.exactly.as_ref());
            if request.is_some_and(Exact::has_admin_access) {
                continue;
            }
            match &picked.share {
                None => taken.exclusive.push(picked.id.clone()),
                Some(share) => {
                    let amounts = share.iter().map(|(name, amount)| (name.clone(), amount.nanos()));
                    taken.shares.push(Share { id: picked.id.clone(), amounts: amounts.collect() });
                }
            }
        }
        taken
    }
}

#[derive(Clone, Debug)]
pub(super) struct Picked {
    pub(super) request: usize,
    pub(super) id: DeviceId,
    pub(super) slice: Arc<Slice>,
    /// Place in its slice.
    pub(super) place: usize,
    /// What it takes of a device that others may have parts of.
    pub(super) share: Option<Vec<(String, Quantity)>>,
}

impl Picked {
    pub(super) fn device(&self) -> &Device {
        &self.slice.devices[self.place]
    }
}

/// Why a search ended without a solution.
#[derive(Debug)]
enum Stop {
    /// A claim would have too many devices: fewer may do elsewhere.
    TooMany,
    Failed(String),
}

/// Why nothing can be said of the claims' devices.
#[derive(Debug)]
pub(super) enum Failure {
    /// Other nodes may do.
    OfNode(String),
    /// Something is wrong with the claims or their classes.
    Fatal(String),
}

impl From<String> for Failure {
    fn from(message: String) -> Failure {
        Failure::Fatal(message)
    }
}

/// A request, or one of its alternatives.
struct Wanted<'a> {
    exact: &'a Exact,
    class: Arc<DeviceClass>,
    /// As results name it.
    name: String,
    /// None for all.
    count: usize,
    /// The devices of a request for all.
    all: Option<Vec<Place>>,
}

/// A device, by its place in pools, slices and devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    pool: usize,
    slice: usize,
    device: usize,
}

impl Place {
    fn next(self) -> Place {
        Place { device: self.device + 1, ..self }
    }
}

/// All devices that are found have the attribute, with one value or with different ones.
struct Constraint<'a> {
    of: &'a AttributeConstraint,
    attribute: &'a str,
    is_distinct: bool,
    values: Vec<Attribute>,
}

impl Constraint<'_> {
    fn concerns(&self, request: &str) -> bool {
        let base = request.split_once('/').map_or(request, |(base, _)| base);
        self.of.requests.is_empty() || self.of.requests.iter().any(|own| own == request || own == base)
    }

    fn add(&mut self, driver: &str, device: &Device) -> bool {
        let local = self.attribute.split_once('/').filter(|(domain, _)| *domain == driver);
        let found = device.attributes.get(self.attribute);
        let found = found.or_else(|| device.attributes.get(local?.1));
        let Some(value) = found.filter(|value| **value != Attribute::Unknown) else { return false };
        let fits = match self.is_distinct {
            true => !self.values.contains(value),
            false => self.values.first().is_none_or(|first| first == value),
        };
        if fits {
            self.values.push(value.clone());
        }
        fits
    }
}

/// Where a search is: claim, request, alternative, and how many devices it has of it.
#[derive(Clone, Copy, Default)]
struct At {
    claim: usize,
    request: usize,
    alternative: usize,
    device: usize,
}

struct Search<'a> {
    input: &'a Input<'a>,
    node: &'a Node,
    pools: Vec<Pool>,
    /// By claim, request and alternative.
    wanted: Vec<Vec<Vec<Wanted<'a>>>>,
    constraints: Vec<Vec<Constraint<'a>>>,
    /// Devices that are being taken, by the claims that take them.
    taken: FxHashMap<Place, FxHashSet<usize>>,
    /// Parts that are being taken of devices, by how many requests.
    shared: FxHashMap<Place, (usize, Amounts)>,
    matches: FxHashMap<(usize, usize, usize, Place), bool>,
    found: Vec<Found>,
    /// Steps that are left.
    steps: usize,
    levels: usize,
}

/// The devices for all claims; none where there is no solution, an error where that cannot be known.
pub(super) fn search(
    input: &Input<'_>,
    node: &Node,
    steps: Option<usize>,
) -> Result<Option<Vec<Found>>, Failure> {
    let mut search = Search {
        input,
        node,
        pools: pools::gather(input.inventory, input.allocated, node),
        wanted: Vec::new(),
        constraints: Vec::new(),
        taken: FxHashMap::default(),
        shared: FxHashMap::default(),
        matches: FxHashMap::default(),
        found: Vec::new(),
        steps: steps.unwrap_or(usize::MAX),
        levels: 0,
    };
    for (at, claim) in input.claims.iter().enumerate() {
        search.prepare(at, claim)?;
    }
    match search.find(At::default(), false, Place::default()) {
        Ok(true) => Ok(Some(search.found)),
        Ok(false) | Err(Stop::TooMany) => {
            match search.pools.iter().any(|pool| pool.state == State::Invalid) {
                true => Err(Failure::OfNode("invalid resource pools were encountered".to_owned())),
                false => Ok(None),
            }
        }
        Err(Stop::Failed(message)) => Err(Failure::Fatal(message)),
    }
}

impl<'a> Search<'a> {
    fn prepare(&mut self, at: usize, claim: &'a DeviceClaim) -> Result<(), String> {
        self.found.push(Found { devices: Vec::new(), alternatives: vec![0; claim.requests.len()] });
        self.wanted.push(Vec::new());
        let mut least = 0;
        for (number, request) in claim.requests.iter().enumerate() {
            self.wanted[at].push(Vec::new());
            let alternatives: Vec<(&Exact, String)> = match &request.exactly {
                Some(exact) => vec![(exact, request.name.clone())],
                None => {
                    let all = request.first_available.iter();
                    all.map(|exact| (exact, format!("{}/{}", request.name, exact.name))).collect()
                }
            };
            for (alternative, (exact, name)) in alternatives.into_iter().enumerate() {
                let own = At { claim: at, request: number, alternative, device: 0 };
                self.want(own, claim, exact, name)?;
            }
            let counts = self.wanted[at][number].iter().map(|wanted| wanted.count);
            let fewest = counts.min().unwrap_or(0);
            if fewest > MOST - least {
                let (key, name) = (&claim.key, &request.name);
                return Err(format!(
                    "claim {key}, request {name}: adding {fewest} devices exceeds the claim limit of {MOST}, with {least} already accounted for"
                ));
            }
            least += fewest;
        }
        let mut constraints = Vec::new();
        for (number, of) in claim.constraints.iter().enumerate() {
            let (attribute, is_distinct) = match (&of.match_attribute, &of.distinct_attribute) {
                (Some(name), _) => (name, false),
                (None, Some(name)) => (name, true),
                (None, None) => {
                    return Err(format!(
                        "claim {}, constraint #{number}: empty constraint (unsupported constraint type?)",
                        claim.key
                    ));
                }
            };
            constraints.push(Constraint { of, attribute, is_distinct, values: Vec::new() });
        }
        self.constraints.push(constraints);
        Ok(())
    }

    fn want(&mut self, at: At, claim: &DeviceClaim, exact: &'a Exact, name: String) -> Result<(), String> {
        let own = if exact.name.is_empty() { name.clone() } else { exact.name.clone() };
        let failed = |why: String| Err(format!("claim {}, request {own}: {why}", claim.key));
        if !exact.derived_attributes.is_empty() {
            return failed("cannot handle request with derived attributes, the feature is disabled".into());
        }
        if let Some(number) = exact.selectors.iter().position(|selector| selector.cel.is_none()) {
            return failed(format!("selector #{number}: CEL expression empty (unsupported selector type?)"));
        }
        let class = &exact.device_class_name;
        let Some(found) = self.input.classes.get(&Symbol::new(class)) else {
            return failed(format!(
                "could not retrieve device class {class}: deviceclass.resource.k8s.io {class:?} not found"
            ));
        };
        let mut wanted = Wanted { exact, class: found.clone(), name, count: 0, all: None };
        match exact.allocation_mode.as_str() {
            "ExactCount" => wanted.count = usize::try_from(exact.count).unwrap_or(usize::MAX),
            "All" => {
                for pool in &self.pools {
                    let what = match pool.state {
                        State::Whole => continue,
                        State::Incomplete => "being updated",
                        State::Invalid => "invalid",
                    };
                    let pool = format!("{}/{}", pool.driver, pool.name);
                    return failed(format!(
                        "asks for all devices, but resource pool {pool} is currently {what}"
                    ));
                }
                self.wanted[at.claim][at.request].push(wanted);
                let mut all = Vec::new();
                let mut place = self.settle(Place::default());
                while let Some(own) = place {
                    self.spend(1)?;
                    let device = &self.slice(own).devices[own.device];
                    let name = device.name.clone();
                    let is_enough = || {
                        let enough = capacity::has_left(exact, device, &[]);
                        enough.or_else(|why| {
                            failed(format!("checking capacity for device {name}: {why}")).map(|()| false)
                        })
                    };
                    let is_enough = is_enough();
                    if self.is_match(at, own)? && is_enough? {
                        all.push(own);
                    }
                    place = self.settle(own.next());
                }
                let Some(wanted) = self.wanted[at.claim][at.request].last_mut() else { return Ok(()) };
                wanted.count = all.len();
                wanted.all = Some(all);
                return Ok(());
            }
            mode => return failed(format!("unsupported count mode {mode}")),
        }
        self.wanted[at.claim][at.request].push(wanted);
        Ok(())
    }

    /// The first place that has a device, from this one on.
    fn settle(&self, mut place: Place) -> Option<Place> {
        loop {
            let slices = &self.pools.get(place.pool)?.slices;
            match slices.get(place.slice) {
                None => place = Place { pool: place.pool + 1, slice: 0, device: 0 },
                Some(slice) if place.device >= slice.devices.len() => {
                    place = Place { slice: place.slice + 1, device: 0, ..place };
                }
                Some(_) => return Some(place),
            }
        }
    }

    fn slice(&self, place: Place) -> &Arc<Slice> {
        &self.pools[place.pool].slices[place.slice]
    }

    /// Whether class and request select a device, and the node reaches it.
    fn is_match(&mut self, at: At, place: Place) -> Result<bool, String> {
        let key = (at.claim, at.request, at.alternative, place);
        if let Some(known) = self.matches.get(&key) {
            return Ok(*known);
        }
        let (slice, wanted) = (self.slice(place).clone(), &self.wanted[at.claim][at.request][at.alternative]);
        let device = &slice.devices[place.device];
        let claim = &self.input.claims[at.claim].key;
        let mut cost = 0;
        let matches = all_select(&wanted.class.selectors, &slice, device, &mut cost)
            .map_err(|error| format!("class {}: {error}", wanted.class.name))?
            && all_select(&wanted.exact.selectors, &slice, device, &mut cost)
                .map_err(|error| format!("claim {claim}: {error}"))?
            && slice.nodes_of(device).reach(self.node);
        self.spend(usize::try_from(cost / COST_OF_STEP).unwrap_or(usize::MAX))?;
        self.matches.insert(key, matches);
        Ok(matches)
    }

    /// Whatever takes time that somebody's claims or slices can make long takes steps.
    fn spend(&mut self, steps: usize) -> Result<(), String> {
        let node = &self.node.name;
        let failed = || format!("node {node}: timed out trying to allocate devices");
        self.steps = self.steps.checked_sub(steps).ok_or_else(failed)?;
        Ok(())
    }

    /// Goes on from a place; true when all claims have their devices.
    fn find(&mut self, at: At, is_chosen: bool, from: Place) -> Result<bool, Stop> {
        self.spend(1).map_err(Stop::Failed)?;
        if self.levels == MOST_LEVELS {
            return Err(Stop::Failed("the pod asks for too many devices".to_owned()));
        }
        self.levels += 1;
        let result = self.find_next(at, is_chosen, from);
        self.levels -= 1;
        result
    }

    fn find_next(&mut self, at: At, is_chosen: bool, from: Place) -> Result<bool, Stop> {
        let Some(requests) = self.wanted.get(at.claim) else { return Ok(true) };
        let Some(alternatives) = requests.get(at.request) else {
            let next = At { claim: at.claim + 1, ..At::default() };
            return match self.find(next, false, Place::default()) {
                // Another alternative of this claim may leave the next one what it needs.
                Err(Stop::TooMany) => Ok(false),
                result => result,
            };
        };
        let count = alternatives.len();
        if !is_chosen && count > 1 {
            return self.find_alternative(at, count);
        }
        let wanted = &alternatives[at.alternative];
        let (needed, all) = (wanted.count, wanted.all.as_ref());
        if all.is_some_and(Vec::is_empty) {
            return Ok(false);
        }
        if at.device >= needed {
            self.found[at.claim].alternatives[at.request] = at.alternative;
            let next = At { claim: at.claim, request: at.request + 1, ..At::default() };
            return self.find(next, false, Place::default());
        }
        if needed - at.device > MOST - self.found[at.claim].devices.len() {
            return Err(Stop::TooMany);
        }
        if let Some(own) = all.map(|all| all[at.device]) {
            return self.try_device(at, own, true);
        }
        let mut place = self.settle(from);
        while let Some(own) = place {
            self.spend(1).map_err(Stop::Failed)?;
            let is_whole = self.pools[own.pool].state == State::Whole;
            if is_whole && self.is_match(at, own).map_err(Stop::Failed)? && self.try_device(at, own, false)? {
                return Ok(true);
            }
            place = self.settle(own.next());
        }
        Ok(false)
    }

    fn find_alternative(&mut self, at: At, count: usize) -> Result<bool, Stop> {
        let mut all_too_many = true;
        for alternative in 0..count {
            match self.find(At { alternative, ..at }, true, Place::default()) {
                Err(Stop::TooMany) => {}
                Ok(false) => all_too_many = false,
                result => return result,
            }
        }
        if all_too_many { Err(Stop::TooMany) } else { Ok(false) }
    }

    /// Takes a device, and goes on; gives it back where that comes to nothing.
    fn try_device(&mut self, at: At, place: Place, must: bool) -> Result<bool, Stop> {
        let wanted = &self.wanted[at.claim][at.request][at.alternative];
        let (exact, name) = (wanted.exact, wanted.name.clone());
        let (slice, id) = (self.slice(place).clone(), {
            let pool = &self.pools[place.pool];
            pool.id(&pool.slices[place.slice].devices[place.device])
        });
        let device = &slice.devices[place.device];
        let takers = self.taken.get(&place);
        let in_use = match exact.has_admin_access() {
            true => takers.is_some_and(|takers| takers.contains(&at.claim)),
            false => self.input.allocated.is_taken(&id) || takers.is_some_and(|takers| !takers.is_empty()),
        };
        let tolerated = device
            .taints
            .iter()
            .filter(|taint| taint.keeps_out())
            .all(|taint| exact.tolerations.iter().any(|toleration| toleration.tolerates(taint)));
        let (others, own) = (self.input.allocated.shares(&id), self.shared.get(&place));
        let is_shared = device.is_shareable && (others.is_some() || own.is_some());
        if in_use {
            return Ok(false);
        }
        let parts: Vec<&Amounts> = others.into_iter().chain(own.map(|(_, amounts)| amounts)).collect();
        let claim = &self.input.claims[at.claim].key;
        let request = if exact.name.is_empty() { &name } else { &exact.name };
        let unclear = |why: String| {
            Stop::Failed(format!(
                "claim {claim}, request {request}: checking capacity for device {id}: {why}"
            ))
        };
        let is_enough = capacity::has_left(exact, device, &parts).map_err(unclear)?;
        // What a shared device takes of counters is counted with its first part.
        if !is_enough
            || !tolerated
            || !(is_shared || pools::has_left(&self.pools[place.pool].counters, device))
        {
            return Ok(false);
        }
        let share = device.is_shareable.then(|| capacity::consumed(exact, device)).transpose();
        let share = share.map_err(unclear)?;
        let (mut added, mut fits) = (Vec::new(), true);
        for (number, constraint) in self.constraints[at.claim].iter_mut().enumerate() {
            if !constraint.concerns(&name) {
                continue;
            }
            fits = constraint.add(slice.driver.as_str(), device);
            if !fits {
                break;
            }
            added.push(number);
        }
        let mut result = Ok(false);
        if fits {
            let counters = i128::from(!is_shared);
            pools::consume(&mut self.pools[place.pool].counters, device, counters);
            match &share {
                Some(share) => self.share(place, share, 1),
                None => drop(self.taken.entry(place).or_default().insert(at.claim)),
            }
            let picked = Picked {
                request: at.request,
                id: id.clone(),
                slice: slice.clone(),
                place: place.device,
                share: share.clone(),
            };
            self.found[at.claim].devices.push(picked);
            result = self.find(At { device: at.device + 1, ..at }, true, place.next());
            if matches!(result, Ok(true)) {
                return result;
            }
            self.found[at.claim].devices.pop();
            match &share {
                Some(share) => self.share(place, share, -1),
                None => {
                    if let Some(takers) = self.taken.get_mut(&place) {
                        takers.remove(&at.claim);
                    }
                }
            }
            pools::consume(&mut self.pools[place.pool].counters, device, -counters);
        } else if must {
            result = Err(Stop::Failed(format!(
                "claim {claim}, request {request}: cannot add device {id} because a claim constraint would not be satisfied"
            )));
        }
        for number in added {
            self.constraints[at.claim][number].values.pop();
        }
        result
    }
}

impl Search<'_> {
    /// Takes a part of a device, or gives it back with `by` -1.
    fn share(&mut self, place: Place, share: &[(String, Quantity)], by: i8) {
        let (count, amounts) = self.shared.entry(place).or_default();
        *count = count.saturating_add_signed(by.into());
        for (name, amount) in share {
            *amounts.entry(name.clone()).or_default() += amount.nanos() * i128::from(by);
        }
        if *count == 0 {
            self.shared.remove(&place);
        }
    }
}

fn all_select(
    selectors: &[Selector],
    slice: &Slice,
    device: &Device,
    cost: &mut u64,
) -> Result<bool, String> {
    for (number, selector) in selectors.iter().enumerate() {
        let Some(cel) = &selector.cel else { continue };
        let selects = selectors::selects(&cel.expression, slice.driver.as_str(), device, cost);
        match selects {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(error) if error.starts_with("CEL runtime") => {
                let id = format!("{}/{}/{}", slice.driver, slice.pool, device.name);
                return Err(format!("selector #{number} on device {id}: {error}"));
            }
            Err(error) => return Err(format!("selector #{number}: {error}")),
        }
    }
    Ok(true)
}
