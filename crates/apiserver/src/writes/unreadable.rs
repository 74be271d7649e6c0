//! Deletes what the store has and nobody can read, for who asks for just that: without its finalizers, its grace period or its
//! dependents, which are not known.

use api::Status;
use api::status::Details;
use store::Written;

use super::{Write, decoded, may, status_of};

const VERB: &str = "unsafe-delete-ignore-read-errors";

pub async fn delete(write: &Write<'_>) -> Result<Status, Status> {
    may(write, VERB).await?;
    let cache = write.cache()?;
    let kind = &cache.kind;
    let key = kind.key(write.namespace, write.name);
    let store = &write.server.resources.store;
    loop {
        let (found, _) = store.get(key.as_bytes()).await.map_err(status_of)?;
        let Some(found) = found else { return Err(write.not_found()) };
        let entry = decoded(kind, &key, &found.value, found.mod_revision);
        if entry.and_then(|entry| entry.read()).is_ok() {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: unsafe deletion is not allowed because the object is decodable from storage"
            );
            let resource = write.resource;
            return Err(Status::conflict(&resource.group, &resource.plural, write.name, &why));
        }
        let deleted = match write.options.dry_run {
            true => true,
            false => {
                let done = store.delete(key.as_bytes(), found.mod_revision).await.map_err(status_of)?;
                matches!(done, Written::Done(_))
            }
        };
        if deleted {
            return Ok(Status::success(Some(Details {
                name: write.name.to_owned(),
                group: write.resource.group.to_string(),
                kind: write.resource.plural.to_string(),
                ..Details::default()
            })));
        }
    }
}
