//! What the documented API says of a path: what it is authorized as, and whether it is there.

use http::Method;

/// A resource as discovery lists it, with its subresources.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    pub base: String,
    pub group: String,
    pub name: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
    /// Name and verbs.
    pub subresources: Vec<(String, Vec<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    Collection,
    Object,
    /// The subresource of this index; one that nobody has is beyond the last.
    Sub(usize),
    /// With a segment behind the subresource.
    Behind(usize),
}

/// Where a resource is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub prefix: &'static str,
    pub namespaced: bool,
    pub shape: Shape,
}

/// What authorization is asked.
#[derive(Debug)]
pub struct Asked {
    pub verb: String,
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

const NAMESPACE: &str = "nowhere";
const NAME: &str = "absent";

impl Subject {
    pub fn shapes(&self) -> Vec<Shape> {
        let subresources = 0..=self.subresources.len();
        let all = subresources.flat_map(|at| [Shape::Sub(at), Shape::Behind(at)]);
        [Shape::Collection, Shape::Object].into_iter().chain(all).collect()
    }

    fn subresource(&self, at: usize) -> &str {
        self.subresources.get(at).map_or("nothing", |found| found.0.as_str())
    }
}

impl Place {
    pub fn path(&self, subject: &Subject) -> String {
        let scope = if self.namespaced { format!("namespaces/{NAMESPACE}/") } else { String::new() };
        let collection = format!("{}/{}{scope}{}", subject.base, self.prefix, subject.name);
        match self.shape {
            Shape::Collection => collection,
            Shape::Object => format!("{collection}/{NAME}"),
            Shape::Sub(at) => format!("{collection}/{NAME}/{}", subject.subresource(at)),
            Shape::Behind(at) => format!("{collection}/{NAME}/{}/more", subject.subresource(at)),
        }
    }

    /// What the path is authorized as, whether it is there or not.
    pub fn request(&self, subject: &Subject, method: &Method, watch: bool) -> Asked {
        let collection = self.shape == Shape::Collection;
        let verb = match (self.prefix.trim_end_matches('/'), method) {
            ("", &Method::GET) if collection && watch => "watch",
            ("", &Method::GET | &Method::HEAD) if collection => "list",
            ("", &Method::GET | &Method::HEAD) => "get",
            ("", &Method::POST) => "create",
            ("", &Method::PUT) => "update",
            ("", &Method::PATCH) => "patch",
            ("", &Method::DELETE) if collection => "deletecollection",
            ("", &Method::DELETE) => "delete",
            (prefix, _) => prefix,
        };
        // a namespace is in itself, and its own name is that of its namespace
        let is_namespace = subject.name == "namespaces" && !self.namespaced;
        let namespace = match (is_namespace, self.namespaced) {
            (true, _) if !collection => NAME,
            (_, true) => NAMESPACE,
            _ => "",
        };
        let mut asked = Asked {
            verb: verb.to_owned(),
            group: subject.group.clone(),
            resource: subject.name.clone(),
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: if collection { String::new() } else { NAME.to_owned() },
        };
        if let Shape::Sub(at) | Shape::Behind(at) = self.shape {
            asked.subresource = subject.subresource(at).to_owned();
        }
        // what is below a namespace is a resource in it, save for its own subresources
        let below = asked.subresource.clone();
        if is_namespace && !below.is_empty() && !matches!(below.as_str(), "status" | "finalize") {
            asked.resource = below;
            asked.subresource = String::new();
            asked.name =
                if matches!(self.shape, Shape::Behind(_)) { "more".to_owned() } else { String::new() };
            asked.verb = match (asked.name.is_empty(), verb) {
                (true, "get") => "list",
                (true, "delete") => "deletecollection",
                (_, verb) => verb,
            }
            .to_owned();
        }
        if verb == "proxy" {
            asked.subresource = String::new();
        }
        asked
    }

    /// Not there, not with this method, forbidden in spite of the right to do it, or served.
    pub fn outcome(&self, subject: &Subject, method: &Method, watch: bool) -> String {
        let asked = self.request(subject, method, watch);
        // what is done with one object needs its scope; all namespaces can be listed at once
        let across = subject.namespaced && !self.namespaced;
        let misplaced = self.namespaced && !subject.namespaced || across && self.shape != Shape::Collection;
        let is_namespace = subject.name == "namespaces" && !self.namespaced;
        if misplaced || is_namespace && asked.resource != "namespaces" || self.prefix == "proxy/" {
            return "404".to_owned();
        }
        let has = |verbs: &[String], one: &str| verbs.iter().any(|own| own == one);
        let methods: Vec<Method> = match (self.prefix, self.shape) {
            ("", Shape::Collection) => [
                (Method::GET, has(&subject.verbs, "list")),
                (Method::POST, has(&subject.verbs, "create") && !across),
                (Method::DELETE, has(&subject.verbs, "deletecollection") && !across),
            ]
            .into_iter()
            .filter_map(|(method, there)| there.then_some(method))
            .collect(),
            // what is sent to an object's path is not a new one
            ("", Shape::Object) => {
                methods_of(&subject.verbs).into_iter().filter(|method| method != Method::POST).collect()
            }
            // a path goes on only behind a proxy
            ("", Shape::Sub(at) | Shape::Behind(at)) => {
                let Some((name, verbs)) = subject.subresources.get(at) else { return "404".to_owned() };
                match (self.shape, name.as_str()) {
                    (_, "proxy") => [methods_of(verbs), vec![Method::HEAD, Method::OPTIONS]].concat(),
                    (Shape::Sub(_), _) => methods_of(verbs),
                    _ => Vec::new(),
                }
            }
            (_, Shape::Collection | Shape::Object) if has(&subject.verbs, "watch") => vec![Method::GET],
            _ => Vec::new(),
        };
        if methods.is_empty() {
            return "404".to_owned();
        }
        let unwatched = watch && !has(&subject.verbs, "watch");
        if !methods.contains(method) || unwatched {
            return "405".to_owned();
        }
        // a stream is written, too, however it is asked for
        let streams = matches!(asked.subresource.as_str(), "exec" | "attach" | "portforward");
        if streams && asked.verb != "create" { "403" } else { "served" }.to_owned()
    }
}

fn methods_of(verbs: &[String]) -> Vec<Method> {
    let method = |verb: &String| match verb.as_str() {
        "get" => Some(Method::GET),
        "create" => Some(Method::POST),
        "update" => Some(Method::PUT),
        "patch" => Some(Method::PATCH),
        "delete" => Some(Method::DELETE),
        _ => None,
    };
    verbs.iter().filter_map(method).collect()
}

impl Asked {
    /// The refusal, which names what was asked.
    pub fn refusal(&self, user: &str, head: bool) -> String {
        if head {
            return "403 ".to_owned();
        }
        let Asked { verb, group, resource, subresource, namespace, name } = self;
        let what = if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
        let what = if name.is_empty() { what } else { format!("{what} {name:?}") };
        let slash = if subresource.is_empty() { "" } else { "/" };
        let place = match namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        format!(
            "403 {what} is forbidden: User {user:?} cannot {verb} resource \"{resource}{slash}{subresource}\" in API group {group:?} {place}"
        )
    }
}
