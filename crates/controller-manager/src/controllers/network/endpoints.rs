//! `endpoints-controller`: the older form of endpoints, one object per service, which older clients read.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Client, DeleteOptions, EventRecorder, EventType, Informer, Key};
use controllers::views::{EndpointPort, Endpoints, Object, Pod, Service};
use controllers::{Context, Error, Next, Pods, Reconcile};
use serde_json::{Value, json};

use super::endpointslice::endpoints::{address, families, headless, ports, reference};
use super::endpointslice::{TRIGGER_TIME, Triggers, selected, watch_pods};
use crate::Options;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Set where addresses had to be left out.
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const CAPACITY: usize = 1000;

struct Controller {
    events: EventRecorder,
    services: Informer<Service>,
    pods: Pods,
    endpoints: Informer<Endpoints>,
    triggers: Triggers,
}

pub async fn run(context: Context, options: Arc<Options>) -> Result<(), Error> {
    let mut builder = context.builder("endpoint", MANAGER, MANAGER).await?;
    let controller = Controller {
        events: builder.events.clone(),
        services: builder.reconciles(),
        pods: builder.pods(),
        endpoints: builder.reconciles(),
        triggers: Triggers::default(),
    };
    watch_pods(&mut builder, *options.endpoint_updates_batch_period);
    builder.run(options.concurrent_endpoint_syncs, controller).await
}

impl Reconcile for Controller {
    async fn reconcile(&self, key: &Key, client: &Client) -> Result<Next, Error> {
        let current = self.endpoints.get_key(key);
        let Some(service) = self.services.get_key(key) else {
            self.triggers.forget(key);
            // Endpoints without a service are its leftover only if we made them; others may be about to get one.
            let ours = current.filter(|endpoints| {
                endpoints.metadata.annotation("control-plane.alpha.kubernetes.io/leader").is_none()
                    && endpoints.metadata.labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER)
            });
            if let Some(endpoints) = ours {
                let options = DeleteOptions::default().uid(endpoints.metadata.uid.clone());
                match client.delete::<Endpoints>(key.namespace(), &key.name, &options).await {
                    Err(error) if !error.is_not_found() => return Err(error.into()),
                    _ => {}
                }
            }
            return Ok(Next::Done);
        };
        if service.spec.selector.labels().is_none()
            || service.metadata.is_deleting()
            || service.spec.type_ == "ExternalName"
        {
            return Ok(Next::Done);
        }
        let pods = selected(&self.pods, &service);
        let trigger = self.triggers.newest(key, &service, &pods);
        let Some(wanted) = plan(&service, &pods, current.as_deref(), trigger) else { return Ok(Next::Done) };
        let mut body = json!(wanted);
        body["apiVersion"] = Endpoints::API_VERSION.into();
        body["kind"] = Endpoints::KIND.into();
        let result = if current.is_some() {
            client.update::<Endpoints>(key.namespace(), &key.name, &body).await
        } else {
            client.create::<Endpoints>(key.namespace(), &body).await
        };
        match result {
            Err(error) if error.is_namespace_terminating() => Ok(Next::Done),
            // The cache was behind: it will bring them, and with them this key again.
            Err(error) if error.is_already_exists() => Ok(Next::Done),
            Err(error) => {
                if !error.is_conflict() {
                    let (reason, verb) = match current.is_some() {
                        true => ("FailedToUpdateEndpoint", "update"),
                        false => ("FailedToCreateEndpoint", "create"),
                    };
                    let message = format!("Failed to {verb} endpoint {key}: {error}");
                    self.events.event(&wanted.reference(), EventType::Warning, reason, &message);
                }
                Err(error.into())
            }
            Ok(_) => Ok(Next::Done),
        }
    }
}

/// The endpoints to write, or nothing where they are right.
fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    current: Option<&Endpoints>,
    trigger: Option<jiff::Timestamp>,
) -> Option<Endpoints> {
    let (subsets, truncated) = subsets(service, pods);
    let mut labels = service.metadata.labels.clone();
    labels.insert(MANAGED_BY, MANAGER);
    labels.remove(HEADLESS);
    if headless(service) {
        labels.insert(HEADLESS, "");
    }
    let mut wanted = current.cloned().unwrap_or_default();
    let over = wanted.metadata.annotation(OVER_CAPACITY).is_some();
    if current.is_some() && wanted.subsets == subsets && wanted.metadata.labels == labels && over == truncated
    {
        return None;
    }
    let meta = &mut wanted.metadata;
    meta.name.clone_from(&service.metadata.name);
    meta.namespace.clone_from(&service.metadata.namespace);
    meta.labels = labels;
    match trigger {
        Some(time) => drop(meta.annotations.insert(TRIGGER_TIME.to_owned(), time.to_string())),
        None => drop(meta.annotations.remove(TRIGGER_TIME)),
    }
    if truncated {
        meta.annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        meta.annotations.remove(OVER_CAPACITY);
    }
    wanted.subsets = subsets;
    Some(wanted)
}

/// Addresses by the ports they answer on. Returns also whether some had to be left out.
fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<Value>, bool) {
    let family = families(service).into_iter().next().unwrap_or_default();
    let mut groups: BTreeMap<Vec<EndpointPort>, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    let mut room = CAPACITY;
    let mut truncated = false;
    let counted = |pod: &&Arc<Pod>| {
        let leaving = pod.metadata.is_deleting() && !service.spec.publish_not_ready_addresses;
        !pod.is_terminal() && !leaving && address(pod, &family).is_some()
    };
    let mut found: Vec<_> = pods.iter().filter(counted).collect();
    // The useful ones first, should there be too many.
    found.sort_by_key(|pod| !pod.is_ready());
    for pod in found {
        let ready = service.spec.publish_not_ready_addresses || pod.is_ready();
        let mut ports = ports(service, pod);
        ports.sort();
        if ports.is_empty() && !(headless(service) && service.spec.ports.is_empty()) {
            continue;
        }
        if room == 0 {
            truncated = true;
            continue;
        }
        room -= 1;
        let mut entry = json!({"ip": address(pod, &family), "targetRef": reference(pod)});
        if !pod.spec.node_name.is_empty() {
            entry["nodeName"] = pod.spec.node_name.as_str().into();
        }
        if !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.metadata.name {
            entry["hostname"] = pod.spec.hostname.as_str().into();
        }
        let group = groups.entry(ports).or_default();
        if ready { group.0.push(entry) } else { group.1.push(entry) }
    }
    let subset = |(ports, (mut ready, mut not_ready)): (Vec<EndpointPort>, (Vec<Value>, Vec<Value>))| {
        let mut subset = serde_json::Map::new();
        for (name, addresses) in [("addresses", &mut ready), ("notReadyAddresses", &mut not_ready)] {
            if !addresses.is_empty() {
                addresses.sort_by_key(|entry| entry["ip"].as_str().unwrap_or_default().to_owned());
                subset.insert(name.to_owned(), json!(addresses));
            }
        }
        let port = |port: &EndpointPort| {
            let mut tree = json!(port);
            if port.name.is_empty()
                && let Some(fields) = tree.as_object_mut()
            {
                fields.remove("name");
            }
            tree
        };
        if !ports.is_empty() {
            subset.insert("ports".to_owned(), ports.iter().map(port).collect());
        }
        Value::Object(subset)
    };
    (groups.into_iter().map(subset).collect(), truncated)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, ready: &str) -> Arc<Pod> {
        let pod = json!({
            "metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"nodeName": "n"},
            "status": {"phase": "Running", "podIP": format!("10.0.0.{name}"), "conditions": [{"type": "Ready", "status": ready}]},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn ready_and_not() {
        let service: Service = serde_json::from_value(json!({
            "metadata": {"name": "s", "namespace": "d"},
            "spec": {"selector": {"a": "b"}, "clusterIP": "10.9.0.1", "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}]},
        }))
        .unwrap();
        let pods = [pod("2", "True"), pod("1", "True"), pod("3", "False")];
        let wanted = plan(&service, &pods, None, None).unwrap();
        let expect = |ip: &str, name: &str| json!({"ip": ip, "nodeName": "n", "targetRef": {"kind": "Pod", "namespace": "d", "name": name, "uid": name}});
        let subset = json!({
            "addresses": [expect("10.0.0.1", "1"), expect("10.0.0.2", "2")],
            "notReadyAddresses": [expect("10.0.0.3", "3")],
            "ports": [{"port": 8080, "protocol": "TCP"}],
        });
        assert_eq!(wanted.subsets, [subset]);
        assert!(plan(&service, &pods, Some(&wanted), None).is_none());
        assert!(plan(&service, &pods[..1], Some(&wanted), None).is_some());
    }
}
