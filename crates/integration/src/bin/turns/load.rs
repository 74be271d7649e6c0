//! Clients that write without end, each to objects of its own, and remember what was acknowledged.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use client::{Client, Request};
use http::Method;
use integration::Stack;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::fixture::{self, NAMESPACE, NARROW, ROOM, STAMP, config_maps, widget, widgets};

/// The number that an object has; none where it is not there.
type Number = Option<usize>;

struct Writer {
    client: Client,
    name: usize,
    next: usize,
    /// By path, without the query.
    known: HashMap<String, Number>,
    acknowledged: usize,
    doubtful: usize,
    refused: usize,
}

pub struct Load {
    writers: Vec<Writer>,
}

pub struct Running {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Result<Writer>>,
}

/// A server that is being replaced answers again within this time.
const PATIENCE: Duration = Duration::from_secs(60);

impl Load {
    pub fn new(stack: &Stack, count: usize) -> Result<Load> {
        let writer = |name| -> Result<Writer> {
            let client = stack.client()?;
            Ok(Writer {
                client,
                name,
                next: 0,
                known: HashMap::new(),
                acknowledged: 0,
                doubtful: 0,
                refused: 0,
            })
        };
        Ok(Load { writers: (0..count).map(writer).collect::<Result<_>>()? })
    }

    pub fn start(&mut self) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for mut writer in self.writers.drain(..) {
            let stop = stop.clone();
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    writer.step().await?;
                }
                Ok(writer)
            });
        }
        Running { stop, tasks }
    }

    pub async fn stop(&mut self, mut running: Running) -> Result<()> {
        running.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = running.tasks.join_next().await {
            self.writers.push(ended??);
        }
        Ok(())
    }

    /// Compares what is served with what was acknowledged.
    pub async fn check(&self, client: &Client) -> Result<String> {
        let mut served = HashMap::new();
        for collection in [widgets("v1"), config_maps(NAMESPACE), config_maps(NARROW)] {
            let list: Value = client.call(Request::get(collection.clone())).await?;
            for item in list["items"].as_array().context("items")? {
                let name = item["metadata"]["name"].as_str().context("a name")?;
                if name == "kube-root-ca.crt" {
                    continue;
                }
                if item["metadata"]["labels"][STAMP] != "yes" {
                    bail!("{collection}/{name} has not passed the webhook: {item}");
                }
                served.insert(format!("{collection}/{name}"), number(item));
            }
        }
        let narrow = config_maps(NARROW);
        let count = served.keys().filter(|path| path.starts_with(&narrow)).count();
        if count > ROOM {
            bail!("{count} config maps are in a quota of {ROOM}");
        }
        let mut expected = 0;
        for (path, number) in self.writers.iter().flat_map(|writer| &writer.known) {
            expected += usize::from(number.is_some());
            if served.get(path).copied().flatten() != *number {
                bail!("{path} is {:?}, and {number:?} was acknowledged", served.get(path));
            }
        }
        if expected != served.len() {
            bail!("{} objects are served, and {expected} were acknowledged", served.len());
        }
        let sum = |of: fn(&Writer) -> usize| self.writers.iter().map(of).sum::<usize>();
        let (writes, doubtful, refused) =
            (sum(|it| it.acknowledged), sum(|it| it.doubtful), sum(|it| it.refused));
        Ok(format!(
            "{expected} objects, {writes} writes so far, {doubtful} doubtful, {refused} refused by the quota"
        ))
    }
}

fn number(object: &Value) -> Number {
    let text = object["data"]["count"].as_str().and_then(|text| text.parse().ok());
    text.or_else(|| usize::try_from(object["spec"]["count"].as_u64()?).ok())
}

impl Writer {
    async fn step(&mut self) -> Result<()> {
        self.next += 1;
        let (at, own) = (self.next, format!("w{}-{}", self.name, self.next / 6));
        let widgets_v1 = widgets("v1");
        let path = format!("{widgets_v1}/{own}");
        match at % 6 {
            0 => {
                let body = widget("v2", &own, at);
                self.write(path, Some(at), fixture::post(&widgets("v2"), &body)?).await
            }
            1 => {
                let request = Request::new(Method::PUT, path.clone());
                let Some(mut current) = self.read(&path).await? else { return Ok(()) };
                current["spec"]["count"] = at.into();
                self.write(path, Some(at), request.json(&current)?).await
            }
            2 => {
                let body = json!({"status": {"seen": at}});
                let request = Request::new(Method::PATCH, format!("{path}/status")).json(&body)?;
                let same = self.known.get(&path).copied().flatten();
                self.write(path, same, request.content_type("application/merge-patch+json")).await
            }
            3 => {
                let applied = format!("w{}-{}", self.name, at % 60);
                let path = format!("{}/{applied}", config_maps(NAMESPACE));
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": applied}, "data": {"count": at.to_string()}});
                let request = Request::new(Method::PATCH, format!("{path}?fieldManager=turns&force=true"));
                self.write(path, Some(at), request.json(&body)?.content_type("application/apply-patch+yaml"))
                    .await
            }
            4 => {
                let path = format!("{}/{own}", config_maps(NARROW));
                let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": own}, "data": {"count": at.to_string()}});
                self.write(path, Some(at), fixture::post(&config_maps(NARROW), &body)?).await
            }
            _ if at % 12 == 5 => {
                let path = format!("{}/{own}", config_maps(NARROW));
                self.write(path.clone(), None, Request::new(Method::DELETE, path)).await
            }
            _ => self.write(path.clone(), None, Request::new(Method::DELETE, path)).await,
        }
    }

    /// One write, and what it has come to. One without a clear answer is looked after: it has happened, or it has not.
    async fn write(&mut self, path: String, number: Number, request: Request) -> Result<()> {
        let before = self.known.get(&path).copied().flatten();
        let after = match self.client.bytes(request).await {
            Ok(_) => {
                self.acknowledged += 1;
                number
            }
            Err(error) if error.is_forbidden() && error.to_string().contains("exceeded quota") => {
                self.refused += 1;
                before
            }
            Err(error) if error.is_not_found() && before.is_none() => before,
            Err(error)
                if error.is_unanswered()
                    || error.is_too_many_requests()
                    || error.code().is_some_and(|code| code >= 500) =>
            {
                self.doubtful += 1;
                let found = self.read(&path).await?.as_ref().and_then(self::number);
                if found != before && found != number {
                    bail!("{path} is {found:?}, and was {before:?} before a doubtful write of {number:?}");
                }
                found
            }
            Err(error) => bail!("{path}: {error}"),
        };
        self.known.insert(path, after);
        Ok(())
    }

    async fn read(&self, path: &str) -> Result<Option<Value>> {
        let started = Instant::now();
        loop {
            match self.client.call::<Value>(Request::get(path)).await {
                Ok(object) => return Ok(Some(object)),
                Err(error)
                    if error.is_not_found() && error.status().is_some_and(|it| it.details.is_some()) =>
                {
                    return Ok(None);
                }
                Err(error) if started.elapsed() > PATIENCE => bail!("{path}: {error}"),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}
