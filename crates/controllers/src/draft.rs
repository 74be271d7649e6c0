//! An object on its way through several writes by a controller that may not patch it. It is read whole before the first one, and
//! each write is made under the version that was looked at.

use std::sync::Arc;

use client::{Client, DeleteOptions, ResourceRef, View};
use serde_json::Value;

use crate::views::HasMeta;
use crate::{Error, Latest};

pub struct Draft<'a, V> {
    client: &'a Client,
    latest: Option<&'a Latest<V>>,
    /// The state that decisions are made on: after a write, what was written.
    pub seen: Arc<V>,
    whole: Option<Value>,
}

impl<'a, V: View + HasMeta> Draft<'a, V> {
    pub fn new(client: &'a Client, seen: Arc<V>) -> Draft<'a, V> {
        Draft { client, latest: None, seen, whole: None }
    }

    /// Notes each state that is written.
    pub fn noting(self, latest: &'a Latest<V>) -> Draft<'a, V> {
        Draft { latest: Some(latest), ..self }
    }

    pub async fn update(&mut self, change: impl FnOnce(&mut Value)) -> Result<(), Error> {
        self.write(None, change).await
    }

    pub async fn update_status(&mut self, change: impl FnOnce(&mut Value)) -> Result<(), Error> {
        self.write(Some("status"), change).await
    }

    async fn write(
        &mut self,
        subresource: Option<&str>,
        change: impl FnOnce(&mut Value),
    ) -> Result<(), Error> {
        let (meta, resource) = (self.seen.meta(), ResourceRef::of::<V>());
        let api = self.client.at(&resource);
        let mut whole = match self.whole.take() {
            Some(whole) => whole,
            None => api.get(meta.namespace(), &meta.name).await?,
        };
        whole["metadata"]["resourceVersion"] = meta.resource_version.as_str().into();
        change(&mut whole);
        let written: Value = api.update(meta.namespace(), &meta.name, subresource, &whole).await?;
        let seen = V::deserialize(&written).map_err(|error| Error::Other(error.to_string()))?;
        self.seen = Arc::new(seen);
        if let Some(latest) = self.latest {
            latest.note(self.seen.clone());
        }
        self.whole = Some(written);
        Ok(())
    }

    /// Takes a finalizer away, where the object has it.
    pub async fn remove_finalizer(&mut self, finalizer: &str) -> Result<(), Error> {
        if !self.seen.meta().has_finalizer(finalizer) {
            return Ok(());
        }
        let without = |object: &mut Value| {
            if let Some(finalizers) = object["metadata"]["finalizers"].as_array_mut() {
                finalizers.retain(|own| own != finalizer);
            }
        };
        self.update(without).await
    }

    /// Whether the object is still as it was seen.
    pub async fn is_current(&self) -> Result<bool, Error> {
        let meta = self.seen.meta();
        match self.client.get::<V>(meta.namespace(), &meta.name).await {
            Err(error) if error.is_not_found() => Ok(false),
            found => Ok(found?.meta().resource_version == meta.resource_version),
        }
    }

    /// Deletes the object, if it is still there.
    pub async fn delete(&self) -> Result<(), Error> {
        let meta = self.seen.meta();
        let options = DeleteOptions::default().uid(meta.uid.clone());
        match self.client.delete::<V>(meta.namespace(), &meta.name, &options).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
