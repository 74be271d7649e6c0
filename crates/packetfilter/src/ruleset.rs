//! The content of a table, and the shortest script from one content to another.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::IpAddr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Ip,
    Ip6,
}

impl Family {
    /// Whether an address is of the family.
    pub fn has(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Family::Ip)
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
        })
    }
}

/// The most elements of one command: fewer commands are quicker, and a refusal quotes the whole of one.
const ELEMENTS: usize = 100;

/// The content of one table, or a part of it. Texts are nft's own syntax.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Named sets and maps with their definition, e.g. `set` and `{ type ipv4_addr; }`.
    pub sets: BTreeMap<String, (&'static str, String)>,
    /// Elements of the sets and maps: (name, key) → value, which is empty in a set.
    pub elements: BTreeMap<(&'static str, String), String>,
    /// Base chains' hooks, for those that have one.
    pub hooks: BTreeMap<String, String>,
    /// Chains and their rules, in order.
    pub chains: BTreeMap<String, Vec<String>>,
}

impl Ruleset {
    /// Says what a chain's rules are, in place of what was said before.
    pub fn chain(&mut self, name: impl Into<String>, rules: impl IntoIterator<Item = String>) {
        self.chains.insert(name.into(), rules.into_iter().collect());
    }

    pub fn element(&mut self, set: &'static str, key: impl Into<String>, value: impl Into<String>) {
        self.elements.insert((set, key.into()), value.into());
    }

    /// Takes over everything of another part.
    pub fn extend(&mut self, other: Ruleset) {
        self.sets.extend(other.sets);
        self.elements.extend(other.elements);
        self.hooks.extend(other.hooks);
        self.chains.extend(other.chains);
    }
}

/// Commands for one table, in an order that the kernel takes: whatever is referred to comes before what refers to it, and goes after.
/// Parts of the table can be added one by one, so a large table is never in memory twice.
pub struct Script {
    place: String,
    start: String,
    sets: String,
    chains: String,
    rules: String,
    deleted: Elements,
    added: Elements,
    end: String,
}

impl Script {
    /// A script that changes the table.
    pub fn new(family: Family, table: &str) -> Script {
        let place = format!("{family} {table}");
        let (start, sets, chains) = Default::default();
        let (rules, deleted, added, end) = Default::default();
        Script { place, start, sets, chains, rules, deleted, added, end }
    }

    /// A script that replaces the table.
    pub fn replace(family: Family, table: &str) -> Script {
        let mut script = Script::new(family, table);
        let place = &script.place;
        script.start = format!("add table {place}\ndelete table {place}\nadd table {place}\n");
        script
    }

    /// Adds what turns the content `old` of some part of the table into `new`; either may name chains of other parts. Chains that
    /// are in `old` alone are emptied and stay: until Linux 6.2 a chain cannot be deleted in the transaction that ends its last use.
    pub fn change(&mut self, old: &Ruleset, new: &Ruleset) {
        let place = &self.place;
        for (name, (kind, definition)) in new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
            line(&mut self.sets, format_args!("add {kind} {place} {name} {definition}"));
        }
        for (name, rules) in &new.chains {
            match old.chains.get(name) {
                Some(old) if old == rules => continue,
                Some(_) => line(&mut self.rules, format_args!("flush chain {place} {name}")),
                None => match new.hooks.get(name) {
                    Some(hook) => {
                        line(&mut self.chains, format_args!("add chain {place} {name} {{ {hook} }}"))
                    }
                    None => line(&mut self.chains, format_args!("add chain {place} {name}")),
                },
            }
            for rule in rules {
                line(&mut self.rules, format_args!("add rule {place} {name} {rule}"));
            }
        }
        for (element, value) in &old.elements {
            if new.elements.get(element) != Some(value) {
                self.deleted.push(element.0, &element.1, "");
            }
        }
        for (element, value) in &new.elements {
            if old.elements.get(element) != Some(value) {
                self.added.push(element.0, &element.1, value);
            }
        }
        for name in old.chains.keys().filter(|name| !new.chains.contains_key(*name)) {
            line(&mut self.end, format_args!("flush chain {place} {name}"));
        }
        for (name, (kind, _)) in old.sets.iter().filter(|(name, _)| !new.sets.contains_key(*name)) {
            line(&mut self.end, format_args!("delete {kind} {place} {name}"));
        }
    }

    /// Adds an element alone.
    pub fn add_element(&mut self, set: &str, key: &str, value: &str) {
        self.added.push(set, key, value);
    }

    /// The text; empty when there is nothing to do.
    pub fn finish(self) -> String {
        let mut text = self.start + &self.sets + &self.chains + &self.rules;
        self.deleted.write("delete", &self.place, &mut text);
        self.added.write("add", &self.place, &mut text);
        text + &self.end
    }
}

/// Elements by set, as many to a command as is good.
#[derive(Default)]
struct Elements(BTreeMap<String, (usize, Vec<String>)>);

impl Elements {
    fn push(&mut self, set: &str, key: &str, value: &str) {
        if !self.0.contains_key(set) {
            self.0.insert(set.to_owned(), Default::default());
        }
        let Some((count, commands)) = self.0.get_mut(set) else { return };
        if count.is_multiple_of(ELEMENTS) {
            commands.push(String::new());
        }
        *count += 1;
        let Some(command) = commands.last_mut() else { return };
        if !command.is_empty() {
            command.push_str(", ");
        }
        command.push_str(key);
        if !value.is_empty() {
            command.push_str(" : ");
            command.push_str(value);
        }
    }

    fn write(self, verb: &str, place: &str, into: &mut String) {
        for (set, (_, commands)) in self.0 {
            for elements in commands {
                line(into, format_args!("{verb} element {place} {set} {{ {elements} }}"));
            }
        }
    }
}

fn line(into: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = into.write_fmt(text);
    into.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ruleset(chains: &[(&str, &[&str])], elements: &[(&'static str, &str, &str)]) -> Ruleset {
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
        let mut script = Script::new(Family::Ip, "t");
        script.change(old, new);
        assert_eq!(script.finish().lines().collect::<Vec<_>>(), expect);
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
            &[("m", "1", "goto c"), ("s", "y", ""), ("s", "z", "")],
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
                "add element ip t s { y, z }",
                "flush chain ip t b",
            ],
        );
    }

    #[test]
    fn a_new_table_starts_from_nothing() {
        let mut one = ruleset(&[("in", &["accept"])], &[]);
        one.hooks.insert("in".into(), "type filter hook input priority 0;".into());
        one.sets.insert("s".into(), ("set", "{ type ipv4_addr; }".into()));
        let mut script = Script::replace(Family::Ip6, "t");
        script.change(&Ruleset::default(), &one);
        script.add_element("s", "fd00::1", "");
        assert_eq!(
            script.finish(),
            "add table ip6 t\ndelete table ip6 t\nadd table ip6 t\n\
             add set ip6 t s { type ipv4_addr; }\n\
             add chain ip6 t in { type filter hook input priority 0; }\nadd rule ip6 t in accept\n\
             add element ip6 t s { fd00::1 }\n"
        );
    }

    #[test]
    fn many_elements_are_a_few_commands() {
        let mut script = Script::new(Family::Ip, "t");
        (0..250).for_each(|number| script.add_element("s", &number.to_string(), ""));
        let text = script.finish();
        assert_eq!(text.lines().count(), 3);
        assert_eq!(text.matches(", ").count(), 247);
    }
}
