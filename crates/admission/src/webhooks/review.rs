//! `AdmissionReview`: what is sent, and what of the answer counts.

use api::{Tree, json};
use base64::Engine as _;
use registry::tree::{entries, get, text, texts};

use super::matching::Invocation;
use crate::Attributes;
use crate::described::described;

const GROUP: &str = "admission.k8s.io";

/// A review that is under way.
pub(super) struct Review {
    uid: String,
    version: &'static str,
}

/// What a webhook answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub allowed: bool,
    pub annotations: Vec<(String, String)>,
    pub warnings: Vec<String>,
    /// In base64; empty where there is none.
    patch: String,
    patch_type: String,
    /// The `Status` that came with the answer.
    pub result: Tree,
}

impl Review {
    /// In the first version that both know.
    pub fn begin(invocation: &Invocation<'_>) -> Result<Review, String> {
        let known = |version: &String| match version.as_str() {
            "v1" => Some("v1"),
            "v1beta1" => Some("v1beta1"),
            _ => None,
        };
        let version = invocation.hook.versions.iter().find_map(known);
        let version =
            version.ok_or("webhook does not accept known AdmissionReview versions (v1, v1beta1)")?;
        Ok(Review { uid: uuid::Uuid::new_v4().to_string(), version })
    }

    /// The request of the review.
    pub fn request(
        &self,
        attributes: &Attributes<'_>,
        invocation: &Invocation<'_>,
        object: Tree,
        old: Tree,
    ) -> Vec<u8> {
        let mut request = described(attributes, &invocation.resource);
        request.insert("uid", self.uid.as_str().into());
        request.insert("object", object);
        request.insert("oldObject", old);
        let review = json!({
            "kind": "AdmissionReview",
            "apiVersion": format!("{GROUP}/{}", self.version),
            "request": request,
        });
        api::json::to_vec(&review)
    }

    /// What counts of the answer; or why it is none.
    pub fn answer(&self, review: &Tree, mutating: bool) -> Result<Answer, String> {
        let response = get(review, "response");
        if response.is_null() {
            return Err("webhook response was absent".to_owned());
        }
        let encoded = text(response, "patch");
        let patch_type = get(response, "patchType").as_str();
        if self.version == "v1" {
            self.check(review, response)?;
            let (given, typed) = (!encoded.is_empty(), patch_type.is_some());
            match (mutating, given, typed) {
                (true, true, false) => {
                    return Err("webhook returned response.patch but not response.patchType".to_owned());
                }
                (true, false, true) => {
                    return Err("webhook returned response.patchType but not response.patch".to_owned());
                }
                (true, _, _) if patch_type == Some("") => {
                    return Err("webhook returned invalid response.patchType of \"\"".to_owned());
                }
                (false, true, _) => return Err("validating webhook may not return response.patch".to_owned()),
                (false, _, true) => {
                    return Err("validating webhook may not return response.patchType".to_owned());
                }
                _ => {}
            }
        }
        Ok(Answer {
            allowed: get(response, "allowed").as_bool().unwrap_or_default(),
            annotations: entries(response, "auditAnnotations")
                .map(|(key, value)| (key.to_owned(), value.as_str().unwrap_or_default().to_owned()))
                .collect(),
            warnings: texts(response, "warnings").map(str::to_owned).collect(),
            patch: if mutating { encoded.to_owned() } else { String::new() },
            patch_type: patch_type.unwrap_or("JSONPatch").to_owned(),
            result: get(response, "status").clone(),
        })
    }

    fn check(&self, review: &Tree, response: &Tree) -> Result<(), String> {
        let uid = text(response, "uid");
        if uid != self.uid {
            return Err(format!("expected response.uid={:?}, got {uid:?}", self.uid));
        }
        let (api_version, kind) = (text(review, "apiVersion"), text(review, "kind"));
        if api_version != format!("{GROUP}/v1") || kind != "AdmissionReview" {
            let found = match api_version.split_once('/') {
                Some((group, version)) => format!("{group}/{version}, Kind={kind}"),
                None => format!("/{api_version}, Kind={kind}"),
            };
            return Err(format!(
                "expected webhook response of {GROUP}/v1, Kind=AdmissionReview, got {found}"
            ));
        }
        Ok(())
    }
}

impl Answer {
    /// The operations of the JSON patch, `None` where there are none.
    pub fn patch(&self) -> Result<Option<Tree>, String> {
        if self.patch.is_empty() {
            return Ok(None);
        }
        let undecodable = |why: String| format!("received undecodable patch in webhook response: {why}");
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(&self.patch)
            .map_err(|error| undecodable(error.to_string()))?;
        let patch = api::decode::untyped(&bytes).map_err(undecodable)?;
        if self.patch_type != "JSONPatch" {
            return Err(format!("unsupported patch type {:?}", self.patch_type));
        }
        Ok(Some(patch).filter(|patch| patch.as_array().is_some_and(|all| !all.is_empty())))
    }
}
