//! The admission webhooks of the cluster: their configurations as the watch cache has them, and how they are asked. Conversion webhooks are
//! asked by the same client.

mod client;
pub mod conversion;
pub(crate) mod trust;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use admission::{CallError, Called, ClientConfig, Hook};
use api::Tree;
use daemon::metrics::{CounterVec, HistogramVec, registry};
use watchcache::resources::Resources;

use crate::compiled::Compiled;
use crate::handlers::BODY_LIMIT;
use crate::kinds;
use crate::service_routing::ServiceRouter;
use client::Question;

const LABELS: &[&str] = &["name", "operation", "rejected", "type"];

static DURATION: LazyLock<HistogramVec> = LazyLock::new(|| {
    registry().histogram_vec(
        "apiserver_admission_webhook_admission_duration_seconds",
        "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
        LABELS,
        &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0],
    )
});

static REJECTIONS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_admission_webhook_rejection_count",
        "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
        &["error_type", "name", "operation", "rejection_code", "type"],
    )
});

static FAILED_OPEN: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_admission_webhook_fail_open_count",
        "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit).",
        &["name", "type"],
    )
});

static CALLS: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "apiserver_admission_webhook_request_total",
        "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
        &["code", "name", "operation", "rejected", "type"],
    )
});

/// A patch with a body of the greatest length, in base64.
const PATCH: usize = BODY_LIMIT / 3 * 4 + (64 << 10);

/// Both kinds of webhooks.
pub struct Webhooks {
    resources: Arc<Resources>,
    mutating: Compiled<Hook>,
    validating: Compiled<Hook>,
    client: client::Client,
}

impl Webhooks {
    pub fn new(resources: Arc<Resources>, services: ServiceRouter) -> Webhooks {
        Webhooks {
            mutating: Compiled::new(kinds::mutating_webhook_configurations(), Hook::all),
            validating: Compiled::new(kinds::validating_webhook_configurations(), Hook::all),
            client: client::Client::new(services),
            resources,
        }
    }

    /// As of now; `None` while the caches are not filled, or cannot be read.
    pub fn all(&self, mutating: bool) -> Option<Arc<[Arc<Hook>]>> {
        if !self.resources.is_synced() {
            return None;
        }
        let compiled = if mutating { &self.mutating } else { &self.validating };
        compiled.current(&self.resources)
    }

    pub async fn call(
        &self,
        webhook: &ClientConfig,
        review: Vec<u8>,
        timeout: Duration,
    ) -> Result<Tree, CallError> {
        // at most it says what it was asked, and a patch that puts another object in the place of this one
        let longest = review.len() + PATCH;
        self.client.call(webhook, Question { review, timeout, longest }).await
    }
}

/// Counts a call.
pub fn count(called: &Called<'_>) {
    let Called { webhook, step, operation, took, code, rejected, failed_open } = *called;
    let code = code.min(600).to_string();
    let refused = if rejected.is_some() { "true" } else { "false" };
    DURATION.with(&[webhook, operation, refused, step]).observe(took.as_secs_f64());
    CALLS.with(&[&code, webhook, operation, refused, step]).inc();
    if let Some(why) = rejected {
        REJECTIONS.with(&[why, webhook, operation, &code, step]).inc();
    }
    if failed_open {
        FAILED_OPEN.with(&[webhook, step]).inc();
    }
}
