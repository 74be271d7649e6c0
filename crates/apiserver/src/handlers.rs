//! The generic handlers: one per verb, the same for every resource.

mod apply;
mod collect;
mod columns;
mod components;
pub(crate) mod delete_options;
pub(crate) mod mutate;
pub mod options;
mod patch;
pub(crate) mod read;
pub mod render;
pub mod route;
mod subresources;
pub mod table;
mod warnings;
mod watch;

use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;

use access::authz::Authorizer;
use access::request_info::RequestInfo;
use access::reviews::Reviews;
use access::tokens::Issuer;
use access::user::User;
use admission::Chain;
use api::Status;
use api::model::{Resource, Scope};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;
use http::header::WARNING;
use http_body_util::{BodyExt as _, Limited};
use registry::Kind;
use tokio::sync::Semaphore;
use watchcache::Cache;
use watchcache::resources::Resources;
use watchcache::stored::Stored;

use crate::aggregator::Delegated;
use crate::body::Body;
use crate::catalog::Catalog;
use crate::delegate::Hook;
use crate::negotiate::{self, Endpoint, Form, OBJECTS, STREAMS, page_not_found, status_response};
use crate::policies::BoundPolicies;
use crate::request::Request;
use crate::request::options::{Way, WriteOptions};
use crate::service_routing::ServiceRouter;
use crate::settings::Settings;
use crate::webhooks::Webhooks;
use crate::writes::Write;
use crate::writes::admission::{self as admitting, Recent, Sees, ServerServices};
use crate::writes::creates::Creates;
use crate::writes::ownership::Owners;
use render::Target;
use route::{Nowhere, Route};

/// The largest body a request may have.
pub const BODY_LIMIT: usize = 3 << 20;

/// Custom resources whose expressions are evaluated at once, where these may take long.
const COSTLY_AT_ONCE: usize = 8;

/// Everything a request needs after authorization.
pub struct Server {
    pub resources: Arc<Resources>,
    pub reviews: Option<Arc<Reviews>>,
    pub tokens: Option<Arc<Issuer>>,
    pub hooks: Vec<Arc<dyn Hook>>,
    /// Custom resources on their way to the store.
    pub creates: Creates,
    pub admission: Chain,
    /// For rights that show only when a request is carried out.
    pub authorizer: Arc<Authorizer>,
    pub settings: Settings,
    /// For what is computed aside within a request.
    pub costly: Semaphore,
    catalog: ArcSwap<Catalog>,
    /// `host:port` under which clients reach it, for `/api`.
    pub address: std::sync::OnceLock<String>,
    /// The paths of the single checks, for `/`.
    pub checks: std::sync::OnceLock<Vec<String>>,
}

impl Server {
    /// A server with default settings and admission plugins that allows every request.
    pub fn new(
        resources: Arc<Resources>,
        reviews: Option<Arc<Reviews>>,
        tokens: Option<Arc<Issuer>>,
        hooks: Vec<Arc<dyn Hook>>,
    ) -> Arc<Server> {
        let authorizer = Authorizer::allowing_all();
        Server::with_settings(
            resources,
            Arc::new(authorizer),
            reviews,
            tokens,
            hooks,
            Settings::default(),
            admission::on_by_default,
        )
    }

    /// A server with the admission plugins for which `enabled` returns true. These have a weak reference to it: they write, too.
    pub fn with_settings(
        resources: Arc<Resources>,
        authorizer: Arc<Authorizer>,
        reviews: Option<Arc<Reviews>>,
        tokens: Option<Arc<Issuer>>,
        hooks: Vec<Arc<dyn Hook>>,
        settings: Settings,
        enabled: impl Fn(&str) -> bool,
    ) -> Arc<Server> {
        let (own, may) = (resources.clone(), authorizer.clone());
        let services = ServiceRouter::new(resources.clone(), settings.routing.clone());
        let webhooks = Webhooks::new(resources.clone(), services);
        let catalog = ArcSwap::from_pointee(Catalog::built_in(&settings.served));
        let address = std::sync::OnceLock::new();
        Arc::new_cyclic(|server| {
            let services: Arc<dyn admission::Services> = Arc::new(ServerServices {
                server: server.clone(),
                resources: own,
                authorizer: may,
                webhooks,
                policies: BoundPolicies::default(),
                recent: Recent::default(),
            });
            let admission = admission::standard(&services, &settings.admission, enabled);
            Server {
                resources,
                reviews,
                tokens,
                hooks,
                creates: Creates::default(),
                admission,
                authorizer,
                settings,
                costly: Semaphore::new(COSTLY_AT_ONCE),
                catalog,
                address,
                checks: std::sync::OnceLock::new(),
            }
        })
    }

    /// What is served at the moment.
    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog.load_full()
    }

    /// Serves these kinds too, as soon as what is stored of them is known. One of the same name gives up its place, and its watches end.
    /// Two of one storage prefix come in one call, and calls for one prefix come after each other. Kinds that are not enabled are not
    /// served, but objects may be stored at them. Those of definitions leave the objects of built-in kinds alone.
    ///
    /// # Errors
    /// Where the store does not answer; then some may be served, and the call can be made again.
    pub async fn serve(&self, kinds: &[Arc<Kind>]) -> Result<(), store::Error> {
        let mut prefixes = HashSet::new();
        // The cache of several versions is of the one in which objects are stored.
        let is_stored =
            |kind: &&Arc<Kind>| kind.group == kind.storage_group && kind.version == kind.storage_version;
        let (stored, others): (Vec<_>, Vec<_>) = kinds.iter().partition(is_stored);
        let cached = |kind: &&Arc<Kind>| kind.custom().is_none() || !kind.has_built_in_storage();
        for kind in stored.into_iter().chain(others).filter(cached) {
            if prefixes.insert(&*kind.storage_prefix)
                && let Some(stored) = Stored::of(kind, false)
            {
                self.resources.feed.admit(stored).await?;
            }
        }
        self.catalog.rcu(|catalog| catalog.with(kinds));
        Ok(())
    }

    /// Shows what other servers answer, from now on.
    pub fn delegate(&self, delegated: Arc<Delegated>) {
        self.catalog.rcu(|catalog| catalog.delegating(Arc::clone(&delegated)));
    }

    /// Serves these kinds no longer: requests do not find them, and when no version is left the watches end. Stored
    /// objects stay.
    pub fn withdraw(&self, matches: impl Fn(&Kind) -> bool) {
        let before = self.catalog.rcu(|catalog| catalog.without(&matches));
        let catalog = self.catalog();
        let kept: HashSet<&str> = catalog.kinds().map(|kind| &*kind.storage_prefix).collect();
        for kind in before.kinds().filter(|kind| !kept.contains(&*kind.storage_prefix)) {
            self.resources.feed.forget(&kind.storage_prefix);
        }
    }
}

/// A request to a resource, and what its answer is to look like.
pub struct Call<'a> {
    pub server: &'a Arc<Server>,
    pub request: &'a Request,
    pub resource: &'a Arc<Kind>,
    pub target: Target,
}

impl<'a> Call<'a> {
    pub fn name(&self) -> &'a str {
        &self.request.info.name
    }

    pub fn namespace(&self) -> &'a str {
        if self.resource.scope == Scope::Namespaced { &self.request.info.namespace } else { "" }
    }

    pub fn cache(&self) -> Result<Arc<Cache>, Status> {
        self.server.resources.feed.cache(&self.resource.storage_prefix).ok_or_else(Status::unknown_path)
    }

    pub fn not_found(&self) -> Status {
        Status::not_found(&self.resource.group, &self.resource.plural, self.name())
    }

    pub fn write(&self, options: &'a WriteOptions) -> Write<'a> {
        Write {
            server: self.server,
            request: self.request,
            options,
            resource: self.resource,
            subresource: &self.request.info.subresource,
            namespace: self.namespace(),
            name: self.name(),
            old: None,
            admission: Sees::Object,
            owners: match options.way {
                Way::Apply => Owners::Given,
                _ => Owners::Record,
            },
        }
    }
}

/// Answers an authenticated and authorized request: resources, discovery, OpenAPI, version. What no one serves is upstream's
/// `404 page not found`.
pub async fn handle<B>(
    server: &Arc<Server>,
    info: RequestInfo,
    user: User,
    request: http::Request<B>,
) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Display + Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (parts, body) = request.into_parts();
    let body = match has_body(&info) {
        true => collected(body).await,
        false => Ok(Bytes::new()),
    };
    answer(server, Request::new(server.catalog(), info, user, None, parts), body).await
}

/// Whether a request's body is read.
pub fn has_body(info: &RequestInfo) -> bool {
    info.is_resource_request && !matches!(info.verb.as_str(), "get" | "list" | "watch")
}

/// About the bytes that a request makes the server decode and check: its body's, and those of the object that it changes.
pub fn bytes_of_work(server: &Server, request: &Request, body: Result<&Bytes, &Status>) -> usize {
    let info = &request.info;
    let changed = || {
        let kind = request.catalog.kind(&info.group, &info.version, &info.resource)?;
        let cache = server.resources.feed.cache(&kind.storage_prefix)?;
        Some(cache.get(&info.namespace, &info.name)?.size())
    };
    let changes = has_body(info) && !info.name.is_empty();
    let stored = changes.then(changed).flatten().unwrap_or_default();
    body.map_or(0, Bytes::len) + stored
}

/// [`handle`], with the body read. What was wrong with it is answered where the body is needed.
pub async fn answer(server: &Arc<Server>, request: Request, body: Result<Bytes, Status>) -> Response<Body> {
    let answer = if request.info.is_resource_request {
        resource(server, &request, body).await
    } else {
        // Made when they are first asked for.
        let large = matches!(request.info.path.split('/').nth(1), Some("openapi" | "api" | "apis"));
        match daemon::aside::aside(large, || crate::discovery::answer(server, &request)) {
            Some(answer) => Ok(answer),
            None => Ok(page_not_found()),
        }
    };
    let headers = request.headers();
    let answer = answer.unwrap_or_else(|status| status_response(headers, &status));
    let answer = crate::pretty::answer(request.query(), headers, answer);
    crate::compress::compress(headers, answer)
}

async fn resource(
    server: &Arc<Server>,
    request: &Request,
    body: Result<Bytes, Status>,
) -> Result<Response<Body>, Status> {
    let Route { resource, verb } = match Route::of(request) {
        Ok(route) => route,
        Err(Nowhere::Page) => return Ok(page_not_found()),
        Err(Nowhere::Refused(status)) => return Err(*status),
    };
    let headers = request.headers();
    let collection = matches!(verb, "list" | "watch");
    let streams: &[&str] = if collection { &STREAMS } else { &[] };
    negotiate::route(headers, &[&OBJECTS, streams].concat())?;
    let answer = match (target(request, resource), body) {
        (Ok(target), Ok(body)) => {
            let call = Call { server, request, resource, target };
            // whether the answer can be shown in this form is checked only after the request is performed, as upstream does
            match perform(&call, verb, body).await {
                Ok(answer) => check_form(call.target.form, verb, resource).map(|()| answer),
                Err(status) => Err(status),
            }
        }
        (Err(status), _) | (_, Err(status)) => Err(status),
    };
    // a patch of an unknown type is refused before anyone looks at what it is for
    let looked_at = !matches!(&answer, Err(status) if verb == "patch" && status.code == 415);
    let deprecated = registry::kinds::warnings::deprecated(resource).filter(|_| looked_at);
    // warnings about the body are sent with refusals, too
    let mut answer = answer.unwrap_or_else(|status| status_response(headers, &status));
    let others = request.take_warnings();
    for warning in warnings::headers(deprecated.into_iter().chain(others.iter().map(String::as_str))) {
        answer.headers_mut().append(WARNING, warning);
    }
    Ok(answer)
}

/// Admission of a request that is answered elsewhere.
pub async fn connect(server: &Arc<Server>, request: &Request, resource: &Arc<Kind>) -> Result<(), Status> {
    let info = &request.info;
    let write = Write {
        server,
        request,
        options: &WriteOptions::default(),
        resource,
        subresource: &info.subresource,
        namespace: if resource.scope == Scope::Namespaced { &info.namespace } else { "" },
        name: &info.name,
        old: None,
        admission: Sees::Object,
        owners: Owners::Given,
    };
    admitting::connect(&write).await
}

/// What the answer is to look like.
fn target(request: &Request, resource: &Arc<Kind>) -> Result<Target, Status> {
    let table = has_table(resource, &request.info.subresource);
    let accepted = negotiate::choose(request.headers(), Endpoint::Resource { table })
        .ok_or_else(|| Status::representation_not_acceptable(&OBJECTS))?;
    let include = match accepted.form {
        Form::Table => table::Include::parse(request.query())?,
        _ => table::Include::default(),
    };
    Ok(Target::new(resource, accepted, include))
}

async fn perform(call: &Call<'_>, verb: &str, body: Bytes) -> Result<Response<Body>, Status> {
    if !call.request.info.subresource.is_empty() {
        return subresources::answer(call, verb, body).await;
    }
    match verb {
        "get" | "list" if call.resource.profile.reported => components::answer(call).await,
        "get" => read::get(call).await,
        "list" => read::list(call).await,
        "watch" => watch::watch(call).await,
        "create" => mutate::create(call, body).await,
        "update" => mutate::update(call, body).await,
        "patch" => patch::patch(call, body).await,
        "delete" => mutate::delete(call, body).await,
        "deletecollection" => collect::delete(call, body).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// What upstream calls the unversioned form of a group.
fn package_of(resource: &Resource) -> &str {
    match resource.group.split('.').next() {
        None | Some("") => "core",
        Some(first) => first,
    }
}

/// Metadata alone of a list is a list, that of an object is not.
fn check_form(form: Form, verb: &str, resource: &Resource) -> Result<(), Status> {
    let (package, kind) = (package_of(resource), &resource.kind);
    let message = match (form, verb) {
        (Form::Metadata, "list") => {
            format!(
                "you requested PartialObjectMetadata, but the requested object is a list (*{package}.{kind}List)"
            )
        }
        (Form::MetadataList, "get" | "create" | "update" | "patch") => format!(
            "you requested PartialObjectMetadataList, but the requested object is not a list (*{package}.{kind})"
        ),
        _ => return Ok(()),
    };
    Err(Status::failure(406, "NotAcceptable", message))
}

/// Whether there are rows to show: not of what is answered and never stored, such as reviews, tokens and bindings.
fn has_table(resource: &Kind, subresource: &str) -> bool {
    let stored = !resource.storage_prefix.is_empty() || resource.profile.reported;
    stored && !matches!(subresource, "token" | "binding" | "eviction")
}

/// The whole body.
pub async fn collected<B>(body: B) -> Result<Bytes, Status>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Display + Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(Status::request_entity_too_large(&format!("limit is {BODY_LIMIT}")))
        }
        Err(error) => Err(Status::bad_request(error.to_string())),
    }
}

/// What the store's failure is to a client.
pub fn status_of(error: store::Error) -> Status {
    match error {
        store::Error::Compacted { .. } => Status::expired(
            "The provided resource version is too old to display a consistent list result. You can start a new list without the resource version.",
        ),
        store::Error::TooLarge => Status::too_large_to_store(),
        store::Error::NoSpace => Status::failure(500, "", "etcdserver: mvcc: database space exceeded"),
        store::Error::Unavailable(why) | store::Error::Other(why) => Status::failure(500, "", why),
    }
}
