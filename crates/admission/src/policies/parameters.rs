//! Parameters: objects that a binding hands to its policy.

use std::sync::Arc;

use api::model::Scope;
use api::{Status, Tree};
use registry::Kind;

use super::policy::{ParameterKind, ParameterReference};
use crate::{Attributes, Gvk, Services};

impl ParameterKind {
    /// The kind, as it is served now.
    pub fn find(&self, attributes: &Attributes<'_>) -> Result<Arc<Kind>, String> {
        let Self { group, version, kind } = self;
        attributes.context.kind(&Gvk { group, version, kind }).ok_or_else(|| {
            format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={kind}'")
        })
    }
}

impl ParameterReference {
    /// The objects of the kind; those of the request's namespace where none is named.
    pub async fn collect(
        &self,
        kind: &Kind,
        services: &dyn Services,
        attributes: &Attributes<'_>,
    ) -> Result<Vec<Arc<Tree>>, String> {
        let namespace = match (kind.scope == Scope::Namespaced, self.namespace.as_str(), attributes.namespace)
        {
            (true, "", "") => {
                let why =
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
                return Err(why.to_owned());
            }
            (true, "", of_request) => of_request,
            (true, own, _) => own,
            (false, "", _) => "",
            (false, _, _) => {
                return Err(
                    "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()
                );
            }
        };
        let words = |status: Status| status.message;
        let found: Vec<Arc<Tree>> = match (&*self.name, &self.selector) {
            ("", None) => return Err("one of name or selector must be provided".to_owned()),
            ("", Some(selector)) => services
                .select(kind, namespace, selector.as_ref().map_err(String::clone)?)
                .await
                .map_err(words)?,
            (name, _) => services.object(kind, namespace, name).await.map_err(words)?.into_iter().collect(),
        };
        match found.is_empty() && self.denies {
            true => Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned()),
            false => Ok(found),
        }
    }
}
