//! Phases of volumes and claims.

use controllers::views::{ClaimStatus, PersistentVolume, PersistentVolumeClaim};
use controllers::{Draft, Error};
use machinery::quantity::Quantity;
use serde_json::{Value, json};

use super::PRE_RESIZE_CAPACITY;

/// Writes the phase of a volume, where it is another one.
pub(super) async fn write_volume(
    draft: &mut Draft<'_, PersistentVolume>,
    phase: &str,
    message: &str,
) -> Result<(), Error> {
    if draft.seen.status.phase == *phase {
        return Ok(());
    }
    let change = |volume: &mut Value| {
        volume["status"]["phase"] = phase.into();
        volume["status"]["message"] = if message.is_empty() { Value::Null } else { message.into() };
    };
    draft.update_status(change).await
}

/// Writes the phase of a claim, and what it has got.
pub(super) async fn write_claim(
    draft: &mut Draft<'_, PersistentVolumeClaim>,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Result<(), Error> {
    let status = &draft.seen.status;
    let mut new = serde_json::Map::new();
    let enters = status.phase != phase;
    if enters {
        new.insert("phase".into(), phase.into());
    }
    match volume {
        None => {
            let unset = |is_set: bool, field: &str| is_set.then(|| (field.to_owned(), Value::Null));
            new.extend(unset(!status.access_modes.is_empty(), "accessModes"));
            new.extend(unset(!status.capacity.is_empty(), "capacity"));
            let class = status.current_volume_attributes_class_name.is_some();
            new.extend(unset(class, "currentVolumeAttributesClassName"));
        }
        Some(volume) => {
            if status.access_modes != volume.spec.access_modes {
                new.insert("accessModes".into(), json!(volume.spec.access_modes));
            }
            // Not of a claim that is bound already: its file system may be smaller than the volume.
            if enters {
                new.extend(capacity(status, volume)?.map(|capacity| ("capacity".to_owned(), capacity)));
            }
            let class = &volume.spec.volume_attributes_class_name;
            if status.phase == "Pending" && *class != status.current_volume_attributes_class_name {
                new.insert("currentVolumeAttributesClassName".into(), json!(class));
            }
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let change = |claim: &mut Value| {
        for (field, value) in new {
            claim["status"][field] = value;
        }
    };
    draft.update_status(change).await
}

/// The capacity to write, where it changes.
fn capacity(status: &ClaimStatus, volume: &PersistentVolume) -> Result<Option<Value>, Error> {
    let Some(size) = volume.spec.capacity.get("storage") else {
        let name = &volume.metadata.name;
        return Err(Error::Other(format!("PersistentVolume {name:?} is without a storage capacity")));
    };
    if let Some(before) = volume.metadata.annotation(PRE_RESIZE_CAPACITY) {
        let before = if Quantity::parse(before).is_ok() { before } else { size };
        let mut capacity = json!(status.capacity);
        capacity["storage"] = before.into();
        return Ok(Some(capacity));
    }
    let amount = |text: &str| Quantity::parse(text).unwrap_or(Quantity::ZERO);
    let known = status.capacity.get("storage").map_or(Quantity::ZERO, |known| amount(known));
    Ok((amount(size) != known).then(|| json!(volume.spec.capacity)))
}
