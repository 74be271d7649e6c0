//! The caches that answers are made of.

use std::net::IpAddr;
use std::sync::Arc;

use client::{Informer, Informers};

use crate::view::{Namespace, Service, Slice};

/// Where the answers' facts come from; the informers at run time, a plain list in tests.
pub trait Facts: Send + Sync + Unpin + 'static {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>>;
    fn service_at(&self, address: IpAddr) -> Option<Arc<Service>>;
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<Slice>>;
    fn has_namespace(&self, namespace: &str) -> bool;
}

const BY_ADDRESS: &str = "address";
const BY_SERVICE: &str = "service";

#[derive(Clone)]
pub struct Directory {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    slices: Informer<Slice>,
}

impl Directory {
    pub fn new(informers: &Informers) -> Directory {
        let services = informers.all::<Service>();
        services.add_index(BY_ADDRESS, |service| service.addresses().iter().map(IpAddr::to_string).collect());
        let slices = informers.all::<Slice>();
        slices.add_index(BY_SERVICE, |slice| slice.service().into_iter().collect());
        slices.add_index(BY_ADDRESS, |slice| {
            let endpoints = slice.endpoints.iter().flatten();
            endpoints.flat_map(|endpoint| &endpoint.addresses).map(IpAddr::to_string).collect()
        });
        Directory { namespaces: informers.all::<Namespace>(), services, slices }
    }

    pub fn has_synced(&self) -> bool {
        self.namespaces.has_synced() && self.services.has_synced() && self.slices.has_synced()
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
        self.namespaces.get(None, namespace).is_some()
    }
}

/// Facts in lists, for tests.
#[cfg(test)]
pub mod fixed {
    use super::*;

    #[derive(Default)]
    pub struct Fixed {
        pub namespaces: Vec<&'static str>,
        pub services: Vec<Arc<Service>>,
        pub slices: Vec<Arc<Slice>>,
    }

    impl Facts for Fixed {
        fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>> {
            self.services
                .iter()
                .find(|s| s.metadata.namespace == namespace && s.metadata.name == name)
                .cloned()
        }
        fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>> {
            let key = format!("{namespace}/{service}");
            self.slices.iter().filter(|slice| slice.service().as_ref() == Some(&key)).cloned().collect()
        }
        fn service_at(&self, address: IpAddr) -> Option<Arc<Service>> {
            self.services.iter().find(|service| service.addresses().contains(&address)).cloned()
        }
        fn slices_at(&self, address: IpAddr) -> Vec<Arc<Slice>> {
            let has = |slice: &&Arc<Slice>| {
                slice.endpoints.iter().flatten().any(|e| e.addresses.contains(&address))
            };
            self.slices.iter().filter(has).cloned().collect()
        }
        fn has_namespace(&self, namespace: &str) -> bool {
            self.namespaces.contains(&namespace)
        }
    }
}
