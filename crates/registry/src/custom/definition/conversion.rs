//! How objects get from one version to another.

use api::Tree;
use api::status::Cause;
use machinery::bounds::Seen;
use machinery::fieldpath::Path;
use machinery::names::dns1035_label;
use x509_parser::pem::Pem;

use crate::kinds::admission::webhooks;
use crate::tree::{get, has, text, texts};

const KNOWN: [&str; 2] = ["v1", "v1beta1"];

/// Whether the version of `ConversionReview` is one that we speak.
pub(super) fn is_known(version: &str) -> bool {
    KNOWN.contains(&version)
}

/// Whether a conversion names a certificate authority that is none.
pub(super) fn has_bad_authority(conversion: &Tree) -> bool {
    let bundle = text(conversion, "webhookClientConfig.caBundle");
    !bundle.is_empty() && authority_problem(bundle).is_some()
}

/// Why a text is no bundle of certificates in base64.
fn authority_problem(bundle: &str) -> Option<String> {
    let bytes = api::text::from_base64(bundle).unwrap_or_default();
    let blocks: Vec<Pem> = Pem::iter_from_buffer(&bytes).filter_map(Result::ok).collect();
    let good = !blocks.is_empty() && blocks.iter().all(|block| block.parse_x509().is_ok());
    (!good).then(|| "unable to load root certificates: unable to parse bytes as PEM block".to_owned())
}

pub(super) fn check(conversion: &Tree, known: bool, any_authority: bool, errors: &mut Vec<Cause>) {
    if conversion.is_null() {
        return;
    }
    let path = Path::new("spec.conversion");
    let strategy = text(conversion, "strategy");
    match strategy {
        "" => errors.push(path.field("strategy").required("")),
        "None" | "Webhook" => {}
        other => errors.push(path.field("strategy").not_supported(other, &["None", "Webhook"])),
    }
    let (at, config) = (path.field("webhookClientConfig"), get(conversion, "webhookClientConfig"));
    if strategy != "Webhook" {
        let detail = "should not be set when strategy is not set to Webhook";
        if !config.is_null() {
            errors.push(at.forbidden(detail));
        }
        if texts(conversion, "conversionReviewVersions").next().is_some() {
            errors.push(path.field("conversionReviewVersions").forbidden(detail));
        }
        return;
    }
    if config.is_null() {
        errors.push(at.required("required when strategy is set to Webhook"));
    } else {
        match (has(config, "url"), has(config, "service")) {
            (true, false) => webhooks::url(text(config, "url"), &at.field("url"), errors),
            (false, true) => webhooks::service(get(config, "service"), &at.field("service"), errors),
            _ => errors.push(at.required("exactly one of url or service is required")),
        }
        let bundle = text(config, "caBundle");
        let problem = if bundle.is_empty() || any_authority { None } else { authority_problem(bundle) };
        errors.extend(problem.map(|problem| at.field("caBundle").invalid(get(config, "caBundle"), &problem)));
    }
    versions(conversion, known, &path.field("conversionReviewVersions"), errors);
}

fn versions(conversion: &Tree, known: bool, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let versions: Vec<&str> = texts(conversion, "conversionReviewVersions").collect();
    if versions.is_empty() {
        errors.push(path.required(""));
        return;
    }
    let mut seen = Seen::new();
    for (index, version) in versions.iter().enumerate() {
        if seen.repeats(*version) {
            errors.push(path.index(index).invalid(*version, "duplicate version"));
            continue;
        }
        let problems = dns1035_label(version);
        errors.extend(problems.iter().map(|problem| path.index(index).invalid(*version, problem)));
    }
    if known && !versions.iter().any(|version| is_known(version)) {
        let detail = format!("must include at least one of {}", KNOWN.join(", "));
        errors.push(path.invalid(get(conversion, "conversionReviewVersions"), &detail));
    }
}
