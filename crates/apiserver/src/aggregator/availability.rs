//! Whether an aggregated server answers: the condition `Available` of an APIService, with upstream's reasons and messages.

use std::sync::LazyLock;
use std::time::Duration;

use api::{Tree, json};
use daemon::metrics::{CounterVec, GaugeVec, registry};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use registry::tree::{ensure, list, number, text};

use super::api_service::{self, Backend};
use super::fetch::Fetch;
use super::{Aggregator, Target};
use crate::service_routing::is_ready;

/// Questions at once, of which one must be answered.
const ATTEMPTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST: usize = 4 << 20;

static UNAVAILABLE: LazyLock<GaugeVec> = LazyLock::new(|| {
    registry().gauge_vec(
        "aggregator_unavailable_apiservice",
        "Gauge of APIServices which are marked as unavailable broken down by APIService name.",
        &["name"],
    )
});

static BECAME_UNAVAILABLE: LazyLock<CounterVec> = LazyLock::new(|| {
    registry().counter_vec(
        "aggregator_unavailable_apiservice_total",
        "Counter of APIServices which are marked as unavailable broken down by APIService name and reason.",
        &["name", "reason"],
    )
});

/// What the condition is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub status: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Condition {
    fn new(status: &'static str, reason: &'static str, message: impl Into<String>) -> Condition {
        Condition { status, reason, message: message.into() }
    }

    pub fn local() -> Condition {
        Condition::new("True", "Local", "Local APIServices are always available")
    }

    /// What asking the server showed.
    pub fn asked(result: Result<(), String>) -> Condition {
        match result {
            Ok(()) => Condition::new("True", "Passed", "all checks passed"),
            Err(why) => Condition::new("False", "FailedDiscoveryCheck", why),
        }
    }

    /// What makes it needless to ask the server: nothing can answer.
    pub fn before_asking(
        backend: &Backend,
        service: Result<Option<Tree>, String>,
        slices: impl FnOnce() -> Result<Vec<Tree>, String>,
    ) -> Option<Condition> {
        let Backend { namespace, service: name, port, .. } = backend;
        let unknown = |reason, why: String| {
            let message = format!("service/{name} in {namespace:?} cannot be checked due to: {why}");
            Some(Condition::new("Unknown", reason, message))
        };
        let failed = |reason, message: String| Some(Condition::new("False", reason, message));
        let service = match service {
            Ok(Some(service)) => service,
            Ok(None) => {
                return failed("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
            }
            Err(why) => return unknown("ServiceAccessError", why),
        };
        if text(&service, "spec.type") != "ClusterIP" {
            return None;
        }
        let mut ports = list(&service, "spec.ports").iter();
        let Some(found) = ports.find(|own| number(own, "port") == i64::from(*port)) else {
            let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
            return failed("ServicePortError", message);
        };
        let port = text(found, "name");
        let slices = match slices() {
            Ok(slices) => slices,
            Err(why) => return unknown("EndpointsAccessError", why),
        };
        if slices.is_empty() {
            let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
            return failed("EndpointsNotFound", message);
        }
        let has_port = |slice: &Tree| {
            let mut ports = list(slice, "ports").iter();
            ports.any(|own| text(own, "name") == port && !own["port"].is_null())
        };
        if !slices.iter().any(|slice| list(slice, "endpoints").iter().any(is_ready) && has_port(slice)) {
            let message = format!(
                "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}"
            );
            return failed("MissingEndpoints", message);
        }
        None
    }

    /// Whether an APIService says this already.
    pub fn is_of(&self, object: &Tree) -> bool {
        let mut all = list(object, "status.conditions").iter().filter(|own| text(own, "type") == "Available");
        all.next().is_some_and(|own| {
            text(own, "status") == self.status
                && text(own, "reason") == self.reason
                && text(own, "message") == self.message
        })
    }

    /// Writes it into an APIService.
    pub fn put(&self, object: &mut Tree, now: Timestamp) {
        let time = json!(now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let status = ensure(object, "status");
        let conditions = match status.get_mut("conditions") {
            Some(Tree::Array(conditions)) => conditions,
            _ => {
                status.insert("conditions", json!([]));
                match status.get_mut("conditions") {
                    Some(Tree::Array(conditions)) => conditions,
                    _ => return,
                }
            }
        };
        let place = conditions.iter().position(|own| text(own, "type") == "Available").unwrap_or_else(|| {
            conditions.push(json!({"type": "Available", "status": "", "lastTransitionTime": time}));
            conditions.len() - 1
        });
        let own = &mut conditions[place];
        if own["status"] != self.status {
            own["status"] = json!(self.status);
            own["lastTransitionTime"] = time;
        }
        own["reason"] = json!(self.reason);
        own["message"] = json!(self.message);
    }

    /// Counts what was found of an APIService that said something else before.
    pub fn count(&self, name: &str, before: Option<&Tree>) {
        let available = self.status == "True";
        UNAVAILABLE.with(&[name]).set(if available { 0.0 } else { 1.0 });
        if !available && before.is_some_and(api_service::available) {
            BECAME_UNAVAILABLE.with(&[name, self.reason]).inc();
        }
    }
}

/// Counts an APIService no longer.
pub fn forget(name: &str) {
    UNAVAILABLE.remove(&[name]);
}

/// Asks the server for the document of its version, a few times at once, at different endpoints where there are several.
pub async fn check(aggregator: &Aggregator, target: &Target) -> Result<(), String> {
    let path = target.service.path();
    let ask = || async {
        let address = aggregator.address(target)?;
        let url = format!("https://{address}{path}");
        let fetch = Fetch {
            path: &path,
            user: "system:kube-aggregator",
            master: true,
            accept: "",
            etag: "",
            longest: LONGEST,
            timeout: TIMEOUT,
        };
        match aggregator.fetch(target, &address, &fetch).await {
            Ok(answer) if answer.status.is_success() => Ok(()),
            Ok(answer) => {
                let code = answer.status.as_u16();
                Err(format!("failing or missing response from {url}: bad status from {url}: {code}"))
            }
            Err(why) => Err(format!("failing or missing response from {url}: Get {url:?}: {why}")),
        }
    };
    let mut asked: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| ask()).collect();
    let mut last = Ok(());
    while let Some(answer) = asked.next().await {
        if answer.is_ok() {
            return answer;
        }
        last = answer;
    }
    target.connections.close_idle();
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_where_nobody_can_answer() {
        let backend = Backend {
            namespace: "n".to_owned(),
            service: "s".to_owned(),
            port: 443,
            insecure: false,
            authority: Vec::new(),
        };
        let service = |ty: &str, port: u16| {
            Ok(Some(json!({"spec": {"type": ty, "ports": [{"name": "https", "port": port}]}})))
        };
        let slice = |port: &str, ready: bool| json!({"ports": [{"name": port, "port": 6443}], "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]});
        let missing = "endpointslices for service/s in \"n\" have no addresses with port name \"https\"";
        type Found = Result<Option<Tree>, String>;
        type Slices = Result<Vec<Tree>, String>;
        type Expected = Option<(&'static str, &'static str, &'static str)>;
        let cases: [(Found, Slices, Expected); 9] = [
            (Ok(None), Ok(vec![]), Some(("False", "ServiceNotFound", "service/s in \"n\" is not present"))),
            (
                Err("no".to_owned()),
                Ok(vec![]),
                Some(("Unknown", "ServiceAccessError", "service/s in \"n\" cannot be checked due to: no")),
            ),
            (service("ExternalName", 1), Ok(vec![]), None),
            (
                service("ClusterIP", 80),
                Ok(vec![]),
                Some(("False", "ServicePortError", "service/s in \"n\" is not listening on port 443")),
            ),
            (
                service("ClusterIP", 443),
                Ok(vec![]),
                Some(("False", "EndpointsNotFound", "cannot find endpointslices for service/s in \"n\"")),
            ),
            (
                service("ClusterIP", 443),
                Err("no".to_owned()),
                Some(("Unknown", "EndpointsAccessError", "service/s in \"n\" cannot be checked due to: no")),
            ),
            (
                service("ClusterIP", 443),
                Ok(vec![slice("https", false)]),
                Some(("False", "MissingEndpoints", missing)),
            ),
            (
                service("ClusterIP", 443),
                Ok(vec![slice("other", true)]),
                Some(("False", "MissingEndpoints", missing)),
            ),
            (service("ClusterIP", 443), Ok(vec![slice("https", false), slice("https", true)]), None),
        ];
        for (service, slices, expect) in cases {
            let got = Condition::before_asking(&backend, service, || slices);
            let expect = expect.map(|(status, reason, message)| Condition::new(status, reason, message));
            assert_eq!(got, expect);
        }
    }

    #[test]
    fn the_time_is_that_of_the_last_change() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut object = json!({"metadata": {"name": "v1.a"}});
        let failed = |why: &str| Condition::asked(Err(why.to_owned()));
        failed("a").put(&mut object, at(1));
        assert!(failed("a").is_of(&object) && !failed("b").is_of(&object));
        failed("b").put(&mut object, at(2));
        assert_eq!(text(&object["status"]["conditions"][0], "lastTransitionTime"), "1970-01-01T00:00:01Z");
        Condition::asked(Ok(())).put(&mut object, at(3));
        let expect = json!({"conditions": [{"type": "Available", "status": "True", "lastTransitionTime": "1970-01-01T00:00:03Z", "reason": "Passed", "message": "all checks passed"}]});
        assert_eq!(object["status"], expect);
        assert!(api_service::available(&object));
    }
}
