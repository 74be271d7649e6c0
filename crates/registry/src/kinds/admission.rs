//! Webhook configurations; admission policies, flow schemas and priority levels, of which only the defaults are here.

pub(crate) mod webhooks;

use api::Tree;

use crate::profile::{ALL_METADATA, Generation, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::tree::{Object, as_object, fill_pointer, member};

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
    (
        "k8s.io.api.flowcontrol.v1.FlowSchemaSpec",
        &[Rule::Default("matchingPrecedence", Literal::Number(1000))],
    ),
    ("k8s.io.api.flowcontrol.v1.PriorityLevelConfigurationSpec", &[Rule::DefaultFn(priority_level)]),
    (
        "k8s.io.api.flowcontrol.v1.QueuingConfiguration",
        &[
            Rule::Default("queues", Literal::Number(64)),
            Rule::Default("handSize", Literal::Number(8)),
            Rule::Default("queueLengthLimit", Literal::Number(50)),
        ],
    ),
];

pub(super) const PROFILES: &[Profile] = &[
    hooks("validatingwebhookconfigurations"),
    hooks("mutatingwebhookconfigurations"),
    Profile { status: true, status_keeps: ALL_METADATA, ..policies("validatingadmissionpolicies") },
    policies("validatingadmissionpolicybindings"),
    policies("mutatingadmissionpolicies"),
    policies("mutatingadmissionpolicybindings"),
    flow_control("flowschemas"),
    flow_control("prioritylevelconfigurations"),
];

const fn flow_control(plural: &'static str) -> Profile {
    Profile {
        generation: Generation::Spec,
        status: true,
        status_keeps: ALL_METADATA,
        ..Profile::new("flowcontrol.apiserver.k8s.io", plural)
    }
}

const fn policies(plural: &'static str) -> Profile {
    Profile {
        generation: Generation::Spec,
        unconditional_update: false,
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

fn priority_level(spec: &mut Object) {
    match member(spec, "type") {
        "Limited" => {
            let limited = as_object(spec.entry("limited").or_insert(Tree::Null));
            fill_pointer(limited, "nominalConcurrencyShares", 30);
            fill_pointer(limited, "lendablePercent", 0);
        }
        "Exempt" => {
            let exempt = as_object(spec.entry("exempt").or_insert(Tree::Null));
            fill_pointer(exempt, "nominalConcurrencyShares", 0);
            fill_pointer(exempt, "lendablePercent", 0);
        }
        _ => {}
    }
}
