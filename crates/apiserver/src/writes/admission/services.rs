//! What admission plugins may use of the server.

use std::sync::Arc;

use admission::{Question, Services};
use api::Tree;
use async_trait::async_trait;
use registry::Kind;

use crate::authz::{self, Authorizer};
use crate::resources::Resources;
use crate::user::User;

pub struct ServerServices {
    pub resources: Arc<Resources>,
    pub authorizer: Arc<Authorizer>,
}

#[async_trait]
impl Services for ServerServices {
    fn get(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Tree>> {
        let entry = self.resources.get(row(group, plural)?, namespace, name)?;
        Some(Arc::new(entry.tree()))
    }

    fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Tree>> {
        let Some(resource) = row(group, plural) else { return Vec::new() };
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.resources.list(resource, namespace).iter().map(|entry| Arc::new(entry.tree())).collect()
    }

    async fn fresh(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Arc<Tree>> {
        self.resources.catch_up().await;
        self.get(group, plural, namespace, name)
    }

    async fn allows(&self, user: &admission::User<'_>, question: &Question<'_>) -> bool {
        let user = User {
            name: user.name.to_owned(),
            uid: user.uid.to_owned(),
            groups: user.groups.to_vec(),
            extra: user.extra.clone(),
        };
        let Question { verb, group, resource, namespace, name } = *question;
        let asked = authz::Attributes::resource(&user, verb, group, resource, namespace, name);
        self.authorizer.authorize(&asked).await.allowed()
    }
}

/// A resource at its preferred version.
fn row(group: &str, plural: &str) -> Option<&'static Arc<Kind>> {
    registry::kind::by_default().find(|kind| kind.group == group && kind.plural == plural)
}
