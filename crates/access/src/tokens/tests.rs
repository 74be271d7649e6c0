use super::claims::{Bound, Claims, Private};

#[test]
fn claims_have_the_shape_clients_know() {
    let claims = Claims {
        audience: vec!["a".into()],
        expiry: Some(2),
        issued: Some(1),
        issuer: "i".into(),
        id: "j".into(),
        private: Some(Private {
            namespace: "default".into(),
            service_account: Bound { name: "sa".into(), uid: "u".into() },
            ..Private::default()
        }),
        not_before: Some(1),
        subject: "system:serviceaccount:default:sa".into(),
    };
    let text = serde_json::to_string(&claims).unwrap();
    assert_eq!(
        text,
        r#"{"aud":["a"],"exp":2,"iat":1,"iss":"i","jti":"j","kubernetes.io":{"namespace":"default","serviceaccount":{"name":"sa","uid":"u"}},"nbf":1,"sub":"system:serviceaccount:default:sa"}"#
    );
    let one: Claims = serde_json::from_str(r#"{"aud":"x","sub":"s"}"#).unwrap();
    assert_eq!(one.audience, ["x"]);
}

#[test]
fn invalid_token_requests_are_refused() {
    let check = |spec: api::Tree, expect: &str| {
        let message = super::check(&spec).map_err(|status| status.message).unwrap_err();
        assert_eq!(message, format!("TokenRequest.authentication.k8s.io \"\" is invalid: {expect}"));
    };
    let seconds = |seconds: i64| api::json!({"expirationSeconds": seconds});
    check(
        seconds(5),
        "spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
    );
    check(
        seconds((1 << 32) + 1),
        "spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds",
    );
    let attested = api::json!({"expirationSeconds": 600, "attestations": {"a": ["b"]}});
    check(
        attested,
        "spec.attestations: Invalid value: {\"a\":[\"b\"]}: attestations may only be specified with a webhook bound object reference",
    );
    assert!(super::check(&seconds(600)).is_ok() && super::check(&seconds(1 << 32)).is_ok());
}
