//! gRPC bindings of the protocols a node speaks, generated at build time from `/proto`.

/// The Container Runtime Interface.
pub mod cri {
    #[allow(clippy::all, missing_docs)]
    pub mod v1 {
        tonic::include_proto!("runtime.v1");
    }
}
