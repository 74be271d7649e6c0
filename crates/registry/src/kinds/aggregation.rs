//! APIServices: named `version.group`, so that the core group's has a dot at its end.

use machinery::names;

use crate::generic::{Generation, Profile};

pub(super) const PROFILES: &[Profile] = &[Profile {
    name: names::path_segment,
    generation: Generation::Unset,
    status: true,
    ..Profile::new("apiregistration.k8s.io", "apiservices")
}];
