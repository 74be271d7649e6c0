//! Tables and properties of sets, comparison, updates and applies on built-in kinds.

mod applies;
mod linear;
mod sets;
mod updates;

use api::decode::Strictness;
use api::model::MessageRef;
use api::{Tree, json, tables};

use super::apply::{Configuration, Error, Live, apply};
use super::managers;
use super::reset::Reset;
use super::types::Type;
use super::update::{Versions, Write, update};

/// Objects of one kind, whose versions differ in their name only.
struct Kind {
    name: &'static str,
    message: MessageRef<'static>,
    versions: &'static [&'static str],
    reset: Reset,
}

impl Versions for Kind {
    fn ty(&self, version: &str) -> Option<Type<'_>> {
        self.versions.contains(&version).then(|| Type::of_message(self.message))
    }

    fn convert(&self, object: &Tree, _: &str, to: &str) -> Result<Tree, String> {
        let mut object = object.clone();
        object["apiVersion"] = Tree::from(to);
        Ok(object)
    }

    fn reset(&self, _: &str) -> &Reset {
        &self.reset
    }
}

fn kind(name: &'static str, message: &str, versions: &'static [&'static str]) -> Kind {
    Kind { name, message: tables::message(message).unwrap(), versions, reset: Reset::Nothing }
}

fn deployments() -> Kind {
    kind("Deployment", "k8s.io.api.apps.v1.Deployment", &["apps/v1", "apps/v1beta1"])
}

fn config_maps() -> Kind {
    kind("ConfigMap", "k8s.io.api.core.v1.ConfigMap", &["v1"])
}

/// One object, and the writes to it.
struct Object {
    kind: Kind,
    live: Tree,
    second: u32,
}

impl Object {
    fn new(kind: Kind) -> Object {
        let live = kind.typed(&json!({}));
        Object { kind, live, second: 0 }
    }

    /// Every write is a second later than the one before.
    fn write(
        &mut self,
        manager: &str,
        version: &str,
        subresource: &str,
        act: impl FnOnce(&Tree, &Write<'_>) -> Result<Tree, Error>,
    ) -> Result<(), Error> {
        self.second += 1;
        let now = format!("2026-01-01T00:00:{:02}Z", self.second);
        let write = Write { versions: &self.kind, api_version: version, subresource, manager, now: &now };
        let new = self.kind.typed(&act(&self.live, &write)?);
        if managers::differ_in_times_only(&self.live, &new) {
            let mut timeless = new.clone();
            managers::set(&mut timeless, managers::take(&mut self.live.clone()));
            if timeless == self.live {
                return Ok(());
            }
        }
        self.live = new;
        self.live["metadata"]["uid"] = Tree::from("u");
        Ok(())
    }

    fn update(&mut self, manager: &str, new: &Tree) {
        self.update_at(manager, self.kind.versions[0], "", new);
    }

    fn update_at(&mut self, manager: &str, version: &str, subresource: &str, new: &Tree) {
        let mut new = self.kind.typed(new);
        if self.live["metadata"].get("uid").is_some() {
            new["metadata"]["uid"] = Tree::from("u");
        }
        let result = self.write(manager, version, subresource, |live, write| {
            update(live, &mut new, write).unwrap();
            Ok(new)
        });
        result.unwrap();
    }

    fn apply(&mut self, manager: &str, config: &Tree, force: bool) -> Result<(), Error> {
        let version = self.kind.versions[0];
        let (empty, name) = (self.kind.typed(&json!({})), self.kind.name);
        let mut config = config.clone();
        config["apiVersion"] = Tree::from(version);
        config["kind"] = Tree::from(name);
        self.write(manager, version, "", |live, write| {
            let live = Live { object: live, empty: &empty, kind: name };
            apply(live, Configuration { object: &config, force }, write)
        })
    }

    /// The entries, one text each: manager, operation, version, second, fields.
    fn owners(&self) -> Vec<String> {
        let item = |entry: &Tree| {
            let text = |field: &str| entry.get(field).and_then(Tree::as_str).unwrap_or_default().to_owned();
            let second = text("time").get(17..19).unwrap_or("-").to_owned();
            let fields = api::raw::kept(&entry["fieldsV1"]).unwrap_or("?").to_owned();
            let subresource = if text("subresource").is_empty() { "" } else { "/" };
            format!(
                "{}{subresource}{} {} {} {second} {fields}",
                text("manager"),
                text("subresource"),
                text("operation"),
                text("apiVersion")
            )
        };
        managers::list(&self.live).into_iter().flatten().map(item).collect()
    }
}

impl Kind {
    /// The object in the form in which it is stored.
    fn typed(&self, object: &Tree) -> Tree {
        let mut tree = api::decode::tree(object, self.message, Strictness::Ignore).unwrap().tree;
        api::decode::put_type_meta(&mut tree, self.name, self.versions[0]);
        tree
    }
}
