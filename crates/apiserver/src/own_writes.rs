//! Writes of the server itself: they take the same path as a client's.

use std::sync::Arc;

use api::{Status, Tree};
use registry::Kind;

use crate::handlers::Server;
use crate::request::Request;
use crate::request::options::{Way, WriteOptions};
use crate::writes::admission::Sees;
use crate::writes::ownership::Owners;
use crate::writes::{self, Write, delete};

impl Server {
    /// Creates as `system:apiserver`: defaults, admission and validation as for a client. Answers the stored object.
    pub async fn create(
        self: &Arc<Self>,
        resource: &Arc<Kind>,
        namespace: &str,
        object: Tree,
    ) -> Result<Tree, Status> {
        let own = self.own("create", Way::Create);
        let object = typed(object, resource)?;
        writes::create(&own.write(resource, "", namespace, ""), object).await?.read()
    }

    /// Reads the object, lets `change` edit it, and writes it, again on conflict. `change` answers whether there is anything to write.
    pub async fn update(
        self: &Arc<Self>,
        resource: &Arc<Kind>,
        subresource: &str,
        namespace: &str,
        name: &str,
        change: &(dyn Fn(&mut Tree) -> Result<bool, Status> + Send + Sync),
    ) -> Result<Tree, Status> {
        let own = self.own("update", Way::Update);
        let change = |old: &Tree, _: &writes::Conversions| {
            let mut tree = old.clone();
            change(&mut tree)?;
            typed(tree, resource)
        };
        let write = own.write(resource, subresource, namespace, name);
        writes::update(&write, &change, None).await?.entry.read()
    }

    /// Deletes with the kind's default options.
    pub async fn delete(
        self: &Arc<Self>,
        resource: &Arc<Kind>,
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        self.delete_with(resource, namespace, name, &delete::DeleteOptions::default()).await
    }

    /// [`Server::delete`] of an object that is as it was read: otherwise a conflict.
    pub async fn delete_version(
        self: &Arc<Self>,
        resource: &Arc<Kind>,
        namespace: &str,
        name: &str,
        version: &str,
    ) -> Result<(), Status> {
        let resource_version = Some(version.to_owned());
        let options = delete::DeleteOptions { resource_version, ..delete::DeleteOptions::default() };
        self.delete_with(resource, namespace, name, &options).await
    }

    async fn delete_with(
        self: &Arc<Self>,
        resource: &Arc<Kind>,
        namespace: &str,
        name: &str,
        options: &delete::DeleteOptions,
    ) -> Result<(), Status> {
        let own = self.own("delete", Way::default());
        let write = own.write(resource, "", namespace, name);
        delete::delete(&write, options).await.map(|_| ())
    }

    fn own(self: &Arc<Self>, verb: &str, way: Way) -> Own<'_> {
        let request = Request::own(self.catalog(), verb);
        Own { server: self, request, options: WriteOptions::of(way, false) }
    }
}

/// What the server asks of itself.
struct Own<'s> {
    server: &'s Arc<Server>,
    request: Request,
    options: WriteOptions,
}

impl Own<'_> {
    fn write<'a>(
        &'a self,
        resource: &'a Arc<Kind>,
        subresource: &'a str,
        namespace: &'a str,
        name: &'a str,
    ) -> Write<'a> {
        let Own { server, request, options } = self;
        let (old, admission, owners) = (None, Sees::Object, Owners::Record);
        Write { server, request, options, resource, subresource, namespace, name, old, admission, owners }
    }
}

/// In the model's order, with kind and apiVersion.
fn typed(tree: Tree, resource: &Arc<Kind>) -> Result<Tree, Status> {
    let message = resource.message();
    writes::reordered(&tree, resource, message, api::decode::Strictness::Ignore)
        .map(|(tree, _)| tree)
        .map_err(Status::internal)
}
