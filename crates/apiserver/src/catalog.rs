//! What is served: the kinds by their names, and what discovery says of them.

use std::collections::HashMap;
use std::sync::Arc;

use registry::Kind;

use crate::discovery::Documents;
use crate::served::Served;

/// The kinds that requests find.
pub struct Catalog {
    /// By plural; few share one.
    kinds: HashMap<String, Vec<Arc<Kind>>>,
    /// What discovery and OpenAPI say.
    pub documents: Documents,
}

impl Catalog {
    /// The built-in kinds that are served.
    pub fn new(served: &Served) -> Catalog {
        let mut kinds: HashMap<String, Vec<Arc<Kind>>> = HashMap::new();
        for kind in registry::kind::all().iter().filter(|kind| served.includes(kind)) {
            kinds.entry(kind.plural.to_string()).or_default().push(Arc::clone(kind));
        }
        Catalog { kinds, documents: Documents::new(served.groups()) }
    }

    /// The kind of this name.
    pub fn kind(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.kinds.get(plural)?.iter().find(|kind| kind.group == group && kind.version == version)
    }

    /// Whether any version of the group is served.
    pub fn has_group(&self, group: &str) -> bool {
        self.documents.groups.iter().any(|own| own.name == group)
    }
}
