//! The certificates that are issued to pods: a chain whose first is for the key that was asked for, and for no longer.

use api::Tree;
use api::status::Cause;
use jiff::{SignedDuration, Timestamp};
use machinery::fieldpath::{Path, Shown};
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::kinds::config::bytes;
use crate::tree::{get, has, int, text};

const CHAIN_BYTES: usize = 100 * 1024;
/// How far the server's clock and the signer's may be apart.
const APART: SignedDuration = SignedDuration::from_mins(5);
/// Time to renew a certificate in.
const RENEWAL: SignedDuration = SignedDuration::from_mins(10);

/// Checks the answer to a request.
pub(super) fn check(now: Timestamp, request: &Tree, old: &Tree) -> Result<(), Vec<Cause>> {
    let chain = text(request, "status.certificateChain");
    let path = Path::new("status.certificateChain");
    let wrong = |detail: &str| vec![path.invalid(chain, detail)];
    if chain.len() > CHAIN_BYTES {
        return Err(vec![path.too_long(CHAIN_BYTES)]);
    }
    let mut blocks = Pem::iter_from_buffer(chain.as_bytes()).map_while(Result::ok);
    let leaf = blocks
        .next()
        .ok_or_else(|| wrong("issued certificate chain must contain at least one certificate"))?;
    if leaf.label != "CERTIFICATE" {
        return Err(wrong("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
    }
    let (_, leaf) = X509Certificate::from_der(&leaf.contents)
        .map_err(|_| wrong("leaf certificate does not parse as valid X.509"))?;
    let names = names(&leaf, &path);
    if !names.is_empty() {
        return Err(names);
    }
    if !is_for(&leaf, old)? {
        return Err(wrong("leaf certificate was not issued to the requested public key"));
    }
    times(now, request, &leaf)?;
    for block in blocks {
        if block.label != "CERTIFICATE" {
            return Err(wrong("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
        }
        X509Certificate::from_der(&block.contents)
            .map_err(|_| wrong("intermediate certificate does not parse as valid X.509"))?;
    }
    Ok(())
}

fn names(leaf: &X509Certificate<'_>, path: &Path<'_>) -> Vec<Cause> {
    let mut errors = Vec::new();
    let names = leaf.subject_alternative_name().ok().flatten();
    for name in names.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => {
                let mut wrong = |when: bool, detail: &str| {
                    if when {
                        errors.push(path.invalid(*name, detail));
                    }
                };
                wrong(name.is_empty(), "leaf certificate should not contain empty DNSName");
                wrong(name.contains(".."), "leaf certificate's DNSName should not contain '..'");
                wrong(
                    name.starts_with('.') || name.ends_with('.'),
                    "leaf certificate's DNSName should not start or end with '.'",
                );
            }
            GeneralName::RFC822Name(name) if !name.contains('@') => {
                errors.push(path.invalid(*name, "leaf certificate should not contain invalid EmailAddress"));
            }
            _ => {}
        }
    }
    errors
}

/// Whether the certificate is for the key that was asked for.
fn is_for(leaf: &X509Certificate<'_>, old: &Tree) -> Result<bool, Vec<Cause>> {
    let own = leaf.public_key().raw;
    let request = bytes(text(old, "spec.stubPKCS10Request"));
    if request.is_empty() {
        let key = bytes(text(old, "spec.pkixPublicKey"));
        let detail = "must be a valid PKIX-serialized public key";
        let (_, key) = SubjectPublicKeyInfo::from_der(&key)
            .map_err(|_| vec![Path::new("spec.pkixPublicKey").invalid_unshown(detail)])?;
        return Ok(key.raw == own);
    }
    let detail = "must be a valid PKCS#10 CSR";
    let (_, request) = X509CertificationRequest::from_der(&request)
        .map_err(|_| vec![Path::new("spec.stubPKCS10Request").invalid_unshown(detail)])?;
    Ok(request.certification_request_info.subject_pki.raw == own)
}

fn times(now: Timestamp, request: &Tree, leaf: &X509Certificate<'_>) -> Result<(), Vec<Cause>> {
    let status = Path::new("status");
    let mut missing = Vec::new();
    for (field, detail) in [
        ("notBefore", "must be present and consistent with the issued certificate"),
        ("notAfter", "must be present and consistent with the issued certificate"),
        ("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]"),
    ] {
        if !has(get(request, "status"), field) {
            missing.push(status.field(field).required(detail));
        }
    }
    if !missing.is_empty() {
        return Err(missing);
    }
    let time = |field: &str| text(get(request, "status"), field).parse::<Timestamp>().unwrap_or_default();
    let (from, until, renewed) = (time("notBefore"), time("notAfter"), time("beginRefreshAt"));
    let validity = leaf.validity();
    let own = |time: i64| Timestamp::from_second(time).unwrap_or_default();
    let (start, end) = (own(validity.not_before.timestamp()), own(validity.not_after.timestamp()));
    let check = |good: bool, field: &str, shown: &str, detail: &str| match good {
        true => Ok(()),
        false => Err(vec![status.field(field).invalid(shown, detail)]),
    };
    let shown = |time: Timestamp| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    check(
        from == start,
        "notBefore",
        &shown(from),
        "must be set to the NotBefore time encoded in the leaf certificate",
    )?;
    let apart = from.duration_since(now).abs();
    check(
        apart <= APART,
        "notBefore",
        &shown(from),
        "must be set to within 5 minutes of kube-apiserver's current time",
    )?;
    check(
        until == end,
        "notAfter",
        &shown(until),
        "must be set to the NotAfter time encoded in the leaf certificate",
    )?;
    lifetime(request, end.duration_since(start))?;
    check(
        renewed.duration_since(from) >= RENEWAL,
        "beginRefreshAt",
        &shown(renewed),
        "must be at least 10 minutes after status.notBefore",
    )?;
    check(
        until.duration_since(renewed) >= RENEWAL,
        "beginRefreshAt",
        &shown(renewed),
        "must be at least 10 minutes before status.notAfter",
    )
}

fn lifetime(request: &Tree, lifetime: SignedDuration) -> Result<(), Vec<Cause>> {
    let path = Path::new("status.certificateChain");
    let most = int(request, "spec.maxExpirationSeconds").unwrap_or(0);
    let shown = || Shown::Number(i64::try_from(lifetime.as_nanos()).unwrap_or(i64::MAX));
    if lifetime < SignedDuration::from_hours(1) {
        return Err(vec![path.invalid(shown(), "leaf certificate lifetime must be >= 1 hour")]);
    }
    if lifetime > SignedDuration::from_secs(most) {
        let detail = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
        return Err(vec![path.invalid(shown(), &detail)]);
    }
    Ok(())
}
