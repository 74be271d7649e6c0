//! Repository chores: `cargo xtask <command>`.

mod codegen;
mod edges;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write the model's generated tables from the published API facts.
    Codegen(codegen::Options),
    /// Check what the crates use of each other.
    Edges,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Codegen(options) => codegen::run(&options),
        Command::Edges => edges::run(),
    }
}
