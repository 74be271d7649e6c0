//! Certificate signing requests.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use machinery::names;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::error::X509Error;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::AttributeTypeAndValue;

use crate::profile::Profile;
use crate::rules::Table;
use crate::strategy::Context;
use crate::tree::{as_object, get, int, list, put, text, texts};

mod status;

pub(super) const RULES: Table = &[];

pub(super) const PROFILES: &[Profile] = &[Profile {
    // any will do
    name: |_| Vec::new(),
    status: true,
    prepare: Some(prepare),
    prepare_status: Some(prepare_status),
    check: Some(check),
    check_status: Some(status::check),
    full: true,
    ..Profile::new("certificates.k8s.io", "certificatesigningrequests")
}];

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Whom a certificate is asked for.
pub struct Subject {
    pub common_name: String,
    pub organizations: Vec<String>,
}

/// The subject of `spec.request`: a certificate request in PEM, in base64.
pub fn subject(encoded: &str) -> Result<Subject, String> {
    let block = block(encoded)?;
    let request = parse(&block)?;
    let subject = &request.certification_request_info.subject;
    let text = |attribute: &AttributeTypeAndValue<'_>| attribute.as_str().map(str::to_owned);
    // the last of several common names counts
    let common_name = subject.iter_common_name().last().map(text).transpose();
    let organizations = subject.iter_organization().map(text).collect::<Result<_, _>>();
    Ok(Subject {
        common_name: common_name.map_err(|error| error.to_string())?.unwrap_or_default(),
        organizations: organizations.map_err(|error| error.to_string())?,
    })
}

/// The one PEM block. Where there are several, readers differ in which of them they take.
fn block(encoded: &str) -> Result<Pem, String> {
    let text = api::text::from_base64(encoded).unwrap_or_default();
    let begins = text.windows(BEGIN.len()).filter(|window| *window == BEGIN).count();
    let block = Pem::iter_from_buffer(&text).next().and_then(Result::ok);
    let block = block.filter(|block| begins == 1 && block.label == "CERTIFICATE REQUEST");
    block.ok_or_else(|| "PEM block type must be CERTIFICATE REQUEST".to_owned())
}

const BEGIN: &[u8] = b"-----BEGIN";

fn parse(block: &Pem) -> Result<X509CertificationRequest<'_>, String> {
    let (rest, request) =
        X509CertificationRequest::from_der(&block.contents).map_err(|error| error.to_string())?;
    if rest.is_empty() { Ok(request) } else { Err("asn1: syntax error: trailing data".to_owned()) }
}

/// Whoever asks for a certificate has the key that it is for: the request is signed with it.
fn signed(encoded: &str) -> Result<(), String> {
    let block = block(encoded)?;
    let request = parse(&block)?;
    request.verify_signature().map_err(|error| match error {
        X509Error::SignatureUnsupportedAlgorithm => {
            "x509: cannot verify signature: algorithm unimplemented".to_owned()
        }
        _ => match request.certification_request_info.subject_pki.parsed() {
            Ok(PublicKey::RSA(_)) => "crypto/rsa: verification error".to_owned(),
            Ok(PublicKey::EC(_)) => "x509: ECDSA verification failure".to_owned(),
            _ => "x509: Ed25519 verification failure".to_owned(),
        },
    })
}

/// The spec never changes. `approval` writes conditions, as a part of the status, and nothing else.
fn prepare(context: &Context<'_>, request: &mut Tree, old: Option<&Tree>) {
    let Some(old) = old else { return };
    put(as_object(request), "spec", get(old, "spec").clone());
    if context.subresource == Some("approval") {
        let mut conditions = list(request, "status.conditions").to_vec();
        stamp(context, &mut conditions, list(old, "status.conditions"));
        if !conditions.is_empty() {
            crate::tree::ensure(request, "status").insert("conditions", Tree::Array(conditions));
        }
    }
}

/// Approval, denial and their like are not for the status subresource.
fn prepare_status(context: &Context<'_>, request: &mut Tree, old: Option<&Tree>) {
    let Some(old) = old else { return };
    let reserved = |condition: &Tree| matches!(text(condition, "type"), "Approved" | "Denied");
    let mut kept: Vec<&Tree> =
        list(old, "status.conditions").iter().filter(|condition| reserved(condition)).collect();
    let mut conditions = Vec::new();
    for condition in list(request, "status.conditions") {
        if !reserved(condition) {
            conditions.push(condition.clone());
            continue;
        }
        // in its place, but as it was
        if let Some(at) = kept.iter().position(|own| text(own, "type") == text(condition, "type")) {
            conditions.push(kept.remove(at).clone());
        }
    }
    conditions.extend(kept.into_iter().cloned());
    stamp(context, &mut conditions, list(old, "status.conditions"));
    if !conditions.is_empty() {
        crate::tree::ensure(request, "status").insert("conditions", Tree::Array(conditions));
    }
}

/// Dates the conditions that bring no times.
fn stamp(context: &Context<'_>, conditions: &mut [Tree], old: &[Tree]) {
    let now: Tree = context.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    for condition in conditions {
        if text(condition, "lastUpdateTime").is_empty() {
            put(as_object(condition), "lastUpdateTime", now.clone());
        }
        if text(condition, "lastTransitionTime").is_empty() {
            let same = |one: &&Tree| {
                text(one, "type") == text(condition, "type")
                    && text(one, "status") == text(condition, "status")
            };
            let since = old.iter().find(same).map(|one| get(one, "lastTransitionTime"));
            let since = since.filter(|since| since.is_string()).unwrap_or(&now).clone();
            put(as_object(condition), "lastTransitionTime", since);
        }
    }
}

fn check(context: &Context<'_>, request: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    if old.is_some() {
        status::check(context, request, old, errors);
        return;
    }
    let spec = Path::new("spec");
    if let Err(detail) = signed(text(request, "spec.request")) {
        errors.push(spec.field("request").invalid(get(request, "spec.request"), &detail));
    }
    if list(request, "spec.usages").is_empty() {
        errors.push(spec.field("usages").required(""));
    }
    let all = spec.field("usages");
    let mut seen = Seen::new();
    for (index, usage) in texts(request, "spec.usages").enumerate() {
        if is_full(errors) {
            break;
        }
        if !USAGES.contains(&usage) {
            errors.push(all.index(index).not_supported(usage, &USAGES));
        } else if seen.repeats(usage) {
            errors.push(all.index(index).duplicate(usage));
        }
    }
    let (signer, path) = (text(request, "spec.signerName"), spec.field("signerName"));
    if signer.is_empty() {
        errors.push(path.required(""));
    } else if signer == "kubernetes.io/legacy-unknown" {
        errors.push(path.invalid(signer, "the legacy signerName is not allowed via this API version"));
    } else {
        signer_name(signer, &path, errors);
    }
    if let Some(seconds) = int(request, "spec.expirationSeconds").filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(spec.field("expirationSeconds").invalid(seconds, detail));
    }
}

/// The name of a signer: a domain of two labels and more, and a path.
pub(super) fn signer_name(signer: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    if signer.is_empty() {
        errors.push(path.required(""));
        return;
    }
    let parts: Vec<&str> = signer.split('/').collect();
    let &[domain, name] = parts.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        errors.push(path.invalid(signer, detail));
        return;
    };
    let labels: Vec<&str> = domain.split('.').collect();
    for label in &labels {
        for problem in names::dns1123_label(label) {
            errors.push(path.invalid(domain, &format!("validating label {label:?}: {problem}")));
        }
    }
    if labels.len() < 2 {
        let detail = "should be a domain with at least two segments separated by dots";
        errors.push(path.invalid(domain, detail));
    }
    for problem in names::dns1123_subdomain(name) {
        errors.push(path.invalid(name, &format!("validating label {name:?}: {problem}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    /// A request for `/CN=n`, signed with the key in it.
    const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
MIHHMG4CAQAwDDEKMAgGA1UEAwwBbjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA\n\
BOamOv6YBktGpyyf/WXTq1QrmZwNrXTTq9fToFWBbgDYe3/Op9agqw/C32UNI4dy\n\
4ElzsHFWF49GcQg6NhVp4cKgADAKBggqhkjOPQQDAgNJADBGAiEAlivnIL1MSu7u\n\
QJfzRB01yU1LWDSacS6TuC+CliZZQNwCIQCaKNVoQPVD/ocm11tbxPjFttwDAjug\n\
zBD/DZIvC2XNPw==\n\
-----END CERTIFICATE REQUEST-----\n";

    #[test]
    fn a_request_is_signed_with_its_key() {
        let check = |pem: &str, expect: Result<(), &str>| {
            assert_eq!(signed(&STANDARD.encode(pem)), expect.map_err(str::to_owned), "{pem}");
        };
        check(REQUEST, Ok(()));
        check(&REQUEST.replace("zBD/DZ", "zBD/DY"), Err("x509: ECDSA verification failure"));
        let wrong = Err("PEM block type must be CERTIFICATE REQUEST");
        check("", wrong);
        check(&REQUEST.replace("CERTIFICATE REQUEST", "CERTIFICATE"), wrong);
        check(&REQUEST.repeat(2), wrong);
        assert_eq!(signed("no base64"), wrong.map_err(str::to_owned));
    }
}
