use daemon::flags::{Outcome, parse_from};

use super::*;
use crate::options::Options;

fn complete(more: &[&str]) -> Result<Options, String> {
    let needed = [
        "--etcd-servers=x",
        "--service-account-issuer=x",
        "--service-account-key-file=x",
        "--service-account-signing-key-file=x",
    ];
    let arguments = needed.iter().chain(more).map(|text| (*text).to_owned());
    match parse_from::<Options>(arguments, crate::options::UNSUPPORTED) {
        Outcome::Run { options, .. } => options.complete(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn missing_files_and_unsupported_flags_are_refused() {
    for (flags, expected) in [
        (
            "--encryption-provider-config=/none",
            "error while parsing file: error while loading file: error reading encryption provider configuration file \"/none\": open /none: no such file or directory",
        ),
        ("--encryption-provider-config=/dev/null", "--encryption-provider-config is not supported yet"),
        (
            "--encryption-provider-config-automatic-reload",
            "--encryption-provider-config-automatic-reload must be set with --encryption-provider-config",
        ),
        (
            "--audit-policy-file=/none",
            "loading audit policy file: failed to read file path \"/none\": open /none: no such file or directory",
        ),
        (
            "--admission-control-config-file=/none",
            "failed to apply admission: failed to read plugin config: unable to read admission control configuration from \"/none\" [open /none: no such file or directory]",
        ),
        (
            "--egress-selector-config-file=/none",
            "failed to read egress selector config: unable to read egress selector configuration from \"/none\" [open /none: no such file or directory]",
        ),
        ("--authentication-token-webhook-config-file=/none", "stat /none: no such file or directory"),
        (
            "--authentication-token-webhook-config-file=/dev/null",
            "--authentication-token-webhook-config-file is not supported yet",
        ),
        ("--authorization-mode=Webhook", "authorization-mode Webhook's authorization config file not passed"),
        ("--authorization-mode=ABAC", "authorization-mode ABAC's authorization policy file not passed"),
        (
            "--authorization-mode=RBAC,Webhook --authorization-webhook-config-file=x",
            "authorization-mode Webhook is not supported yet",
        ),
        (
            "--authorization-webhook-config-file=x",
            "cannot specify --authorization-webhook-config-file without mode Webhook",
        ),
        ("--authorization-policy-file=x", "cannot specify --authorization-policy-file without mode ABAC"),
        (
            "--authorization-mode=RBAC,RBAC",
            "authorization-mode [\"RBAC\" \"RBAC\"] has mode specified more than once",
        ),
        ("--authorization-mode=Foo", "authorization-mode \"Foo\" is not a valid mode"),
        (
            "--authorization-config=/none --authorization-mode=RBAC",
            "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined",
        ),
        (
            "--authorization-config=/none --authorization-webhook-cache-authorized-ttl=5m",
            "--authorization-config can not be specified when --authorization-mode or --authorization-webhook-* flags are defined",
        ),
        ("--authorization-config=/none", "open /none: no such file or directory"),
        (
            "--oidc-ca-file=x",
            "oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set",
        ),
        ("--oidc-issuer-url=https://x --oidc-client-id=y", "--oidc-issuer-url is not supported yet"),
        (
            "--authentication-config=/none --oidc-issuer-url=https://x --oidc-client-id=y",
            "authentication-config file and oidc-* flags are mutually exclusive",
        ),
        (
            "--tracing-config-file=/none",
            "failed to read tracing config: unable to read tracing configuration from \"/none\": open /none: no such file or directory",
        ),
    ] {
        let flags: Vec<&str> = flags.split(' ').collect();
        assert_eq!(complete(&flags).err().as_deref(), Some(expected), "{flags:?}");
    }
}

#[test]
fn harmless_flags_are_accepted() {
    let options = complete(&["--audit-policy-file=/dev/null", "--encryption-provider-config="]).unwrap();
    assert_eq!(options.without_effect(), ["audit-policy-file"]);
}

#[test]
fn files_say_who_may_come_and_what_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, kind: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("apiVersion: apiserver.config.k8s.io/v1\nkind: {kind}\n{text}\n"))
            .unwrap();
        path.display().to_string()
    };
    let authz = file(
        "authz",
        "AuthorizationConfiguration",
        "authorizers: [{type: Node, name: node}, {type: RBAC, name: rbac}]",
    );
    let options = complete(&[&format!("--authorization-config={authz}")]).unwrap();
    assert_eq!(options.authorization_mode, ["Node", "RBAC"]);
    assert_eq!(options.anonymous, Anonymous::everywhere(true));

    let authn = file(
        "authn",
        "AuthenticationConfiguration",
        "anonymous: {enabled: true, conditions: [{path: /livez}]}",
    );
    let authn = format!("--authentication-config={authn}");
    let options = complete(&[&authn, "--authorization-mode=RBAC"]).unwrap();
    assert!(options.anonymous.allows("/livez") && !options.anonymous.allows("/version"));
    assert_eq!(
        complete(&[&authn, "--authorization-mode=RBAC", "--anonymous-auth=true"]).unwrap_err(),
        "anonymous: Forbidden: --anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file"
    );
    let modes = |more: &[&str]| complete(more).unwrap().anonymous.enabled;
    assert!(!modes(&["--authorization-mode=RBAC,AlwaysAllow"]) && !modes(&[]));
    assert!(!modes(&["--authorization-mode=RBAC", "--anonymous-auth=false"]));
}

#[test]
fn an_egress_that_is_configured_is_named() {
    let head = "apiVersion: apiserver.k8s.io/v1beta1\nkind: EgressSelectorConfiguration\n";
    let egress = |text: &str| proxied_egress(&format!("{head}egressSelections: {text}")).unwrap();
    assert!(egress("[{name: cluster, connection: {proxyProtocol: Direct}}]").is_empty());
    assert_eq!(
        egress("[{name: cluster, connection: {proxyProtocol: HTTPConnect, transport: {uds: {}}}}]"),
        ["cluster"]
    );
}
