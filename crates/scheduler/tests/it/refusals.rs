//! Plugins that refuse the chosen node: what becomes of the pod, and when it is tried again.

use std::sync::Arc;
use std::time::Duration;

use scheduler::cluster::{Pod, Symbol, Table};
use scheduler::config::Configuration;
use scheduler::core::profile::Profile;
use scheduler::core::queue::Backoff;
use scheduler::core::waiting::Rejection;
use scheduler::core::{Attempt, Core};
use scheduler::framework::{Change, Cycle, Events, Permit, Plugin, Point, Refusal};
use serde_json::json;

use crate::fixture::{cpu, node};

/// Refuses at one point, and waits for nodes.
struct Refusing(Point, Refusal);

impl Plugin for Refusing {
    fn name(&self) -> &'static str {
        "Refusing"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Reserve, Point::Permit]
    }

    fn reserve(&self, _: usize, _: &mut Cycle, _: &Pod, _: &mut Table, _: usize) -> Result<(), Refusal> {
        if self.0 == Point::Reserve { Err(self.1.clone()) } else { Ok(()) }
    }

    fn permit(&self, _: usize, _: &mut Cycle, _: &Pod, _: &Symbol) -> Permit {
        if self.0 == Point::Permit {
            Permit::Refuse(self.1.clone())
        } else {
            Permit::Wait(Duration::from_secs(9))
        }
    }

    fn events(&self) -> Events {
        Events::NODE_ADD
    }

    fn hint(&self, _: &Pod, change: &Change<'_>) -> bool {
        matches!(change, Change::NodeAdded(row) if row.node.name.as_str() == "good")
    }
}

fn core(point: Point, refusal: Refusal) -> Core {
    let sort = Configuration::default().profiles().unwrap().remove(0);
    let mut plugins: Vec<(Arc<dyn Plugin>, i64)> =
        sort.plugins.iter().map(|plugin| (plugin.clone(), 1)).collect();
    plugins.push((Arc::new(Refusing(point, refusal)), 1));
    let profile = Profile::new("default-scheduler", plugins, 0, |_, _| true);
    let mut core = Core::new(vec![profile], Backoff::default(), 7);
    core.set_node(&node("a", "4", json!({})), None, Duration::ZERO);
    core.set_pod(&cpu("p", "1", json!({})), None, Duration::ZERO);
    core
}

#[tokio::test]
async fn a_pod_that_is_refused_waits_for_what_helps_it() {
    for point in [Point::Reserve, Point::Permit] {
        let mut core = core(point, Refusal::Unschedulable("no".into()));
        let Some(Attempt::Unschedulable { message, .. }) = core.attempt(Duration::ZERO) else { panic!() };
        assert_eq!(message, "0/1 nodes are available: 1 no.");
        assert_eq!((core.queue.sizes().unschedulable, core.table.pods()), (1, 0));
        let late = Duration::from_secs(20);
        core.set_node(&node("other", "4", json!({})), None, late);
        assert!(core.attempt(late).is_none());
        core.set_node(&node("good", "4", json!({})), None, late);
        assert_eq!(core.queue.sizes().active, 1);
    }
}

#[tokio::test]
async fn an_error_is_tried_again_after_a_while() {
    let mut core = core(Point::Reserve, Refusal::Error("broken".into()));
    assert!(
        matches!(core.attempt(Duration::ZERO), Some(Attempt::Failed { message, .. }) if message == "broken")
    );
    assert_eq!(core.queue.sizes().backoff, 1);
}

#[tokio::test]
async fn a_pod_that_waits_in_vain_waits_for_what_helps_it() {
    // Reserve lets it through, permit has it wait.
    let mut core = core(Point::Bind, Refusal::Unschedulable(String::new()));
    let Some(Attempt::Bind(binding)) = core.attempt(Duration::ZERO) else { panic!() };
    assert!(binding.wait.is_some());
    let rejection = Rejection { plugin: "Refusing", message: "too late".into() };
    let message = core.permit_rejected(*binding, &rejection, Duration::ZERO);
    assert_eq!(message.as_deref(), Some("0/1 nodes are available: 1 too late."));
    assert_eq!((core.queue.sizes().unschedulable, core.table.pods()), (1, 0));
}
