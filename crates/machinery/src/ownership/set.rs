//! Sets of fields: a trie whose nodes are sorted, and the algebra on it.
//!
//! A parent is not part of a set because its children are: `spec.replicas` may be owned without `spec`.

use std::cmp::Ordering;

use super::Element;

/// Fields below one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    /// Sorted by element, each once. A node is a member or has members below.
    pub(super) nodes: Vec<Node>,
}

/// A field, and those inside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub element: Element,
    /// The field itself is part of the set.
    pub member: bool,
    pub below: Set,
}

impl Node {
    fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }

    fn count(&self) -> usize {
        usize::from(self.member) + self.below.count()
    }
}

impl Set {
    /// A set of paths made of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Set {
        let mut set = Set::default();
        for path in paths {
            set.insert_fields(path);
        }
        set
    }

    fn insert_fields(&mut self, path: &[&str]) {
        let [first, rest @ ..] = path else { return };
        let node = self.node(Element::field(first));
        match rest {
            [] => node.member = true,
            rest => node.below.insert_fields(rest),
        }
    }

    /// The node of an element, made where there is none.
    pub(super) fn node(&mut self, element: Element) -> &mut Node {
        let place = match self.place(&element) {
            Ok(place) => place,
            Err(place) => {
                #[cfg(test)]
                super::work::count(self.nodes.len() - place);
                self.nodes.insert(place, Node { element, member: false, below: Set::default() });
                place
            }
        };
        &mut self.nodes[place]
    }

    /// A set of nodes in any order. Of an element that comes again, what is below it the last time counts.
    pub(super) fn from_nodes(mut nodes: Vec<Node>) -> Set {
        if !nodes.is_sorted_by(|one, other| one.element < other.element) {
            nodes.sort_by(|one, other| one.element.cmp(&other.element));
            nodes.dedup_by(|again, node| {
                let same = again.element == node.element;
                if same {
                    node.member |= again.member;
                    if !again.below.is_empty() {
                        node.below = std::mem::take(&mut again.below);
                    }
                }
                same
            });
        }
        Set { nodes }
    }

    /// The members of all sets. Each is looked at once per level, however many sets there are.
    pub(super) fn union_of(mut sets: Vec<Set>) -> Set {
        sets.retain(|set| !set.is_empty());
        if sets.len() < 2 {
            return sets.pop().unwrap_or_default();
        }
        let mut nodes: Vec<Node> = sets.into_iter().flat_map(|set| set.nodes).collect();
        nodes.sort_by(|one, other| one.element.cmp(&other.element));
        let mut united = Vec::with_capacity(nodes.len());
        let mut nodes = nodes.into_iter().peekable();
        while let Some(mut node) = nodes.next() {
            let mut below = vec![std::mem::take(&mut node.below)];
            while let Some(other) = nodes.next_if(|other| other.element == node.element) {
                node.member |= other.member;
                below.push(other.below);
            }
            united.push(Node { below: Set::union_of(below), ..node });
        }
        Set { nodes: united }
    }

    fn place(&self, element: &Element) -> Result<usize, usize> {
        self.nodes.binary_search_by(|node| node.element.cmp(element))
    }

    pub fn get(&self, element: &Element) -> Option<&Node> {
        self.place(element).ok().map(|place| &self.nodes[place])
    }

    /// The node of a field, without an element for it.
    pub(super) fn get_field(&self, name: &str) -> Option<&Node> {
        let order = |node: &Node| match &node.element {
            Element::Field(field) => field.as_str().cmp(name),
            _ => Ordering::Greater,
        };
        self.nodes.binary_search_by(order).ok().map(|place| &self.nodes[place])
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How many members there are.
    pub fn count(&self) -> usize {
        self.nodes.iter().map(Node::count).sum()
    }

    /// Whether the field at the end of a path of names is a member.
    pub fn has_fields(&self, path: &[&str]) -> bool {
        match path {
            [] => false,
            [last] => self.get_field(last).is_some_and(|node| node.member),
            [first, rest @ ..] => self.get_field(first).is_some_and(|node| node.below.has_fields(rest)),
        }
    }

    /// Walks two sets side by side.
    fn zip(&self, other: &Set, mut each: impl FnMut(Option<&Node>, Option<&Node>)) {
        let (mut one, mut two) = (self.nodes.iter().peekable(), other.nodes.iter().peekable());
        loop {
            let order = match (one.peek(), two.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(one), Some(two)) => one.element.cmp(&two.element),
            };
            let left = if order.is_le() { one.next() } else { None };
            let right = if order.is_ge() { two.next() } else { None };
            each(left, right);
        }
    }

    /// A set whose nodes are made of those of two.
    fn combine(&self, other: &Set, make: impl Fn(Option<&Node>, Option<&Node>) -> Option<Node>) -> Set {
        let mut nodes = Vec::with_capacity(self.nodes.len());
        self.zip(other, |one, other| nodes.extend(make(one, other).filter(|node| !node.is_empty())));
        Set { nodes }
    }

    pub fn union(&self, other: &Set) -> Set {
        self.combine(other, |one, other| match (one, other) {
            (Some(one), Some(other)) => Some(Node {
                element: one.element.clone(),
                member: one.member || other.member,
                below: one.below.union(&other.below),
            }),
            (one, other) => one.or(other).cloned(),
        })
    }

    /// The members of both. Costs what the smaller one has: the changes of a write meet the sets of all managers.
    pub fn intersection(&self, other: &Set) -> Set {
        let both = |(one, other): (&Node, &Node)| {
            let node = Node {
                element: one.element.clone(),
                member: one.member && other.member,
                below: one.below.intersection(&other.below),
            };
            (!node.is_empty()).then_some(node)
        };
        let nodes = match self.nodes.len() <= other.nodes.len() {
            true => self.nodes.iter().filter_map(|one| both((one, other.get(&one.element)?))).collect(),
            false => {
                other.nodes.iter().filter_map(|other| both((self.get(&other.element)?, other))).collect()
            }
        };
        Set { nodes }
    }

    /// The members that are not the other's. A field stays when its parent is taken out, and the other way around.
    pub fn difference(&self, other: &Set) -> Set {
        self.combine(other, |one, other| {
            let one = one?;
            let Some(other) = other else { return Some(one.clone()) };
            Some(Node {
                element: one.element.clone(),
                member: one.member && !other.member,
                below: one.below.difference(&other.below),
            })
        })
    }

    /// Takes out the other's members with all that is below them.
    pub fn without_trees(&self, other: &Set) -> Set {
        self.combine(other, |one, other| match (one?, other) {
            (_, Some(other)) if other.member => None,
            (one, Some(other)) => Some(Node {
                element: one.element.clone(),
                member: one.member,
                below: one.below.without_trees(&other.below),
            }),
            (one, None) => Some(one.clone()),
        })
    }

    /// Whether all of the other's members are in this set.
    pub fn covers(&self, other: &Set) -> bool {
        let mut covered = true;
        self.zip(other, |own, other| {
            let Some(other) = other else { return };
            covered &= match own {
                Some(own) => (own.member || !other.member) && own.below.covers(&other.below),
                None => other.is_empty(),
            };
        });
        covered
    }

    /// The members as texts of paths, a level's own before those below it.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.paths_below(&mut String::new(), &mut paths);
        paths
    }

    fn paths_below(&self, prefix: &mut String, paths: &mut Vec<String>) {
        let members = self.nodes.iter().filter(|node| node.member);
        paths.extend(members.map(|node| format!("{prefix}{}", node.element)));
        for node in &self.nodes {
            let length = prefix.len();
            prefix.push_str(&node.element.to_string());
            node.below.paths_below(prefix, paths);
            prefix.truncate(length);
        }
    }
}
