//! Definitions and objects, and what becomes of them.

use api::model::{Resource, Scope};
use api::status::Cause;
use api::{Tree, json};

use super::*;
use crate::kind::Kind;
use crate::strategy::Context;
use crate::tree::put;

fn definition(schema: Tree) -> Tree {
    json!({
        "metadata": {"name": "widgets.example.com", "uid": "u"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            "conversion": {"strategy": "None"},
        },
        "status": {
            "acceptedNames": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "storedVersions": ["v1"],
        },
    })
}

/// The kind of a definition whose spec has these properties.
fn widget(spec: Tree) -> Kind {
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    kinds(&definition(schema)).remove(0)
}

fn context<'a>(resource: &'a Resource) -> Context<'a> {
    Context { now: jiff::Timestamp::UNIX_EPOCH, resource, subresource: None, namespace: "n", name: "a" }
}

fn object(spec: Tree) -> Tree {
    let mut object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a", "namespace": "n"}});
    put(object.as_object_mut().unwrap(), "spec", spec);
    object
}

fn texts(causes: &[Cause]) -> Vec<String> {
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// What a client's object becomes, and what is said of unknown fields.
fn read(kind: &Kind, spec: Tree) -> (Tree, Vec<String>) {
    let text = api::json::to_vec(&object(spec));
    let decoded = api::decode::json(&text, kind.message(), api::decode::Strictness::Warn).unwrap();
    let mut tree = decoded.tree;
    kind.strategy(None).default(&mut tree).unwrap();
    (tree["spec"].clone(), decoded.warnings)
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let check = |schema: Tree, spec: Tree, expect: Tree, warnings: &[&str]| {
        let (tree, warned) = read(&widget(schema), spec);
        assert_eq!(tree.to_string(), expect.to_string());
        assert_eq!(warned, warnings);
    };
    let fields = |fields: Tree| json!({"type": "object", "properties": fields});
    check(
        fields(json!({"size": {"type": "integer", "default": 3}, "color": {"type": "string"}})),
        json!({"nonsense": {"a": 1}, "color": "red"}),
        json!({"color": "red", "size": 3}),
        &["unknown field \"spec.nonsense\""],
    );
    // Of values of a wrong type nothing is kept inside, and they are left to the rules.
    check(
        fields(json!({"size": {"type": "integer"}, "list": {"type": "array", "items": {"type": "string"}}})),
        json!({"size": {"a": 1}, "list": {"b": 2}}),
        json!({"list": {}, "size": {}}),
        &["unknown field \"spec.list.b\"", "unknown field \"spec.size.a\""],
    );
    // Nulls: gone, kept, or the default.
    check(
        fields(json!({
            "a": {"type": "string"},
            "b": {"type": "string", "nullable": true},
            "c": {"type": "string", "default": "x"},
            "d": {"type": "string", "nullable": true, "default": "x"},
        })),
        json!({"a": null, "b": null, "c": null, "d": null}),
        json!({"b": null, "c": "x", "d": null}),
        &[],
    );
    check(
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": fields(json!({}))}}),
        json!({"z": {"b": 1, "a": [null, {"c": 1.0}]}, "known": {"gone": 1}}),
        json!({"known": {}, "z": {"a": [null, {"c": 1}], "b": 1}}),
        &["unknown field \"spec.known.gone\""],
    );
    let lists = json!({"type": "array", "items": {"type": "array", "items": fields(json!({"a": {"type": "string", "default": "x"}}))}});
    let maps = json!({"type": "object", "additionalProperties": {"type": "array", "items": fields(json!({"a": {"type": "integer"}}))}});
    check(
        fields(json!({"lists": lists, "maps": maps})),
        json!({"lists": [[{}, {"b": 1}]], "maps": {"k": [{"a": 1, "b": 2}]}}),
        json!({"lists": [[{"a": "x"}, {"a": "x"}]], "maps": {"k": [{"a": 1}]}}),
        &["unknown field \"spec.lists[0][1].b\"", "unknown field \"spec.maps.k[0].b\""],
    );
    let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"data": {"type": "string"}}});
    check(
        fields(json!({"template": embedded})),
        json!({"template": {"kind": "K", "apiVersion": "v1", "metadata": {"name": "x", "odd": 1}, "data": "d", "more": 1}}),
        json!({"template": {"apiVersion": "v1", "data": "d", "kind": "K", "metadata": {"name": "x"}}}),
        &["unknown field \"spec.template.metadata.odd\"", "unknown field \"spec.template.more\""],
    );
}

#[test]
fn defaults_have_a_bound() {
    let large = "x".repeat(10_000);
    let item = json!({"type": "object", "properties": {"a": {"type": "string", "default": large}}});
    let kind = widget(json!({"type": "object", "properties": {"v": {"type": "array", "items": item}}}));
    let filled = |count: usize| {
        let items = Tree::Array(vec![json!({}); count]);
        kind.strategy(None).default(&mut object(json!({"v": items})))
    };
    assert_eq!(filled(100), Ok(()));
    assert_eq!(filled(100_000), Err(crate::rules::DefaultsTooLarge));
}

#[test]
fn only_rules_that_may_take_long_are_costly() {
    let costly = |rule: &str, most: Option<u32>| {
        let mut list = json!({"type": "array", "items": {"type": "integer"},
            "x-kubernetes-validations": [{"rule": rule}]});
        if let Some(most) = most {
            list["maxItems"] = most.into();
        }
        let spec = json!({"type": "object", "properties": {"v": list}});
        widget(spec).custom().unwrap().costly
    };
    assert!(!costly("self.size() < 10", None));
    assert!(!costly("self.all(x, self.all(y, x <= y))", Some(10)));
    assert!(costly("self.all(x, self.all(y, x <= y))", Some(1_000)));
}

#[test]
fn values_are_checked() {
    let check = |schema: Tree, value: Tree, expect: &[&str]| {
        let kind = widget(json!({"type": "object", "properties": {"v": schema.clone()}}));
        let object = object(json!({"v": value}));
        let causes = kind.strategy(None).validate(&context(&kind), &object);
        assert_eq!(texts(&causes), expect, "{schema} {object}");
    };
    check(
        json!({"type": "integer"}),
        json!("x"),
        &[r#"spec.v: Invalid value: "string": spec.v in body must be of type integer: "string""#],
    );
    check(json!({"type": "integer"}), json!(1.0), &[]);
    check(
        json!({"type": "integer"}),
        json!(1.5),
        &[r#"spec.v: Invalid value: "number": spec.v in body must be of type integer: "number""#],
    );
    check(
        json!({"type": "string"}),
        json!(null),
        &[r#"spec.v: Invalid value: "null": spec.v in body must be of type string: "null""#],
    );
    check(json!({"type": "string", "nullable": true}), json!(null), &[]);
    check(
        json!({"type": "integer", "minimum": 3}),
        json!(2),
        &["spec.v: Invalid value: 2: spec.v in body should be greater than or equal to 3"],
    );
    check(
        json!({"type": "integer", "maximum": 3, "exclusiveMaximum": true}),
        json!(3),
        &["spec.v: Invalid value: 3: spec.v in body should be less than 3"],
    );
    check(
        json!({"type": "integer", "multipleOf": 2}),
        json!(3),
        &["spec.v: Invalid value: 3: spec.v in body should be a multiple of 2"],
    );
    check(
        json!({"type": "string", "maxLength": 2}),
        json!("abc"),
        &["spec.v: Too long: may not be more than 2 bytes"],
    );
    check(
        json!({"type": "string", "minLength": 2}),
        json!("a"),
        &[r#"spec.v: Invalid value: "a": spec.v in body should be at least 2 chars long"#],
    );
    check(
        json!({"type": "string", "pattern": "^a+$"}),
        json!("b"),
        &[r#"spec.v: Invalid value: "b": spec.v in body should match '^a+$'"#],
    );
    for (pattern, value) in [(r"^\d+$", "\u{663}"), (r"^\w$", "é")] {
        let expect = format!("spec.v: Invalid value: {value:?}: spec.v in body should match '{pattern}'");
        check(json!({"type": "string", "pattern": pattern}), json!(value), &[expect.as_str()]);
    }
    check(json!({"type": "string", "pattern": r"^.\bb\d\x{663}$"}), json!("éb3\u{663}"), &[]);
    check(json!({"type": "string", "pattern": r"^é.\S$"}), json!("éé\u{3000}"), &[]);
    check(
        json!({"type": "string", "enum": ["a", "b"]}),
        json!("c"),
        &[r#"spec.v: Unsupported value: "c": supported values: "a", "b""#],
    );
    check(
        json!({"type": "string", "format": "ipv4"}),
        json!("c"),
        &[r#"spec.v: Invalid value: "c": spec.v in body must be of type ipv4: "c""#],
    );
    check(
        json!({"type": "array", "maxItems": 1, "items": {"type": "string"}}),
        json!(["a", "b"]),
        &["spec.v: Too many: 2: must have at most 1 item"],
    );
    check(
        json!({"type": "array", "minItems": 1, "items": {"type": "string"}}),
        json!([]),
        &["spec.v: Invalid value: 0: spec.v in body should have at least 1 items"],
    );
    check(
        json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}),
        json!({}),
        &["spec.v.a: Required value"],
    );
    check(
        json!({"x-kubernetes-int-or-string": true}),
        json!(true),
        &[r#"spec.v: Invalid value: "boolean": spec.v in body must be of type integer,string: "boolean""#],
    );
    check(
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        json!({}),
        &[
            r#"<nil>: Invalid value: "": "spec.v" must validate one and only one schema (oneOf). Found none valid"#,
            "spec.v.a: Required value",
        ],
    );
    check(
        json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}),
        json!(["a", "b", "a"]),
        &[r#"spec.v[2]: Duplicate value: "a""#],
    );
    check(
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}}}),
        json!([{"k": "a"}, {"k": "a"}]),
        &[r#"spec.v[1]: Duplicate value: {"k":"a"}"#],
    );
    check(
        json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}),
        json!({"metadata": {"name": "a/b"}}),
        &[
            "spec.v.apiVersion: Required value",
            "spec.v.kind: Required value",
            r#"spec.v.metadata.name: Invalid value: "a/b": may not contain '/'"#,
        ],
    );
}

#[test]
fn what_an_update_leaves_as_it_was_is_spared() {
    let kind = widget(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 2},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
            {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 2}}}},
    }}));
    let check = |old: Tree, new: Tree, expect: &[&str]| {
        let causes = kind.strategy(None).validate_update(&context(&kind), &object(new), &object(old));
        assert_eq!(texts(&causes), expect);
    };
    check(json!({"a": "long"}), json!({"a": "long", "list": []}), &[]);
    check(json!({"a": "long"}), json!({"a": "longer"}), &["spec.a: Too long: may not be more than 2 bytes"]);
    check(
        json!({"list": [{"k": "x", "v": "long"}, {"k": "y", "v": "long"}]}),
        json!({"list": [{"k": "y", "v": "long"}, {"k": "z", "v": "long"}]}),
        &["spec.list[1].v: Too long: may not be more than 2 bytes"],
    );
}

#[test]
fn definitions_are_checked() {
    let kind = crate::kind::built_in("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
    let check = |schema: Tree, expect: &[&str]| {
        let causes = kind.strategy(None).validate(&context(kind), &definition(schema.clone()));
        assert_eq!(texts(&causes), expect, "{schema}");
    };
    let at = "spec.validation.openAPIV3Schema";
    check(json!({"type": "object"}), &[]);
    check(
        json!({"type": "object", "properties": {"a": {}}}),
        &[&format!("{at}.properties[a].type: Required value: must not be empty for specified object fields")],
    );
    check(
        json!({"type": "object", "properties": {"a": {"type": "foo"}}}),
        &[&format!(
            r#"{at}.properties[a].type: Unsupported value: "foo": supported values: "array", "boolean", "integer", "number", "object", "string""#
        )],
    );
    check(
        json!({"type": "object", "properties": {"a": {"type": "array"}}}),
        &[&format!("{at}.properties[a].items: Required value: must be specified")],
    );
    check(
        json!({"type": "object", "properties": {"a": {"type": "string", "default": 1}}}),
        &[&format!(
            r#"{at}.properties[a].default: Invalid value: "integer":  in body must be of type string: "integer""#
        )],
    );
    check(
        json!({"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "string"}}, "default": {"c": 1}}}}),
        &[&format!(r#"{at}.properties[a].default: Invalid value: {{"c":1}}: must not have unknown fields"#)],
    );
    check(
        json!({"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}]}),
        &[
            &format!("{at}.anyOf[0].properties[a].type: Forbidden: must be empty to be structural"),
            &format!(
                "{at}.properties[a]: Required value: because it is defined in {at}.anyOf[0].properties[a]"
            ),
        ],
    );
}

#[test]
fn kinds_are_what_the_definition_says() {
    let mut definition = definition(json!({"type": "object"}));
    definition["spec"]["versions"] = json!([
        {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
        {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
            "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
            "selectableFields": [{"jsonPath": ".spec.color"}]},
    ]);
    let kinds = kinds(&definition);
    let names: Vec<&str> = kinds.iter().map(|kind| &*kind.version).collect();
    assert_eq!(names, ["v1", "v1beta1"]);
    let [stable, beta] = kinds.as_slice() else { panic!("two versions") };
    assert_eq!((&*stable.storage_version, &*stable.storage_prefix), ("v1", "example.com/widgets"));
    assert_eq!(stable.scope, Scope::Namespaced);
    assert!(stable.subresource("status").is_some() && stable.subresource("scale").is_some());
    assert_eq!(
        beta.custom().unwrap().deprecated.as_deref(),
        Some("example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget")
    );
    let columns: Vec<&str> = crate::columns::definitions(stable).iter().map(|column| column.name).collect();
    assert_eq!(columns, ["Name", "N"]);
    let cells = crate::columns::cells(stable, &object(json!({"n": 3})), jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(Tree::Array(cells), json!(["a", 3]));
    let labels: Vec<&str> = crate::selectable::fields(stable).iter().map(|(label, _)| *label).collect();
    assert_eq!(labels, ["metadata.name", "metadata.namespace", "spec.color"]);
}

#[test]
fn rules_of_schemas_hold() {
    let check = |rules: Tree, new: Tree, old: Option<Tree>, expect: &[&str]| {
        let kind = widget(json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string", "maxLength": 5}}}));
        let strategy = kind.strategy(None);
        let causes = match old {
            None => strategy.validate(&context(&kind), &object(new)),
            Some(old) => strategy.validate_update(&context(&kind), &object(new), &object(old)),
        };
        assert_eq!(texts(&causes), expect, "{rules}");
    };
    let order = json!([{"rule": "self.min <= self.max"}]);
    check(order.clone(), json!({"min": 1, "max": 2}), None, &[]);
    check(
        order.clone(),
        json!({"min": 3, "max": 2}),
        None,
        &["spec: Invalid value: failed rule: self.min <= self.max"],
    );
    // Spared where it was so before.
    check(order, json!({"min": 3, "max": 2}), Some(json!({"min": 3, "max": 2})), &[]);
    let worded = json!([{"rule": "self.min <= self.max", "messageExpression": "string(self.min) + ' is too much'", "fieldPath": ".min", "reason": "FieldValueForbidden"}]);
    check(worded, json!({"min": 3, "max": 2}), None, &["spec.min: Forbidden: 3 is too much"]);
    let fixed = json!([{"rule": "self.min == oldSelf.min", "message": "min is immutable"}]);
    check(fixed.clone(), json!({"min": 3}), None, &[]);
    check(fixed, json!({"min": 3}), Some(json!({"min": 2})), &["spec: Invalid value: min is immutable"]);
    let optional =
        json!([{"rule": "!oldSelf.hasValue() || oldSelf.value().min <= self.min", "optionalOldSelf": true}]);
    check(optional.clone(), json!({"min": 3}), None, &[]);
    check(
        optional,
        json!({"min": 1}),
        Some(json!({"min": 2})),
        &["spec: Invalid value: failed rule: !oldSelf.hasValue() || oldSelf.value().min <= self.min"],
    );
    let blocked = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
    check(
        json!([{"rule": "self.min > 5"}]),
        json!({"name": "too long", "min": 1}),
        None,
        &["spec.name: Too long: may not be more than 5 bytes", blocked],
    );
}

#[test]
fn rules_are_refused_that_do_not_compile_or_cost_too_much() {
    let kind = crate::kind::built_in("apiextensions.k8s.io", "v1", "customresourcedefinitions").unwrap();
    let schema = json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.foo == 1"},
            {"rule": "self.min"},
            {"rule": "self.min < 3", "messageExpression": "1 + 2"},
            {"rule": "self.list.all(x, self.list.all(y, x == y))"},
            {"rule": "self.min < 3", "optionalOldSelf": true},
        ],
        "properties": {
            "min": {"type": "integer"},
            "list": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}},
        },
    }}});
    let causes = kind.strategy(None).validate(&context(kind), &definition(schema));
    let (at, budget) = (
        "spec.validation.openAPIV3Schema",
        "exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
    );
    let rules = format!("{at}.properties[spec].x-kubernetes-validations");
    let items = format!("{at}.properties[spec].properties[list].items.x-kubernetes-validations[0].rule");
    let shown = |rule: &str, message: &str| {
        format!(
            r#"{{"Rule":"{rule}","Message":"","MessageExpression":"{message}","Reason":null,"FieldPath":"","OptionalOldSelf":null}}"#
        )
    };
    // As upstream answers to the same.
    let expect = [
        format!("{items}: Forbidden: estimated rule cost {budget}"),
        format!(
            r#"{items}: Invalid value: "self == oldSelf": oldSelf cannot be used on the uncorrelatable portion of the schema within {at}.properties[spec].properties[list]"#
        ),
        format!(
            "{rules}[0].rule: Invalid value: {}: compilation failed: ERROR: <input>:1:5: undefined field 'foo'\n | self.foo == 1\n | ....^",
            shown("self.foo == 1", "")
        ),
        format!(
            "{rules}[1].rule: Invalid value: {}: cel expression must evaluate to a bool",
            shown("self.min", "")
        ),
        format!(
            "{rules}[2].messageExpression: Invalid value: {}: messageExpression must evaluate to a string",
            shown("self.min \\u003c 3", "1 + 2")
        ),
        format!("{rules}[3].rule: Forbidden: estimated rule cost {budget}"),
        format!(
            "{rules}[4].optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule"
        ),
        format!(
            "{rules}[3].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        ),
        format!(
            "{items}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        ),
        format!(
            "{at}: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema {budget}"
        ),
    ];
    assert_eq!(texts(&causes), expect);
}
