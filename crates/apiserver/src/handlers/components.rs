//! `componentstatuses`: deprecated, made when asked for.

use api::json;
use api::{Status, Tree};
use futures::future::join_all;
use http::{Response, StatusCode};

use super::options::ListOptions;
use super::{Call, render};
use crate::body::Body;
use crate::components::Component;

pub async fn answer(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let components = &call.server.settings.components;
    // a list that is selected by name has one, too
    if call.request.info.verb == "get" {
        let found = components.iter().find(|component| component.name == call.name());
        let component = found.ok_or_else(|| Status::not_found("", "componentstatus", call.name()))?;
        let mut tree = json!({"kind": "ComponentStatus", "apiVersion": "v1"});
        if let (Some(tree), Tree::Object(fields)) = (tree.as_object_mut(), status(component).await) {
            tree.extend(fields);
        }
        return Ok(render::tree_object(StatusCode::OK, tree, &call.target));
    }
    let options = ListOptions::parse(call.request.query())?;
    let wanted = components.iter().filter(|component| {
        // they have no labels
        options.labels.as_ref().is_none_or(|labels| labels.matches_with(|_| None))
            && options.fields.matches(|field| match field {
                "metadata.name" => component.name.as_str().into(),
                _ => "".into(),
            })
    });
    let items = join_all(wanted.map(status)).await;
    Ok(render::tree_list(items.into_iter(), json!({}), &call.target))
}

async fn status(component: &Component) -> Tree {
    let (well, message) = match component.health().await {
        Ok(message) => ("True", message),
        Err(message) => ("False", message),
    };
    json!({
        "metadata": {"name": component.name},
        "conditions": [{"type": "Healthy", "status": well, "message": message}],
    })
}
