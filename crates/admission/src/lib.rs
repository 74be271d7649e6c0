//! Admission: plugins that look at a request's object before it is acted on, and may change it. They know neither HTTP nor the
//! store: other objects, rights and the clock are [`Services`] that they are given.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod attributes;
mod chain;
mod criteria;
mod described;
mod expressions;
mod mutated;
mod plugins;
pub mod policies;
mod services;
#[cfg(test)]
mod tests;
mod webhooks;

pub use attributes::{Attributes, Context, Gvk, Operation, User};
pub use chain::{Chain, Plan, Plugin, Point, Round};
pub use plugins::{
    ALL, Entry, EventLimit, EventSource, Level, LevelVersion, Limited, PodSecuritySettings, Policy,
    ScopeExpression, Settings, TolerationSettings, Version, on_by_default, standard,
};
pub use services::{Change, Found, Question, Services};
pub use webhooks::{CallError, Called, ClientConfig, Hook, ServiceReference};
