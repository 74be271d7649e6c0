//! A kind as a value: one resource at one version, its message, and what is particular about its objects. The built-in
//! ones are made once; one that is made at run time goes when nobody uses it any more.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock, OnceLock};

use api::Tree;
use api::model::{MessageRef, Model, Resource};
use machinery::ownership::reset::Reset;

use crate::conversion::Conversion;
use crate::custom::Custom;
use crate::profile::{Generation, Profile};
use crate::resets;
use crate::rules::RuleSet;
use crate::strategy::Strategy;

/// One resource at one version.
pub struct Kind {
    row: Resource,
    model: Arc<Model>,
    /// The place of the objects' message in the model.
    message: u32,
    /// Of the model's messages.
    rules: Arc<RuleSet>,
    custom: Option<Box<Custom>>,
    pub profile: Profile,
    pub conversion: Conversion,
    /// An object in which nothing is set, once it was asked for.
    empty: OnceLock<Tree>,
    /// What the strategies of the object and of its subresources reset, once it was asked for.
    resets: OnceLock<Vec<(&'static str, Reset)>>,
}

impl Kind {
    /// A kind whose objects are of the model's message at that place, without rules for the model's own messages.
    pub fn new(row: Resource, model: Arc<Model>, message: u32, profile: Profile) -> Kind {
        Kind::with_rules(row, model, message, Arc::clone(RuleSet::built_in()), profile)
    }

    /// A kind whose objects are of the model's message at that place.
    pub fn with_rules(
        row: Resource,
        model: Arc<Model>,
        message: u32,
        rules: Arc<RuleSet>,
        profile: Profile,
    ) -> Kind {
        let (empty, resets) = (OnceLock::new(), OnceLock::new());
        let (custom, conversion) = (None, Conversion::None);
        Kind { row, model, message, rules, custom, profile, conversion, empty, resets }
    }

    /// A kind that a definition makes.
    pub(crate) fn of_definition(
        row: Resource,
        model: Arc<Model>,
        message: u32,
        rules: Arc<RuleSet>,
        profile: Profile,
        custom: Custom,
    ) -> Kind {
        Kind { custom: Some(Box::new(custom)), ..Kind::with_rules(row, model, message, rules, profile) }
    }

    /// Whether its objects lie where those of a built-in kind do.
    pub fn has_built_in_storage(&self) -> bool {
        all().iter().any(|kind| kind.storage_prefix == self.storage_prefix)
    }

    /// What is particular about a kind that a definition makes; `None` for other kinds.
    pub fn custom(&self) -> Option<&Custom> {
        self.custom.as_deref()
    }

    pub(crate) fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// The message of its objects.
    pub fn message(&self) -> MessageRef<'_> {
        self.model.at(self.message)
    }

    /// An object in which nothing is set, as it would be written.
    pub fn empty(&self) -> &Tree {
        self.empty.get_or_init(|| {
            let none = Tree::Object(api::tree::Object::new());
            let decoded = api::decode::tree(&none, self.message(), api::decode::Strictness::Ignore);
            let mut tree = decoded.map(|decoded| decoded.tree).unwrap_or(none);
            api::decode::put_type_meta(&mut tree, &self.kind, &self.api_version());
            tree
        })
    }

    /// The fields that a write to the object, or through one of its subresources, does not change.
    pub fn reset(&self, subresource: &str) -> &Reset {
        let resets = self.resets.get_or_init(|| resets::of(self, self.message().custom));
        resets.iter().find(|(name, _)| *name == subresource).map_or(&Reset::Nothing, |(_, reset)| reset)
    }

    /// The rules by which objects, or one of their subresources, are written. Of the subresources `status` and those
    /// that write the object itself (`ephemeralcontainers`, `resize`, `finalize`, `approval`) matter; others take the
    /// object's.
    pub fn strategy(&self, subresource: Option<&str>) -> Strategy<'_> {
        Strategy { kind: self, status: subresource == Some("status") }
    }
}

impl Deref for Kind {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        &self.row
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.api_version(), self.plural)
    }
}

/// Group, version, plural.
type Name = (&'static str, &'static str, &'static str);

struct BuiltIn {
    kinds: Vec<Arc<Kind>>,
    places: HashMap<Name, usize>,
}

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let model = Arc::new(Model::default());
    let (mut kinds, mut places) = (Vec::new(), HashMap::new());
    for row in api::tables::all_resources() {
        let Some(message) = api::tables::message_of(row) else { continue };
        places.insert((&*row.group, &*row.version, &*row.plural), kinds.len());
        let kind = Kind::new(row.clone(), Arc::clone(&model), message.index, profile(row));
        kinds.push(Arc::new(Kind { conversion: Conversion::BuiltIn, ..kind }));
    }
    BuiltIn { kinds, places }
});

fn profile(row: &'static Resource) -> Profile {
    crate::kinds::profile(&row.group, &row.plural).cloned().unwrap_or_else(|| {
        let status = row.subresource("status").is_some();
        let generation = if status { Generation::Spec } else { Generation::Unset };
        Profile { status, generation, ..Profile::new(&row.group, &row.plural) }
    })
}

/// A built-in kind, served or not.
pub fn built_in(group: &str, version: &str, plural: &str) -> Option<&'static Arc<Kind>> {
    let place = BUILT_IN.places.get(&(group, version, plural)).copied()?;
    BUILT_IN.kinds.get(place)
}

/// Makes a function for each of some built-in kinds, for code that is about these and no other. The tables always hold them: a
/// name that they do not hold is a mistake of that crate, found by its tests.
#[macro_export]
macro_rules! named_kinds {
    ($($name:ident: $group:literal $version:literal $plural:literal;)*) => {
        $(pub fn $name() -> &'static ::std::sync::Arc<$crate::Kind> {
            $crate::kind::built_in($group, $version, $plural).expect("a kind of the API level")
        })*

        #[test]
        fn every_kind_is_in_the_tables() {
            $(assert_eq!($name().plural, $plural);)*
        }
    };
}

/// All built-in kinds, served or not, in discovery's order.
pub fn all() -> &'static [Arc<Kind>] {
    &BUILT_IN.kinds
}

/// Kinds served by default, in discovery's order.
pub fn by_default() -> impl Iterator<Item = &'static Arc<Kind>> {
    api::tables::resources().iter().filter_map(|row| built_in(&row.group, &row.version, &row.plural))
}
