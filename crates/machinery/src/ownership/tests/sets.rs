use super::super::{Element, Set};
use super::*;

fn set(text: &str) -> Set {
    Set::parse(text).unwrap()
}

#[test]
fn texts_are_written_in_upstreams_order() {
    let check = |text: &str, expect: &str| {
        assert_eq!(set(text).to_text(), expect);
        assert_eq!(set(expect).to_text(), expect);
    };
    check("{}", "{}");
    check(r#"{"f:b":{},"f:a":{"f:x":{}}}"#, r#"{"f:a":{"f:x":{}},"f:b":{}}"#);
    check(
        r#"{"i:2":{},"v:\"b\"":{},"v:2":{},"v:true":{},"v:1.5":{},"k:{\"name\":\"b\"}":{},"k:{\"name\":\"a\"}":{".":{},"f:z":{}},"f:a":{}}"#,
        r#"{"f:a":{},"k:{\"name\":\"a\"}":{".":{},"f:z":{}},"k:{\"name\":\"b\"}":{},"v:1.5":{},"v:2":{},"v:\"b\"":{},"v:true":{},"i:2":{}}"#,
    );
    // keys are sorted, spaces go, a set that is read twice is one
    check(
        " {\"k:{ \\\"protocol\\\":\\\"TCP\\\", \\\"port\\\": 80 }\" : { } } ",
        r#"{"k:{\"port\":80,\"protocol\":\"TCP\"}":{}}"#,
    );
    check(r#"{"f:a":{"f:b":{}},"f:a":{}}"#, r#"{"f:a":{".":{},"f:b":{}}}"#);
    check(r#"{"f:<&>\"\\":{},"f:é":{}}"#, r#"{"f:<&>\"\\":{},"f:é":{}}"#);
    check(r#"{"v:\"<\"":{}}"#, r#"{"v:\"\\u003c\"":{}}"#);
    // what a later version may know is left out
    check(r#"{"x:a":{"y":[1,"}"]},"f:a":{}}"#, r#"{"f:a":{}}"#);
    check(r#"{"f:a":null}"#, r#"{"f:a":{}}"#);
}

#[test]
fn hostile_texts_are_refused() {
    let deep = format!("{}{{}}{}", "{\"f:a\":".repeat(100_000), "}".repeat(100_000));
    let deep_skipped = format!("{{\"x:\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [
        "",
        "1",
        "[]",
        "{",
        "{\"f:a\":{}",
        "{\"f:a\":1}",
        "{\"a\":{}}",
        "{\"\":{}}",
        "{\"f\":{}}",
        "{\"v:\":{}}",
        "{\"k:1\":{}}",
        "{\"i:x\":{}}",
        "{\"f:a\":{}}x",
        "{\"f:\\ud800\":{}}",
        "{\"v:{\":{}}",
        "{\"f:a\\",
        "{\"é:\":{}}",
        &deep,
        &deep_skipped,
    ] {
        assert!(Set::parse(text).is_err(), "{:.40}", text);
    }
}

#[test]
fn algebra() {
    let (one, other) = (
        set(r#"{"f:a":{".":{},"f:b":{"f:c":{}}},"f:x":{},"v:1":{}}"#),
        set(r#"{"f:a":{"f:b":{"f:c":{},"f:d":{}}},"f:x":{"f:y":{}},"v:1.0":{}}"#),
    );
    let check = |found: Set, expect: &str| assert_eq!(found.to_text(), expect);
    check(
        one.union(&other),
        r#"{"f:a":{".":{},"f:b":{"f:c":{},"f:d":{}}},"f:x":{".":{},"f:y":{}},"v:1":{}}"#,
    );
    check(one.intersection(&other), r#"{"f:a":{"f:b":{"f:c":{}}},"v:1":{}}"#);
    check(one.difference(&other), r#"{"f:a":{},"f:x":{}}"#);
    check(other.difference(&one), r#"{"f:a":{"f:b":{"f:d":{}}},"f:x":{"f:y":{}}}"#);
    check(other.without_trees(&one), "{}");
    check(one.without_trees(&set(r#"{"f:a":{"f:b":{}}}"#)), r#"{"f:a":{},"f:x":{},"v:1":{}}"#);
    assert!(one.union(&other).covers(&one) && !one.covers(&other));
    assert_eq!(one.paths(), [".a", ".x", "[=1]", ".a.b.c"]);
    assert_eq!(Element::parse(r#"k:{"p":80,"n":"a\"b"}"#).unwrap().to_string(), r#"[n="a\"b",p=80]"#);
}

/// Sets out of numbers: what the algebra says must hold of any.
fn made(mut seed: u64) -> Set {
    let mut next = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let mut text = Set::default();
    for _ in 0..next(12) {
        let names = ["a", "b", "c", "d"];
        let path: Vec<&str> = (0..=next(3)).map(|_| names[next(4) as usize]).collect();
        text = text.union(&Set::of_fields(&[&path]));
    }
    text
}

#[test]
fn laws_of_sets() {
    for seed in 0..400 {
        let (one, other, third) = (made(seed), made(seed + 1000), made(seed + 2000));
        assert_eq!(Set::parse(&one.to_text()).unwrap(), one);
        assert_eq!(one.union(&other), other.union(&one));
        assert_eq!(one.intersection(&other), other.intersection(&one));
        assert_eq!(one.difference(&other).union(&one.intersection(&other)), one);
        assert_eq!(one.union(&other).difference(&other), one.difference(&other));
        assert_eq!(
            one.intersection(&other.union(&third)),
            one.intersection(&other).union(&one.intersection(&third))
        );
        assert_eq!(one.covers(&other), other.difference(&one).is_empty());
        // reading within another set is reading and intersecting
        assert_eq!(other.within(&one.to_text()).unwrap(), one.intersection(&other));
    }
}

#[test]
fn sets_of_another_schema_are_brought_up_to_date() {
    use super::super::stale::{is_stale, refresh};
    let check = |text: &str, expect: &str| {
        let ty = Type::of_message(deployments().message);
        let mut fields = set(text);
        assert_eq!(is_stale(text, ty), Ok(text != expect), "{text}");
        refresh(&mut fields, ty);
        assert_eq!(fields.to_text(), expect);
    };
    let selector = r#"{"f:spec":{"f:selector":{"f:matchLabels":{"f:app":{}}}}}"#;
    check(selector, r#"{"f:spec":{"f:selector":{}}}"#);
    let arguments = r#"{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{"v:\"a\"":{}}}}}}}}"#;
    let expect = r#"{"f:spec":{"f:template":{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:args":{}}}}}}}"#;
    check(arguments, expect);
    check(expect, expect);
    check(r#"{"f:spec":{"f:gone":{"f:x":{}}}}"#, r#"{"f:spec":{"f:gone":{"f:x":{}}}}"#);
}
