//! Makes `crates/api/src/tables/generated.txt`: what every kind is, as facts; and `crates/registry/src/declared.txt`: what
//! the types declare of their values.
//!
//! Sources are what the project publishes for its API level: the Go types' struct tags (JSON and wire
//! names, order, what is left out when empty), the `.proto` files (which types are messages), OpenAPI
//! (list, merge and map semantics, required, defaults) and discovery (resources). They come out of the Go
//! module cache; `go mod download` puts them there. No text meant for people is taken over.

mod declared;
mod discovery;
mod emit;
mod fields;
mod gotypes;
mod openapi;
mod sources;

use std::path::Path;

use anyhow::{Context, Result, bail};

/// The API level: the version of `k8s.io/kubernetes`; its libraries are `v0.` + the same minor and patch.
const KUBERNETES: &str = "v1.37.1";
const LIBRARIES: &str = "v0.37.1";

const OUTPUT: &str = "crates/api/src/tables/generated.txt";
const DECLARED: &str = "crates/registry/src/declared.txt";

#[derive(clap::Args)]
pub struct Options {
    /// Fail when the committed tables differ from what would be written.
    #[arg(long)]
    check: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let sources = sources::Sources::locate()?;
    let packages = gotypes::Packages::load(&sources)?;
    let openapi = openapi::Facts::load(&sources.specs())?;
    let model = fields::Model::build(&packages, &openapi)?;
    let discovery = discovery::Discovery::load(&sources.discovery(), &model)?;
    let outputs = [(OUTPUT, emit::text(&model, &discovery)), (DECLARED, declared::text(&sources, &model)?)];

    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (output, text) in outputs {
        let path = root.join(output);
        if options.check {
            let committed = std::fs::read_to_string(&path).with_context(|| format!("reading {output}"))?;
            if committed != text {
                bail!("{output} is not what the published facts say: run `cargo xtask codegen`");
            }
            continue;
        }
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, &text).with_context(|| format!("writing {output}"))?;
        println!("{output}: {} lines, {} bytes", text.lines().count(), text.len());
    }
    Ok(())
}
