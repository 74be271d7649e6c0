//! Which flow schema and priority level a request belongs to: every answer names both by their uids, and what is exempt waits for no
//! seat. The schemas are compiled when they change; a request is compared with them in order of their precedence.
//!
//! What a priority level gives its requests (shares, queues) is absent: see `turn/limits.rs`.

use std::sync::Arc;

use access::request_info::RequestInfo;
use access::user::User;
use api::model::Resource;
use api::{Status, Tree};
use http::HeaderValue;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use watchcache::follow::follow;
use watchcache::resources::Resources;

use crate::kinds;

/// Levels that exist whether or not there is an object of theirs.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// The headers of an answer, and whether the level has no limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    pub schema: HeaderValue,
    pub level: HeaderValue,
    pub exempt: bool,
}

/// The schemas as they are now.
#[derive(Default)]
pub struct Flows {
    compiled: RwLock<Arc<Vec<Schema>>>,
    /// Taken while the schemas are read and compiled: what was read first must not be put in place last.
    compiling: Mutex<()>,
    /// Wakes what keeps the schemas' statuses.
    pub changed: Notify,
}

struct Schema {
    precedence: i64,
    name: String,
    flow: Flow,
    rules: Vec<Rule>,
}

#[derive(Default)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

enum Subject {
    User(String),
    Group(String),
    /// The whole names of a service account, or what those of a namespace begin with.
    ServiceAccount(String),
    ServiceAccounts(String),
}

struct ResourceRule {
    verbs: Set,
    groups: Set,
    resources: Set,
    namespaces: Set,
    cluster_scope: bool,
}

struct PathRule {
    verbs: Set,
    paths: Vec<String>,
}

/// Some texts, or with `*` alone all.
enum Set {
    All,
    Of(Vec<String>),
}

impl Set {
    fn read(tree: &Tree) -> Set {
        let mut texts = texts(tree);
        match texts.as_mut_slice() {
            [only] if only == "*" => Set::All,
            _ => Set::Of(texts),
        }
    }

    fn has(&self, text: &str) -> bool {
        match self {
            Set::All => true,
            Set::Of(texts) => texts.iter().any(|own| own == text),
        }
    }
}

fn texts(tree: &Tree) -> Vec<String> {
    tree.as_array().into_iter().flatten().filter_map(Tree::as_str).map(str::to_owned).collect()
}

fn items(tree: &Tree) -> impl Iterator<Item = &Tree> {
    tree.as_array().into_iter().flatten()
}

impl Flows {
    /// Follows the watch cache; the tasks end with `shutdown`.
    pub fn run(
        self: &Arc<Self>,
        resources: &Arc<Resources>,
        shutdown: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) {
        for resource in [kinds::flow_schemas(), kinds::priority_levels()] {
            let recompile =
                |flows: Arc<Flows>, resources: Arc<Resources>| move || flows.recompile(&resources);
            let reset = recompile(self.clone(), resources.clone());
            let change = recompile(self.clone(), resources.clone());
            tasks.spawn(follow(
                resources.clone(),
                resource,
                shutdown.clone(),
                |(): &mut (), _| {},
                move |()| reset(),
                move |_| change(),
            ));
        }
    }

    fn recompile(&self, resources: &Resources) {
        let _compiling = self.compiling.lock();
        let all = |resource: &Resource| -> Result<Vec<Tree>, Status> {
            Ok(resources.read_all(resource, None)?.into_iter().map(|(_, object)| object).collect())
        };
        match (all(kinds::flow_schemas()), all(kinds::priority_levels())) {
            (Ok(schemas), Ok(levels)) => self.set(&schemas, &levels),
            // the rest of a configuration is another one
            (Err(status), _) | (_, Err(status)) => {
                tracing::error!(error = status.message, "Flow control stays as it was");
            }
        }
        self.changed.notify_one();
    }

    fn set(&self, schemas: &[Tree], levels: &[Tree]) {
        let level_of = |name: &str| levels.iter().find(|level| level["metadata"]["name"] == name);
        let uid_of = |name: &str| level_of(name).map(uid);
        let exempt = |name: &str| {
            name == MANDATORY[0] || level_of(name).is_some_and(|level| level["spec"]["type"] == "Exempt")
        };
        let empty = || HeaderValue::from_static("");
        let mut compiled: Vec<Schema> = Vec::with_capacity(schemas.len() + MANDATORY.len());
        for schema in schemas {
            let name = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
            // A schema whose priority level is missing matches no requests.
            let Some(level) = uid_of(name).or_else(|| MANDATORY.contains(&name).then(empty)) else {
                continue;
            };
            compiled.push(Schema {
                precedence: schema["spec"]["matchingPrecedence"].as_i64().unwrap_or(1000),
                name: schema["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
                flow: Flow { schema: uid(schema), level, exempt: exempt(name) },
                rules: items(&schema["spec"]["rules"]).map(rule).collect(),
            });
        }
        compiled.sort_by(|one, other| (one.precedence, &one.name).cmp(&(other.precedence, &other.name)));
        for name in MANDATORY {
            if compiled.iter().any(|schema| schema.name == name) {
                continue;
            }
            let level = uid_of(name).unwrap_or_else(empty);
            let flow = Flow { schema: empty(), level, exempt: exempt(name) };
            let masters = name == "exempt";
            let subject = if masters { access::user::MASTERS } else { "*" };
            let rules = vec![everything(Subject::Group(subject.to_owned()))];
            let schema = Schema { precedence: 0, name: name.to_owned(), flow, rules };
            compiled.insert(if masters { 0 } else { compiled.len() }, schema);
        }
        *self.compiled.write() = Arc::new(compiled);
    }

    /// The first schema that the request matches, else `catch-all`. `None` before the schemas were read.
    pub fn of(&self, user: &User, info: &RequestInfo) -> Option<Flow> {
        let compiled = self.compiled.read().clone();
        let matching =
            compiled.iter().find(|schema| schema.rules.iter().any(|rule| rule.matches(user, info)));
        let schema = matching.or_else(|| compiled.iter().find(|schema| schema.name == "catch-all"));
        schema.map(|schema| schema.flow.clone())
    }
}

fn uid(object: &Tree) -> HeaderValue {
    let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
    HeaderValue::from_str(uid).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn everything(subject: Subject) -> Rule {
    let all = || Set::All;
    let resource = ResourceRule {
        verbs: all(),
        groups: all(),
        resources: all(),
        namespaces: all(),
        cluster_scope: true,
    };
    let path = PathRule { verbs: all(), paths: vec!["*".to_owned()] };
    Rule { subjects: vec![subject], resources: vec![resource], paths: vec![path] }
}

fn rule(tree: &Tree) -> Rule {
    Rule {
        subjects: items(&tree["subjects"]).filter_map(subject).collect(),
        resources: items(&tree["resourceRules"])
            .map(|rule| ResourceRule {
                verbs: Set::read(&rule["verbs"]),
                groups: Set::read(&rule["apiGroups"]),
                resources: Set::read(&rule["resources"]),
                namespaces: Set::read(&rule["namespaces"]),
                cluster_scope: rule["clusterScope"] == true,
            })
            .collect(),
        paths: items(&tree["nonResourceRules"])
            .map(|rule| PathRule { verbs: Set::read(&rule["verbs"]), paths: texts(&rule["nonResourceURLs"]) })
            .collect(),
    }
}

fn subject(tree: &Tree) -> Option<Subject> {
    let text = |kind: &str, field: &str| tree[kind][field].as_str().unwrap_or_default().to_owned();
    match tree["kind"].as_str()? {
        "User" => Some(Subject::User(text("user", "name"))),
        "Group" => Some(Subject::Group(text("group", "name"))),
        "ServiceAccount" => {
            let (namespace, name) = (text("serviceAccount", "namespace"), text("serviceAccount", "name"));
            let of_namespace = format!("system:serviceaccount:{namespace}:");
            Some(match name.as_str() {
                "*" => Subject::ServiceAccounts(of_namespace),
                name => Subject::ServiceAccount(of_namespace + name),
            })
        }
        _ => None,
    }
}

impl Rule {
    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.subjects.iter().any(|subject| subject.is(user))
            && match info.is_resource_request {
                true => self.resources.iter().any(|rule| rule.matches(info)),
                false => self.paths.iter().any(|rule| rule.matches(info)),
            }
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self {
            Subject::User(name) => name == "*" || *name == user.name,
            Subject::Group(name) => name == "*" || user.in_group(name),
            Subject::ServiceAccount(name) => *name == user.name,
            Subject::ServiceAccounts(start) => user.name.starts_with(start),
        }
    }
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let resource = |set: &Set| match info.subresource.as_str() {
            "" => set.has(&info.resource),
            subresource => matches!(set, Set::All) || set.has(&format!("{}/{subresource}", info.resource)),
        };
        self.verbs.has(&info.verb)
            && self.groups.has(&info.group)
            && resource(&self.resources)
            && match info.namespace.as_str() {
                "" => self.cluster_scope,
                namespace => self.namespaces.has(namespace),
            }
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let below = |path: &String| {
            let start = path.strip_suffix('*').unwrap_or(path);
            let rest = info.path.strip_prefix(start);
            rest.is_some_and(|rest| start.ends_with('/') || rest.starts_with('/'))
        };
        self.verbs.has(&info.verb)
            && self.paths.iter().any(|path| path == "*" || *path == info.path || below(path))
    }
}

#[cfg(test)]
mod tests {
    use api::json;
    use http::Method;

    use super::*;

    fn schema(name: &str, precedence: i64, level: &str, rule: Tree) -> Tree {
        json!({"metadata": {"name": name, "uid": format!("schema-{name}")},
            "spec": {"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": [rule]}})
    }

    #[test]
    fn requests_have_the_first_schema_that_matches() {
        let any = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
        let group = |name: &str| json!([{"kind": "Group", "group": {"name": name}}]);
        let account = |name: &str| json!([{"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": name}}]);
        let flows = Flows::default();
        let user = |name: &str, groups: &[&str]| User {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..User::default()
        };
        let nobody = user("nobody", &[]);
        let info = |method: Method, uri: &str| RequestInfo::of(&method, &uri.parse().unwrap());
        assert_eq!(flows.of(&nobody, &info(Method::GET, "/api")), None);
        flows.set(
            &[
                schema("late", 900, "level", json!({"subjects": group("*"), "resourceRules": any})),
                schema("nodes", 400, "level", json!({"subjects": group("nodes"), "resourceRules": [
                    {"verbs": ["update"], "apiGroups": [""], "resources": ["nodes/status"], "clusterScope": true},
                    {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments"], "namespaces": ["b"]}]})),
                schema("lost", 1, "missing", json!({"subjects": group("*"), "resourceRules": any})),
                schema("all-accounts", 500, "level", json!({"subjects": account("*"), "resourceRules": any})),
                schema("account", 500, "level", json!({"subjects": account("x"), "resourceRules": any})),
                schema("health", 2, "exempt", json!({"subjects": group("*"), "nonResourceRules": [
                    {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/logs/*"]}]})),
            ],
            &[json!({"metadata": {"name": "level", "uid": "level"}})],
        );
        let check = |user: &User, method: Method, uri: &str, expect: (&str, &str)| {
            let flow = flows.of(user, &info(method, uri)).unwrap();
            assert_eq!((flow.schema.to_str().unwrap(), flow.level.to_str().unwrap()), expect, "{uri}");
        };
        let node = user("n", &["nodes"]);
        check(&node, Method::PUT, "/api/v1/nodes/n/status", ("schema-nodes", "level"));
        check(&node, Method::PUT, "/api/v1/nodes/n", ("schema-late", "level"));
        check(&node, Method::GET, "/apis/apps/v1/namespaces/b/deployments/d", ("schema-nodes", "level"));
        check(&node, Method::GET, "/apis/apps/v1/namespaces/c/deployments/d", ("schema-late", "level"));
        let account = |name: &str| user(&format!("system:serviceaccount:{name}"), &[]);
        check(&account("a:x"), Method::GET, "/api/v1/pods", ("schema-account", "level"));
        check(&account("a:y"), Method::GET, "/api/v1/pods", ("schema-all-accounts", "level"));
        check(&account("ab:x"), Method::GET, "/api/v1/pods", ("schema-late", "level"));
        check(&nobody, Method::GET, "/healthz/etcd", ("schema-health", ""));
        check(&nobody, Method::GET, "/healthzz", ("", ""));
        check(&nobody, Method::GET, "/logs/x", ("schema-health", ""));
        check(&user("root", &["system:masters"]), Method::GET, "/api/v1/pods", ("", ""));
        for (uri, exempt) in [("/healthz", true), ("/version", false), ("/api/v1/pods", false)] {
            assert_eq!(flows.of(&nobody, &info(Method::GET, uri)).unwrap().exempt, exempt, "{uri}");
        }
    }
}
