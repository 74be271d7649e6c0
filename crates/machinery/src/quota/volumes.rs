//! What claims of volumes use: their number and the storage they ask for, in all and by class.

use super::{Amounts, Scope, one};
use crate::Quantity;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeClaim<'a> {
    /// By the annotation or the field; empty without one.
    pub storage_class: &'a str,
    /// The attributes classes that the claim asks for, has, or is about to have.
    pub attributes_classes: Vec<&'a str>,
    pub requested: Option<Quantity>,
    /// `status.allocatedResources`: a volume that was made larger stays so, whatever the claim asks for by now.
    pub allocated: Option<Quantity>,
}

const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";

pub(super) fn tracks(name: &str) -> bool {
    let plain = |name: &str| matches!(name, CLAIMS | STORAGE);
    let of_class = name.rsplit_once(BY_CLASS).is_some_and(|(_, resource)| plain(resource));
    plain(name) || name == "count/persistentvolumeclaims" || of_class
}

impl VolumeClaim<'_> {
    pub(super) fn usage(&self) -> Amounts {
        let of_class = |resource: &str| format!("{}{BY_CLASS}{resource}", self.storage_class);
        let has_class = !self.storage_class.is_empty();
        let mut usage: Amounts =
            [(CLAIMS.to_owned(), one()), ("count/persistentvolumeclaims".to_owned(), one())].into();
        if has_class {
            usage.insert(of_class(CLAIMS), one());
        }
        if let Some(requested) = self.requested {
            let storage =
                whole(self.allocated.filter(|allocated| *allocated > requested).unwrap_or(requested));
            usage.insert(STORAGE.to_owned(), storage);
            if has_class {
                usage.insert(of_class(STORAGE), storage);
            }
        }
        usage
    }

    pub(super) fn is_in(&self, scope: &Scope<'_>) -> bool {
        if scope.name != "VolumeAttributesClass" {
            return false;
        }
        match self.attributes_classes.as_slice() {
            [] => scope.admits(""),
            classes => classes.iter().any(|class| scope.admits(class)),
        }
    }
}

/// Quotas count whole bytes.
fn whole(amount: Quantity) -> Quantity {
    match amount.is_integer() {
        true => amount,
        false => Quantity::new(amount.value(), amount.format()),
    }
}
