//! The admission chain on the write path.

use api::model::Resource;
use api::{Status, Tree};

use super::Operation;

/// Mutating admission. The object is at the storage version.
pub async fn mutate(
    _operation: &Operation<'_>,
    _resource: &Resource,
    _tree: &mut Tree,
    _old: Option<&Tree>,
) -> Result<(), Status> {
    Ok(())
}

/// Validating admission.
pub async fn validate(
    _operation: &Operation<'_>,
    _resource: &Resource,
    _tree: &Tree,
    _old: Option<&Tree>,
) -> Result<(), Status> {
    Ok(())
}

/// Both kinds, of a delete.
pub async fn delete(_operation: &Operation<'_>, _resource: &Resource, _old: &Tree) -> Result<(), Status> {
    Ok(())
}
