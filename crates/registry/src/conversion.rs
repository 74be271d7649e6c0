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
    /// The objects, none of which says that it is of this version, in that: as many and in the same order.
    async fn convert(&self, to: &Kind, objects: Vec<Tree>) -> Result<Vec<Tree>, Status>;
}

impl Kind {
    /// Objects of this kind in another of its versions (or in another group that has it: events).
    pub async fn convert(&self, to: &Kind, mut objects: Vec<Tree>) -> Result<Vec<Tree>, Status> {
        if let Conversion::Other(conversion) = &self.conversion {
            return ask(&**conversion, to, objects).await;
        }
        if self.is_same_version(to) {
            return Ok(objects);
        }
        for object in &mut objects {
            self.convert_here(to, object)?;
        }
        Ok(objects)
    }

    /// [`Kind::convert`] of one object.
    pub async fn convert_one(&self, to: &Kind, mut object: Tree) -> Result<Tree, Status> {
        if let Conversion::Other(conversion) = &self.conversion {
            let converted = ask(&**conversion, to, vec![object]).await?;
            let missing = || Status::internal("a conversion answered no object");
            return converted.into_iter().next().ok_or_else(missing);
        }
        if self.is_same_version(to) {
            return Ok(object);
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

    /// Puts an object of this version into the form in which it is read: without what the schema does not have, with its defaults.
    pub fn complete(&self, object: &mut Tree) -> Result<(), Status> {
        fit(self, object)?;
        self.strategy(None).default(object)?;
        object.sort_all_objects();
        Ok(())
    }

    pub fn is_same_version(&self, other: &Kind) -> bool {
        self.version == other.version && self.group == other.group
    }

    fn convert_here(&self, to: &Kind, object: &mut Tree) -> Result<(), Status> {
        if let Conversion::BuiltIn = self.conversion {
            return api::convert::convert(object, self, &to.group, &to.version).map_err(Status::internal);
        }
        fit(to, object)
    }
}

/// Brings objects to the version of which each says itself that it is not of it: they can be stored at any.
async fn ask(conversion: &dyn Convert, to: &Kind, mut objects: Vec<Tree>) -> Result<Vec<Tree>, Status> {
    let api_version = to.api_version();
    let is_there = |object: &Tree| object.get("apiVersion").and_then(Tree::as_str) == Some(&api_version);
    let others: Vec<usize> = (0..objects.len()).filter(|index| !is_there(&objects[*index])).collect();
    if others.is_empty() {
        return Ok(objects);
    }
    let asked = others.iter().map(|index| std::mem::take(&mut objects[*index])).collect();
    let converted = conversion.convert(to, asked).await?;
    for (index, mut object) in others.into_iter().zip(converted) {
        fit(to, &mut object)?;
        objects[index] = object;
    }
    Ok(objects)
}

/// Drops what the version's schema does not have.
fn fit(to: &Kind, object: &mut Tree) -> Result<(), Status> {
    let decoded = api::decode::tree(object, to.message(), Strictness::Ignore).map_err(Status::internal)?;
    *object = decoded.tree;
    api::decode::put_type_meta(object, &to.kind, &to.api_version());
    object.sort_all_objects();
    Ok(())
}
