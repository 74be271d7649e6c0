//! Which devices are allocated, counted by difference: whole ones by the claims that have them, shared ones by the amounts
//! that claims take of them.

use rustc_hash::FxHashMap;

use super::DeviceId;

/// What a claim takes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taken {
    /// Devices that no other claim may have.
    pub exclusive: Vec<DeviceId>,
    pub shares: Vec<Share>,
}

/// A part of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub id: DeviceId,
    /// By the name of the capacity, in billionths.
    pub amounts: Vec<(String, i128)>,
}

/// Amounts by the name of a capacity, in billionths.
pub type Amounts = FxHashMap<String, i128>;

#[derive(Clone, Debug, Default)]
pub struct Allocated {
    /// How many claims have a device.
    exclusive: FxHashMap<DeviceId, u32>,
    shared: FxHashMap<DeviceId, (u32, Amounts)>,
}

impl Allocated {
    /// Whether a claim has the whole of it.
    pub fn is_taken(&self, id: &DeviceId) -> bool {
        self.exclusive.contains_key(id)
    }

    /// What claims have of a device that they share; none where nobody has anything of it.
    pub fn shares(&self, id: &DeviceId) -> Option<&Amounts> {
        self.shared.get(id).map(|(_, amounts)| amounts)
    }

    pub fn is_in_use(&self, id: &DeviceId) -> bool {
        self.is_taken(id) || self.shared.contains_key(id)
    }

    /// Adds what a claim takes, or takes it away with `by` -1.
    pub(super) fn count(&mut self, taken: &Taken, by: i32) {
        for id in &taken.exclusive {
            let count = self.exclusive.entry(id.clone()).or_default();
            *count = count.saturating_add_signed(by);
            if *count == 0 {
                self.exclusive.remove(id);
            }
        }
        for share in &taken.shares {
            let (count, amounts) = self.shared.entry(share.id.clone()).or_default();
            *count = count.saturating_add_signed(by);
            for (name, amount) in &share.amounts {
                *amounts.entry(name.clone()).or_default() += amount * i128::from(by);
            }
            if *count == 0 {
                self.shared.remove(&share.id);
            }
        }
    }
}
