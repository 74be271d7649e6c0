//! Certificates that kubelets ask for in the name of pods: what is asked for never changes, and is answered once.

use api::Tree;
use api::status::Cause;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use machinery::bounds::is_full;
use machinery::fieldpath::{Path, Shown};
use machinery::names;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::kinds::certificates::signer_name;
use crate::kinds::config::bytes;
use crate::kinds::{conditions, trust};
use crate::strategy::Context;
use crate::tree::{entries, get, has, int, list, same, text};
use crate::{internal, rules};

/// Bytes of a key, of a signature and of a request.
const KEY_BYTES: usize = 10 * 1024;
const UID_BYTES: usize = 128;

static SPEC: Path<'static> = Path::new("spec");

pub(super) fn check(_: &Context<'_>, request: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let spec = get(request, "spec");
    if let Some(old) = old {
        if !same(spec, get(old, "spec")) {
            let shown = internal::shown(spec, "certificates.v1.PodCertificateRequestSpec");
            errors.push(SPEC.invalid(shown, "field is immutable"));
        }
        return;
    }
    let signer = text(spec, "signerName");
    signer_name(signer, &SPEC.field("signerName"), errors);
    annotations(spec, errors);
    for (name, uid) in
        [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")]
    {
        let value = text(spec, name);
        rules::format(value, names::dns1123_subdomain(value), &SPEC.field(name), errors);
        let (value, at) = (text(spec, uid), SPEC.field(uid));
        if value.is_empty() {
            errors.push(at.invalid("", "must not be empty"));
        }
        if value.len() > UID_BYTES {
            errors.push(at.too_long(UID_BYTES));
        }
    }
    let at = SPEC.field("maxExpirationSeconds");
    let Some(seconds) = int(spec, "maxExpirationSeconds") else {
        errors.push(at.required("must be set"));
        return;
    };
    let host = signer.split('/').next().unwrap_or_default();
    let own = host == "kubernetes.io" || host.ends_with(".kubernetes.io");
    let longest = if own { trust::LONGEST_OWN } else { trust::LONGEST };
    if !(trust::SHORTEST..=longest).contains(&seconds) {
        let detail = format!("must be in the range [{}, {longest}]", trust::SHORTEST);
        errors.push(at.invalid(seconds, &detail));
    }
    let [request, key, proof] =
        ["stubPKCS10Request", "pkixPublicKey", "proofOfPossession"].map(|field| bytes(text(spec, field)));
    match (request.is_empty(), key.is_empty(), proof.is_empty()) {
        (false, true, true) => errors.extend(request_problem(&request)),
        (true, false, false) => errors.extend(key_problem(&key, &proof, text(spec, "podUID"), spec)),
        _ => {
            let detail =
                "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            errors.push(SPEC.invalid_unshown(detail));
        }
    }
}

fn annotations(spec: &Tree, errors: &mut Vec<Cause>) {
    let (path, mut size) = (SPEC.field("unverifiedUserAnnotations"), 0);
    for (key, value) in entries(spec, "unverifiedUserAnnotations") {
        if is_full(errors) {
            return;
        }
        size += key.len() + value.as_str().map_or(0, str::len);
        let key = key.to_lowercase();
        let problems = names::qualified_name(&key);
        if key.is_empty() {
            errors.push(path.required(""));
        } else if problems.is_empty() && !key.contains('/') {
            errors.push(path.invalid(&key, "must be a domain-prefixed key (such as \"acme.io/foo\")"));
        } else {
            rules::format(&key, problems, &path, errors);
        }
    }
    if size > crate::meta::ANNOTATIONS_MAX {
        errors.push(path.too_long(crate::meta::ANNOTATIONS_MAX));
    }
}

/// The kinds of keys that certificates are made for.
enum Key {
    Ed25519,
    Elliptic(&'static dyn VerificationAlgorithm),
    Rsa,
}

/// What a key is, or what is wrong with it and how it is shown then.
fn key(info: &SubjectPublicKeyInfo<'_>, curves: &str) -> Result<Key, (Option<String>, String)> {
    match info.parsed() {
        Ok(PublicKey::EC(point)) => match point.key_size() {
            256 => Ok(Key::Elliptic(&signature::ECDSA_P256_SHA256_ASN1)),
            384 => Ok(Key::Elliptic(&signature::ECDSA_P384_SHA256_ASN1)),
            521.. => Ok(Key::Elliptic(&signature::ECDSA_P521_SHA256_ASN1)),
            bits => Err((
                Some(format!("curve P-{bits}")),
                format!("elliptic public keys must use curve {curves}"),
            )),
        },
        Ok(PublicKey::RSA(key)) => match key.key_size() {
            3072 | 4096 => Ok(Key::Rsa),
            bits => Err((
                Some(format!("{bits}-bit modulus")),
                "RSA keys must have modulus size 3072 or 4096".to_owned(),
            )),
        },
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => Ok(Key::Ed25519),
        _ => Err((None, "unknown public key type; supported types are Ed25519, ECDSA, and RSA".to_owned())),
    }
}

fn request_problem(request: &[u8]) -> Option<Cause> {
    let path = SPEC.field("stubPKCS10Request");
    if request.len() > KEY_BYTES {
        return Some(path.too_long(KEY_BYTES));
    }
    let Some((_, request)) =
        X509CertificationRequest::from_der(request).ok().filter(|(rest, _)| rest.is_empty())
    else {
        return Some(path.invalid_unshown("must be a valid PKCS#10 CSR"));
    };
    if let Err((shown, detail)) = key(&request.certification_request_info.subject_pki, "P256, P384, or P521")
    {
        return Some(match shown {
            Some(shown) => path.invalid(&shown, &detail),
            None => path.invalid_unshown(&detail),
        });
    }
    request.verify_signature().is_err().then(|| path.invalid_unshown("invalid signature"))
}

/// Whoever asks has the key: the pod's UID is signed with it.
fn key_problem(encoded: &[u8], proof: &[u8], uid: &str, spec: &Tree) -> Option<Cause> {
    let (path, at) = (SPEC.field("pkixPublicKey"), SPEC.field("proofOfPossession"));
    for (value, path) in [(encoded, &path), (proof, &at)] {
        if value.len() > KEY_BYTES {
            return Some(path.too_long(KEY_BYTES));
        }
    }
    // as a list of numbers, in the way of bytes that nobody meant to be read
    let whole = || Shown::of(spec, "pkixPublicKey");
    let Some((_, info)) = SubjectPublicKeyInfo::from_der(encoded).ok().filter(|(rest, _)| rest.is_empty())
    else {
        return Some(path.invalid(whole(), "must be a valid PKIX-serialized public key"));
    };
    let kind = match key(&info, "P256 or P384") {
        Ok(kind) => kind,
        Err((Some(shown), detail)) => return Some(path.invalid(&shown, &detail)),
        Err((None, detail)) => return Some(path.invalid(whole(), &detail)),
    };
    let algorithm: &dyn VerificationAlgorithm = match kind {
        Key::Ed25519 => &signature::ED25519,
        Key::Elliptic(algorithm) => algorithm,
        Key::Rsa => &signature::RSA_PSS_2048_8192_SHA256,
    };
    let known = UnparsedPublicKey::new(algorithm, &info.subject_public_key.data);
    let detail = "could not verify proof-of-possession signature";
    known.verify(uid.as_bytes(), proof).is_err().then(|| at.invalid_unshown(detail))
}

const ANSWERS: [&str; 3] = ["Issued", "Denied", "Failed"];

pub(super) fn check_status(
    context: &Context<'_>,
    request: &Tree,
    old: Option<&Tree>,
    errors: &mut Vec<Cause>,
) {
    let Some(old) = old.filter(|_| errors.is_empty()) else { return };
    let all = list(request, "status.conditions");
    answers(all, errors);
    conditions::check(all, &Path::new("status.conditions"), errors);
    if !errors.is_empty() {
        return;
    }
    let is = |object: &Tree, kind: &str| {
        let own = |one: &Tree| text(one, "type") == kind && text(one, "status") == "True";
        list(object, "status.conditions").iter().any(own)
    };
    let (status, before) = (get(request, "status"), get(old, "status"));
    let unchanged = same(status, before);
    let path = Path::new("status");
    let mut wrong = |detail: &str| errors.push(path.invalid_unshown(detail));
    if ANSWERS.iter().any(|kind| is(old, kind)) {
        if !unchanged {
            wrong("immutable after PodCertificateRequest is issued, denied, or failed");
        }
    } else if is(request, "Denied") || is(request, "Failed") {
        let fields = ["certificateChain", "notBefore", "beginRefreshAt", "notAfter"];
        if fields.iter().any(|field| has(status, field)) {
            wrong(
                "non-condition status fields must be empty when denying or failing the PodCertificateRequest",
            );
        }
    } else if is(request, "Issued") {
        if let Err(causes) = super::chains::check(context.now, request, old) {
            errors.extend(causes);
        }
    } else if !unchanged {
        wrong("status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"");
    }
}

/// Of the answers there is one, and it is given.
fn answers(conditions: &[Tree], errors: &mut Vec<Cause>) {
    let mut known = 0;
    for (index, condition) in conditions.iter().enumerate() {
        if is_full(errors) {
            return;
        }
        let kind = text(condition, "type");
        let at = |field: &str| format!("status.conditions.[{index}].{field}");
        if !ANSWERS.contains(&kind) {
            errors.push(Path::new(&at("type")).not_supported(kind, &ANSWERS));
            continue;
        }
        known += 1;
        if known > 1 {
            let detail = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(Path::new(&at("type")).invalid(kind, detail));
        }
        let status = text(condition, "status");
        if status != "True" {
            errors.push(Path::new(&at("status")).not_supported(status, &["True"]));
        }
    }
}
