//! The admission policies of the cluster, as the watch cache has them, and what is counted of them.

use std::sync::{Arc, LazyLock};

use admission::policies::{Binding, Checked, Enforcement, Policies, Policy};
use daemon::metrics::{CounterVec, HistogramVec, registry};
use parking_lot::Mutex;
use registry::Kind;
use watchcache::resources::Resources;

use crate::compiled::Compiled;
use crate::kinds;

const BUCKETS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];
const VALIDATING: &[&str] = &["enforcement_action", "error_type", "policy", "policy_binding"];
const MUTATING: &[&str] = &["error_type", "policy", "policy_binding"];

static CHECKS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_validating_admission_policy_check_total",
        "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
        VALIDATING,
    )
});

static CHECK_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "apiserver_validating_admission_policy_check_duration_seconds",
        "Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
        VALIDATING,
        BUCKETS,
    )
});

static MUTATIONS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_mutating_admission_policy_check_total",
        "Mutation admission policy check total, labeled by policy and further identified by binding.",
        MUTATING,
    )
});

static MUTATION_DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "apiserver_mutating_admission_policy_check_duration_seconds",
        "Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
        MUTATING,
        BUCKETS,
    )
});

/// Both kinds of policies.
pub struct BoundPolicies {
    validating: Bound,
    mutating: Bound,
}

impl Default for BoundPolicies {
    fn default() -> BoundPolicies {
        BoundPolicies {
            validating: Bound::new(
                kinds::validating_admission_policies(),
                kinds::validating_admission_policy_bindings(),
            ),
            mutating: Bound::new(
                kinds::mutating_admission_policies(),
                kinds::mutating_admission_policy_bindings(),
            ),
        }
    }
}

impl BoundPolicies {
    /// As of now; `None` while the caches are not filled, or cannot be read.
    pub fn all(&self, resources: &Resources, mutating: bool) -> Option<Arc<Policies>> {
        if !resources.is_synced() {
            return None;
        }
        let bound = if mutating { &self.mutating } else { &self.validating };
        bound.current(resources)
    }
}

/// Policies of a kind, joined with their bindings.
struct Bound {
    policies: Compiled<Policy>,
    bindings: Compiled<Binding>,
    joined: Mutex<Option<Joined>>,
}

struct Joined {
    policies: Arc<[Arc<Policy>]>,
    bindings: Arc<[Arc<Binding>]>,
    all: Arc<Policies>,
}

impl Bound {
    fn new(policies: &'static Arc<Kind>, bindings: &'static Arc<Kind>) -> Bound {
        Bound {
            policies: Compiled::new(policies, |object| vec![Policy::of(object)]),
            bindings: Compiled::new(bindings, |object| vec![Binding::of(object)]),
            joined: Mutex::default(),
        }
    }

    fn current(&self, resources: &Resources) -> Option<Arc<Policies>> {
        let policies = self.policies.current(resources)?;
        let bindings = self.bindings.current(resources)?;
        let mut joined = self.joined.lock();
        let known = joined.as_ref().filter(|joined| {
            Arc::ptr_eq(&joined.policies, &policies) && Arc::ptr_eq(&joined.bindings, &bindings)
        });
        if let Some(known) = known {
            return Some(Arc::clone(&known.all));
        }
        let all = Arc::new(Policies::new(&policies, &bindings));
        *joined = Some(Joined { policies, bindings, all: Arc::clone(&all) });
        Some(all)
    }
}

/// Counts a check.
pub fn count(checked: &Checked<'_>) {
    let Checked { policy, binding, error, enforcement, took } = *checked;
    let action = match enforcement {
        Enforcement::Allow => "allow",
        Enforcement::Deny => "deny",
        Enforcement::Audit => "audit",
        Enforcement::Warn => "warn",
        Enforcement::Mutation => {
            MUTATIONS.with(&[error, policy, binding]).inc();
            MUTATION_DURATION.with(&[error, policy, binding]).observe(took.as_secs_f64());
            return;
        }
    };
    CHECKS.with(&[action, error, policy, binding]).inc();
    CHECK_DURATION.with(&[action, error, policy, binding]).observe(took.as_secs_f64());
}
