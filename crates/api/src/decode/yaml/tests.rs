use super::parse;

fn json(text: &str) -> String {
    match parse(text.as_bytes()) {
        Ok(document) => document.node.to_tree().to_string(),
        Err(error) => error,
    }
}

#[test]
fn scalars() {
    for (text, expect) in [
        ("1__0", "10"),
        ("1_", "1"),
        ("_1", r#""_1""#),
        ("+0x1F", "31"),
        ("0o7", "7"),
        ("08", "8"),
        ("0b-1", "-1"),
        ("-0b11", "-3"),
        ("1e3", "1000"),
        ("1e400", r#""1e400""#),
        (".e1", r#"".e1""#),
        ("18446744073709551615", "1.8446744073709552e+19"),
        ("1:30", r#""1:30""#),
        ("2001-01-01", r#""2001-01-01""#),
        ("yes", "true"),
        ("yEs", r#""yEs""#),
        ("~", "null"),
        (".inf", "json: unsupported value: +Inf"),
        ("! 5", r#""5""#),
        ("!!int \"5\"", "5"),
        ("!!float 1", "1"),
        ("!!str 5", r#""5""#),
        ("!foo 5", r#""5""#),
        ("!!binary aGk=", r#""hi""#),
        ("!!int a", "yaml: cannot decode !!str `a` as a !!int"),
        ("!!timestamp 2001-2-3", r#""2001-2-3""#),
        ("!!timestamp 2001-2-30", "yaml: cannot decode !!str `2001-2-30` as a !!timestamp"),
    ] {
        assert_eq!(json(text), expect, "{text}");
    }
}

#[test]
fn mappings() {
    for (text, expect) in [
        ("{1: a, yes: b, 1.5: c, 1e6: d}", r#"{"1":"a","1.5":"c","1e+06":"d","true":"b"}"#),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}", r#"{"a":{"b":1,"c":2},"d":{"b":3,"c":2}}"#),
        ("{b: 3, <<: [{b: 1}, {b: 2, c: 4}]}", r#"{"b":1,"c":4}"#),
        ("{~: x}", r#"unsupported map key of type: %!s(<nil>), key: <nil>, value: "x""#),
        ("{[a]: x}", r#"yaml: invalid map key: []interface {}{"a"}"#),
        ("&x [*x]", "yaml: anchor 'x' value contains itself"),
        ("[*x]", "yaml: unknown anchor 'x' referenced"),
        ("a: 'b' c", "yaml: did not find expected key"),
        ("a:\n  'b' c", "yaml: line 1: did not find expected key"),
        ("a: [b}", "yaml: did not find expected ',' or ']'"),
        ("a: {b\nc", "yaml: line 1: did not find expected ',' or '}'"),
        ("a: {b: 'c' d}", "yaml: did not find expected ',' or '}'"),
        ("a: @b", "yaml: found character that cannot start any token"),
        ("a: b: c", "yaml: mapping values are not allowed in this context"),
        ("a: b\n...\n]", r#"{"a":"b"}"#),
        ("", "null"),
    ] {
        assert_eq!(json(text), expect, "{text}");
    }
}

#[test]
fn repeated_keys_are_named() {
    let document = parse(b"a: 1\nb:\n  1: x\n  1: y\n  \"1\": z\na:\n  2").unwrap();
    assert_eq!(
        document.repeated,
        ["line 4: key 1 already set in map", "line 7: key \"a\" already set in map"]
    );
}

#[test]
fn aliases_are_bounded() {
    let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, other) in ["ab", "bc", "cd", "de", "ef", "fg", "gh", "hi"].iter().map(|pair| pair.split_at(1)) {
        text += &format!("{other}: &{other} [{}]\n", vec![format!("*{one}"); 10].join(","));
    }
    assert_eq!(json(&text), "yaml: document contains excessive aliasing");
    // anchors within anchors: each is as deep as may be, and all of them deeper
    let deep = |line: usize| match line {
        0 => "x".to_owned(),
        line => format!("*a{}", line - 1),
    };
    let line = |line: usize| format!("- &a{line} {}{}{}\n", "[".repeat(390), deep(line), "]".repeat(390));
    let chained: String = (0..5).map(line).collect();
    assert_eq!(json(&chained), "yaml: exceeded max depth of 10000");
    // a long text that many aliases stand for
    let long = format!("- &a {}\n{}", "x".repeat(200_000), "- *a\n".repeat(2000));
    assert_eq!(json(&long), "yaml: document contains excessive aliasing");
    let keys = format!("? {}\n: x\n", "k".repeat(60_000)).repeat(4);
    assert_eq!(parse(keys.as_bytes()).unwrap().repeated.len(), 2);
    assert_eq!(json(&("[".repeat(500) + &"]".repeat(500))), "yaml: exceeded max depth of 10000");
}

#[test]
fn other_encodings() {
    let units = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
    let read = |bytes: &[u8]| parse(bytes).map(|document| document.node.to_tree().to_string());
    assert_eq!(read(&units("\u{feff}a: é")).unwrap(), r#"{"a":"é"}"#);
    assert_eq!(read("\u{feff}a: b".as_bytes()).unwrap(), r#"{"a":"b"}"#);
    assert_eq!(read(b"a: \xff").unwrap_err(), "yaml: invalid leading UTF-8 octet");
    assert_eq!(read(b"a: \x07").unwrap_err(), "yaml: control characters are not allowed");
}
