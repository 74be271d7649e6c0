use super::*;

fn profile(text: &str) -> Result<Profile, String> {
    let value = daemon::config::yaml(text).unwrap();
    ProfileConfiguration::deserialize(value).unwrap().build(0, &[])
}

fn names(profile: &Profile, point: Point) -> Vec<(&'static str, i64)> {
    profile.each(point).map(|(place, plugin)| (plugin.name(), profile.weight(place))).collect()
}

#[test]
fn defaults_are_upstreams() {
    let profile = ProfileConfiguration::default().build(0, &[]).unwrap();
    assert_eq!(
        names(&profile, Point::Score),
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("VolumeBinding", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
            ("DynamicResources", 2),
            ("NodeResourcesBalancedAllocation", 1),
            ("ImageLocality", 1),
        ]
    );
}

#[test]
fn plugins_are_turned_off_and_weighed() {
    let profile = profile(
        "plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit, weight: 7}]}, multiPoint: {disabled: [{name: DefaultPreemption}]}}",
    )
    .unwrap();
    assert_eq!(names(&profile, Point::Score), [("NodeResourcesFit", 7)]);
    assert_eq!(profile.preemption, None);
    assert!(names(&profile, Point::Filter).iter().any(|(name, _)| *name == "TaintToleration"));
}

#[test]
fn unknown_plugins_and_arguments_are_errors() {
    let Err(error) = profile("plugins: {filter: {enabled: [{name: Nope}]}}") else { panic!() };
    assert_eq!(error, "FilterPlugin \"Nope\" does not exist");
    let Err(error) =
        profile("pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Worst}}}]")
    else {
        panic!()
    };
    assert!(error.contains("Worst"));
    assert!(profile("plugins: {bind: {disabled: [{name: '*'}]}}").is_err());
    assert!(profile("plugins: {filter: {enabled: [{name: VolumeBinding}]}}").is_ok());
}

#[test]
fn validation_is_in_upstreams_words() {
    let check = |text: &str| {
        let mut configuration: Configuration =
            serde_json::from_value(daemon::config::yaml(text).unwrap()).unwrap();
        configuration.leader_election.fill_in();
        configuration.check().map_err(|error| error.to_string())
    };
    for (text, expect) in [
        ("parallelism: 0", "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        (
            "percentageOfNodesToScore: 300",
            "percentageOfNodesToScore: Invalid value: 300: not in valid range [0-100]",
        ),
        (
            "profiles: [{percentageOfNodesToScore: 300}]",
            "profiles[0].percentageOfNodesToScore: Invalid value: 300: not in valid range [0-100]",
        ),
        ("profiles: [{schedulerName: ''}]", "profiles[0].schedulerName: Required value"),
        (
            "profiles: [{schedulerName: a}, {schedulerName: a}]",
            "profiles[1].schedulerName: Duplicate value: {}",
        ),
        (
            "podInitialBackoffSeconds: -1",
            "podInitialBackoffSeconds: Invalid value: -1: must be greater than 0",
        ),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {foo: 1}}]}]",
            "strict decoding error: decoding .profiles[0].pluginConfig[0]: strict decoding error: decoding args for plugin NodeResourcesFit: strict decoding error: unknown field \"foo\"",
        ),
        (
            "profiles: [{pluginConfig: [{name: InterPodAffinity, args: {hardPodAffinityWeight: 300}}]}]",
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 300: not in valid range [0, 100]",
        ),
        (
            "profiles: [{pluginConfig: [{name: DefaultPreemption, args: {minCandidateNodesPercentage: 101}}]}]",
            "profiles[0].pluginConfig[0].args.minCandidateNodesPercentage: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            "profiles: [{pluginConfig: [{name: DefaultPreemption, args: {minCandidateNodesPercentage: 0, minCandidateNodesAbsolute: 0}}]}]",
            "[profiles[0].pluginConfig[0].args.minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute, profiles[0].pluginConfig[0].args.minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same time as minCandidateNodesPercentage]",
        ),
        (
            "profiles: [{pluginConfig: [{name: VolumeBinding, args: {bindTimeoutSeconds: -1, shape: [{utilization: 50, score: 11}, {utilization: 50, score: 0}]}}]}]",
            "[profiles[0].pluginConfig[0].args.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value, profiles[0].pluginConfig[0].args.shape[1].utilization: Invalid value: 50: values must be sorted in increasing order, profiles[0].pluginConfig[0].args.shape[0].score: Invalid value: 11: not in valid range [0, 10]]",
        ),
        (
            "extenders: [{prioritizeVerb: p, bindVerb: b, managedResources: [{name: cpu}]}, {bindVerb: b, managedResources: [{name: a.b/c}, {name: a.b/c}]}]",
            "[extenders[0].weight: Invalid value: 0: must have a positive weight applied to it, extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended resource name, extenders[1].managedResources[1].name: Invalid value: \"a.b/c\": duplicate extender managed resource name, extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can implement bind]",
        ),
        (
            "leaderElection: {leaseDuration: 5s, renewDeadline: 10s, resourceLock: configmaps}",
            "[leaderElection.leaseDuration: Invalid value: \"10s\": must be greater than `RenewDeadline`, leaderElection.resourceLock: Invalid value: \"configmaps\": resourceLock value must be \"leases\"]",
        ),
    ] {
        assert_eq!(check(text).unwrap_err(), expect);
    }
    assert_eq!(check("leaderElection: {leaseDuration: 0s, resourceName: ''}"), Ok(()));
}

#[test]
fn a_rate_holds_where_one_is_given() {
    use clap::Parser as _;
    let rate = |flags: &[&str]| {
        let options = Options::parse_from(["kube-scheduler"].iter().chain(flags));
        let connection = Configuration::from_options(&options).unwrap().client_connection;
        connection.rate().map(|rate| (rate.per_second, rate.burst))
    };
    assert_eq!(rate(&[]), None);
    assert_eq!(rate(&["--kube-api-qps=7"]), Some((7.0, 100)));
    assert_eq!(rate(&["--kube-api-qps=-1"]), None);
    let file: ClientConnection = serde_json::from_value(serde_json::json!({"burst": 3})).unwrap();
    assert_eq!(file.rate().map(|rate| rate.burst), Some(3));
}
