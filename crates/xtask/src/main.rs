//! Repository chores: `cargo xtask <command>`.

mod codegen;
mod edges;
mod kinds;
mod words;

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
    /// Check that code which serves every kind names none.
    Kinds,
    /// Check names, comments and documents for words that docs/style.md replaces.
    Words,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Codegen(options) => codegen::run(&options),
        Command::Edges => edges::run(),
        Command::Kinds => kinds::run(),
        Command::Words => words::run(),
    }
}
