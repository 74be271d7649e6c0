//! Flow control's objects: the mandatory ones are as they must be, the suggested ones are kept up to date unless somebody took them
//! over, those of an earlier release go. And the condition of every flow schema says whether its priority level exists.

use std::sync::Arc;
use std::time::Duration;

use api::json;
use api::{Status, Tree};
use registry::Kind;
use tokio_util::sync::CancellationToken;

use super::{Bootstrap, objects};
use crate::flow::Flows;
use crate::kinds;

const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const PERIOD: Duration = Duration::from_secs(60);

/// A default object.
pub(super) struct Standard {
    pub resource: &'static Arc<Kind>,
    pub name: String,
    pub spec: Tree,
}

impl Standard {
    fn is_mandatory(&self) -> bool {
        matches!(self.name.as_str(), "exempt" | "catch-all")
    }

    fn object(&self) -> Tree {
        json!({
            "apiVersion": self.resource.api_version(),
            "kind": self.resource.kind,
            "metadata": {"name": self.name, "annotations": {AUTO_UPDATE: "true"}},
            "spec": self.spec,
        })
    }

    /// Brings a stored object to what it should be. Answers whether that changed anything.
    fn revise(&self, stored: &mut Tree) -> bool {
        let annotation = stored["metadata"]["annotations"][AUTO_UPDATE].as_str().and_then(boolean);
        let untouched = stored["metadata"]["generation"] == 1;
        let auto = self.is_mandatory() || annotation.unwrap_or(untouched);
        let mut wanted = self.object();
        // built-in defaults are small
        let _ = self.resource.strategy(None).default(&mut wanted);
        if self.name == "exempt" && stored["spec"]["exempt"].is_object() {
            // How much the exempt level lends is the administrator's to say.
            wanted["spec"]["exempt"] = stored["spec"]["exempt"].clone();
        }
        let differs = auto && !registry::tree::same(&wanted["spec"], &stored["spec"]);
        if differs {
            stored["spec"] = wanted["spec"].take();
        }
        if annotation != Some(auto) {
            stored["metadata"]["annotations"][AUTO_UPDATE] = auto.to_string().into();
        }
        differs || annotation != Some(auto)
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// All of it once.
pub(super) async fn ensure(bootstrap: &Bootstrap) -> Result<(), Status> {
    let defaults = objects::flow_control();
    for mandatory in [false, true] {
        for default in defaults.iter().filter(|default| default.is_mandatory() == mandatory) {
            let Some(mut stored) = bootstrap.resources.read(default.resource, "", &default.name)? else {
                bootstrap.ensure(default.resource, "", default.object()).await?;
                continue;
            };
            if default.revise(&mut stored) {
                let change = |stored: &mut Tree| Ok(default.revise(stored));
                match bootstrap.server.update(default.resource, "", "", &default.name, &change).await {
                    Err(status) if status.code != 404 => return Err(status),
                    _ => {}
                }
            }
        }
    }
    for resource in [kinds::flow_schemas(), kinds::priority_levels()] {
        for (entry, object) in bootstrap.resources.read_all(resource, None)? {
            let known =
                |default: &Standard| default.resource.kind == resource.kind && default.name == *entry.name;
            let automatic = object["metadata"]["annotations"][AUTO_UPDATE].as_str().and_then(boolean);
            if automatic == Some(true) && !defaults.iter().any(known) {
                match bootstrap.server.delete(resource, "", &entry.name).await {
                    Err(status) if status.code != 404 => return Err(status),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// Keeps the objects and their conditions, until `stop`.
pub(super) async fn keep(bootstrap: &Bootstrap, flows: &Flows, stop: &CancellationToken) {
    let mut again = tokio::time::interval(PERIOD);
    again.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return,
            () = flows.changed.notified() => conditions(bootstrap).await,
            _ = again.tick() => match ensure(bootstrap).await {
                Ok(()) => conditions(bootstrap).await,
                refused => refused,
            },
        };
        if let Err(status) = result {
            tracing::warn!(error = status.message, "Cannot keep the objects of flow control");
        }
    }
}

async fn conditions(bootstrap: &Bootstrap) -> Result<(), Status> {
    for (schema, mut tree) in bootstrap.resources.read_all(kinds::flow_schemas(), None)? {
        let level =
            tree["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default().to_owned();
        let exists = bootstrap.resources.get(kinds::priority_levels(), "", &level).is_some();
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if set_dangling(&mut tree, &level, exists, &now) {
            let change = |stored: &mut Tree| Ok(set_dangling(stored, &level, exists, &now));
            let name = &schema.name;
            match bootstrap.server.update(kinds::flow_schemas(), "status", "", name, &change).await {
                Err(status) if status.code != 404 => return Err(status),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Sets the condition. Answers whether that changed anything.
fn set_dangling(schema: &mut Tree, level: &str, exists: bool, now: &str) -> bool {
    let (status, reason, end) = match exists {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}");
    let condition = json!({"type": "Dangling", "status": status, "lastTransitionTime": now,
        "reason": reason, "message": message});
    if !schema["status"].is_object() {
        schema["status"] = json!({});
    }
    let conditions = &mut schema["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else { return false };
    match conditions.iter_mut().find(|condition| condition["type"] == "Dangling") {
        Some(own) => {
            let same = ["status", "reason", "message"].iter().all(|field| own[*field] == condition[*field]);
            if !same {
                *own = condition;
            }
            !same
        }
        None => {
            conditions.push(condition);
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flow_schemas_that_users_changed_stay() {
        let defaults = objects::flow_control();
        let named = |name: &str| {
            defaults
                .iter()
                .find(|default| default.resource.kind == "FlowSchema" && default.name == name)
                .unwrap()
        };
        let check = |name: &str, annotation: &str, generation: i64, expect: (bool, i64, &str)| {
            let mut stored = named(name).object();
            stored["spec"]["matchingPrecedence"] = json!(77);
            stored["metadata"]["generation"] = json!(generation);
            stored["metadata"]["annotations"] = json!({AUTO_UPDATE: annotation});
            let changed = named(name).revise(&mut stored);
            let precedence = stored["spec"]["matchingPrecedence"].as_i64().unwrap();
            let annotation = stored["metadata"]["annotations"][AUTO_UPDATE].as_str().unwrap();
            assert_eq!((changed, precedence, annotation), expect);
            assert!(!named(name).revise(&mut stored));
        };
        check("probes", "true", 4, (true, 2, "true"));
        check("probes", "false", 1, (false, 77, "false"));
        check("probes", "maybe", 1, (true, 2, "true"));
        check("probes", "", 2, (true, 77, "false"));
        check("exempt", "false", 9, (true, 1, "true"));
    }

    #[test]
    fn a_schema_says_whether_its_level_exists() {
        let mut schema = json!({});
        assert!(set_dangling(&mut schema, "a", false, "t"));
        assert!(!set_dangling(&mut schema, "a", false, "u"));
        assert_eq!(schema["status"]["conditions"][0]["reason"], "NotFound");
        assert!(set_dangling(&mut schema, "a", true, "u"));
        assert_eq!(
            schema["status"]["conditions"],
            json!([{"type": "Dangling", "status": "False", "lastTransitionTime": "u", "reason": "Found",
                "message": "This FlowSchema references the PriorityLevelConfiguration object named \"a\" and it exists"}])
        );
    }
}
