//! Node ports that are taken. A number is taken for all protocols: one Service may have it for several, two may not share it.

use std::collections::{BTreeSet, HashMap};

use api::json;
use api::{Status, Tree};
use rand::Rng as _;

use crate::options::PortRange;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    range: PortRange,
    taken: BTreeSet<u16>,
    /// For a dry run, which may ask for any number: nothing is taken but what it takes itself.
    pretends: bool,
}

impl Ports {
    pub fn new(range: PortRange) -> Ports {
        Ports { range, taken: BTreeSet::new(), pretends: false }
    }

    /// These for a dry run.
    pub fn pretending(&self) -> Ports {
        Ports { range: self.range, taken: BTreeSet::new(), pretends: true }
    }

    pub fn take(&mut self, port: impl Into<i64>) -> Result<(), String> {
        let port = u16::try_from(port.into()).ok();
        if self.pretends && port.is_none() {
            return Ok(());
        }
        let port = port.filter(|port| self.pretends || self.covers(*port));
        let port = port.ok_or_else(|| {
            format!("provided port is not in the valid range. The range of valid ports is {}", self.range)
        })?;
        match self.taken.insert(port) {
            true => Ok(()),
            false => Err("provided port is already allocated".to_owned()),
        }
    }

    /// A free number, from the upper part of the range while there is room.
    pub fn any(&mut self) -> Option<u16> {
        let PortRange { first, last } = self.range;
        let size = u32::from(last - first) + 1;
        let reserved = (size / 32).clamp(16, 128).min(size);
        let start = rand::rng().random_range(0..size);
        let numbers = (0..size).map(|step| first + ((start + step) % size) as u16);
        let free = |number: &u16| !self.taken.contains(number);
        let upper = numbers.clone().filter(|number| u32::from(number - first) >= reserved).find(free);
        let found = upper.or_else(|| numbers.into_iter().find(free))?;
        self.taken.insert(found);
        Some(found)
    }

    pub fn range(&self) -> PortRange {
        self.range
    }

    pub fn covers(&self, port: u16) -> bool {
        (self.range.first..=self.range.last).contains(&port)
    }

    pub fn contains(&self, port: u16) -> bool {
        self.taken.contains(&port)
    }

    pub fn taken(&self) -> impl Iterator<Item = u16> {
        self.taken.iter().copied()
    }

    pub fn give_back(&mut self, ports: &[u16]) {
        for port in ports {
            self.taken.remove(port);
        }
    }
}

/// Protocol and number of the node ports of a Service's ports.
fn pairs(service: &Tree) -> impl Iterator<Item = (&str, i64)> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| Some((protocol(port), number(&port["nodePort"])?)))
}

fn protocol(port: &Tree) -> &str {
    port["protocol"].as_str().unwrap_or("TCP")
}

/// The number in a field, in range or not; zero is unset.
fn number(value: &Tree) -> Option<i64> {
    value.as_i64().filter(|number| *number != 0)
}

/// All node ports of a Service, that of its health check included. A stored number is in range.
pub fn of(service: &Tree) -> Vec<u16> {
    let health = number(&service["spec"]["healthCheckNodePort"]);
    let numbers = pairs(service).map(|(_, number)| number).chain(health);
    numbers.filter_map(|number| u16::try_from(number).ok()).collect()
}

/// Whether a Service gets node ports that nobody asks for.
fn wants(service: &Tree) -> bool {
    let spec = &service["spec"];
    spec["type"] == "NodePort"
        || spec["type"] == "LoadBalancer" && spec["allocateLoadBalancerNodePorts"] != json!(false)
}

/// Ports that name no node port keep the one that a port of their name had, unless another port has it now.
pub fn carry_over(service: &mut Tree, old: &Tree) {
    if !wants(service) || !wants(old) {
        return;
    }
    let numbers = |service: &Tree| pairs(service).map(|(_, number)| number).collect::<BTreeSet<i64>>();
    let used: BTreeSet<i64> = &numbers(old) & &numbers(service);
    let name = |port: &Tree| port["name"].as_str().unwrap_or_default().to_owned();
    let had: HashMap<String, i64> = old["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| (name(port), number(&port["nodePort"]).unwrap_or_default()))
        .collect();
    for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
        let kept = had.get(&name(port)).copied().filter(|kept| *kept != 0 && !used.contains(kept));
        if let Some(kept) = kept
            && number(&port["nodePort"]).is_none()
        {
            port["nodePort"] = json!(kept);
        }
    }
}

/// What a Service's write takes, and what it gives up once it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub taken: Vec<u16>,
    pub released: Vec<u16>,
}

/// Gives a Service its node ports. Upstream treats ports of one number differently on a create, where they share a node port, and on an update.
pub fn allocate(
    service: &mut Tree,
    old: Option<&Tree>,
    name: &str,
    ports: &mut Ports,
) -> Result<Plan, Status> {
    let before = old.map(of).unwrap_or_default();
    let mut plan = Plan::default();
    let spec = &service["spec"];
    let balanced = spec["type"] == "LoadBalancer";
    let wants = wants(service);
    if balanced || spec["type"] == "NodePort" {
        match old {
            None => create(service, wants, name, ports, &mut plan.taken)?,
            Some(_) => update(service, wants, &before, name, ports, &mut plan.taken)?,
        }
    }
    if balanced && service["spec"]["externalTrafficPolicy"] == "Local" {
        health_check(service, &before, ports, &mut plan.taken)?;
    }
    let kept = of(service);
    plan.released = before.into_iter().filter(|port| !kept.contains(port)).collect();
    Ok(plan)
}

fn any(ports: &mut Ports, taken: &mut Vec<u16>) -> Result<i64, Status> {
    let found =
        ports.any().ok_or_else(|| Status::internal("failed to allocate a nodePort: range is full"))?;
    taken.push(found);
    Ok(found.into())
}

fn take(port: i64, index: usize, name: &str, ports: &mut Ports, taken: &mut Vec<u16>) -> Result<(), Status> {
    ports.take(port).map_err(|why| {
        let field = format!("spec.ports[{index}].nodePort");
        super::invalid(name, &field, format!("Invalid value: {port}: {why}"))
    })?;
    taken.extend(u16::try_from(port));
    Ok(())
}

/// Whether a number is among these ports.
fn among(ports: &[u16], number: i64) -> bool {
    ports.iter().any(|port| i64::from(*port) == number)
}

fn create(
    service: &mut Tree,
    wants: bool,
    name: &str,
    ports: &mut Ports,
    taken: &mut Vec<u16>,
) -> Result<(), Status> {
    let count = service["spec"]["ports"].as_array().map_or(0, Vec::len);
    // allocated node ports, by the number of the Service's own port
    let mut given: Vec<(Tree, i64)> = Vec::new();
    for index in 0..count {
        let own = service["spec"]["ports"][index]["port"].clone();
        let asked = number(&service["spec"]["ports"][index]["nodePort"]);
        if asked.is_none() && !wants {
            continue;
        }
        let shared = given.iter().find(|(port, _)| *port == own).map(|(_, number)| *number);
        let chosen = match (shared, asked) {
            (Some(shared), None) => shared,
            (Some(shared), Some(asked)) => {
                if shared != asked {
                    take(asked, index, name, ports, taken)?;
                }
                asked
            }
            (None, _) => {
                let all = service["spec"]["ports"].as_array().into_iter().flatten();
                let wanted =
                    all.filter(|port| port["port"] == own).find_map(|port| number(&port["nodePort"]));
                let chosen = match wanted {
                    Some(wanted) => {
                        take(wanted, index, name, ports, taken)?;
                        wanted
                    }
                    None => any(ports, taken)?,
                };
                given.push((own, chosen));
                chosen
            }
        };
        service["spec"]["ports"][index]["nodePort"] = json!(chosen);
    }
    Ok(())
}

fn update(
    service: &mut Tree,
    wants: bool,
    before: &[u16],
    name: &str,
    ports: &mut Ports,
    taken: &mut Vec<u16>,
) -> Result<(), Status> {
    let mut kept: Vec<(String, i64)> = Vec::new();
    for (index, port) in service["spec"]["ports"].as_array_mut().into_iter().flatten().enumerate() {
        let chosen = match number(&port["nodePort"]) {
            Some(asked) => {
                if !among(before, asked) && !among(taken, asked) {
                    take(asked, index, name, ports, taken)?;
                }
                asked
            }
            None if wants => any(ports, taken)?,
            None => continue,
        };
        port["nodePort"] = json!(chosen);
        let pair = (protocol(port).to_owned(), chosen);
        if kept.contains(&pair) {
            let message = format!("duplicate nodePort: {{{} {}}}", pair.0, pair.1);
            return Err(Status::failure(500, "", message));
        }
        kept.push(pair);
    }
    Ok(())
}

fn health_check(
    service: &mut Tree,
    before: &[u16],
    ports: &mut Ports,
    taken: &mut Vec<u16>,
) -> Result<(), Status> {
    match number(&service["spec"]["healthCheckNodePort"]) {
        Some(asked) if among(before, asked) => {}
        Some(asked) => {
            ports.take(asked).map_err(|why| {
                Status::internal(format!("failed to allocate requested HealthCheck NodePort {asked}: {why}"))
            })?;
            taken.extend(u16::try_from(asked));
        }
        None => {
            if let Some(found) = ports.any() {
                taken.push(found);
                service["spec"]["healthCheckNodePort"] = json!(found);
            }
        }
    }
    Ok(())
}
