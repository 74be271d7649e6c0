//! Trust anchors of ClusterTrustBundles, as files of a pod.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::ClusterTrustBundleProjection;
use machinery::labels::Selector;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::objects::{Error, Objects};

/// The anchors that a projection selects, in PEM.
pub async fn anchors(objects: &dyn Objects, source: &ClusterTrustBundleProjection) -> Result<Vec<u8>, Error> {
    let other = |text: &str| Error::Other(text.to_owned());
    let bundles = objects.trust_bundles().await?;
    let selected: Vec<&ClusterTrustBundle> = if let Some(name) = &source.name {
        let named = bundles.iter().filter(|bundle| bundle.metadata.name.as_ref() == Some(name));
        named.map(AsRef::as_ref).collect()
    } else if let Some(signer) = &source.signer_name {
        let selector = serde_json::to_value(&source.label_selector).unwrap_or_default();
        let selector = Selector::from_label_selector(&selector.into())
            .map_err(|error| Error::Other(format!("while parsing label selector: {error}")))?;
        let is_selected = |bundle: &&ClusterTrustBundle| {
            let labels = bundle.metadata.labels.as_ref();
            bundle.spec.signer_name.as_ref() == Some(signer)
                && selector.matches_with(|key| Some(labels?.get(key)?.as_str()))
        };
        bundles.iter().map(AsRef::as_ref).filter(is_selected).collect()
    } else {
        return Err(other("ClusterTrustBundle projection requires either name or signerName to be set"));
    };
    if selected.is_empty() && source.optional != Some(true) {
        return Err(match &source.name {
            Some(name) => Error::NotFound(format!(
                "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {name:?} not found"
            )),
            None => other("combination of signerName and labelSelector matched zero ClusterTrustBundles"),
        });
    }
    Ok(normalized(selected.iter().map(|bundle| bundle.spec.trust_bundle.as_bytes())))
}

/// Each certificate once, without comments, in an order that nobody can rely on: another one after each start.
fn normalized<'a>(bundles: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    static ORDER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    let certificates: BTreeSet<(u64, Vec<u8>)> = bundles
        .flat_map(|bundle| CertificateDer::pem_slice_iter(bundle).flatten())
        .map(|certificate| (ORDER.hash_one(certificate.as_ref()), certificate.to_vec()))
        .collect();
    certificates.iter().flat_map(|(_, certificate)| block(certificate)).collect()
}

/// The certificates of a text in PEM, without what stands between them.
pub fn cleaned(chain: &str) -> Vec<u8> {
    CertificateDer::pem_slice_iter(chain.as_bytes()).flatten().flat_map(|it| block(&it)).collect()
}

fn block(certificate: &[u8]) -> Vec<u8> {
    let encoded = BASE64.encode(certificate);
    let mut text = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in encoded.as_bytes().chunks(64) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.extend_from_slice(b"-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::Fake;
    use serde_json::{Value, json};

    fn certificate() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem().replace("\r\n", "\n")
    }

    fn bundle(name: &str, signer: Option<&str>, labels: Value, pem: &str) -> ClusterTrustBundle {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {"signerName": signer, "trustBundle": pem},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn what_is_selected_and_each_only_once() {
        let (a, b, c) = (certificate(), certificate(), certificate());
        let objects = Fake::default();
        let signer = Some("example.com/s");
        objects.add_trust_bundle(bundle("alone", None, json!({}), &format!("# comment\n{a}{a}")));
        objects.add_trust_bundle(bundle("s:1", signer, json!({"live": "yes"}), &format!("{a}{b}")));
        objects.add_trust_bundle(bundle("s:2", signer, json!({"live": "no"}), &c));
        let zero = "combination of signerName and labelSelector matched zero ClusterTrustBundles";
        let missing =
            "while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"x\" not found";
        let all = json!({});
        let live = json!({"matchLabels": {"live": "yes"}});
        let gone = json!({"matchLabels": {"live": "gone"}});
        for (source, expected) in [
            (json!({"name": "alone"}), Ok(vec![&a])),
            (json!({"name": "x"}), Err(missing)),
            (json!({"name": "x", "optional": true}), Ok(vec![])),
            (json!({"signerName": "example.com/s", "labelSelector": all}), Ok(vec![&a, &b, &c])),
            (json!({"signerName": "example.com/s", "labelSelector": live}), Ok(vec![&a, &b])),
            (json!({"signerName": "example.com/s", "labelSelector": gone}), Err(zero)),
            (json!({"signerName": "example.com/s", "labelSelector": gone, "optional": true}), Ok(vec![])),
            // no selector selects nothing, an empty one all
            (json!({"signerName": "example.com/s"}), Err(zero)),
            (json!({"signerName": "example.com/other", "labelSelector": all}), Err(zero)),
        ] {
            let mut full = source.clone();
            full["path"] = "ca.crt".into();
            let found = anchors(&objects, &serde_json::from_value(full).unwrap()).await;
            match expected {
                Err(text) => assert_eq!(found.unwrap_err().to_string(), text, "{source}"),
                Ok(certificates) => {
                    let found = String::from_utf8(found.unwrap()).unwrap();
                    assert_eq!(found.matches("BEGIN").count(), certificates.len(), "{source}");
                    for certificate in certificates {
                        assert!(found.contains(certificate.as_str()), "{source}: {found}");
                    }
                }
            }
        }
    }
}
