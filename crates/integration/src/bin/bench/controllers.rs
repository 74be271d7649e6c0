//! A Deployment's thousand pods and the end of a namespace: the controller-manager under test, our API server under both.

use std::time::{Duration, Instant};

use anyhow::Result;
use client::{Client, DeleteOptions};
use integration::stack::until;
use integration::{Kind, Stack};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use serde_json::json;

use crate::scheduling::Counter;
use crate::{Bench, load, objects};

const PATIENCE: Duration = Duration::from_secs(120);

pub async fn run(bench: &mut Bench) -> Result<()> {
    bench.end_stacks().await?;
    let (replicas, things) = (bench.scaled(1000), bench.scaled(2000));
    let stack = Stack::start(&bench.sides[0]).await?;
    let clients = stack.clients(8)?;
    let client = &clients[0];
    for round in 0..bench.rounds {
        for (side, binaries) in bench.sides.clone().iter().enumerate() {
            let manager = stack.daemon(binaries, Kind::ControllerManager).await?;
            let (deployed, gone) = (format!("deployed-{round}-{side}"), format!("gone-{round}-{side}"));
            for name in [&deployed, &gone] {
                let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                client.create::<Namespace>(None, &object).await?;
            }
            until("the service account of a namespace", PATIENCE, async || {
                Ok(client.get::<ServiceAccount>(Some(&deployed), "default").await.is_ok())
            })
            .await?;

            let mut created = Counter::start(client, &deployed, None).await?;
            let (before, started) = (manager.process.cpu()?, Instant::now());
            client.create::<Deployment>(Some(&deployed), &deployment(replicas)).await?;
            let (_, last) = created.wait(replicas).await?;
            bench.table.record(side, "Deployment 0 to 1,000 pods (s)", (last - started).as_secs_f64(), 0.6);
            let cpu = load::milliseconds(manager.process.cpu()? - before) / replicas as f64;
            bench.table.record(side, "controller-manager, CPU of a pod of a Deployment (ms)", cpu, None);

            for (kind, plural) in [("ConfigMap", "configmaps"), ("Secret", "secrets")] {
                let path = format!("/api/v1/namespaces/{gone}/{plural}");
                load::send(&clients, things / 2, move |i| {
                    objects::post(&path, &json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": format!("object-{i}")}}))
                })
                .await?;
            }
            let before = manager.process.cpu()?;
            let time = remove(client, &gone).await?;
            bench.table.record(side, "namespace with 2,000 objects gone (s)", time.as_secs_f64(), 2.0);
            let cpu = (manager.process.cpu()? - before).as_secs_f64();
            bench.table.record(side, "controller-manager, CPU of that (s)", cpu, None);
            bench.table.record(side, "controller-manager, RSS after it (MiB)", manager.process.rss()?, None);
            remove(client, &deployed).await?;
            manager.stop().await?;
        }
    }
    stack.apiserver.stop().await
}

async fn remove(client: &Client, namespace: &str) -> Result<Duration> {
    client.delete::<Namespace>(None, namespace, &DeleteOptions::default()).await?;
    until("the namespace is gone", PATIENCE, async || match client.get::<Namespace>(None, namespace).await {
        Ok(_) => Ok(false),
        Err(error) if error.is_not_found() => Ok(true),
        Err(error) => Err(error.into()),
    })
    .await
}

fn deployment(replicas: usize) -> serde_json::Value {
    let pod = objects::pod("", 0, None);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "app-0"}},
            "template": {"metadata": {"labels": pod["metadata"]["labels"]}, "spec": pod["spec"]},
        },
    })
}
