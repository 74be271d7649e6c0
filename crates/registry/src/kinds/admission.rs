//! Webhook configurations and admission policies.

mod expressions;
mod policies;
pub(crate) mod webhooks;

use crate::profile::{ALL_METADATA, Check, Generation, Profile};
use crate::rules::{Literal, Rule, Table};

const HOOK: &[Rule] = &[
    Rule::Default("failurePolicy", Literal::Text("Fail")),
    Rule::Default("matchPolicy", Literal::Text("Equivalent")),
    Rule::Default("namespaceSelector", Literal::Json("{}")),
    Rule::Default("objectSelector", Literal::Json("{}")),
    Rule::Default("timeoutSeconds", Literal::Number(10)),
];

pub(super) const RULES: Table = &[
    ("k8s.io.api.admissionregistration.v1.ValidatingWebhook", HOOK),
    ("k8s.io.api.admissionregistration.v1.MutatingWebhook", HOOK),
    (
        "k8s.io.api.admissionregistration.v1.MutatingWebhook",
        &[Rule::Default("reinvocationPolicy", Literal::Text("Never"))],
    ),
    ("k8s.io.api.admissionregistration.v1.Rule", &[Rule::Default("scope", Literal::Text("*"))]),
    ("k8s.io.api.admissionregistration.v1.ServiceReference", &[Rule::Default("port", Literal::Number(443))]),
    (
        "k8s.io.api.admissionregistration.v1.ValidatingAdmissionPolicySpec",
        &[Rule::Default("failurePolicy", Literal::Text("Fail"))],
    ),
    (
        "k8s.io.api.admissionregistration.v1.MutatingAdmissionPolicySpec",
        &[Rule::Default("failurePolicy", Literal::Text("Fail"))],
    ),
    (
        "k8s.io.api.admissionregistration.v1.MatchResources",
        &[
            Rule::Default("matchPolicy", Literal::Text("Equivalent")),
            Rule::Default("namespaceSelector", Literal::Json("{}")),
            Rule::Default("objectSelector", Literal::Json("{}")),
        ],
    ),
];

pub(super) const PROFILES: &[Profile] = &[
    hooks("validatingwebhookconfigurations"),
    hooks("mutatingwebhookconfigurations"),
    Profile {
        status: true,
        status_keeps: ALL_METADATA,
        check_status: Some(policies::status),
        ..policy("validatingadmissionpolicies", policies::validating)
    },
    policy("validatingadmissionpolicybindings", policies::validating_binding),
    policy("mutatingadmissionpolicies", policies::mutating),
    policy("mutatingadmissionpolicybindings", policies::mutating_binding),
];

const fn policy(plural: &'static str, check: Check) -> Profile {
    Profile {
        generation: Generation::Spec,
        unconditional_update: false,
        check: Some(check),
        full: true,
        ..Profile::new("admissionregistration.k8s.io", plural)
    }
}

const fn hooks(plural: &'static str) -> Profile {
    Profile {
        generation: Generation::Spec,
        unconditional_update: false,
        check: Some(webhooks::check),
        full: true,
        ..Profile::new("admissionregistration.k8s.io", plural)
    }
}
