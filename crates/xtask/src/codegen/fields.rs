//! Turns Go types and OpenAPI facts into messages and fields.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, anyhow, bail};

use super::gotypes::{Declaration, GoField, Packages};
use super::openapi::{Facts, Property};

const META: &str = "k8s.io/apimachinery/pkg/apis/meta/v1";
const META_V1BETA1: &str = "k8s.io/apimachinery/pkg/apis/meta/v1beta1";
const EXTENSIONS: &str = "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/";

/// Types that are no kinds but are spoken by themselves.
const ROOTS: &[(&str, &str)] = &[
    (META, "WatchEvent"),
    (META, "Patch"),
    (META, "LabelSelector"),
    (META, "Condition"),
    ("k8s.io/apimachinery/pkg/runtime", "Unknown"),
    ("k8s.io/apimachinery/pkg/runtime", "RawExtension"),
];

#[derive(Default)]
pub struct Model {
    pub messages: Vec<Message>,
    pub kinds: Vec<Kind>,
}

pub struct Message {
    pub name: String,
    pub openapi: String,
    pub leaf: &'static str,
    pub atomic: bool,
    pub fields: Vec<Field>,
}

pub struct Field {
    pub json: String,
    pub tag: u32,
    pub ty: Base,
    pub shape: char,
    pub omit_empty: bool,
    pub optional: bool,
    /// Go's name of a scalar that has one of its own (`v1.Protocol`), and after a `|` that of a list or map type.
    pub go: String,
    pub facts: Property,
}

pub struct Kind {
    pub group: String,
    pub version: String,
    pub kind: String,
    pub message: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Base {
    Scalar(char),
    Message(usize),
}

/// A type by package and name; the empty package is Go's own.
type Name = (String, String);

struct Resolved {
    shape: char,
    pointer: bool,
    base: ResolvedBase,
    /// The name of a named scalar, list or map.
    named: String,
    container: String,
}

impl Resolved {
    fn of(shape: char, base: ResolvedBase) -> Self {
        Self { shape, pointer: false, base, named: String::new(), container: String::new() }
    }
}

enum ResolvedBase {
    Scalar(char),
    Message(Name),
}

struct Builder<'a> {
    packages: &'a Packages,
    facts: &'a Facts,
    indexes: BTreeMap<String, usize>,
    /// Structures that lie inlined in another and have no definition of their own: the definition that shows their fields.
    shown_in: BTreeMap<Name, String>,
}

impl Model {
    pub fn build(packages: &Packages, facts: &Facts) -> Result<Self> {
        let mut builder = Builder { packages, facts, indexes: BTreeMap::new(), shown_in: BTreeMap::new() };
        let kinds = builder.kinds();
        let roots = kinds.iter().map(|(_, _, _, name)| name.clone());
        let others = ROOTS.iter().map(|(package, name)| ((*package).to_owned(), (*name).to_owned()));
        let reached = builder.reach(roots.chain(others).collect())?;

        for (index, name) in reached.keys().enumerate() {
            builder.indexes.insert(name.clone(), index);
        }
        let mut shown_in = BTreeMap::new();
        for name in reached.values() {
            for field in builder
                .fields_of(name)
                .iter()
                .filter(|field| field.embedded && field.json.as_deref() == Some(""))
            {
                if let Some(part) = builder.qualify(&name.0, &field.ty)
                    && facts.definition(&openapi_name(&part)).is_none()
                {
                    shown_in.insert(part, openapi_name(name));
                }
            }
        }
        builder.shown_in = shown_in;
        let mut model = Self::default();
        for name in reached.values() {
            model.messages.push(builder.message(name).with_context(|| format!("{}.{}", name.0, name.1))?);
        }
        for (group, version, kind, name) in kinds {
            let message = builder.indexes[&proto_name(&name)];
            model.kinds.push(Kind { group, version, kind, message });
        }
        model.kinds.sort_by(|a, b| (&a.group, &a.version, &a.kind).cmp(&(&b.group, &b.version, &b.kind)));
        Ok(model)
    }

    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&Kind> {
        self.kinds.iter().find(|row| row.group == group && row.version == version && row.kind == kind)
    }
}

impl Builder<'_> {
    /// Every structure that carries `TypeMeta`, under each group and version it is known by.
    fn kinds(&self) -> Vec<(String, String, String, Name)> {
        let mut kinds = Vec::new();
        for (path, package) in &self.packages.0 {
            let version = path.rsplit('/').next().unwrap_or_default();
            let groups: Vec<&str> = match (path.as_str(), &package.group) {
                (META, _) => vec!["meta.k8s.io", ""],
                (META_V1BETA1, _) => vec!["meta.k8s.io"],
                (_, Some(group)) => vec![group],
                _ => continue,
            };
            for name in &package.order {
                let Some(resolved) = self.structure(path, name) else { continue };
                // a watch event says nothing of its own type, and is a kind all the same
                let event = path == META && name == "WatchEvent";
                if !(self.has_type_meta(&resolved) || event) {
                    continue;
                }
                for group in &groups {
                    kinds.push(((*group).to_owned(), version.to_owned(), name.clone(), resolved.clone()));
                }
            }
        }
        kinds
    }

    /// The structure a name stands for, through aliases.
    fn structure(&self, package: &str, name: &str) -> Option<Name> {
        match self.packages.0.get(package)?.types.get(name)? {
            Declaration::Struct(_) => Some((package.to_owned(), name.to_owned())),
            Declaration::Named(other) => {
                let (package, name) = self.qualify(package, other)?;
                self.structure(&package, &name)
            }
        }
    }

    fn has_type_meta(&self, name: &Name) -> bool {
        self.fields_of(name)
            .iter()
            .any(|field| field.embedded && field.ty.rsplit('.').next() == Some("TypeMeta"))
    }

    fn fields_of(&self, name: &Name) -> &[GoField] {
        match self.packages.0.get(&name.0).and_then(|package| package.types.get(&name.1)) {
            Some(Declaration::Struct(fields)) => fields,
            _ => &[],
        }
    }

    /// `v1.Pod` as seen from a package; `None` for Go's own types.
    fn qualify(&self, package: &str, ty: &str) -> Option<Name> {
        match ty.split_once('.') {
            Some((short, name)) => {
                Some((self.packages.0.get(package)?.imports.get(short)?.clone(), name.to_owned()))
            }
            None => self
                .packages
                .0
                .get(package)?
                .types
                .contains_key(ty)
                .then(|| (package.to_owned(), ty.to_owned())),
        }
    }

    /// Every message that the roots hold, by wire name.
    fn reach(&self, mut queue: Vec<Name>) -> Result<BTreeMap<String, Name>> {
        let mut reached = BTreeMap::new();
        let mut seen = BTreeSet::new();
        while let Some(name) = queue.pop() {
            if !seen.insert(name.clone()) {
                continue;
            }
            for (package, ty) in self.parts(&name) {
                if let ResolvedBase::Message(part) =
                    self.resolve(&package, &ty).with_context(|| format!("{name:?}: {ty}"))?.base
                {
                    queue.push(part);
                }
            }
            reached.insert(proto_name(&name), name);
        }
        Ok(reached)
    }

    /// The types of a message's fields and the packages they are written in.
    fn parts(&self, name: &Name) -> Vec<Name> {
        if let Some(element) = self.items_element(name) {
            return vec![(name.0.clone(), element)];
        }
        let leaf = leaf(name);
        self.fields_of(name)
            .iter()
            .filter(|field| kept(field, leaf))
            .map(|field| (name.0.clone(), field.ty.clone()))
            .collect()
    }

    /// The element type of a list type that is a message on the wire.
    fn items_element(&self, name: &Name) -> Option<String> {
        let package = self.packages.0.get(&name.0)?;
        match package.types.get(&name.1)? {
            Declaration::Named(body) if package.messages.contains(&name.1) => {
                body.strip_prefix("[]").map(str::to_owned)
            }
            _ => None,
        }
    }

    fn resolve(&self, package: &str, ty: &str) -> Result<Resolved> {
        if let Some(rest) = ty.strip_prefix('*') {
            return Ok(Resolved { pointer: true, ..self.resolve(package, rest)? });
        }
        if ty == "[]byte" {
            return Ok(Resolved::of('1', ResolvedBase::Scalar('y')));
        }
        if let Some(rest) = ty.strip_prefix("[]") {
            let element = self.resolve(package, rest)?;
            if element.shape != '1' {
                bail!("a list of {rest}");
            }
            return Ok(Resolved { shape: 'L', ..element });
        }
        if let Some(rest) = ty.strip_prefix("map[") {
            let (_, value) = rest.split_once(']').ok_or_else(|| anyhow!("a map without a value type"))?;
            let element = self.resolve(package, value)?;
            if element.shape != '1' {
                bail!("a map of {value}");
            }
            return Ok(Resolved { shape: 'M', ..element });
        }
        let scalar = |letter| Ok(Resolved::of('1', ResolvedBase::Scalar(letter)));
        match ty {
            "bool" => return scalar('b'),
            "int32" | "int" => return scalar('i'),
            "int64" => return scalar('l'),
            "uint32" => return scalar('u'),
            "uint64" => return scalar('U'),
            "float64" => return scalar('d'),
            "string" => return scalar('s'),
            "interface{}" | "any" => {
                let base = ResolvedBase::Message((String::new(), "any".to_owned()));
                return Ok(Resolved::of('1', base));
            }
            _ => {}
        }
        let name = self.qualify(package, ty).ok_or_else(|| anyhow!("unknown type {ty} in {package}"))?;
        if !leaf(&name).is_empty() || self.items_element(&name).is_some() {
            return Ok(Resolved::of('1', ResolvedBase::Message(name)));
        }
        let declaration = self.packages.0.get(&name.0).and_then(|package| package.types.get(&name.1));
        match declaration.ok_or_else(|| anyhow!("no declaration of {name:?}"))? {
            Declaration::Struct(_) => Ok(Resolved::of('1', ResolvedBase::Message(name))),
            Declaration::Named(body) => {
                let mut resolved = self.resolve(&name.0, body)?;
                let package = name.0.rsplit('/').next().unwrap_or_default();
                match (resolved.shape, &resolved.base) {
                    ('1', ResolvedBase::Scalar(_)) => resolved.named = format!("{package}.{}", name.1),
                    ('1', _) => {}
                    _ => resolved.container = format!("{package}.{}", name.1),
                }
                Ok(resolved)
            }
        }
    }

    fn message(&self, name: &Name) -> Result<Message> {
        let openapi = openapi_name(name);
        let definition = self.facts.definition(&openapi);
        let shown = definition.or_else(|| self.facts.definition(self.shown_in.get(name)?));
        let items = self.items_element(name);
        let leaf = if items.is_some() { "Items" } else { leaf(name) };
        let on_wire = self.packages.0.get(&name.0).is_some_and(|package| package.messages.contains(&name.1));

        let mut fields = Vec::new();
        if let Some(element) = &items {
            let field = GoField {
                ty: format!("[]{element}"),
                embedded: false,
                json: Some("items".to_owned()),
                json_options: vec![],
                tag: 1,
            };
            fields.push(self.field(name, &field, true, Property::default())?);
        } else {
            for field in self.fields_of(name).iter().filter(|field| kept(field, leaf)) {
                let facts = match (shown, &field.json) {
                    (Some(definition), Some(json)) => definition.property(json),
                    _ => Property::default(),
                };
                fields.push(self.field(name, field, on_wire, facts)?);
            }
        }
        Ok(Message {
            name: proto_name(name),
            openapi: definition.map(|_| openapi).unwrap_or_default(),
            leaf,
            atomic: definition.is_some_and(|definition| definition.atomic),
            fields,
        })
    }

    fn field(&self, owner: &Name, field: &GoField, on_wire: bool, facts: Property) -> Result<Field> {
        let resolved = self.resolve(&owner.0, &field.ty)?;
        let json = match field.json.as_deref() {
            Some("") if field.embedded => String::new(),
            Some("") => bail!("a field of type {} has no JSON name", field.ty),
            None | Some("-") => format!("_{}", field.tag),
            Some(name) => name.to_owned(),
        };
        let option = |wanted: &str| field.json_options.iter().any(|option| option == wanted);
        let (base, by_value) = match &resolved.base {
            ResolvedBase::Scalar(letter) => (Base::Scalar(*letter), false),
            ResolvedBase::Message(name) => {
                let index =
                    self.indexes.get(&proto_name(name)).ok_or_else(|| anyhow!("{name:?} was not reached"))?;
                let listed = self.items_element(name).is_some();
                (Base::Message(*index), resolved.shape == '1' && !resolved.pointer && !listed)
            }
        };
        Ok(Field {
            json,
            tag: if on_wire { field.tag } else { 0 },
            ty: base,
            shape: resolved.shape,
            omit_empty: option("omitzero") || (option("omitempty") && !by_value),
            optional: resolved.pointer,
            go: if resolved.container.is_empty() {
                resolved.named
            } else {
                format!("{}|{}", resolved.named, resolved.container)
            },
            facts,
        })
    }
}

/// Whether a field is on the wire or in JSON. What a leaf keeps of itself is its wire fields.
fn kept(field: &GoField, leaf: &str) -> bool {
    match (leaf, field.json.as_deref()) {
        ("", Some("-")) => field.tag > 0,
        ("", Some("")) => field.embedded,
        ("", Some(_)) => true,
        ("", None) => field.tag > 0,
        ("Props", _) => field.tag > 0,
        ("PropsOrArray" | "PropsOrBool" | "PropsOrStringArray", _) => field.tag > 0,
        _ => false,
    }
}

fn leaf(name: &Name) -> &'static str {
    match (name.0.as_str(), name.1.as_str()) {
        (META, "Time") => "Time",
        (META, "MicroTime") => "MicroTime",
        (META, "Duration") => "Duration",
        (META, "FieldsV1") => "FieldsV1",
        ("k8s.io/apimachinery/pkg/api/resource", "Quantity") => "Quantity",
        ("k8s.io/apimachinery/pkg/util/intstr", "IntOrString") => "IntOrString",
        ("k8s.io/apimachinery/pkg/runtime", "RawExtension") => "RawExtension",
        ("", "any") => "Json",
        (package, kind) if package.starts_with(EXTENSIONS) => match kind {
            "JSON" => "Json",
            "JSONSchemaPropsOrArray" => "PropsOrArray",
            "JSONSchemaPropsOrBool" => "PropsOrBool",
            "JSONSchemaPropsOrStringArray" => "PropsOrStringArray",
            _ => "",
        },
        _ => "",
    }
}

fn proto_name(name: &Name) -> String {
    if name.0.is_empty() {
        return name.1.clone();
    }
    format!("{}.{}", name.0.replace('/', ".").replace('-', "_"), name.1)
}

fn openapi_name(name: &Name) -> String {
    format!("io.k8s.{}.{}", name.0.trim_start_matches("k8s.io/").replace('/', "."), name.1)
}
