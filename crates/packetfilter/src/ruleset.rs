//! What a table holds, and the shortest script from one content to another.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Ip,
    Ip6,
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        })
    }
}

/// The content of one table, or a part of it. Texts are nft's own syntax.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Named sets and maps with their definition, e.g. `set` and `{ type ipv4_addr; }`.
    pub sets: BTreeMap<String, (&'static str, String)>,
    /// Elements of the sets and maps: (name, key) → value, which is empty in a set.
    pub elements: BTreeMap<(String, String), String>,
    /// Base chains' hooks, for those that have one.
    pub hooks: BTreeMap<String, String>,
    /// Chains and their rules, in order.
    pub chains: BTreeMap<String, Vec<String>>,
}

impl Ruleset {
    pub fn chain(&mut self, name: impl Into<String>, rules: impl IntoIterator<Item = String>) {
        self.chains.entry(name.into()).or_default().extend(rules);
    }

    pub fn element(&mut self, set: &str, key: impl Into<String>, value: impl Into<String>) {
        self.elements.insert((set.to_owned(), key.into()), value.into());
    }

    /// The script that makes the table anew with exactly this content.
    pub fn replace(&self, family: Family, table: &str) -> String {
        let mut script = format!(
            "add table {family} {table}\ndelete table {family} {table}\nadd table {family} {table}\n"
        );
        Ruleset::default().difference(self, family, table, &mut script);
        script
    }

    /// Appends what turns this content into `new` to a script. Both may be parts of the table that name chains of other parts.
    ///
    /// Within the transaction whatever is referred to comes before what refers to it, and goes after.
    pub fn difference(&self, new: &Ruleset, family: Family, table: &str, script: &mut String) {
        let mut line = |text: fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = script.write_fmt(text);
            script.push('\n');
        };
        for (name, (kind, definition)) in &new.sets {
            if !self.sets.contains_key(name) {
                line(format_args!("add {kind} {family} {table} {name} {definition}"));
            }
        }
        for name in new.chains.keys().filter(|name| !self.chains.contains_key(*name)) {
            match new.hooks.get(name) {
                Some(hook) => line(format_args!("add chain {family} {table} {name} {{ {hook} }}")),
                None => line(format_args!("add chain {family} {table} {name}")),
            }
        }
        for (name, rules) in &new.chains {
            match self.chains.get(name) {
                Some(old) if old == rules => continue,
                Some(_) => line(format_args!("flush chain {family} {table} {name}")),
                None => {}
            }
            for rule in rules {
                line(format_args!("add rule {family} {table} {name} {rule}"));
            }
        }
        for ((set, key), value) in &self.elements {
            if new.elements.get(&(set.clone(), key.clone())) != Some(value) {
                line(format_args!("delete element {family} {table} {set} {{ {key} }}"));
            }
        }
        for ((set, key), value) in &new.elements {
            if self.elements.get(&(set.clone(), key.clone())) != Some(value) {
                let separator = if value.is_empty() { "" } else { " : " };
                line(format_args!("add element {family} {table} {set} {{ {key}{separator}{value} }}"));
            }
        }
        let gone: Vec<&String> = self.chains.keys().filter(|name| !new.chains.contains_key(*name)).collect();
        for name in &gone {
            line(format_args!("flush chain {family} {table} {name}"));
        }
        for name in gone {
            line(format_args!("delete chain {family} {table} {name}"));
        }
        for (name, (kind, _)) in self.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name)) {
            line(format_args!("delete {kind} {family} {table} {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(chains: &[(&str, &[&str])], elements: &[(&str, &str, &str)]) -> Ruleset {
        let mut ruleset = Ruleset::default();
        for (name, rules) in chains {
            ruleset.chain(*name, rules.iter().map(|rule| (*rule).to_owned()));
        }
        for (set, key, value) in elements {
            ruleset.element(set, *key, *value);
        }
        ruleset
    }

    fn check(old: &Ruleset, new: &Ruleset, expect: &[&str]) {
        let mut script = String::new();
        old.difference(new, Family::Ip, "t", &mut script);
        assert_eq!(script.lines().collect::<Vec<_>>(), expect);
    }

    #[test]
    fn equal_content_needs_no_script() {
        let one = ruleset(&[("a", &["accept"])], &[("m", "1", "goto a")]);
        check(&one, &one, &[]);
    }

    #[test]
    fn only_what_changed_is_written() {
        let old = ruleset(
            &[("a", &["goto b"]), ("b", &["drop"]), ("c", &["accept"])],
            &[("m", "1", "goto a"), ("s", "x", "")],
        );
        let new = ruleset(
            &[("a", &["goto d"]), ("c", &["accept"]), ("d", &[])],
            &[("m", "1", "goto c"), ("s", "y", "")],
        );
        check(
            &old,
            &new,
            &[
                "add chain ip t d",
                "flush chain ip t a",
                "add rule ip t a goto d",
                "delete element ip t m { 1 }",
                "delete element ip t s { x }",
                "add element ip t m { 1 : goto c }",
                "add element ip t s { y }",
                "flush chain ip t b",
                "delete chain ip t b",
            ],
        );
    }

    #[test]
    fn a_new_table_starts_from_nothing() {
        let mut one = ruleset(&[("in", &["accept"])], &[]);
        one.hooks.insert("in".into(), "type filter hook input priority 0;".into());
        assert_eq!(
            one.replace(Family::Ip6, "t").lines().collect::<Vec<_>>(),
            [
                "add table ip6 t",
                "delete table ip6 t",
                "add table ip6 t",
                "add chain ip6 t in { type filter hook input priority 0; }",
                "add rule ip6 t in accept",
            ]
        );
    }
}
