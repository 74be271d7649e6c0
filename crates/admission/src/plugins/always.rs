//! `AlwaysAdmit` and `AlwaysDeny`: both say the same of every request. They are kept for command lines that name them.

use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Plugin, Point};

pub struct AlwaysAdmit;

#[async_trait]
impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }
}

pub struct AlwaysDeny;

#[async_trait]
impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }

    fn mutates(&self, _: &Point<'_>) -> bool {
        true
    }

    async fn admit(&self, attributes: &Attributes<'_>, _: &mut Tree) -> Result<(), Status> {
        Err(attributes.forbid("admission control is denying all modifications"))
    }
}
