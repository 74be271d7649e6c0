//! Certificate signing requests: what is read of them, and which ones kubelets make.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::{Client, Key, ResourceRef, View};
use controllers::Error;
use controllers::views::{Condition, Meta, Partial};
use serde::Deserialize;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Request {
    pub metadata: Meta,
    pub spec: Spec,
    pub status: Status,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    /// PEM, in base 64.
    pub request: String,
    pub signer_name: String,
    pub expiration_seconds: Option<i64>,
    pub usages: BTreeSet<String>,
    pub username: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: Option<Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    pub conditions: Vec<Condition>,
    /// PEM, in base 64.
    pub certificate: String,
}

impl View for Request {
    type Of = k8s_openapi::api::certificates::v1::CertificateSigningRequest;
}

impl Request {
    pub(super) fn has(&self, condition: &str) -> bool {
        self.status.conditions.iter().any(|one| one.type_ == condition)
    }

    /// Approved, and not denied.
    pub(super) fn is_approved(&self) -> bool {
        self.has("Approved") && !self.has("Denied")
    }

    pub(super) fn subject(&self) -> Result<Subject, String> {
        Subject::read(&self.spec.request)
    }
}

/// The document of a PEM block with that label, in base 64. Who checks a request and who signs it read it with this, so that
/// both have the same one.
pub(super) fn pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let pem = STANDARD.decode(text).ok()?;
    let (_, block) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    (block.label == label).then_some(block.contents)
}

/// Label of a request's PEM block.
pub(super) const REQUEST: &str = "CERTIFICATE REQUEST";

/// Who a certificate would be for.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Subject {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    dns: usize,
    addresses: usize,
    mails: usize,
    uris: usize,
}

impl Subject {
    fn read(request: &str) -> Result<Subject, String> {
        let der = pem(request, REQUEST).ok_or("PEM block type must be CERTIFICATE REQUEST")?;
        let (_, parsed) = X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
        let extensions = parsed.requested_extensions().into_iter().flatten();
        Subject::of(&parsed.certification_request_info.subject, extensions)
    }

    /// That of a certificate.
    pub(super) fn of_certificate(der: &[u8]) -> Result<Subject, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        Subject::of(
            parsed.subject(),
            parsed.extensions().iter().map(|extension| extension.parsed_extension()),
        )
    }

    /// An attribute that cannot be read is an error, and not absent: whoever reads the certificate may be able to.
    fn of<'e>(
        name: &X509Name<'_>,
        extensions: impl Iterator<Item = &'e ParsedExtension<'e>>,
    ) -> Result<Subject, String> {
        let mut subject = Subject::default();
        for attribute in name.iter_attributes() {
            let text = attribute.as_str().map_err(|error| format!("the subject cannot be read: {error}"))?;
            let kind = attribute.attr_type();
            if *kind == OID_X509_COMMON_NAME {
                text.clone_into(&mut subject.common_name);
            } else if *kind == OID_X509_ORGANIZATION_NAME {
                subject.organizations.push(text.to_owned());
            }
        }
        for extension in extensions {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => subject.dns += 1,
                    GeneralName::IPAddress(_) => subject.addresses += 1,
                    GeneralName::RFC822Name(_) => subject.mails += 1,
                    GeneralName::URI(_) => subject.uris += 1,
                    _ => {}
                }
            }
        }
        Ok(subject)
    }
}

/// Whether each part of a request's subject is one attribute, and each kind of attribute is there once.
pub(super) fn has_plain_subject(der: &[u8]) -> bool {
    let Ok((_, parsed)) = X509CertificationRequest::from_der(der) else { return false };
    let name = &parsed.certification_request_info.subject;
    let mut kinds = Vec::new();
    name.iter_rdn().all(|part| {
        let mut attributes = part.iter();
        let (first, second) = (attributes.next(), attributes.next());
        let kind = first.map(|attribute| attribute.attr_type().to_id_string());
        let plain = second.is_none() && kind.as_ref().is_some_and(|kind| !kinds.contains(kind));
        kinds.extend(kind);
        plain
    })
}

const SYSTEM_NODES: &str = "system:nodes";

fn has_usages(usages: &BTreeSet<String>, auth: &str) -> Result<(), String> {
    let all = ["digital signature", "key encipherment", auth];
    let is = |wanted: &[&str]| wanted.len() == usages.len() && wanted.iter().all(|one| usages.contains(*one));
    // A key that is not of RSA enciphers none.
    if is(&all) || is(&["digital signature", auth]) {
        return Ok(());
    }
    let mut all = all;
    all.sort_unstable();
    Err(format!("usages did not match [{}]", all.join(" ")))
}

/// Why a request is not that of a kubelet's client certificate.
pub(super) fn check_kubelet_client(subject: &Subject, usages: &BTreeSet<String>) -> Result<(), String> {
    let refused = [
        (subject.organizations != [SYSTEM_NODES], "subject organization is not system:nodes"),
        (subject.dns > 0, "DNS subjectAltNames are not allowed"),
        (subject.mails > 0, "Email subjectAltNames are not allowed"),
        (subject.addresses > 0, "IP subjectAltNames are not allowed"),
        (subject.uris > 0, "URI subjectAltNames are not allowed"),
        (!is_node(subject), "subject common name does not begin with system:node:"),
    ];
    first(&refused)?;
    has_usages(usages, "client auth")
}

/// Why a request is not that of a kubelet's serving certificate.
pub(super) fn check_kubelet_serving(subject: &Subject, usages: &BTreeSet<String>) -> Result<(), String> {
    first(&[
        (subject.organizations != [SYSTEM_NODES], "subject organization is not system:nodes"),
        (subject.dns + subject.addresses == 0, "DNS or IP subjectAltName is required"),
        (subject.mails > 0, "Email subjectAltNames are not allowed"),
        (subject.uris > 0, "URI subjectAltNames are not allowed"),
    ])?;
    has_usages(usages, "server auth")?;
    first(&[(!is_node(subject), "subject common name does not begin with system:node:")])
}

pub(super) fn check_client(usages: &BTreeSet<String>) -> Result<(), String> {
    let known = ["client auth", "digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|usage| !known.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.contains("client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

fn is_node(subject: &Subject) -> bool {
    subject.common_name.starts_with("system:node:")
}

fn first(refused: &[(bool, &str)]) -> Result<(), String> {
    let found = refused.iter().find(|(refused, _)| *refused);
    found.map_or(Ok(()), |(_, why)| Err((*why).to_owned()))
}

/// Changes the request as it is now, through one of its subresources, under the version that was looked at.
pub(super) async fn change(
    client: &Client,
    key: &Key,
    request: &Request,
    subresource: &str,
    change: impl FnOnce(&mut Value),
) -> Result<(), Error> {
    let resource = ResourceRef::of::<Request>();
    let api = client.at(&resource);
    let mut whole: Value = api.get(None, &key.name).await?;
    whole["metadata"]["resourceVersion"] = request.metadata.resource_version.as_str().into();
    change(&mut whole);
    api.update::<Partial>(None, &key.name, Some(subresource), &whole).await?;
    Ok(())
}

/// Adds a condition to a whole request.
pub(super) fn add_condition(whole: &mut Value, condition: Value) {
    match whole["status"]["conditions"].as_array_mut() {
        Some(conditions) => conditions.push(condition),
        None => whole["status"]["conditions"] = Value::Array(vec![condition]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(common_name: &str, organization: &str, names: &[&str]) -> Subject {
        let mut parameters =
            rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, common_name);
        parameters.distinguished_name.push(rcgen::DnType::OrganizationName, organization);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
        Subject::read(&STANDARD.encode(pem)).unwrap()
    }

    #[test]
    fn kubelets_requests() {
        let usages = |list: &[&str]| list.iter().map(|usage| (*usage).to_owned()).collect::<BTreeSet<_>>();
        let client = usages(&["client auth", "digital signature"]);
        let serving = usages(&["server auth", "digital signature", "key encipherment"]);
        let node = request("system:node:a", "system:nodes", &[]);
        assert_eq!(check_kubelet_client(&node, &client), Ok(()));
        let refused = |result: Result<(), String>| result.unwrap_err();
        assert_eq!(
            refused(check_kubelet_client(&node, &serving)),
            "usages did not match [client auth digital signature key encipherment]"
        );
        assert_eq!(refused(check_kubelet_serving(&node, &serving)), "DNS or IP subjectAltName is required");
        let named = request("system:node:a", "system:nodes", &["a.example.com", "10.0.0.1"]);
        assert_eq!(check_kubelet_serving(&named, &serving), Ok(()));
        assert_eq!(refused(check_kubelet_client(&named, &client)), "DNS subjectAltNames are not allowed");
        let other = request("a", "system:nodes", &[]);
        assert_eq!(
            refused(check_kubelet_client(&other, &client)),
            "subject common name does not begin with system:node:"
        );
        let masters = request("system:node:a", "system:masters", &[]);
        assert_eq!(
            refused(check_kubelet_client(&masters, &client)),
            "subject organization is not system:nodes"
        );
        assert_eq!(check_client(&client), Ok(()));
        assert_eq!(refused(check_client(&serving)), "invalid usage for client certificate: server auth");
        assert!(Subject::read("eA==").is_err());
    }
}
