//! Node ports that are taken, by protocol: one number may serve TCP and UDP of one Service.

use std::collections::HashSet;

use api::Tree;
use rand::Rng as _;

use crate::options::PortRange;

/// Protocol and number.
pub type Port = (String, u16);

pub struct Ports {
    range: PortRange,
    taken: HashSet<Port>,
}

impl Ports {
    pub fn new(range: PortRange) -> Ports {
        Ports { range, taken: HashSet::new() }
    }

    pub fn take(&mut self, port: Port) -> Result<(), String> {
        if port.1 < self.range.first || port.1 > self.range.last {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {}",
                self.range
            ));
        }
        match self.taken.insert(port) {
            true => Ok(()),
            false => Err("provided port is already allocated".to_owned()),
        }
    }

    /// A number free for every protocol, from the upper part of the range while there is room.
    pub fn any(&mut self, protocol: &str) -> Option<u16> {
        let PortRange { first, last } = self.range;
        let size = u32::from(last - first) + 1;
        let reserved = (size / 32).clamp(16, 128).min(size);
        let free = |number: u16| {
            !["TCP", "UDP", "SCTP"]
                .iter()
                .any(|protocol| self.taken.contains(&((*protocol).to_owned(), number)))
        };
        let start = rand::rng().random_range(0..size);
        let numbers = (0..size).map(|step| first + ((start + step) % size) as u16);
        let upper = numbers
            .clone()
            .filter(|number| u32::from(number - first) >= reserved)
            .find(|number| free(*number));
        let found = upper.or_else(|| numbers.into_iter().find(|number| free(*number)))?;
        self.taken.insert((protocol.to_owned(), found));
        Some(found)
    }

    pub fn taken(&self) -> impl Iterator<Item = &Port> {
        self.taken.iter()
    }

    pub fn give_back(&mut self, ports: &[Port]) {
        for port in ports {
            self.taken.remove(port);
        }
    }
}

/// All node ports of a Service, that of its health check included.
pub fn of(service: &Tree) -> Vec<Port> {
    let number = |value: &Tree| {
        value.as_u64().and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
    };
    let mut ports: Vec<Port> = service["spec"]["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some((port["protocol"].as_str().unwrap_or("TCP").to_owned(), number(&port["nodePort"])?))
        })
        .collect();
    ports.extend(number(&service["spec"]["healthCheckNodePort"]).map(|number| ("TCP".to_owned(), number)));
    ports
}
