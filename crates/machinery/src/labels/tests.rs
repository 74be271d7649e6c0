use super::*;
use api::json;

#[test]
fn text_form() {
    for (text, expect) in [
        ("a=b", Ok("a=b")),
        ("a==b,!c,d", Ok("a=b,!c,d")),
        ("z in (y, x),a notin (b)", Ok("a notin (b),z in (x,y)")),
        ("in in (in)", Ok("in in (in)")),
        ("a=", Ok("a=")),
        ("a>5,b<3", Ok("a>5,b<3")),
        ("", Ok("")),
        ("a in ()", Ok("a in ()")),
        ("a=b=c", Err("found '=', expected: ',' or 'end of string'")),
        ("a in b", Err("unable to parse requirement: found 'b' expected: '('")),
        ("a,", Err("found '', expected: identifier after ','")),
        ("=a", Err("found '=', expected: !, identifier, or 'end of string'")),
        ("a in (b", Err("unable to parse requirement: found '', expected: ',' or ')'")),
        ("a b", Err("unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt")),
        ("a=(", Err("unable to parse requirement: found '(', expected: identifier")),
        ("!", Err("unable to parse requirement: found '', expected: identifier")),
        (
            "a>x",
            Err(
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ),
    ] {
        let got = Selector::parse(text).map(|s| s.to_string()).map_err(|e| e.to_string());
        assert_eq!(got, expect.map(str::to_owned).map_err(str::to_owned), "{text}");
    }
    let error = Selector::parse("-a=b").unwrap_err().to_string();
    assert!(
        error
            .starts_with("unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist"),
        "{error}"
    );
}

#[test]
fn matching() {
    for (selector, labels, expect) in [
        ("a=b", vec![("a", "b")], true),
        ("a=b", vec![], false),
        ("a!=b", vec![], true),
        ("a", vec![("a", "")], true),
        ("!a", vec![("a", "")], false),
        ("a in (b,c)", vec![("a", "c")], true),
        ("a notin (b,c)", vec![("a", "c")], false),
        ("a>3", vec![("a", "5")], true),
        ("a<3", vec![("a", "5")], false),
    ] {
        assert_eq!(
            Selector::parse(selector).unwrap().matches(labels.clone()),
            expect,
            "{selector} {labels:?}"
        );
    }
}

#[test]
fn structured() {
    let selector = json!({"matchLabels": {"b": "c"}, "matchExpressions": [
        {"key": "a", "operator": "In", "values": ["y", "x"]}, {"key": "q", "operator": "DoesNotExist"}]});
    let selector = Selector::from_label_selector(&selector).unwrap();
    assert_eq!(selector.to_string(), "a in (x,y),b=c,!q");
    assert!(selector.matches_map(&json!({"a": "x", "b": "c"})));
    assert!(!Selector::from_label_selector(&Tree::Null).unwrap().matches([]));
    assert!(Selector::from_label_selector(&json!({})).unwrap().matches([]));
    let mut errors = Vec::new();
    validate_label_selector(
        &json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
        &Path::new("spec.selector"),
        &mut errors,
    );
    assert_eq!(errors[0].field, "spec.selector.matchExpressions[0].values");
}
