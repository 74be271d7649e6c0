//! Cluster trust bundles, and the certificates that pods ask for in projected volumes.

mod chains;
mod requests;

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;
use machinery::names;
use x509_parser::pem::Pem;

use crate::kinds::certificates::signer_name;
use crate::profile::{ALL_METADATA, Profile};
use crate::rules::{Literal, Rule, Table};
use crate::strategy::Context;
use crate::tree::{get, int, text};

const A_DAY: Rule = Rule::Default("maxExpirationSeconds", Literal::Number(86400));

pub(super) const RULES: Table = &[
    ("k8s.io.api.core.v1.PodCertificateProjection", &[Rule::Check(pod_certificate)]),
    ("k8s.io.api.certificates.v1.PodCertificateRequestSpec", &[A_DAY]),
    ("k8s.io.api.certificates.v1beta1.PodCertificateRequestSpec", &[A_DAY]),
];

pub(super) const PROFILES: &[Profile] = &[
    Profile {
        status: true,
        status_keeps: ALL_METADATA,
        check: Some(requests::check),
        check_status: Some(requests::check_status),
        full: true,
        ..Profile::new("certificates.k8s.io", "podcertificaterequests")
    },
    Profile {
        // valid names depend on the signer, see `bundle`
        name: |_| Vec::new(),
        check: Some(bundle),
        full: true,
        ..Profile::new("certificates.k8s.io", "clustertrustbundles")
    },
];

const OMITTED: &str = "<value omitted>";

fn bundle(_: &Context<'_>, bundle: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let signer = text(bundle, "spec.signerName");
    let path = Path::new("spec.signerName");
    bundle_name(text(bundle, "metadata.name"), signer, errors);
    if let Some(old) = old
        && text(old, "spec.signerName") != signer
    {
        errors.push(path.invalid(signer, "field is immutable"));
        return;
    }
    if !signer.is_empty() {
        signer_name(signer, &path, errors);
    }
    anchors(text(bundle, "spec.trustBundle"), &Path::new("spec.trustBundle"), errors);
}

/// A signer's bundles begin with its name, `/` become `:`, and no one else's hold a `:`.
fn bundle_name(name: &str, signer: &str, errors: &mut Vec<Cause>) {
    let path = Path::new("metadata.name");
    let own = if signer.is_empty() {
        if name.contains(':') {
            let detail = "ClusterTrustBundle without signer name must not have \":\" in its name";
            errors.push(path.invalid(name, detail));
            return;
        }
        name
    } else {
        let prefix = format!("{}:", signer.replace('/', ":"));
        let Some(own) = name.strip_prefix(&prefix) else {
            let detail =
                format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
            errors.push(path.invalid(name, &detail));
            return;
        };
        own
    };
    errors.extend(names::dns1123_subdomain(own).iter().map(|problem| path.invalid(name, problem)));
}

/// The bundle is PEM blocks, each the certificate of an authority, none twice. What stands between them is not looked at.
fn anchors(bundle: &str, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let mut seen: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
    let mut count = 0;
    let mut rest = bundle;
    while let Some(start) = rest.find("-----BEGIN ") {
        rest = &rest[start..];
        let block = rest.find("-----END ").map_or(rest, |end| &rest[..end]);
        let has_headers = block.lines().nth(1).is_some_and(|line| line.contains(':'));
        let next = rest[block.len()..].find('\n').map_or(rest.len(), |end| block.len() + end + 1);
        let (this, behind) = rest.split_at(next);
        rest = behind;
        let kind = block.lines().next().and_then(|line| line.strip_prefix("-----BEGIN "));
        let Some(kind) = kind.and_then(|line| line.trim_end().strip_suffix("-----")) else { continue };
        let index = count;
        count += 1;
        let mut wrong = |what: &str| errors.push(path.invalid(OMITTED, &format!("entry {index} {what}")));
        if kind != "CERTIFICATE" {
            wrong(&format!("has bad block type: {kind}"));
            continue;
        }
        if has_headers {
            wrong("has PEM block headers");
            continue;
        }
        let der = Pem::iter_from_buffer(this.as_bytes()).find_map(Result::ok).map(|pem| pem.contents);
        let Some(der) = der else {
            wrong("does not parse as X.509");
            continue;
        };
        match x509_parser::parse_x509_certificate(&der) {
            Err(_) => wrong("does not parse as X.509"),
            Ok((_, certificate)) => {
                let constraints = certificate.basic_constraints().ok().flatten();
                if !constraints.is_some_and(|constraints| constraints.value.ca) {
                    wrong("does not have the CA bit set");
                    continue;
                }
                match seen.iter_mut().find(|(one, _)| *one == der) {
                    Some((_, indices)) => indices.push(index),
                    None => seen.push((der, vec![index])),
                }
            }
        }
    }
    if count == 0 {
        errors.push(path.invalid(OMITTED, "at least one trust anchor must be provided"));
    }
    for (_, indices) in seen.iter().filter(|(_, indices)| indices.len() > 1) {
        if is_full(errors) {
            break;
        }
        let shown: Vec<String> = indices.iter().map(ToString::to_string).collect();
        let detail = format!("duplicate trust anchor (indices [{}])", shown.join(" "));
        errors.push(path.invalid(OMITTED, &detail));
    }
}

const KEY_TYPES: [&str; 6] = ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];
/// An hour, 91 days, and a day for the signers of Kubernetes itself.
const SHORTEST: i64 = 3600;
const LONGEST: i64 = 91 * 86400;
const LONGEST_OWN: i64 = 86400;

fn pod_certificate(source: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let signer = text(source, "signerName");
    signer_name(signer, &path.field("signerName"), errors);
    let key_type = text(source, "keyType");
    if !KEY_TYPES.contains(&key_type) {
        errors.push(path.field("keyType").not_supported(key_type, &KEY_TYPES));
    }
    if let Some(seconds) = int(source, "maxExpirationSeconds") {
        let longest = if signer.starts_with("kubernetes.io/") { LONGEST_OWN } else { LONGEST };
        let at = path.field("maxExpirationSeconds");
        if seconds < SHORTEST {
            let detail = format!("if provided, maxExpirationSeconds must be >= {SHORTEST}");
            errors.push(at.invalid(seconds, &detail));
        } else if seconds > longest {
            let detail = format!("if provided, maxExpirationSeconds must be <= {longest}");
            errors.push(at.invalid(seconds, &detail));
        }
    }
    let places = ["credentialBundlePath", "keyPath", "certificateChainPath"];
    for place in places {
        let file = text(source, place);
        if file.starts_with('/') {
            errors.push(path.field(place).invalid(file, "must be a relative path"));
        } else if file.split('/').any(|part| part == "..") {
            errors.push(path.field(place).invalid(file, "must not contain '..'"));
        }
    }
    if places.iter().all(|place| get(source, place).as_str().unwrap_or_default().is_empty()) {
        let detail = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        errors.push(path.required(detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_bundles() {
        let check = |name: &str, signer: &str, expect: &[&str]| {
            let mut errors = Vec::new();
            bundle_name(name, signer, &mut errors);
            let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            assert_eq!(messages, expect, "{name} of {signer}");
        };
        check("foo", "", &[]);
        check("a.b:c:foo", "a.b/c", &[]);
        check(
            "a:b",
            "",
            &[
                "Invalid value: \"a:b\": ClusterTrustBundle without signer name must not have \":\" in its name",
            ],
        );
        check(
            "foo",
            "a.b/c",
            &[
                "Invalid value: \"foo\": ClusterTrustBundle for signerName a.b/c must be named with prefix a.b:c:",
            ],
        );
    }

    #[test]
    fn bundles() {
        let check = |bundle: &str, expect: &str| {
            let mut errors = Vec::new();
            anchors(bundle, &Path::new("spec.trustBundle"), &mut errors);
            let messages: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
            assert_eq!(messages, [format!("Invalid value: \"<value omitted>\": {expect}")]);
        };
        check("", "at least one trust anchor must be provided");
        check("-----BEGIN FOO-----\nAAAA\n-----END FOO-----\n", "entry 0 has bad block type: FOO");
        check(
            "-----BEGIN CERTIFICATE-----\nA: b\n\nAAAA\n-----END CERTIFICATE-----\n",
            "entry 0 has PEM block headers",
        );
        check(
            "x\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            "entry 0 does not parse as X.509",
        );
    }
}
