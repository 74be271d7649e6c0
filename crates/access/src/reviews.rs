//! The kinds that are questions: who is this token, may this user do that, what may I do, who am I.

use std::sync::Arc;

use api::json;
use api::model::Resource;
use api::status::Cause;
use api::tree::Object;
use api::{Status, Tree};

use crate::authn::{AUTHENTICATED, Authenticator};
use crate::authz::rules::Rule;
use crate::authz::{Attributes, Authorizer, Decision};
use crate::user::{MASTERS, User};

pub struct Reviews {
    pub authenticator: Arc<Authenticator>,
    pub authorizer: Arc<Authorizer>,
}

impl Reviews {
    /// Answers one, which comes in and goes out at the request's version.
    pub async fn review(
        &self,
        resource: &Resource,
        user: &User,
        namespace: &str,
        mut object: Tree,
    ) -> Result<Tree, Status> {
        check(&resource.plural, namespace, &object)?;
        let status = match &*resource.plural {
            "tokenreviews" => self.token(&object["spec"]).await?,
            "subjectaccessreviews" => self.access(&subject(&object["spec"])?, &object["spec"]).await?,
            "localsubjectaccessreviews" => self.access(&subject(&object["spec"])?, &object["spec"]).await?,
            "selfsubjectaccessreviews" => self.access(user, &object["spec"]).await?,
            "selfsubjectrulesreviews" => {
                let asked = object["spec"]["namespace"].as_str().unwrap_or_default();
                if asked.is_empty() {
                    return Err(Status::bad_request("no namespace on request"));
                }
                let rules = self.rules(user, asked);
                // The answer is another object than what was asked with.
                object["metadata"] = json!({});
                rules
            }
            "selfsubjectreviews" => {
                let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                object["metadata"] = json!({"creationTimestamp": now});
                json!({"userInfo": user_info(user)})
            }
            other => return Err(Status::not_found(&resource.group, other, "")),
        };
        object["status"] = status;
        Ok(object)
    }
}

impl Reviews {
    async fn token(&self, spec: &Tree) -> Result<Tree, Status> {
        let token = spec["token"].as_str().unwrap_or_default();
        if token.is_empty() {
            return Err(Status::bad_request("token is required for TokenReview in authentication"));
        }
        let asked: Vec<String> = spec["audiences"].parse().unwrap_or_default();
        let audiences = if asked.is_empty() { &self.authenticator.api_audiences } else { &asked };
        Ok(match self.authenticator.token(token, audiences).await {
            Ok(mut found) => {
                found.user.groups.push(AUTHENTICATED.into());
                json!({"authenticated": true, "user": user_info(&found.user), "audiences": found.audiences})
            }
            Err(error) => json!({"user": {}, "error": error.to_string()}),
        })
    }

    async fn access(&self, user: &User, spec: &Tree) -> Result<Tree, Status> {
        let resource = &spec["resourceAttributes"];
        let other = &spec["nonResourceAttributes"];
        let text = |field: &str| resource[field].as_str().unwrap_or_default();
        let selector = field_selector(&resource["fieldSelector"]);
        let attributes = if resource.is_object() {
            Attributes {
                user,
                verb: text("verb"),
                is_resource: true,
                group: text("group"),
                version: text("version"),
                namespace: text("namespace"),
                resource: text("resource"),
                subresource: text("subresource"),
                name: text("name"),
                path: "",
                field_selector: &selector,
            }
        } else {
            Attributes {
                is_resource: false,
                verb: other["verb"].as_str().unwrap_or_default(),
                path: other["path"].as_str().unwrap_or_default(),
                ..Attributes::resource(user, "", "", "", "", "")
            }
        };
        let answer = self.authorizer.authorize(&attributes).await;
        let mut status = Object::new();
        status.insert("allowed", json!(answer.allowed()));
        if answer.decision == Decision::Deny {
            status.insert("denied", json!(true));
        }
        if !answer.reason.is_empty() {
            status.insert("reason", json!(answer.reason));
        }
        Ok(Tree::Object(status))
    }

    fn rules(&self, user: &User, namespace: &str) -> Tree {
        let (mut rules, mut errors) = self.authorizer.rbac.rules_for(user, namespace);
        if user.in_group(MASTERS) {
            let all = || vec!["*".to_owned()];
            rules.insert(0, Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() });
            rules.insert(1, Rule { verbs: all(), urls: all(), ..Rule::default() });
        }
        let uses_node = self.authorizer.uses_node();
        if uses_node && crate::authz::node::node_name(user).is_some() {
            errors.push("node authorizer does not support user rule resolution".to_owned());
        }
        let (paths, objects): (Vec<Rule>, Vec<Rule>) =
            rules.into_iter().partition(|rule| !rule.urls.is_empty());
        let objects: Vec<Tree> = objects
            .iter()
            .map(|rule| {
                let mut shown =
                    json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
                if !rule.resource_names.is_empty() {
                    shown["resourceNames"] = json!(rule.resource_names);
                }
                shown
            })
            .collect();
        let paths: Vec<Tree> =
            paths.iter().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls})).collect();
        let mut status =
            json!({"resourceRules": objects, "nonResourceRules": paths, "incomplete": !errors.is_empty()});
        if !errors.is_empty() {
            status["evaluationError"] = json!(errors.join(", "));
        }
        status
    }
}

/// Validates an access review.
fn check(plural: &str, namespace: &str, object: &Tree) -> Result<(), Status> {
    if !plural.ends_with("accessreviews") {
        return Ok(());
    }
    let spec = &object["spec"];
    let mut causes = Vec::new();
    let mut invalid = |field: &str, value: &Tree, why: &str| {
        let value = String::from_utf8_lossy(&json::to_vec(value)).into_owned();
        let message = format!("Invalid value: {value}: {why}");
        causes.push(Cause { reason: "FieldValueInvalid".to_owned(), message, field: field.to_owned() });
    };
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        let text = |field: &str| path[field].as_str().unwrap_or_default();
        let value = match path.is_object() {
            true => json!({"Path": text("path"), "Verb": text("verb")}),
            false => Tree::Null,
        };
        invalid(
            "spec",
            &value,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
    }
    let of_other = plural != "selfsubjectaccessreviews";
    if of_other
        && spec["user"].as_str().unwrap_or_default().is_empty()
        && spec["groups"].as_array().is_none_or(Vec::is_empty)
    {
        invalid("spec.user", &json!(""), "at least one of user or group must be specified");
    }
    for selector in ["fieldSelector", "labelSelector"] {
        let given = &resource[selector];
        if !given["rawSelector"].as_str().unwrap_or_default().is_empty()
            && given["requirements"].as_array().is_some_and(|list| !list.is_empty())
        {
            let field = format!("spec.resourceAttributes.{selector}.rawSelector");
            invalid(&field, &given["rawSelector"], "may not specified at the same time as requirements");
        }
    }
    if let Some(metadata) = object["metadata"].as_object() {
        let local = plural == "localsubjectaccessreviews";
        let mut rest = metadata.clone();
        rest.remove("managedFields");
        if local {
            rest.remove("namespace");
        }
        if !rest.is_empty() {
            invalid("metadata", &object["metadata"], "must be empty");
        }
    }
    if plural == "localsubjectaccessreviews"
        && resource.is_object()
        && resource["namespace"].as_str().unwrap_or_default() != namespace
    {
        invalid("spec.resourceAttributes.namespace", &resource["namespace"], "must match metadata.namespace");
    }
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid("authorization.k8s.io", "", "", causes)) }
}

fn subject(spec: &Tree) -> Result<User, Status> {
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let user = User {
        name: text("user"),
        uid: text("uid"),
        groups: spec["groups"].parse().unwrap_or_default(),
        extra: spec["extra"].parse().unwrap_or_default(),
    };
    Ok(user)
}

/// A review's field selector in the form of the query parameter.
fn field_selector(selector: &Tree) -> String {
    if let Some(raw) = selector["rawSelector"].as_str() {
        return raw.to_owned();
    }
    let terms = selector["requirements"].as_array().into_iter().flatten().filter_map(|term| {
        let value = term["values"].as_array()?.first()?.as_str()?;
        (term["operator"] == "In").then(|| format!("{}={value}", term["key"].as_str().unwrap_or_default()))
    });
    terms.collect::<Vec<_>>().join(",")
}

fn user_info(user: &User) -> Tree {
    let mut info = Object::new();
    info.insert("username", json!(user.name));
    if !user.uid.is_empty() {
        info.insert("uid", json!(user.uid));
    }
    if !user.groups.is_empty() {
        info.insert("groups", json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra", json!(user.extra));
    }
    Tree::Object(info)
}
