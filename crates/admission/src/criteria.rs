//! Which requests a webhook or a policy is about: rules that name resources, and selectors of namespaces and of objects.

use std::sync::Arc;

use api::model::Resource;
use api::{Status, Tree};
use machinery::labels::Selector;
use registry::Kind;
use registry::tree::{get, list, text, texts};

use crate::{Attributes, Operation, Services};

#[derive(Debug)]
pub(crate) struct Criteria {
    rules: Vec<Rule>,
    excluded: Vec<Rule>,
    /// Without rules it is about all requests, and not about none.
    open: bool,
    /// Whether a rule for one version of a kind is one for all of them.
    equivalent: bool,
    namespaces: Result<Selector, String>,
    objects: Result<Selector, String>,
}

#[derive(Debug)]
struct Rule {
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource.
    resources: Vec<(String, String)>,
    operations: Vec<String>,
    scope: String,
    /// Of objects; of all where there are none.
    names: Vec<String>,
}

impl Criteria {
    /// Those of a webhook.
    pub fn of_hook(hook: &Tree) -> Criteria {
        Criteria { open: false, ..Criteria::of(hook, "rules") }
    }

    /// Those of `MatchResources`.
    pub fn of_policy(resources: &Tree) -> Criteria {
        Criteria::of(resources, "resourceRules")
    }

    fn of(tree: &Tree, rules: &str) -> Criteria {
        let selector = |field: &str| match get(tree, field) {
            Tree::Null => Ok(Selector::everything()),
            selector => Selector::from_label_selector(selector),
        };
        let all = |field: &str| list(tree, field).iter().map(Rule::of).collect();
        Criteria {
            rules: all(rules),
            excluded: all("excludeResourceRules"),
            open: true,
            equivalent: text(tree, "matchPolicy") == "Equivalent",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// Plurals of the resources that it may be about; `None` where these may be any.
    pub fn plurals(&self) -> Option<impl Iterator<Item = &str>> {
        let resources = || self.rules.iter().flat_map(|rule| &rule.resources);
        let any = self.open && self.rules.is_empty() || resources().any(|(plural, _)| plural == "*");
        (!any).then(|| resources().map(|(plural, _)| plural.as_str()))
    }

    /// The resource in the version that the rules name, where they are about the request. Its object may have been changed by others.
    pub async fn matches(
        &self,
        services: &dyn Services,
        attributes: &Attributes<'_>,
        object: &Tree,
    ) -> Result<Option<Arc<Kind>>, Status> {
        // what is wrong with a selector counts only where the rules match
        let in_namespace = self.namespace_matches(services, attributes, object).await;
        if matches!(in_namespace, Ok(false)) {
            return Ok(None);
        }
        let selected = self.object_matches(attributes, object);
        if matches!(selected, Ok(false)) || self.named(&self.excluded, attributes).is_some() {
            return Ok(None);
        }
        let resource = match self.open && self.rules.is_empty() {
            true => Some(Arc::clone(attributes.resource)),
            false => self.named(&self.rules, attributes),
        };
        if resource.is_some() {
            in_namespace?;
            selected?;
        }
        Ok(resource)
    }

    /// The resource as one of the rules names it, or else another version of it; earlier rules first.
    fn named(&self, rules: &[Rule], attributes: &Attributes<'_>) -> Option<Arc<Kind>> {
        if rules.iter().any(|rule| rule.matches(attributes, attributes.resource)) {
            return Some(Arc::clone(attributes.resource));
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let others = attributes.context.versions(attributes.resource);
        rules.iter().find_map(|rule| others.iter().find(|other| rule.matches(attributes, other)).cloned())
    }

    async fn namespace_matches(
        &self,
        services: &dyn Services,
        attributes: &Attributes<'_>,
        object: &Tree,
    ) -> Result<bool, Status> {
        let of_namespaces = attributes.resource.plural == "namespaces";
        if attributes.namespace.is_empty() && !of_namespaces {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
        if selector.is_everything() {
            return Ok(true);
        }
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        if of_namespaces && attributes.subresource.is_empty() && written {
            return Ok(selector.matches_map(get(object, "metadata.labels")));
        }
        let namespace = namespace_of(services, attributes.namespace).await?;
        Ok(selector.matches_map(get(&namespace, "metadata.labels")))
    }

    /// Either the object or the old one.
    fn object_matches(&self, attributes: &Attributes<'_>, object: &Tree) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        let matches =
            |object: &Tree| !object.is_null() && selector.matches_map(get(object, "metadata.labels"));
        Ok(selector.is_everything() || matches(object) || attributes.old.is_some_and(matches))
    }
}

/// The namespace of a request, which may just have been created.
pub(crate) async fn namespace_of(services: &dyn Services, name: &str) -> Result<Arc<Tree>, Status> {
    let namespace = services.find("", "namespaces", "", name).await?;
    namespace.ok_or_else(|| Status::not_found("", "namespaces", name))
}

impl Rule {
    fn of(tree: &Tree) -> Rule {
        let all = |field: &str| texts(tree, field).map(str::to_owned).collect();
        let split = |resource: &str| {
            let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            (resource.to_owned(), subresource.to_owned())
        };
        Rule {
            groups: all("apiGroups"),
            versions: all("apiVersions"),
            resources: texts(tree, "resources").map(split).collect(),
            operations: all("operations"),
            scope: text(tree, "scope").to_owned(),
            names: all("resourceNames"),
        }
    }

    fn matches(&self, attributes: &Attributes<'_>, resource: &Resource) -> bool {
        let named = |all: &[String], wanted: &str| all.iter().any(|own| own == "*" || own == wanted);
        self.is_in_scope(attributes)
            && named(&self.operations, attributes.operation.name())
            && named(&self.groups, &resource.group)
            && named(&self.versions, &resource.version)
            && self.resources.iter().any(|(plural, subresource)| {
                (plural == "*" || *plural == resource.plural)
                    && (subresource == "*" || subresource == attributes.subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }

    /// A namespace is itself in none.
    fn is_in_scope(&self, attributes: &Attributes<'_>) -> bool {
        let inside = !attributes.namespace.is_empty() && !attributes.is("", "namespaces");
        match self.scope.as_str() {
            "" | "*" => true,
            "Namespaced" => inside,
            "Cluster" => !inside,
            _ => false,
        }
    }
}
