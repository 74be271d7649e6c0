use crate::json;

use super::*;

fn deployments() -> Expected<'static> {
    Expected::built_in("apps", "v1", "Deployment")
}

fn refused(expected: Expected<'_>, body: &str) -> String {
    let status = object(body.as_bytes(), Format::Json, expected, Strictness::Strict).unwrap_err();
    assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
    status.message
}

/// Bodies and the end of the message that upstream answers.
#[test]
fn wrong_bodies_are_answered_in_upstreams_words() {
    for (body, expect) in [
        (
            r#"{"spec":{"replicas":"a"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":1.0}}"#,
            "json: cannot unmarshal number 1.0 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":99999999999}}"#,
            "json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"replicas":true,"foo":1}}"#,
            "json: cannot unmarshal bool into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            r#"{"spec":{"foo":1,"Replicas":2,"replicas":1,"replicas":2,"template":{"spec":{"containers":[{"x":1},{"name":"a","y":{"z":1}}]}}}}"#,
            r#"strict decoding error: unknown field "spec.foo", unknown field "spec.Replicas", duplicate field "spec.replicas", unknown field "spec.template.spec.containers[0].x", unknown field "spec.template.spec.containers[1].y""#,
        ),
        (
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":["a"]}}}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.template.spec.containers of type v1.Container",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"name":1}]}}}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.name of type string",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            r#"{"metadata":{"labels":["a"]}}"#,
            "json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"x"}}"#,
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
        (
            r#"{"metadata":{"creationTimestamp":5}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        (
            r#"{"metadata":{"creationTimestamp":"2020-13-01T00:00:00Z"}}"#,
            r#"parsing time "2020-13-01T00:00:00Z": month out of range"#,
        ),
        (
            r#"{"metadata":{"creationTimestamp":"2020-01-01T00:00:00"}}"#,
            r#"parsing time "2020-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
        ),
        (
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":1.5}}}}"#,
            "json: cannot unmarshal number 1.5 into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        (
            r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"cpu":"1x"}}}]}}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            r#"{"spec":{"template":{"spec":{"restartPolicy":1}}}}"#,
            "json: cannot unmarshal number into Go struct field PodSpec.spec.template.spec.restartPolicy of type v1.RestartPolicy",
        ),
    ] {
        let expect = format!("Deployment in version \"v1\" cannot be handled as a Deployment: {expect}");
        assert_eq!(refused(deployments(), body), expect, "{body}");
    }
}

#[test]
fn bodies_that_are_no_objects() {
    let config_map = Expected::built_in("", "v1", "ConfigMap");
    let start = "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: ";
    for (body, expect) in [
        ("{", "unexpected end of JSON input ({)"),
        ("", "unexpected end of JSON input (<empty>)"),
        (
            "{\"metadata\":{\"name\":\"q\"}} x",
            "invalid character 'x' after top-level value ({\"metadata\":{\"name\":\"q\"}} x)",
        ),
        (
            "{\"metadata\":{\"name\":\"q\",}}",
            "invalid character '}' looking for beginning of object key string ({\"metadata\":{\"name\":\"q\",}})",
        ),
        (
            "{\"kind\":5,\"apiVersion\":\"foo/v2\"}",
            "json: cannot unmarshal number into Go struct field .kind of type string ({\"kind\":5,\"apiVersion\":\"foo/v2 ...)",
        ),
        (
            "[]",
            "json: cannot unmarshal array into Go value of type struct { APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" } (5b5d)",
        ),
    ] {
        assert_eq!(refused(config_map, body), format!("{start}{expect}"), "{body}");
    }
    let deep = "{\"metadata\":".repeat(20_000);
    assert!(refused(config_map, &deep).contains("invalid character '{' exceeded max depth"));
    for (body, expect) in [
        (
            r#"{"kind":"Pod","apiVersion":"v1"}"#,
            r#"Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (core.ConfigMap): unknown conversion"#,
        ),
        (
            r#"{"kind":"ConfigMap","apiVersion":"foo/v2"}"#,
            r#"ConfigMap in version "v2" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "foo/v2" in scheme "pkg/runtime/scheme.go:111""#,
        ),
        (
            r#"{"binaryData":{"a":"!!"}}"#,
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: illegal base64 data at input byte 0"#,
        ),
        (
            r#"{"binaryData":{"a":1}}"#,
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ConfigMap.binaryData of type []uint8"#,
        ),
        (
            r#"{"data":{"a":"1","a":"2"}}"#,
            r#"ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data.a""#,
        ),
    ] {
        assert_eq!(refused(config_map, body), expect);
    }
}

#[test]
fn trees_are_canonical() {
    let body = r#"{"spec":{"template":{"spec":{"containers":[{"resources":{"limits":{"memory":"1024Ki","cpu":0.5}},"image":"i","name":"a"}],"hostNetwork":false}},"selector":null,"replicas":0},
        "metadata":{"labels":{"b":"1","a":null},"name":"d","creationTimestamp":null,"uid":""}}"#;
    let expect = r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"d","labels":{"a":"","b":"1"}},"spec":{"replicas":0,"selector":null,"template":{"metadata":{},"spec":{"containers":[{"name":"a","image":"i","resources":{"limits":{"cpu":"500m","memory":"1Mi"}}}]}},"strategy":{}},"status":{}}"#;
    let decoded = object(body.as_bytes(), Format::Json, deployments(), Strictness::Strict).unwrap();
    assert_eq!(String::from_utf8(crate::json::to_vec(&decoded.tree)).unwrap(), expect);
    assert!(decoded.warnings.is_empty());

    // and stay so through the wire
    let message = crate::tables::kind_message("apps", "v1", "Deployment").unwrap();
    let mut wire = Vec::new();
    crate::wire::tree_to_proto(&decoded.tree, message, &mut wire).unwrap();
    let header = crate::wire::TypeMeta { api_version: "apps/v1", kind: "Deployment" };
    assert_eq!(crate::wire::proto_to_tree(&wire, message, Some(header)).unwrap(), decoded.tree);
}

#[test]
fn yaml_bodies() {
    let body = "metadata: {name: q}\ndata: {a: b, a: c}\nfoo: 1\nimmutable: y\n";
    let config_map = Expected::built_in("", "v1", "ConfigMap");
    let decoded = object(body.as_bytes(), Format::Yaml, config_map, Strictness::Warn).unwrap();
    assert_eq!(decoded.warnings, [r#"line 2: key "a" already set in map"#, r#"unknown field "foo""#]);
    let status = object(body.as_bytes(), Format::Yaml, config_map, Strictness::Strict).unwrap_err();
    let words = "strict decoding error: yaml: unmarshal errors:\n  line 2: key \"a\" already set in map, unknown field \"foo\"";
    assert!(status.message.ends_with(words), "{}", status.message);
    assert_eq!(decoded.tree["data"], json!({"a": "c"}));
    assert_eq!(decoded.tree["immutable"], json!(true));
    // of several wrong types the first in order of the keys
    let body = b"metadata: {name: true}\ndata: {k: 1}\n";
    let status = object(body, Format::Yaml, config_map, Strictness::Warn).unwrap_err();
    assert!(status.message.ends_with("number into Go struct field ConfigMap.data of type string"));
    let status = object(b"xx", Format::Yaml, config_map, Strictness::Warn).unwrap_err();
    assert!(status.message.ends_with("(7878)"), "{}", status.message);
}

#[test]
fn claim_templates_say_their_kind() {
    let body = br#"{"spec":{"volumeClaimTemplates":[{"metadata":{"name":"d"}}]}}"#;
    let expected = Expected::built_in("apps", "v1", "StatefulSet");
    let tree = object(body, Format::Json, expected, Strictness::Strict).unwrap().tree;
    assert_eq!(tree["spec"]["volumeClaimTemplates"][0]["kind"], "PersistentVolumeClaim");
    let message = crate::tables::kind_message("apps", "v1", "StatefulSet").unwrap();
    let mut wire = Vec::new();
    crate::wire::tree_to_proto(&tree, message, &mut wire).unwrap();
    let header = crate::wire::TypeMeta { api_version: "apps/v1", kind: "StatefulSet" };
    assert_eq!(crate::wire::proto_to_tree(&wire, message, Some(header)).unwrap(), tree);
}

#[test]
fn options_come_in_any_group() {
    let expected = Expected::built_in("meta.k8s.io", "v1", "DeleteOptions");
    for version in ["v1", "apps/v1", "meta.k8s.io/v1"] {
        let body = format!(
            r#"{{"kind":"DeleteOptions","apiVersion":"{version}","gracePeriodSeconds":0,"propagationPolicy":"Orphan"}}"#
        );
        let tree = object(body.as_bytes(), Format::Json, expected, Strictness::Strict).unwrap().tree;
        assert_eq!(tree["gracePeriodSeconds"], 0, "{version}");
    }
    let eviction = Expected::built_in("policy", "v1", "Eviction");
    let body = br#"{"kind":"Eviction","apiVersion":"policy/v1beta1","metadata":{"name":"p"}}"#;
    assert!(object(body, Format::Json, eviction, Strictness::Strict).is_ok());
}

#[test]
fn duplicates_are_named_once_and_not_all() {
    let repeated = r#""a":1,"#.repeat(1000);
    let decoded = any(format!("{{{repeated}\"b\":1}}").as_bytes(), Format::Json).unwrap();
    assert_eq!(decoded.warnings, [r#"duplicate field "a""#]);
    let pairs: String = (0..1000).map(|at| format!("\"k{at}\":1,\"k{at}\":2,")).collect();
    let decoded = any(format!("{{{pairs}\"b\":1}}").as_bytes(), Format::Json).unwrap();
    assert_eq!(decoded.warnings.len(), 100);
}

#[test]
fn an_object_of_too_many_objects_is_read_no_further() {
    let pods = Expected::built_in("", "v1", "Pod");
    let check = |body: &[u8], format: Format| {
        object(body, format, pods, Strictness::Warn).err().map(|status| (status.code, status.message))
    };
    let refused = Some((500, "etcdserver: request is too large".to_owned()));
    let containers = |count: usize| {
        format!("{{\"spec\":{{\"containers\":[{}{{}}]}}}}", "{},".repeat(count - 1)).into_bytes()
    };
    assert_eq!(check(&containers(45_000), Format::Json), None);
    assert_eq!(check(&containers(600_000), Format::Json), refused);
    // what is null where an object is meant is an empty one
    let nulls = format!("{{\"spec\":{{\"containers\":[{}{{}}]}}}}", "null,".repeat(200_000));
    assert_eq!(check(nulls.as_bytes(), Format::Json), refused);
    let wrong = format!("{{\"spec\":{{\"hostPID\":1,\"containers\":[{}{{}}]}}}}", "{},".repeat(200_000));
    assert_eq!(check(wrong.as_bytes(), Format::Json).map(|(code, _)| code), Some(400));

    let wire = |count: usize| {
        let mut bytes = Vec::new();
        crate::wire::envelope::wrap(
            crate::wire::TypeMeta { api_version: "v1", kind: "Pod" },
            &{
                let mut pod = Vec::new();
                crate::wire::put_tag(2, 2, &mut pod);
                crate::wire::put_bytes(&[0x12, 0].repeat(count), &mut pod);
                pod
            },
            &mut bytes,
        );
        bytes
    };
    assert_eq!(check(&wire(45_000), Format::Protobuf), None);
    assert_eq!(check(&wire(1_500_000), Format::Protobuf), refused);
    // what is stored is read whatever it is
    let message = crate::tables::message("k8s.io.api.core.v1.Pod").unwrap();
    assert!(crate::wire::object_to_tree(&wire(200_000), message).is_ok());

    // texts may be as many and as long as they like
    let maps = Expected::built_in("", "v1", "ConfigMap");
    let keys: Vec<String> = (0..200_000).map(|key| format!("\"{key}\":\"\"")).collect();
    let body = format!(
        "{{\"data\":{{{}}},\"metadata\":{{\"finalizers\":[{}\"\"]}}}}",
        keys.join(","),
        "\"\",".repeat(200_000)
    );
    assert!(object(body.as_bytes(), Format::Json, maps, Strictness::Warn).is_ok());
}

#[test]
fn a_field_given_twice_costs_nothing_beside_many_unknown_ones() {
    let message = crate::tables::message("k8s.io.api.core.v1.ConfigMap").unwrap();
    let unknown: String = (0..200_000).map(|key| format!("\"f{key}\":1,")).collect();
    let body = format!("{{{unknown}\"data\":{{\"a\":\"1\"}},\"data\":{{\"b\":\"2\"}}}}");
    let decoded = super::json(body.as_bytes(), message, Strictness::Warn).unwrap();
    assert_eq!(decoded.tree["data"], crate::json!({"a": "1", "b": "2"}));
}
