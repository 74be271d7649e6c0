//! From one version of a kind to another. Who converts may have to be asked, and may fail; the built-in conversions never wait.

use std::sync::Arc;

use api::decode::Strictness;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::kind::Kind;

/// How the objects of a kind come into its other versions.
#[derive(Clone, Default)]
pub enum Conversion {
    /// The versions differ in nothing but their name and their fields.
    #[default]
    None,
    /// As the API level has it.
    BuiltIn,
    Other(Arc<dyn Convert>),
}

/// A conversion of somebody else's.
#[async_trait]
pub trait Convert: Send + Sync {
    /// The objects in the other version, as many and in the same order.
    async fn convert(&self, from: &Kind, to: &Kind, objects: Vec<Tree>) -> Result<Vec<Tree>, Status>;
}

impl Kind {
    /// Objects of this kind in another of its versions (or in another group that has it: events).
    pub async fn convert(&self, to: &Kind, mut objects: Vec<Tree>) -> Result<Vec<Tree>, Status> {
        if self.is_same_version(to) {
            return Ok(objects);
        }
        if let Conversion::Other(conversion) = &self.conversion {
            return conversion.convert(self, to, objects).await;
        }
        for object in &mut objects {
            self.convert_here(to, object)?;
        }
        Ok(objects)
    }

    /// [`Kind::convert`] of one object.
    pub async fn convert_one(&self, to: &Kind, mut object: Tree) -> Result<Tree, Status> {
        if self.is_same_version(to) {
            return Ok(object);
        }
        if let Conversion::Other(conversion) = &self.conversion {
            let converted = conversion.convert(self, to, vec![object]).await?;
            let missing = || Status::internal("a conversion answered no object");
            return converted.into_iter().next().ok_or_else(missing);
        }
        self.convert_here(to, &mut object)?;
        Ok(object)
    }

    /// [`Kind::convert_one`] where nobody has to be asked, which is an error of others.
    pub fn convert_at_once(&self, to: &Kind, mut object: Tree) -> Result<Tree, Status> {
        match &self.conversion {
            _ if self.is_same_version(to) => {}
            Conversion::Other(_) => return Err(Status::internal("the conversion has to be asked for")),
            _ => self.convert_here(to, &mut object)?,
        }
        Ok(object)
    }

    pub fn is_same_version(&self, other: &Kind) -> bool {
        self.version == other.version && self.group == other.group
    }

    fn convert_here(&self, to: &Kind, object: &mut Tree) -> Result<(), Status> {
        if let Conversion::BuiltIn = self.conversion {
            return api::convert::convert(object, self, &to.group, &to.version).map_err(Status::internal);
        }
        let decoded =
            api::decode::tree(object, to.message(), Strictness::Ignore).map_err(Status::internal)?;
        *object = decoded.tree;
        api::decode::put_type_meta(object, &to.kind, &to.api_version());
        Ok(())
    }
}
