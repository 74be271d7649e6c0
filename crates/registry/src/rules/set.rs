//! The rules of all messages of a model, by the messages' places.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use api::Tree;
use api::model::{Message, MessageRef, Model, Type};

use super::Rule;
use crate::tree::Object;

/// The rules of the messages of a model: of the built-in ones those that `kinds` declares, and behind them the model's own.
#[derive(Default)]
pub struct RuleSet {
    /// By the place of the model's own message.
    own: Vec<Own>,
}

#[derive(Default)]
struct Own {
    rules: Vec<Rule>,
    /// Whether the message or one below it has rules that validate.
    checked: bool,
}

struct BuiltIn {
    /// By message index.
    rules: Vec<Vec<&'static [Rule]>>,
    checked: Vec<bool>,
    /// Fields that are lists of resources.
    amounts: HashMap<u32, Vec<&'static str>>,
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let mut rules: Vec<Vec<&'static [Rule]>> = Vec::new();
    for (name, list) in crate::kinds::tables().flatten() {
        let Some(index) = api::tables::message_index(name) else {
            debug_assert!(false, "no message {name}");
            continue;
        };
        let index = index as usize;
        if rules.len() <= index {
            rules.resize_with(index + 1, Vec::new);
        }
        rules[index].push(list);
    }
    let model = Model::built_in();
    let own = |index: u32| {
        let lists = rules.get(index as usize);
        lists.is_some_and(|lists| lists.iter().any(|list| list.iter().any(validates)))
    };
    let mut known = HashMap::new();
    let mut checked = Vec::new();
    for index in 0..Model::first_own() {
        checked.push(below(model, index, &own, &mut known));
    }
    BuiltIn { rules, checked, amounts: amounts() }
});

impl RuleSet {
    /// The rules of the built-in messages.
    pub fn built_in() -> &'static Arc<RuleSet> {
        static EMPTY: LazyLock<Arc<RuleSet>> = LazyLock::new(Arc::default);
        &EMPTY
    }

    /// The rules of the built-in messages, and behind them those of the model's own, in the order of their places.
    pub fn with(model: &Model, own: Vec<Vec<Rule>>) -> RuleSet {
        let first = Model::first_own();
        let validate = |index: u32| match index.checked_sub(first) {
            Some(place) => own.get(place as usize).is_some_and(|rules| rules.iter().any(validates)),
            None => BUILT_IN.checked.get(index as usize).copied().unwrap_or_default(),
        };
        let mut known = HashMap::new();
        let checked: Vec<bool> =
            (first..).zip(&own).map(|(index, _)| below(model, index, &validate, &mut known)).collect();
        let own = own.into_iter().zip(checked).map(|(rules, checked)| Own { rules, checked });
        RuleSet { own: own.collect() }
    }

    fn own(&self, message: MessageRef<'_>) -> Option<&Own> {
        self.own.get(message.index.checked_sub(Model::first_own())? as usize)
    }

    /// The rules of a message.
    pub(super) fn of(&self, message: MessageRef<'_>) -> impl Iterator<Item = &Rule> {
        let built_in = BUILT_IN.rules.get(message.index as usize).into_iter().flatten();
        let own = self.own(message).map(|own| own.rules.iter());
        built_in.flat_map(|list| list.iter()).chain(own.into_iter().flatten())
    }

    /// Whether the message or one below it has rules that validate.
    pub(super) fn validate(&self, message: MessageRef<'_>) -> bool {
        match self.own(message) {
            Some(own) => own.checked,
            None => BUILT_IN.checked.get(message.index as usize).copied().unwrap_or_default(),
        }
    }
}

fn validates(rule: &Rule) -> bool {
    !matches!(rule, Rule::Default(..) | Rule::DefaultFn(_) | Rule::Before(_) | Rule::Own(_))
}

/// Whether a message has rules that validate (`own`), or one below it.
fn below(model: &Model, index: u32, own: &dyn Fn(u32) -> bool, known: &mut HashMap<u32, bool>) -> bool {
    if let Some(known) = known.get(&index) {
        return *known;
    }
    let mut result = own(index);
    // Recursive messages see their own rules meanwhile.
    known.insert(index, result);
    for field in model.at(index).fields() {
        if let Type::Message(inner) = field.ty {
            result |= below(model, inner, own, known);
        }
    }
    known.insert(index, result);
    result
}

/// Lists of resources of the first group alone: others are not rounded.
fn amounts() -> HashMap<u32, Vec<&'static str>> {
    let messages = (0..).zip(api::tables::messages());
    let of_message = |(index, message): (u32, &'static Message)| {
        let lists = message.fields.iter().filter(|field| field.go_type == "|v1.ResourceList");
        let names: Vec<&'static str> = lists.map(|field| field.json.as_ref()).collect();
        (!names.is_empty()).then_some((index, names))
    };
    let of_group = |message: &Message| message.name.starts_with("k8s.io.api.core.v1.");
    messages.filter(|(_, message)| of_group(message)).filter_map(of_message).collect()
}

/// Whether a quantity may be finer than a thousandth, by its spelling.
fn fine(text: &str) -> bool {
    text.ends_with(['n', 'u']) || text.contains(['.', 'e', 'E'])
}

/// Rounds amounts of resources up to thousandths, as upstream's defaults do.
pub(super) fn round_amounts(message: MessageRef<'_>, object: &mut Object) {
    for list in BUILT_IN.amounts.get(&message.index).into_iter().flatten() {
        let amounts = object.get_mut(list).and_then(Tree::as_object_mut);
        for amount in amounts.into_iter().flat_map(|amounts| amounts.values_mut()) {
            let text = match amount {
                Tree::String(text) if fine(text) => api::quantity::trimmed(text).to_owned(),
                Tree::Number(number) if !number.is_i64() => number.to_string(),
                _ => continue,
            };
            if let Ok(rounded) = api::quantity::canonical_milli(&text) {
                *amount = Tree::from(rounded);
            }
        }
    }
}
