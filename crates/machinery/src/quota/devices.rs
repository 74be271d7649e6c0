//! What claims of devices use: their number, and devices by class.

use super::pods::is_of_extended;
use super::{Amounts, add, number, one};
use crate::Quantity;

/// Device classes and the extended resources that they stand for.
pub trait Classes {
    /// The extended resource of a class, where it has one.
    fn resource_of(&self, class: &str) -> Option<String>;

    /// Whether some class stands for an extended resource.
    fn is_extended(&self, resource: &str) -> bool;
}

/// No classes.
impl Classes for () {
    fn resource_of(&self, _: &str) -> Option<String> {
        None
    }

    fn is_extended(&self, _: &str) -> bool {
        false
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceClaim<'a> {
    pub requests: Vec<Request<'a>>,
    /// What the pod is charged with for whose extended resources the claim was made.
    pub charged_to_pod: Amounts,
}

/// Alternatives of a request: class, and how many devices.
pub type Request<'a> = Vec<(&'a str, i64)>;

const COUNT: &str = "count/resourceclaims.resource.k8s.io";
const PER_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
const IMPLICIT: &str = "requests.deviceclass.resource.kubernetes.io/";
/// Devices that a claim may be allocated: what a request for all of them counts as.
pub const MOST_DEVICES: i64 = 32;

pub(super) fn tracks(name: &str, classes: &dyn Classes) -> bool {
    if name == COUNT || name.ends_with(PER_CLASS) {
        return true;
    }
    if name.strip_prefix(IMPLICIT).is_some_and(|class| classes.resource_of(class).is_some()) {
        return true;
    }
    let resource = name.strip_prefix("requests.").filter(|_| is_of_extended(name));
    resource.is_some_and(|resource| classes.is_extended(resource))
}

impl DeviceClaim<'_> {
    pub(super) fn usage(&self, classes: &dyn Classes) -> Amounts {
        let mut usage = Amounts::from([(COUNT.to_owned(), one())]);
        for request in &self.requests {
            // of each class the most that one of the alternatives takes
            let mut most = Amounts::new();
            for (class, count) in request {
                let count = number(usize::try_from(*count).unwrap_or(0));
                let known = most.entry(format!("{class}{PER_CLASS}")).or_insert(count);
                *known = (*known).max(count);
            }
            add(&mut usage, &most);
        }
        let extended = self.extended(&usage, classes);
        usage.extend(extended);
        usage
    }

    /// The same devices by the names of extended resources, but for those that the pod is charged with.
    fn extended(&self, usage: &Amounts, classes: &dyn Classes) -> Amounts {
        let mut extended = Amounts::new();
        for (name, count) in usage {
            let Some(class) = name.strip_suffix(PER_CLASS).filter(|class| !class.is_empty()) else {
                continue;
            };
            extended.insert(format!("{IMPLICIT}{class}"), *count);
            if let Some(resource) = classes.resource_of(class) {
                extended.insert(format!("requests.{resource}"), *count);
            }
        }
        for (name, count) in &mut extended {
            *count = count.sub(self.charged_to_pod.get(name).unwrap_or(&Quantity::ZERO));
        }
        extended.retain(|_, count| count.sign().is_gt());
        extended
    }
}
