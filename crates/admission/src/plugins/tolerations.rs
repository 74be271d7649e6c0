//! `DefaultTolerationSeconds`: a pod stays five minutes on a node that is gone, unless it says otherwise.

use api::json;
use api::{Status, Tree};
use async_trait::async_trait;

use crate::{Attributes, Plugin, Point};
use registry::tree::{as_object, list, text};

pub struct DefaultTolerationSeconds {
    not_ready: i64,
    unreachable: i64,
}

impl DefaultTolerationSeconds {
    /// `--default-not-ready-toleration-seconds` and `--default-unreachable-toleration-seconds`.
    pub fn new(not_ready: i64, unreachable: i64) -> Self {
        Self { not_ready, unreachable }
    }
}

/// Whether a toleration covers a `NoExecute` taint with this key.
fn covers(toleration: &Tree, key: &str) -> bool {
    ["", key].contains(&text(toleration, "key")) && matches!(text(toleration, "effect"), "" | "NoExecute")
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn mutates(&self, point: &Point<'_>) -> bool {
        point.is("", "pods") && point.operation.writes()
    }

    async fn admit(&self, _: &Attributes<'_>, pod: &mut Tree) -> Result<(), Status> {
        for (key, seconds) in [
            ("node.kubernetes.io/not-ready", self.not_ready),
            ("node.kubernetes.io/unreachable", self.unreachable),
        ] {
            if list(pod, "spec.tolerations").iter().any(|toleration| covers(toleration, key)) {
                continue;
            }
            let spec = as_object(as_object(pod).entry("spec").or_insert(Tree::Null));
            let tolerations = spec.entry("tolerations").or_insert(Tree::Null);
            if !tolerations.is_array() {
                *tolerations = Tree::Array(Vec::new());
            }
            if let Tree::Array(tolerations) = tolerations {
                tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}));
            }
        }
        Ok(())
    }
}
