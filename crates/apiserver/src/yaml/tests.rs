use serde_json::json;

fn written(value: serde_json::Value) -> String {
    let tree = api::decode::untyped(value.to_string().as_bytes()).expect("JSON");
    let mut out = String::new();
    super::write(&tree, &mut out);
    out
}

#[test]
fn texts_stand_in_the_style_that_reads_back() {
    for (text, expected) in [
        ("plain", "plain"),
        ("10.0.0.1", "10.0.0.1"),
        ("f:metadata", "f:metadata"),
        (".", "."),
        ("", "\"\""),
        ("yes", "\"yes\""),
        ("n", "\"n\""),
        ("0x1f", "\"0x1f\""),
        ("1e3", "\"1e3\""),
        ("2001-01-01", "\"2001-01-01\""),
        ("2001-01-01T00:00:00Z", "\"2001-01-01T00:00:00Z\""),
        ("12:30:45", "\"12:30:45\""),
        ("<<", "<<"),
        ("\u{feff}a", "\"\\uFEFF\\x61\""),
        ("=", "="),
        ("null", "\"null\""),
        ("-", "'-'"),
        ("-x", "-x"),
        ("--- a", "'--- a'"),
        ("#a", "'#a'"),
        ("a #b", "'a #b'"),
        ("a#b", "a#b"),
        ("a: b", "'a: b'"),
        ("a:b", "a:b"),
        ("a:", "'a:'"),
        ("?", "'?'"),
        ("it's: ok", "'it''s: ok'"),
        ("\"quoted\"", "'\"quoted\"'"),
        (" lead", "' lead'"),
        ("trail ", "'trail '"),
        ("\ttab", "\"\\ttab\""),
        ("é 😀", "\"é \\U0001F600\""),
        ("é", "é"),
        ("\0\u{7}\u{7f}", "\"\\0\\a\\x7F\""),
        ("a\nb\n", "|\n  a\n  b"),
        ("a\n\nb", "|-\n  a\n\n  b"),
        ("a\nb ", "\"a\\nb \""),
        (" a\nb", "|2-\n   a\n  b"),
        ("a \nb", "\"a \\nb\""),
        ("a\n\n", "|+\n  a\n"),
        ("\n", "|2+\n"),
    ] {
        assert_eq!(written(json!({"k": text})), format!("k: {expected}\n"), "{text:?}");
    }
}

#[test]
fn long_texts_are_folded_at_a_space() {
    let words = "long text with words ".repeat(5);
    assert_eq!(
        written(json!({"k": words})),
        "k: 'long text with words long text with words long text with words long text with\n  \
         words long text with words '\n"
    );
    assert_eq!(
        written(json!({"k": format!("{}\nend ", words.trim_end())})),
        "k: \"long text with words long text with words long text with words long text with\n  \
         words long text with words\\nend \"\n"
    );
    let key = "word ".repeat(20);
    assert_eq!(written(json!({key.trim_end(): 1})), format!("{}: 1\n", key.trim_end()));
    let long = "a".repeat(129);
    assert_eq!(written(json!({&long: {"b": [1]}})), format!("? {long}\n: b:\n  - 1\n"));
    assert_eq!(written(json!({&long: [1, 2]})), format!("? {long}\n: - 1\n  - 2\n"));
}

#[test]
fn collections_nest() {
    assert_eq!(
        written(json!({"b": [{"a": 1, "c": []}, [1, [2]], {}, "x"], "a": {"d": null, "e": true}})),
        "a:\n  d: null\n  e: true\nb:\n- a: 1\n  c: []\n- - 1\n  - - 2\n- {}\n- x\n"
    );
    assert_eq!(written(json!([])), "[]\n");
    assert_eq!(written(json!("x")), "x\n");
}

#[test]
fn keys_are_sorted_by_the_numbers_in_them() {
    let map = json!({"a10": 0, "a2": 0, "a": 0, "B": 0, ".": 0, "f:x": 0, "f:X": 0, "1": 0, "a02": 0, "a-b": 0, "ab": 0});
    let written = written(map);
    let keys: Vec<&str> =
        written.lines().map(|line| line.rsplit_once(':').map_or("", |(key, _)| key)).collect();
    // an order with a cycle
    assert_eq!(
        super::order::sorted(
            &["1e3", "10", "2"].repeat(50).iter().map(|key| (*key, &api::Tree::Null)).collect::<Vec<_>>()
        )
        .len(),
        150
    );
    assert_eq!(keys, [".", "\"1\"", "B", "a", "a-b", "a2", "a02", "a10", "ab", "f:X", "f:x"]);
}

#[test]
fn numbers_are_the_shortest() {
    for (number, expected) in
        [("1", "1"), ("1.5", "1.5"), ("1e3", "1000"), ("1000000.5", "1.0000005e+06"), ("1e20", "1e+20")]
    {
        assert_eq!(
            written(serde_json::from_str(&format!("{{\"k\":{number}}}")).expect("JSON")),
            format!("k: {expected}\n")
        );
    }
}
