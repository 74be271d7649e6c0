//! In which order groups and versions are shown, by upstream's numbers: the larger comes first.

/// A group's and a version's within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priorities {
    pub group: i64,
    pub version: i64,
}

/// Of the kinds that definitions make.
pub const CUSTOM: Priorities = Priorities { group: 1000, version: 100 };

/// The API of APIServices is first, and nobody else's.
pub const OWN_GROUP: &str = "apiregistration.k8s.io";
const OWN: Priorities = Priorities { group: 20001, version: 0 };

/// Group, its priority, and its versions with theirs.
type Row = (&'static str, i64, &'static [(&'static str, i64)]);

const BUILT_IN: &[Row] = &[
    ("", 18000, &[("v1", 1)]),
    ("apps", 17800, &[("v1", 15)]),
    ("events.k8s.io", 17750, &[("v1", 15), ("v1beta1", 5)]),
    ("authentication.k8s.io", 17700, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("authorization.k8s.io", 17600, &[("v1", 15)]),
    ("autoscaling", 17500, &[("v2", 30), ("v1", 15), ("v2beta1", 9), ("v2beta2", 1)]),
    ("batch", 17400, &[("v1", 15), ("v1beta1", 9), ("v2alpha1", 9)]),
    ("certificates.k8s.io", 17300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("networking.k8s.io", 17200, &[("v1", 15), ("v1beta1", 9)]),
    ("policy", 17100, &[("v1", 15), ("v1beta1", 9)]),
    ("rbac.authorization.k8s.io", 17000, &[("v1", 15)]),
    ("storage.k8s.io", 16800, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("admissionregistration.k8s.io", 16700, &[("v1", 15), ("v1beta1", 12), ("v1alpha1", 9)]),
    ("apiextensions.k8s.io", 16700, &[("v1", 15)]),
    ("scheduling.k8s.io", 16600, &[("v1", 15), ("v1beta1", 9), ("v1alpha3", 3)]),
    ("coordination.k8s.io", 16500, &[("v1", 15), ("v1beta1", 13), ("v1alpha2", 12)]),
    ("node.k8s.io", 16300, &[("v1", 15), ("v1beta1", 9), ("v1alpha1", 1)]),
    ("discovery.k8s.io", 16200, &[("v1", 15), ("v1beta1", 12)]),
    ("resource.k8s.io", 16200, &[("v1", 21), ("v1beta2", 15), ("v1beta1", 9), ("v1alpha3", 1)]),
    (
        "flowcontrol.apiserver.k8s.io",
        16100,
        &[("v1", 21), ("v1beta3", 18), ("v1beta2", 15), ("v1beta1", 12), ("v1alpha1", 9)],
    ),
    ("internal.apiserver.k8s.io", 16000, &[("v1alpha1", 9)]),
    ("storagemigration.k8s.io", 15800, &[("v1", 15), ("v1beta1", 9)]),
    ("lifecycle.k8s.io", 15700, &[("v1alpha1", 1)]),
];

/// Of a built-in version, where upstream has set them: it makes no APIService for others.
pub fn built_in(group: &str, version: &str) -> Option<Priorities> {
    let (_, priority, versions) = BUILT_IN.iter().find(|(own, ..)| *own == group)?;
    let (_, own) = versions.iter().find(|(own, _)| *own == version)?;
    Some(Priorities { group: *priority, version: *own })
}

/// Of a version that this server answers itself and that no APIService says otherwise of.
pub fn standard(group: &str, version: &str, is_custom: bool) -> Priorities {
    match built_in(group, version) {
        _ if is_custom => CUSTOM,
        _ if group == OWN_GROUP => OWN,
        Some(priorities) => priorities,
        None => Priorities { group: 1000, version: 15 },
    }
}
