use super::*;

fn profile(text: &str) -> Result<Profile, String> {
    let value = daemon::config::yaml(text).unwrap();
    ProfileConfiguration::deserialize(value).unwrap().build(0)
}

fn names(profile: &Profile, point: Point) -> Vec<(&'static str, i64)> {
    profile.each(point).map(|(place, plugin)| (plugin.name(), profile.weight(place))).collect()
}

#[test]
fn defaults_are_upstreams() {
    let profile = ProfileConfiguration::default().build(0).unwrap();
    assert_eq!(
        names(&profile, Point::Score),
        [
            ("TaintToleration", 3),
            ("NodeAffinity", 2),
            ("NodeResourcesFit", 1),
            ("PodTopologySpread", 2),
            ("InterPodAffinity", 2),
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
    assert!(!profile.preempts);
    assert!(names(&profile, Point::Filter).iter().any(|(name, _)| *name == "TaintToleration"));
}

#[test]
fn unknown_plugins_and_arguments_are_errors() {
    let Err(error) = profile("plugins: {filter: {enabled: [{name: Nope}]}}") else { panic!() };
    assert!(error.contains("Nope"));
    let Err(error) =
        profile("pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Worst}}}]")
    else {
        panic!()
    };
    assert!(error.contains("Worst"));
    assert!(profile("plugins: {bind: {disabled: [{name: '*'}]}}").is_err());
    assert!(profile("plugins: {filter: {enabled: [{name: VolumeBinding}]}}").is_ok());
}
