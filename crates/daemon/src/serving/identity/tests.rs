use super::*;

fn headers(list: &[(&str, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    headers
}

fn proxy() -> ProxyHeaders {
    let list = |text: &str| text.split(',').map(str::to_owned).collect();
    ProxyHeaders {
        username: list("X-Remote-User,X-Other-User"),
        uid: list("X-Remote-Uid"),
        group: list("X-Remote-Group"),
        extra_prefix: list("X-Remote-Extra-"),
    }
}

#[test]
fn a_front_proxy_names_its_user() {
    let found = proxy().identity(&headers(&[
        ("x-remote-user", b""),
        ("x-other-user", "jürgen".as_bytes()),
        ("x-other-user", b"second"),
        ("x-remote-uid", b"7"),
        ("x-remote-group", b"dev"),
        ("x-remote-group", b""),
        ("x-remote-group", "größe".as_bytes()),
        ("x-remote-extra-acme.com%2Fproject", b"a"),
        ("x-remote-extra-%41", b"b"),
        ("x-remote-extra-50%", b"c"),
    ]));
    let found = found.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.uid.as_str()), ("jürgen", "7"));
    assert_eq!(found.groups, ["dev", "größe"]);
    let extra: Vec<_> =
        found.extra.iter().map(|(key, values)| format!("{key}={}", values.join("+"))).collect();
    assert_eq!(extra, ["50%=c", "A=b", "acme.com/project=a"]);
    assert_eq!(proxy().identity(&headers(&[("x-remote-group", b"dev")])), Ok(None));
}

#[test]
fn unreadable_headers_are_refused() {
    let refused = |list: &[(&str, &[u8])]| proxy().identity(&headers(list)).unwrap_err();
    let value = |name: &'static str| Unreadable::Value(HeaderName::from_static(name));
    assert_eq!(refused(&[("x-remote-user", b"j\xfcrgen")]), value("x-remote-user"));
    let user: (&str, &[u8]) = ("x-remote-user", b"a");
    assert_eq!(refused(&[("x-remote-user", b""), ("x-other-user", b"\xff")]), value("x-other-user"));
    assert_eq!(refused(&[user, ("x-remote-uid", b"\xff")]), value("x-remote-uid"));
    assert_eq!(
        refused(&[user, ("x-remote-group", b"b"), ("x-remote-group", b"\xff")]),
        value("x-remote-group")
    );
    assert_eq!(refused(&[user, ("x-remote-extra-a", b"\xff")]), value("x-remote-extra-a"));
    let key = HeaderName::from_static("x-remote-extra-%ff");
    assert_eq!(refused(&[user, ("x-remote-extra-%FF", b"b")]), Unreadable::Key(key));
}

#[test]
fn tokens() {
    let socket: [(&str, &[u8]); 2] = [("connection", b"keep-alive, Upgrade"), ("upgrade", b"WebSocket")];
    let check = |list: &[(&str, &[u8])], expect: Result<Option<&str>, Unreadable>| {
        let found = token(&headers(list));
        assert_eq!(found.as_ref().map(Option::as_deref), expect.as_ref().map(|found| *found), "{list:?}");
    };
    check(&[], Ok(None));
    check(&[("authorization", b"Bearer a")], Ok(Some("a")));
    check(&[("authorization", b" bearer a b")], Ok(Some("a")));
    check(&[("authorization", b"Bearer  a")], Ok(None));
    check(&[("authorization", b"Bearer")], Ok(None));
    check(&[("authorization", b"Basic \xff")], Ok(None));
    check(&[("authorization", b"Bearer \xff")], Err(Unreadable::Value(AUTHORIZATION)));
    let with = |protocols: &'static [u8]| [socket[0], socket[1], ("sec-websocket-protocol", protocols)];
    check(&with(b"base64url.bearer.authorization.k8s.io.YQ, v5.channel.k8s.io"), Ok(Some("a")));
    check(&with(b"v5.channel.k8s.io"), Ok(None));
    check(&with(b"base64url.bearer.authorization.k8s.io.YQ"), Err(Unreadable::Alone));
    check(&with(b"base64url.bearer.authorization.k8s.io.!, v5"), Err(Unreadable::Encoding));
    check(&with(b"base64url.bearer.authorization.k8s.io._w, v5"), Err(Unreadable::Token));
    check(
        &with(b"base64url.bearer.authorization.k8s.io.YQ, base64url.bearer.authorization.k8s.io.YQ, v5"),
        Err(Unreadable::Tokens),
    );
    check(&with(b"\xff"), Err(Unreadable::Value(SEC_WEBSOCKET_PROTOCOL)));
    // the header stands before the protocol, and only a WebSocket has one
    check(&[("sec-websocket-protocol", b"base64url.bearer.authorization.k8s.io.!")], Ok(None));
    let basic: (&str, &[u8]) = ("authorization", b"Basic x");
    check(&[&with(b"base64url.bearer.authorization.k8s.io.YQ, v5")[..], &[basic]].concat(), Ok(Some("a")));
}

#[test]
fn backends_see_nothing_of_the_user() {
    let mut headers = headers(&[
        ("authorization", b"Bearer a"),
        ("x-remote-user", b"a"),
        ("x-remote-extra-scopes", b"a"),
        ("x-remote-group", b"a"),
        ("x-remote-group", b"b"),
        ("sec-websocket-protocol", b"base64url.bearer.authorization.k8s.io.YQ, v5.channel.k8s.io"),
        ("sec-websocket-protocol", b"base64url.bearer.authorization.k8s.io.YQ"),
        ("x-remote-addr", b"kept"),
    ]);
    strip(&mut headers, |name| proxy().reads(name));
    let left: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&("sec-websocket-protocol", "v5.channel.k8s.io")));
    assert!(left.contains(&("x-remote-addr", "kept")));
}
