//! The caches that answers are made of.

use std::net::IpAddr;
use std::sync::Arc;

use client::{Informer, Informers};

use crate::view::{Service, Slice};

/// Where the answers' facts come from; the informers at run time, a plain list in tests.
pub trait Facts {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>>;
    fn service_at(&self, address: IpAddr) -> Option<Arc<Service>>;
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<Slice>>;
    fn has_namespace(&self, namespace: &str) -> bool;
}

const BY_ADDRESS: &str = "address";
const BY_SERVICE: &str = "service";
const BY_NAMESPACE: &str = "namespace";

#[derive(Clone)]
pub struct Directory {
    services: Informer<Service>,
    slices: Informer<Slice>,
}

impl Directory {
    pub fn new(informers: &Informers) -> Directory {
        let services = informers.all::<Service>();
        services.add_index(BY_ADDRESS, |service| service.addresses().iter().map(IpAddr::to_string).collect());
        services.add_index(BY_NAMESPACE, |service| vec![service.metadata.namespace.clone()]);
        let slices = informers.all::<Slice>();
        slices.add_index(BY_SERVICE, |slice| slice.service().into_iter().collect());
        slices.add_index(BY_ADDRESS, |slice| {
            let endpoints = slice.endpoints.iter().flatten();
            endpoints.flat_map(|endpoint| &endpoint.addresses).map(IpAddr::to_string).collect()
        });
        Directory { services, slices }
    }

    pub fn has_synced(&self) -> bool {
        self.services.has_synced() && self.slices.has_synced()
    }
}

impl Facts for Directory {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
        self.services.get(Some(namespace), name)
    }

    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>> {
        self.slices.by_index(BY_SERVICE, &format!("{namespace}/{service}"))
    }

    fn service_at(&self, address: IpAddr) -> Option<Arc<Service>> {
        self.services.by_index(BY_ADDRESS, &address.to_string()).into_iter().next()
    }

    fn slices_at(&self, address: IpAddr) -> Vec<Arc<Slice>> {
        self.slices.by_index(BY_ADDRESS, &address.to_string())
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        !self.services.by_index(BY_NAMESPACE, namespace).is_empty()
    }
}
