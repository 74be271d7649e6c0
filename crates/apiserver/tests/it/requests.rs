//! Requests that are refused, or nearly: the server's answer to each is compared with upstream's.
//!
//! `requests/table.jsonl` has a request a line, in order, for some change what later ones meet; `expect` is the recorded
//! answer, in the form that [`normal`] gives it, and `gap` says why ours is another where it is known to be.
//!
//! To record again: start upstream's server with an empty etcd and the flags of [`crate::rig`], give the folder of its
//! `ca.crt` and of `NAME.crt` and `NAME.key` for the clients `admin` (of `system:masters`) and `limited`, and run
//! `RECORD_FROM=127.0.0.1:6443 RECORD_PKI=… cargo test -p apiserver --test it requests`.

mod client;
mod normal;

use std::path::PathBuf;

use client::{Client, Request};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::rig::Rig;

#[derive(Clone, Deserialize, Serialize)]
struct Line {
    #[serde(flatten)]
    request: Request,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    gap: String,
    #[serde(default)]
    expect: Value,
}

fn table() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/requests/table.jsonl")
}

fn lines() -> Vec<Line> {
    let text = std::fs::read_to_string(table()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every request's answer. Reads that stand beside each other go out together.
async fn answers(client: &Client, lines: &[Line]) -> Vec<Value> {
    let mut answers = Vec::new();
    for group in lines.chunk_by(|one, other| one.request.reads() && other.request.reads()) {
        let asked = group.iter().map(|line| client.answer(&line.request));
        answers.extend(futures::stream::iter(asked).buffered(24).collect::<Vec<_>>().await);
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_upstreams() {
    let lines = lines();
    if let Ok(address) = std::env::var("RECORD_FROM") {
        let client = Client::of_files(&address, &PathBuf::from(std::env::var("RECORD_PKI").unwrap()));
        return record(lines, &client).await;
    }
    let rig = Rig::start().await;
    rig.ready().await;
    let answers = answers(&Client::of_rig(&rig), &lines).await;
    rig.stop().await;
    let mut wrong = Vec::new();
    for (line, answer) in lines.iter().zip(answers) {
        let name = &line.request.name;
        match (answer == line.expect, line.gap.is_empty()) {
            (true, true) | (false, false) => {}
            (true, false) => wrong.push(format!("{name}: answered as upstream does, no longer a gap")),
            (false, true) => wrong.push(format!("{name}\n  upstream: {}\n  here:     {answer}", line.expect)),
        }
    }
    assert!(wrong.is_empty(), "{} of {}\n{}", wrong.len(), lines.len(), wrong.join("\n"));
}

async fn record(lines: Vec<Line>, client: &Client) {
    let answers = answers(client, &lines).await;
    let mut text = String::new();
    for (line, expect) in lines.into_iter().zip(answers) {
        text.push_str(&serde_json::to_string(&Line { expect, ..line }).unwrap());
        text.push('\n');
    }
    std::fs::write(table(), text).unwrap();
}
