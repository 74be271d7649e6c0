//! An object that is changed on its way: in the version in which the last one saw it who may change it.

use std::sync::Arc;

use api::decode::Strictness;
use api::model::MessageRef;
use api::{Status, Tree};
use registry::Kind;

use crate::Attributes;

pub(crate) struct Mutated<'o> {
    pub version: Arc<Kind>,
    pub object: &'o mut Tree,
}

impl<'o> Mutated<'o> {
    pub fn new(attributes: &Attributes<'_>, object: &'o mut Tree) -> Mutated<'o> {
        Mutated { version: Arc::clone(attributes.shown), object }
    }

    /// Shows the object in a version of the resource.
    pub async fn show(&mut self, attributes: &Attributes<'_>, version: &Arc<Kind>) -> Result<(), Status> {
        if attributes.is_own_kind() && !self.object.is_null() && !self.version.is_same_version(version) {
            let object = std::mem::take(self.object);
            *self.object = self.version.convert_one(version, object).await?;
        }
        self.version = Arc::clone(version);
        Ok(())
    }

    /// Shows it in the version in which it came.
    pub async fn close(&mut self, attributes: &Attributes<'_>) -> Result<(), Status> {
        self.show(attributes, attributes.shown).await
    }

    /// What is known of the object's kind.
    pub fn message<'k>(&'k self, attributes: &Attributes<'k>) -> Option<MessageRef<'k>> {
        let kind = attributes.kind;
        match attributes.is_own_kind() {
            true => Some(self.version.message()),
            false => api::tables::kind_message(kind.group, kind.version, kind.kind),
        }
    }

    /// Takes over what someone made of the object; answers whether that changed anything.
    pub fn replace(
        &mut self,
        attributes: &Attributes<'_>,
        made: Tree,
        strictness: Strictness,
    ) -> Result<bool, Status> {
        let mut made = match self.message(attributes) {
            Some(message) => {
                let mut decoded =
                    api::decode::tree(&made, message, strictness).map_err(Status::internal)?.tree;
                for field in ["apiVersion", "kind"] {
                    if let (Some(value), Some(map)) = (self.object.get(field), decoded.as_object_mut()) {
                        map.insert(field, value.clone());
                    }
                }
                decoded
            }
            None => made,
        };
        let changed = made != *self.object;
        if attributes.is_own_kind() {
            self.version.strategy(None).default(&mut made)?;
        }
        *self.object = made;
        Ok(changed)
    }
}
