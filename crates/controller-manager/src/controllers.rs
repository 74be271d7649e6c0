//! The controllers, by subject; [`crate::registry`] lists them by name.

pub mod access {
    //! Who may do what, and as whom.

    pub mod bootstrap;
    pub mod role_aggregation;
    pub mod serviceaccount;
    pub mod token_cleaning;
    pub mod tokens;
}

pub mod certificates {
    //! What identities and servers are trusted by.

    pub mod approving;
    pub mod cleaning;
    pub mod pod_requests;
    mod requests;
    pub mod root_ca;
    pub mod signing;
    pub mod trust_bundle;
}

pub mod cleanup {
    //! What nobody needs any more.

    pub mod garbage;
    pub mod namespace;
    pub mod podgc;
    pub mod ttl_after_finished;
}

pub mod devices {
    //! Devices of nodes, and claims of them.

    pub mod claims;
    pub mod taint_eviction;
}

pub mod network {
    //! What answers for services.

    pub mod endpoints;
    pub mod endpointslice;
    pub mod mirroring;
    pub mod service_cidr;
}

pub mod nodes {
    //! The health of nodes, and what follows from it.

    pub mod nodeipam;
    pub mod nodelifecycle;
    pub mod taint_eviction;
    pub mod ttl;
}

pub mod policy {
    //! What namespaces may use, and what may be disrupted.

    pub mod admission;
    pub mod disruption;
    pub mod resourcequota;
}

pub mod storage {
    //! Volumes and claims.

    pub mod attacher;
    pub mod binder;
    pub mod ephemeral;
    pub mod expander;
    pub mod protection;
    pub mod selinux;
}

pub mod versions {
    //! The versions that objects are stored in.

    pub mod garbage;
    pub mod migrator;
}

pub mod workloads {
    //! What makes pods.

    pub mod autoscaler;
    pub mod cronjob;
    pub mod daemonset;
    pub mod deployment;
    mod history;
    pub mod job;
    pub mod podgroups;
    pub mod replicaset;
    pub mod statefulset;
}
