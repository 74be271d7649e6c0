//! The caches that answers are made of.

use std::net::IpAddr;
use std::sync::Arc;

use client::{Index, Informer, Informers};

use crate::view::{Namespace, Service, Slice};

/// Where the answers' facts come from; the informers at run time, a plain list in tests.
pub trait Facts: Send + Sync + Unpin + 'static {
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<Service>>;
    fn slices(&self, namespace: &str, service: &str) -> Vec<Arc<Slice>>;
    fn service_at(&self, address: IpAddr) -> Option<Arc<Service>>;
    fn slices_at(&self, address: IpAddr) -> Vec<Arc<Slice>>;
    fn has_namespace(&self, namespace: &str) -> bool;
}

#[derive(Clone)]
pub struct Directory {
    namespaces: Informer<Namespace>,
    services: Informer<Service>,
    slices: Informer<Slice>,
    services_by_address: Index<Service, IpAddr>,
    slices_by_service: Index<Slice, String>,
    slices_by_address: Index<Slice, IpAddr>,
}

impl Directory {
    pub fn new(informers: &Informers) -> Directory {
        let services = informers.all::<Service>();
        let slices = informers.all::<Slice>();
        Directory {
            namespaces: informers.all::<Namespace>(),
            services_by_address: services.index(Service::addresses),
            slices_by_service: slices.index(Slice::service),
            slices_by_address: slices.index(|slice| {
                let endpoints = slice.endpoints.iter().flatten();
                endpoints.flat_map(|endpoint| &endpoint.addresses).copied().collect::<Vec<_>>()
            }),
            services,
            slices,
        }
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
        self.slices_by_service.get(&format!("{namespace}/{service}"))
    }

    fn service_at(&self, address: IpAddr) -> Option<Arc<Service>> {
        self.services_by_address.get(&address).into_iter().next()
    }

    fn slices_at(&self, address: IpAddr) -> Vec<Arc<Slice>> {
        self.slices_by_address.get(&address)
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
