//! Equal parts of an address range, taken in turn.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

pub(super) struct Ranges {
    cluster: IpNet,
    mask: u8,
    /// A bit per part.
    used: Vec<u64>,
    count: usize,
    /// Where to look next: a part given back is not given out again at once.
    next: usize,
}

/// The most parts a range is cut into.
const MOST: u32 = 16;

impl Ranges {
    /// None where `mask` does not fit, or would make too many parts.
    pub(super) fn new(cluster: IpNet, mask: u8) -> Option<Ranges> {
        let bits = u32::from(mask).checked_sub(u32::from(cluster.prefix_len()))?;
        if mask > cluster.max_prefix_len() || bits > MOST {
            return None;
        }
        let count = 1_usize << bits;
        Some(Ranges { cluster: cluster.trunc(), mask, used: vec![0; count.div_ceil(64)], count, next: 0 })
    }

    pub(super) fn take(&mut self) -> Option<IpNet> {
        let free = (0..self.count)
            .map(|step| (self.next + step) % self.count)
            .find(|index| !self.is_used(*index))?;
        self.set(free, true);
        self.next = (free + 1) % self.count;
        Some(self.part(free))
    }

    pub(super) fn release(&mut self, cidr: IpNet) {
        if cidr.prefix_len() == self.mask
            && let Some(index) = self.index(cidr.network())
        {
            self.set(index, false);
        }
    }

    /// Marks every part that shares an address with `cidr`.
    pub(super) fn occupy_all(&mut self, cidr: IpNet) {
        let cidr = cidr.trunc();
        if cidr.contains(&self.cluster) {
            (0..self.count).for_each(|index| self.set(index, true));
        } else if self.cluster.contains(&cidr) {
            let (first, last) = (self.index(cidr.network()), self.index(cidr.broadcast()));
            if let (Some(first), Some(last)) = (first, last) {
                (first..=last).for_each(|index| self.set(index, true));
            }
        }
    }

    fn is_used(&self, index: usize) -> bool {
        self.used[index / 64] & (1 << (index % 64)) != 0
    }

    fn set(&mut self, index: usize, used: bool) {
        let bit = 1 << (index % 64);
        if used { self.used[index / 64] |= bit } else { self.used[index / 64] &= !bit }
    }

    fn shift(&self) -> u32 {
        u32::from(self.cluster.max_prefix_len() - self.mask)
    }

    fn index(&self, address: IpAddr) -> Option<usize> {
        if !self.cluster.contains(&address) {
            return None;
        }
        let offset = number(address) - number(self.cluster.network());
        usize::try_from(offset >> self.shift()).ok()
    }

    fn part(&self, index: usize) -> IpNet {
        let address = number(self.cluster.network()) + ((index as u128) << self.shift());
        let address = match self.cluster {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(address as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(address)),
        };
        IpNet::new_assert(address, self.mask)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn parts_in_turn() {
        let mut ranges = Ranges::new(net("10.244.0.0/16"), 24).unwrap();
        ranges.occupy_all(net("10.244.1.0/24"));
        assert_eq!(ranges.take(), Some(net("10.244.0.0/24")));
        assert_eq!(ranges.take(), Some(net("10.244.2.0/24")));
        ranges.release(net("10.244.0.0/24"));
        assert_eq!(ranges.take(), Some(net("10.244.3.0/24")));
    }

    #[test]
    fn the_end_and_back() {
        let mut ranges = Ranges::new(net("10.0.0.0/30"), 31).unwrap();
        assert!(ranges.take().is_some() && ranges.take().is_some());
        assert_eq!(ranges.take(), None);
        ranges.release(net("10.0.0.0/31"));
        assert_eq!(ranges.take(), Some(net("10.0.0.0/31")));
    }

    #[test]
    fn limits_and_overlaps() {
        assert!(Ranges::new(net("10.0.0.0/24"), 16).is_none());
        assert!(Ranges::new(net("fd00::/16"), 64).is_none());
        let mut six = Ranges::new(net("fd00::/56"), 64).unwrap();
        assert_eq!(six.take(), Some(net("fd00::/64")));
        assert_eq!(six.take(), Some(net("fd00:0:0:1::/64")));
        let mut four = Ranges::new(net("10.0.0.0/16"), 24).unwrap();
        four.occupy_all(net("10.0.0.0/9"));
        assert_eq!(four.take(), None);
    }
}
