use std::path::Path;

use admission::{EventSource, Level, Version};

use super::*;

fn flags(enabled: &[&str], disabled: &[&str], only: &[&str]) -> Plugins {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Plugins {
        enable_admission_plugins: names(enabled),
        disable_admission_plugins: names(disabled),
        admission_control: names(only),
        admission_control_config_file: String::new(),
    }
}

#[test]
fn names() {
    let check = |flags: Plugins, expect: &[&str]| assert_eq!(flags.mistakes(), expect);
    check(flags(&["AlwaysPullImages"], &["Priority"], &[]), &[]);
    check(
        flags(&["Foo", "Bar"], &[], &[]),
        &[
            "enable-admission-plugins plugin \"Foo\" is unknown",
            "enable-admission-plugins plugin \"Bar\" is unknown",
        ],
    );
    check(
        flags(&["Foo"], &["Foo"], &[]),
        &[
            "enable-admission-plugins plugin \"Foo\" is unknown",
            "disable-admission-plugins plugin \"Foo\" is unknown",
            "[Foo] in enable-admission-plugins and disable-admission-plugins overlapped",
        ],
    );
    check(
        flags(&["AlwaysDeny", "AlwaysAdmit"], &["AlwaysDeny", "AlwaysAdmit"], &[]),
        &["[AlwaysAdmit AlwaysDeny] in enable-admission-plugins and disable-admission-plugins overlapped"],
    );
    check(flags(&[], &[], &["Foo"]), &["admission-control plugin \"Foo\" is unknown"]);
    check(
        flags(&["AlwaysDeny"], &[], &["AlwaysAdmit"]),
        &[
            "admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive",
        ],
    );
    check(
        flags(&["ImagePolicyWebhook"], &[], &[]),
        &["admission plugin ImagePolicyWebhook is not supported yet"],
    );
}

#[test]
fn which_run() {
    let given = flags(&["AlwaysPullImages"], &["Priority"], &[]);
    let runs = ["AlwaysPullImages", "Priority", "LimitRanger", "AlwaysDeny"].map(|name| given.admits(name));
    assert_eq!(runs, [true, false, true, false]);
    let only = flags(&[], &[], &["AlwaysAdmit"]);
    assert!(only.admits("AlwaysAdmit") && !only.admits("LimitRanger"));
}

fn configured(enabled: &str, text: &str) -> Result<Settings, String> {
    let file = File::parse(text, Path::new("/none"))?;
    let mut settings = Settings::default();
    let given = flags(&[enabled], &[], &[]);
    for entry in admission::ALL.iter().filter(|entry| given.admits(entry.name)) {
        let text = file.text_of(entry.name)?;
        configuration::configure(entry.name, text.as_deref(), &mut settings)
            .map_err(|error| error.to_string())?;
    }
    Ok(settings)
}

fn plugin(name: &str, configuration: &str) -> Result<Settings, String> {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
    configured(name, &format!("{head}- name: {name}\n  configuration: {configuration}\n"))
}

#[test]
fn what_cannot_be_read_is_refused_in_upstreams_words() {
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
    let whole = |text: &str| configured("LimitRanger", text).unwrap_err();
    assert_eq!(
        whole(&format!("{head}plugins: [{{name: PodSecurity, foo: 1}}]")),
        "strict decoding error: unknown field \"plugins[0].foo\""
    );
    assert!(whole("plugins: []").starts_with("Object 'Kind' is missing in"));
    assert_eq!(
        whole(&format!("{head}plugins: [{{name: PodSecurity, path: x}}]")),
        "couldn't open admission plugin configuration /none/x: open /none/x: no such file or directory"
    );
    let security = "apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration";
    let quota = "apiVersion: apiserver.config.k8s.io/v1, kind: ResourceQuotaConfiguration";
    let events = "apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration";
    let tolerations = "apiVersion: podtolerationrestriction.admission.k8s.io/v1alpha1, kind: Configuration";
    let webhooks = "apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration";
    for (name, text, expect) in [
        (
            "PodSecurity",
            "{defaults: {enforce: baseline}}".to_owned(),
            "Object 'Kind' is missing in '{\"defaults\":{\"enforce\":\"baseline\"}}'",
        ),
        (
            "PodSecurity",
            format!("{{{security}, defaults: {{x: a}}, foo: 1}}"),
            "strict decoding error: unknown field \"defaults.x\", unknown field \"foo\"",
        ),
        (
            "PodSecurity",
            format!(
                "{{{security}, exemptions: {{namespaces: [a, a], usernames: [''], runtimeClasses: [R]}}}}"
            ),
            "invalid: [exemptions.namespaces[1]: Duplicate value: \"a\", \
             exemptions.runtimeClasses[0]: Invalid value: \"R\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), \
             exemptions.usernames[0]: Invalid value: \"\": username must not be empty]",
        ),
        (
            "PodSecurity",
            format!("{{{security}, defaults: {{enforce: x, warn-version: z}}}}"),
            "configuration error: [enforce: must be one of privileged, baseline, restricted, warn-version: must be \"latest\" or \"v1.x\"]",
        ),
        (
            "ResourceQuota",
            format!("{{{quota}, limitedResources: [{{apiGroup: x}}]}}"),
            "limitedResources[0].resource: Required value",
        ),
        (
            "EventRateLimit",
            format!("{{{events}, limits: []}}"),
            "limits: Invalid value: []: must not be empty",
        ),
        (
            "EventRateLimit",
            format!("{{{events}, limits: [{{type: X, qps: 0, burst: -1}}]}}"),
            "[limits[0].type: Unsupported value: \"X\": supported values: \"Namespace\", \"Server\", \"SourceAndObject\", \"User\", \
             limits[0].burst: Invalid value: -1: must be positive, limits[0].qps: Invalid value: 0: must be positive]",
        ),
        (
            "PodTolerationRestriction",
            format!("{{{tolerations}, default: [{{key: a, operator: Exists, value: v}}]}}"),
            "invalid config: [podtolerationrestriction.default[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists']",
        ),
        (
            "MutatingAdmissionWebhook",
            format!("{{{webhooks}, kubeConfigFile: x}}"),
            "kubeConfigFile: Invalid value: \"x\": must be an absolute file path",
        ),
        (
            "MutatingAdmissionWebhook",
            format!("{{{webhooks}, kubeConfigFile: /x}}"),
            "kubeConfigFile is not supported yet",
        ),
    ] {
        assert_eq!(plugin(name, &text).unwrap_err(), expect, "{text}");
    }
    let none = configured("EventRateLimit", head).unwrap_err();
    assert_eq!(none, "limits: Invalid value: null: must not be empty");
}

#[test]
fn what_plugins_are_given() {
    let settings = plugin(
        "PodSecurity",
        "{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, defaults: {enforce: baseline, enforce-version: v1.30}, exemptions: {namespaces: [kube-system]}}",
    )
    .unwrap()
    .pod_security;
    assert_eq!(
        (settings.defaults.enforce.level, settings.defaults.enforce.version),
        (Level::Baseline, Version::Minor(30))
    );
    assert_eq!(settings.defaults.warn.level, Level::Privileged);
    assert!(settings.exempt_namespaces.contains("kube-system"));
    let limited = plugin(
        "ResourceQuota",
        "{apiVersion: resourcequota.admission.k8s.io/v1beta1, kind: Configuration, limitedResources: [{resource: pods, matchContains: [cpu], matchScopes: [{scopeName: PriorityClass, operator: In, values: [high]}]}]}",
    )
    .unwrap()
    .limited;
    assert_eq!(
        (limited[0].contains.as_slice(), limited[0].scopes[0].values.as_slice()),
        (&["cpu".to_owned()][..], &["high".to_owned()][..])
    );
    let limits = plugin(
        "EventRateLimit",
        "{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{type: Namespace, qps: 5, burst: 10}]}",
    )
    .unwrap()
    .event_limits;
    assert_eq!((limits[0].of, limits[0].sources), (EventSource::Namespace, 4096));
    let selectors =
        configured("PodNodeSelector", "podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: a=b}");
    assert_eq!(selectors.unwrap().node_selectors["clusterDefaultNodeSelector"], "a=b");
    // of what does not run nothing is read
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\n";
    configured(
        "LimitRanger",
        &format!("{head}plugins: [{{name: EventRateLimit, path: x}}, {{name: Nope, path: x}}]"),
    )
    .unwrap();
}
