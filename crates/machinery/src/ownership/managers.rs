//! The entries of `metadata.managedFields`: who owns which fields, since when, and by which operation.
//!
//! The set of an entry that nothing touched stays the text that it was: it is neither decoded nor encoded again.

use std::borrow::Cow;
use std::collections::HashSet;
use std::collections::hash_map::{Entry as Place, HashMap};
use std::hash::{Hash, Hasher};

use api::Tree;
use api::tree::{CompactString, Object};

use super::set::Set;
use super::text::Malformed;

/// How a manager came to own fields. Applies sort before updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    pub fn name(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// A manager of fields. Its version is part of who it is only for updates.
#[derive(Clone, Debug)]
pub struct Manager {
    pub name: CompactString,
    pub operation: Operation,
    pub api_version: CompactString,
    pub subresource: CompactString,
}

impl PartialEq for Manager {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(test)]
        super::work::count(1);
        self.name == other.name
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

impl Eq for Manager {}

impl Hash for Manager {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, self.operation, &self.subresource).hash(state);
        if self.operation == Operation::Update {
            self.api_version.hash(state);
        }
    }
}

impl Manager {
    /// JSON that identifies it: managers sort by it where they are capped and in messages on conflicts.
    pub(super) fn identifier(&self) -> Vec<u8> {
        let mut object = Object::new();
        object.insert("manager", Tree::from(self.name.as_str()));
        object.insert("operation", Tree::from(self.operation.name()));
        if self.operation == Operation::Update {
            object.insert("apiVersion", Tree::from(self.api_version.as_str()));
        }
        if !self.subresource.is_empty() {
            object.insert("subresource", Tree::from(self.subresource.as_str()));
        }
        api::json::to_vec(&Tree::Object(object))
    }
}

/// A set of fields, decoded or not.
#[derive(Clone, Debug)]
pub enum Fields {
    /// The text of a set as upstream would write it.
    Text(CompactString),
    Set(Set),
}

impl Fields {
    pub fn set(&self) -> Result<Cow<'_, Set>, Malformed> {
        match self {
            Fields::Text(text) => Set::parse(text).map(Cow::Owned),
            Fields::Set(set) => Ok(Cow::Borrowed(set)),
        }
    }

    /// Its members that are also in another set.
    pub fn within(&self, other: &Set) -> Result<Set, Malformed> {
        match self {
            Fields::Text(text) => other.within(text),
            Fields::Set(set) => Ok(set.intersection(other)),
        }
    }

    fn into_text(self) -> CompactString {
        match self {
            Fields::Text(text) => text,
            Fields::Set(set) => set.to_text().into(),
        }
    }
}

/// An entry of `managedFields`.
#[derive(Clone, Debug)]
pub struct Entry {
    pub manager: Manager,
    /// RFC 3339 in seconds, UTC.
    pub time: Option<CompactString>,
    pub fields: Fields,
}

/// Why a list of entries cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    NoVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {} in managed fields entry {place}", crate::fieldpath::Quoted(found))]
    FieldsType { found: String, place: usize },
    #[error("error decoding set: {0}")]
    Set(#[source] Malformed),
}

impl From<Malformed> for Invalid {
    fn from(malformed: Malformed) -> Self {
        Invalid::Set(malformed)
    }
}

/// All entries of an object, each manager once.
#[derive(Clone, Debug, Default)]
pub struct Managers(pub Vec<Entry>);

impl Managers {
    /// Reads the entries of an object that the server wrote: their sets are as it writes them.
    pub fn stored(object: &Tree) -> Result<Managers, Invalid> {
        Self::read(object, |text| Ok(Fields::Text(text.into())))
    }

    /// Reads entries that a client sent. Sets that are the stored object's are known to be well-formed.
    pub fn sent(object: &Tree, stored: &Managers) -> Result<Managers, Invalid> {
        let texts = stored.0.iter().filter_map(|entry| match &entry.fields {
            Fields::Text(text) => Some(text.as_str()),
            Fields::Set(_) => None,
        });
        let known: HashSet<&str> = texts.collect();
        Self::read(object, |text| match known.contains(text) {
            true => Ok(Fields::Text(text.into())),
            false => Set::parse(text).map(Fields::Set),
        })
    }

    fn read(object: &Tree, fields: impl Fn(&str) -> Result<Fields, Malformed>) -> Result<Managers, Invalid> {
        let list = list(object).map_or(&[][..], Vec::as_slice);
        let mut entries: Vec<Entry> = Vec::with_capacity(list.len());
        let mut places: HashMap<Manager, usize> = HashMap::with_capacity(list.len());
        for (place, item) in list.iter().enumerate() {
            let text = |field: &str| item.get(field).and_then(Tree::as_str).unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(Invalid::Operation),
            };
            if text("apiVersion").is_empty() {
                return Err(Invalid::NoVersion);
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(Invalid::NoFieldsType(place)),
                found => return Err(Invalid::FieldsType { found: found.to_owned(), place }),
            }
            let set = match item.get("fieldsV1") {
                None | Some(Tree::Null) => Cow::Borrowed("{}"),
                Some(value) => match api::raw::kept(value) {
                    Some(text) => Cow::Borrowed(text),
                    None => Cow::Owned(String::from_utf8_lossy(&api::json::to_vec(value)).into_owned()),
                },
            };
            let manager = Manager {
                name: text("manager").into(),
                operation,
                api_version: text("apiVersion").into(),
                subresource: text("subresource").into(),
            };
            let entry = Entry {
                manager: manager.clone(),
                time: item.get("time").and_then(Tree::as_str).map(CompactString::from),
                fields: fields(&set)?,
            };
            match places.entry(manager) {
                Place::Occupied(place) => entries[*place.get()] = entry,
                Place::Vacant(place) => {
                    place.insert(entries.len());
                    entries.push(entry);
                }
            }
        }
        Ok(Managers(entries))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The entries by their managers, for those who look for many.
    pub(super) fn by_manager(&self) -> HashMap<&Manager, &Entry> {
        self.0.iter().map(|entry| (&entry.manager, entry)).collect()
    }

    pub fn remove(&mut self, manager: &Manager) -> Option<Entry> {
        let place = self.0.iter().position(|entry| entry.manager == *manager)?;
        Some(self.0.remove(place))
    }

    /// Puts an entry in the place of the manager's own, if it has one.
    pub fn put(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|known| known.manager == entry.manager) {
            Some(known) => *known = entry,
            None => self.0.push(entry),
        }
    }

    /// The entries as they are stored, in upstream's order; `None` where there is none.
    pub fn into_tree(mut self) -> Option<Tree> {
        let key = |entry: &Entry| {
            let Manager { name, operation, api_version, subresource } = entry.manager.clone();
            (operation, entry.time.clone(), name, api_version, subresource)
        };
        self.0.sort_by_cached_key(key);
        (!self.0.is_empty()).then(|| Tree::Array(self.0.into_iter().map(item).collect()))
    }
}

fn item(entry: Entry) -> Tree {
    let Entry { manager, time, fields } = entry;
    let mut object = Object::with_capacity(7);
    let mut put = |key: &'static str, value: CompactString| {
        if !value.is_empty() {
            object.insert(CompactString::const_new(key), Tree::String(value));
        }
    };
    put("manager", manager.name);
    put("operation", CompactString::const_new(manager.operation.name()));
    put("apiVersion", manager.api_version);
    put("time", time.unwrap_or_default());
    put("fieldsType", CompactString::const_new("FieldsV1"));
    object.insert(CompactString::const_new("fieldsV1"), api::raw::fields(fields.into_text()));
    if !manager.subresource.is_empty() {
        object.insert(CompactString::const_new("subresource"), Tree::String(manager.subresource));
    }
    Tree::Object(object)
}

/// The entries of an object as they stand there.
pub fn list(object: &Tree) -> Option<&Vec<Tree>> {
    object.get("metadata")?.get("managedFields")?.as_array()
}

/// Takes the entries out of an object.
pub fn take(object: &mut Tree) -> Option<Tree> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Puts entries into an object that has metadata.
pub fn set(object: &mut Tree, entries: Option<Tree>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Tree::as_object_mut) else { return };
    match entries {
        Some(entries) => drop(metadata.insert(CompactString::const_new("managedFields"), entries)),
        None => drop(metadata.remove("managedFields")),
    }
}

/// Whether a client asks to forget all entries: by a list that is empty or has one empty entry.
pub fn asks_to_reset(object: &Tree) -> bool {
    match list(object).map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(Object::is_empty),
        _ => false,
    }
}

/// Whether two objects have the same entries but for their times, and some time differs.
pub fn differ_in_times_only(one: &Tree, other: &Tree) -> bool {
    let (Some(one), Some(other)) = (list(one), list(other)) else { return false };
    if one.len() != other.len() || one.is_empty() {
        return false;
    }
    let same = |(one, other): (&Tree, &Tree)| {
        let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return false };
        let timeless = |object: &Object| object.len() - usize::from(object.contains_key("time"));
        timeless(one) == timeless(other)
            && one.iter().all(|(key, value)| key == "time" || other.get(key) == Some(value))
    };
    let times = one.iter().zip(other).any(|(one, other)| one.get("time") != other.get("time"));
    times && one.iter().zip(other).all(same)
}
