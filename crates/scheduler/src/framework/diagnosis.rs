//! Why a node is not for a pod, and why no node is.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::Remedy;
use crate::cluster::Symbol;

/// A reason, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    Text(&'static str),
    Insufficient(Symbol),
    Message(Arc<str>),
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Text(text) => formatter.write_str(text),
            Reason::Insufficient(resource) => write!(formatter, "Insufficient {resource}"),
            Reason::Message(text) => formatter.write_str(text),
        }
    }
}

/// Why a node is not for a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    pub reasons: Reasons,
    /// Taking other pods away would not change it.
    pub unresolvable: bool,
}

/// Almost always one reason.
#[derive(Clone, Debug, PartialEq)]
pub enum Reasons {
    One(Reason),
    Many(Vec<Reason>),
    /// It cannot be known: the attempt ends, whatever other nodes are like.
    Failed(Reason),
}

impl Reasons {
    pub fn as_slice(&self) -> &[Reason] {
        match self {
            Reasons::One(reason) | Reasons::Failed(reason) => std::slice::from_ref(reason),
            Reasons::Many(reasons) => reasons,
        }
    }
}

impl Reject {
    pub fn resolvable(reason: &'static str) -> Reject {
        Reject { reasons: Reasons::One(Reason::Text(reason)), unresolvable: false }
    }

    pub fn unresolvable(reason: &'static str) -> Reject {
        Reject { reasons: Reasons::One(Reason::Text(reason)), unresolvable: true }
    }
}

/// Why a pod fits nowhere.
#[derive(Clone, Debug, Default)]
pub struct Diagnosis {
    pub nodes: usize,
    pub counts: FxHashMap<Reason, u32>,
    /// The plugins that rejected a node, by their place in the profile: bit by bit.
    pub plugins: u64,
    /// Rows where taking pods away might help.
    pub resolvable: Vec<usize>,
    /// A plugin's word on the pod as a whole, instead of counts.
    pub message: Option<String>,
    /// Why it cannot be known whether it fits.
    pub failure: Option<String>,
    /// Result of post-filter plugins.
    pub post_filter: Option<String>,
    pub remedy: Option<Remedy>,
}

impl Diagnosis {
    /// Why the node that was chosen is not for the pod after all.
    pub fn of_chosen(plugin: usize, message: &str) -> Diagnosis {
        let counts = [(Reason::Message(message.into()), 1)].into_iter().collect();
        Diagnosis { nodes: 1, counts, plugins: 1 << plugin, ..Diagnosis::default() }
    }

    /// Takes down what a post-filter plugin says.
    pub fn add_post_filter(&mut self, message: &str) {
        match &mut self.post_filter {
            Some(text) => text.extend([", ", message]),
            None => self.post_filter = Some(message.into()),
        }
    }

    pub fn add(&mut self, plugin: usize, reject: &Reject, row: usize) {
        self.plugins |= 1 << plugin;
        for reason in reject.reasons.as_slice() {
            match self.counts.get_mut(reason) {
                Some(count) => *count += 1,
                None => _ = self.counts.insert(reason.clone(), 1),
            }
        }
        if !reject.unresolvable {
            self.resolvable.push(row);
        }
    }

    /// The text of the condition and the event.
    pub fn text(&self) -> String {
        if self.nodes == 0 {
            return "no nodes available to schedule pods".into();
        }
        let mut text = format!("0/{} nodes are available", self.nodes);
        if let Some(message) = &self.message {
            text.push_str(&format!(": {message}."));
        }
        if !self.counts.is_empty() {
            let mut reasons: Vec<String> =
                self.counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
            reasons.sort_unstable();
            text.push_str(&format!(": {}.", reasons.join(", ")));
        }
        if let Some(message) = &self.post_filter {
            text.push(' ');
            text.push_str(message);
        }
        text
    }
}
