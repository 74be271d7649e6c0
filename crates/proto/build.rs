//! Bindings for the protocols in `/proto`, made with a compiler that is itself a crate: no `protoc` needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = protox::compile(["cri/v1/api.proto"], [&root])?;
    tonic_prost_build::configure().build_server(true).btree_map(".").compile_fds(files)?;
    Ok(())
}
