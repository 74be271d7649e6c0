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
fn too_short_a_life_is_refused_in_the_usual_words() {
    let status = super::check_seconds(5).unwrap_err();
    assert_eq!(
        status.message,
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes"
    );
}
