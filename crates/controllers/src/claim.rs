//! Who belongs to whom: taking over objects that match a selector and nobody owns, letting go of those
//! that no longer match.

use std::sync::Arc;

use client::{Client, Patch, View};
use serde_json::json;

use crate::views::{CompiledSelector, Meta, Object, OwnerReference};
use crate::{Error, Owned};

/// What to do about one object.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Claim {
    /// It is ours.
    Keep,
    /// It matches and has no owner.
    Adopt,
    /// It is ours and no longer matches.
    Release,
    Ignore,
}

/// Judges an object's claim by its owner; `matches` is whether the owner's selector selects it.
pub fn judge(owner: &Meta, object: &Meta, matches: bool) -> Claim {
    match object.controller() {
        Some(reference) if reference.uid != owner.uid => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner.is_deleting() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner.is_deleting() || object.is_deleting() || !matches => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The objects that belong to `owner`, after adopting and releasing. Of those that nobody owns it takes the ones that
/// `is_wanted` agrees to; before the first one it asks the API server whether the owner is still the one that is cached.
pub async fn claim<V, O>(
    client: &Client,
    owned: &Owned<V>,
    owner: &O,
    selector: &CompiledSelector,
    is_wanted: impl Fn(&V) -> bool,
) -> Result<Vec<Arc<V>>, Error>
where
    V: View + Object,
    O: View + Object,
{
    let meta = owner.meta();
    let mut claimed = Vec::new();
    for object in owned.of(&meta.uid) {
        match judge(meta, object.meta(), selector.matches(&object.meta().labels)) {
            Claim::Keep => claimed.push(object),
            Claim::Release => release::<V>(client, object.meta(), &meta.uid).await?,
            Claim::Adopt | Claim::Ignore => {}
        }
    }
    let mut checked = false;
    for object in owned.orphans(&meta.namespace, selector) {
        if !is_wanted(&object) || judge(meta, object.meta(), true) != Claim::Adopt {
            continue;
        }
        if !checked {
            let fresh: O = client.get(Some(&meta.namespace), &meta.name).await?;
            if fresh.meta().uid != meta.uid || fresh.meta().is_deleting() {
                return Err(Error::Changed(format!("{} {}", O::KIND, meta.key())));
            }
            checked = true;
        }
        let reference = meta.controller_reference(O::API_VERSION, O::KIND);
        match adopt::<V>(client, object.meta(), &reference).await {
            Ok(()) => claimed.push(object),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(claimed)
}

/// Makes `owner` the managing owner of an object. The uid guards against a namesake.
pub async fn adopt<V: View>(client: &Client, object: &Meta, owner: &OwnerReference) -> client::Result<()> {
    let patch = json!({"metadata": {"ownerReferences": [owner], "uid": object.uid}});
    let result = client.patch::<V>(object.namespace(), &object.name, None, Patch::Strategic(patch)).await;
    result.map(drop)
}

/// Removes an owner from an object. An object that is gone, or another by now, needs no release.
pub async fn release<V: View>(client: &Client, object: &Meta, owner_uid: &str) -> client::Result<()> {
    let patch = json!({"metadata": {
        "ownerReferences": [{"$patch": "delete", "uid": owner_uid}],
        "uid": object.uid,
    }});
    match client.patch::<V>(object.namespace(), &object.name, None, Patch::Strategic(patch)).await {
        Err(error) if !error.is_not_found() && !error.is_invalid() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    #[test]
    fn claims() {
        let owner = Meta { name: "o".into(), uid: "1".into(), ..Default::default() };
        let dying = Meta { deletion_timestamp: Some(Time(jiff::Timestamp::UNIX_EPOCH)), ..owner.clone() };
        let other = Meta { uid: "2".into(), ..owner.clone() };
        let owned = |by: &Meta| Meta {
            owner_references: vec![by.controller_reference("v1", "X")],
            ..Default::default()
        };
        let orphan = Meta::default();
        let check = |owner: &Meta, object: &Meta, matches, expect| {
            assert_eq!(judge(owner, object, matches), expect);
        };
        check(&owner, &owned(&owner), true, Claim::Keep);
        check(&owner, &owned(&owner), false, Claim::Release);
        check(&owner, &owned(&other), true, Claim::Ignore);
        check(&owner, &orphan, true, Claim::Adopt);
        check(&owner, &orphan, false, Claim::Ignore);
        check(&dying, &orphan, true, Claim::Ignore);
        check(&dying, &owned(&dying), false, Claim::Ignore);
        check(&dying, &owned(&dying), true, Claim::Keep);
    }
}
