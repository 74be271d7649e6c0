//! The addresses of one service range that are taken.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use rand::Rng as _;

/// Random tries before the range is walked.
const TRIES: usize = 64;
/// Limit of addresses that are used of an IPv6 range.
const MOST: u128 = 1 << 20;

#[derive(Debug)]
pub struct Addresses {
    range: IpNet,
    taken: HashSet<IpAddr>,
}

impl Addresses {
    pub fn new(range: IpNet) -> Addresses {
        Addresses { range: range.trunc(), taken: HashSet::new() }
    }

    pub fn is_ipv4(&self) -> bool {
        matches!(self.range, IpNet::V4(_))
    }

    /// The first one, which is the API server's own Service's.
    pub fn first(&self) -> IpAddr {
        self.at(1)
    }

    /// How many may be given out: not the network's own and, of IPv4, not the broadcast address.
    fn size(&self) -> u128 {
        let bits = self.range.max_prefix_len() - self.range.prefix_len();
        let all = if bits >= 127 { MOST } else { 1u128 << bits };
        match self.range {
            IpNet::V4(_) => all.saturating_sub(2),
            IpNet::V6(_) => all.saturating_sub(1).min(MOST),
        }
    }

    fn at(&self, offset: u128) -> IpAddr {
        match self.range.network() {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base).wrapping_add(offset as u32)).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base).wrapping_add(offset)).into()),
        }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        if !self.range.contains(&address) || address == self.range.network() {
            return false;
        }
        !(self.is_ipv4() && address == self.range.broadcast() && self.size() > 0)
    }

    pub fn take(&mut self, address: IpAddr) -> Result<(), String> {
        if !self.contains(address) {
            return Err("the provided network does not match the current range".to_owned());
        }
        match self.taken.insert(address) {
            true => Ok(()),
            false => Err("provided IP is already allocated".to_owned()),
        }
    }

    /// What a dry run answers: whether others have it is not asked.
    pub fn would_take(&self, address: IpAddr) -> Result<(), String> {
        let range = &self.range;
        self.contains(address).then_some(()).ok_or_else(|| {
            format!(
                "the provided IP ({address}) is not in the valid range. The range of valid IPs is {range}"
            )
        })
    }

    /// Any free one: from the upper part of the range while there is room, because the lower is where people pick by hand.
    pub fn any(&mut self) -> Result<IpAddr, String> {
        let size = self.size();
        let reserved = (size / 16).clamp(16, 256).min(size);
        let mut random = rand::rng();
        for low in [reserved, 0] {
            if low >= size {
                continue;
            }
            for _ in 0..TRIES {
                let address = self.at(1 + random.random_range(low..size));
                if self.taken.insert(address) {
                    return Ok(address);
                }
            }
            if let Some(address) =
                (low..size).map(|offset| self.at(1 + offset)).find(|address| !self.taken.contains(address))
            {
                self.taken.insert(address);
                return Ok(address);
            }
        }
        Err("range is full".to_owned())
    }

    pub fn taken(&self) -> impl Iterator<Item = &IpAddr> {
        self.taken.iter()
    }

    pub fn give_back(&mut self, address: IpAddr) {
        self.taken.remove(&address);
    }
}
