//! Counts and terms that are kept by difference, against a walk over everything.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use scheduler::cluster::counts::{CountKey, Eligible, Part, Query, Select};
use scheduler::cluster::terms::TermKind;
use scheduler::cluster::{Effect, Node, Pod, Row, Symbol, Table};
use serde_json::json;

use crate::fixture::{node, on, pod};

const HOST: &str = "kubernetes.io/hostname";

fn random_node(random: &mut SmallRng) -> Arc<Node> {
    let name = format!("n{}", random.random_range(0..6));
    let mut extra = json!({"metadata": {"labels": {"disk": (["ssd", "hdd"][random.random_range(0..2)])}}});
    if random.random_bool(0.8) {
        extra["metadata"]["labels"]["zone"] = format!("z{}", random.random_range(0..3)).into();
    }
    if random.random_bool(0.3) {
        extra["spec"]["taints"] = json!([{"key": "k", "effect": "NoSchedule"}]);
    }
    node(&name, "4", extra)
}

fn random_pod(random: &mut SmallRng) -> Arc<Pod> {
    let app = ["web", "db"][random.random_range(0..2)];
    let term = json!({"topologyKey": (["zone", HOST][random.random_range(0..2)]),
        "labelSelector": {"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "api"]}]}});
    let mut extra = json!({"metadata": {"namespace": (["ns", "other"][random.random_range(0..2)]), "labels": {"app": app}}});
    match random.random_range(0..4) {
        0 => {
            extra["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] =
                json!([term]);
        }
        1 => {
            extra["spec"]["affinity"]["podAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] =
                json!([{"weight": 7, "podAffinityTerm": term}]);
        }
        _ => {}
    }
    if random.random_bool(0.2) {
        extra["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    }
    let pod = pod(&format!("p{}", random.random_range(0..30)), extra);
    on(&pod, &format!("n{}", random.random_range(0..6)))
}

fn questions(asking: &Arc<Pod>) -> Vec<(CountKey, Query)> {
    let spread = asking.needs.spread[0].selector.clone();
    let mut questions = Vec::new();
    let selects = [
        (Part::HardSpread, Select::Labels(spread)),
        (Part::Affinity, Select::Terms(asking.needs.affinity.clone())),
    ];
    for (part, select) in selects {
        let nodes = [
            Eligible::default(),
            Eligible {
                keys: vec![Symbol::new("zone")],
                selected_by: Some(asking.needs.clone()),
                tolerated_by: None,
            },
            Eligible { keys: Vec::new(), selected_by: None, tolerated_by: Some(asking.needs.clone()) },
        ];
        for (index, (nodes, key)) in
            nodes.iter().flat_map(|nodes| ["zone", HOST].map(|key| (nodes, key))).enumerate()
        {
            let (namespace, needs) = (asking.namespace.clone(), asking.needs.clone());
            let query = Query {
                namespace: namespace.clone(),
                select: select.clone(),
                key: Symbol::new(key),
                nodes: nodes.clone(),
            };
            questions.push((CountKey { namespace, needs, part: part.clone(), index }, query));
        }
    }
    questions
}

fn is_eligible(query: &Query, row: &Row) -> bool {
    let tolerated = |taint: &scheduler::cluster::Taint| {
        let by = query.nodes.tolerated_by.as_ref();
        taint.effect == Effect::PreferNoSchedule || by.is_none_or(|needs| needs.tolerates(taint))
    };
    row.present
        && row.node.labels.get(&query.key).is_some()
        && query.nodes.keys.iter().all(|key| row.node.labels.get(key).is_some())
        && query.nodes.selected_by.as_ref().is_none_or(|needs| needs.selects(&row.node))
        && row.node.taints.iter().all(tolerated)
}

fn check_counts(table: &Table, key: &CountKey, query: &Query) {
    let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
    let counted_on =
        |row: &Row| row.pods.values().filter(|pod| query.selects(pod, &table.namespaces)).count() as i64;
    for row in table.rows().iter().filter(|row| is_eligible(query, row)) {
        let value = row.node.labels.get(&query.key).unwrap().as_str();
        *domains.entry(value).or_default() += counted_on(row);
    }
    let counted = table.counted(key.clone(), || query.clone());
    for (index, row) in table.rows().iter().enumerate().filter(|(_, row)| row.present) {
        let value = row.node.labels.get(&query.key);
        let expected = value.map(|value| domains.get(value.as_str()).copied().unwrap_or(0));
        assert_eq!(counted.in_domain(index), expected, "{query:?} {}", row.node.name);
        assert_eq!(counted.on_row(index), counted_on(row));
    }
    assert_eq!(counted.domains(), (domains.len(), domains.values().copied().min().unwrap_or(0)));
    assert_eq!(counted.total(), domains.values().sum::<i64>());
}

fn check_terms(table: &Table, asking: &Pod) {
    let mut expected: BTreeMap<(bool, i64, String, String), i64> = BTreeMap::new();
    for row in table.rows().iter().filter(|row| row.present) {
        for other in row.pods.values() {
            let anti = other.needs.anti_affinity.iter().map(|term| (true, 1, term));
            let preferred =
                other.needs.preferred_affinity.iter().map(|(weight, term)| (false, *weight, term));
            for (anti, weight, term) in anti.chain(preferred) {
                if let Some(value) = row.node.labels.get(&term.key)
                    && term.matches(&other.namespace, asking, &table.namespaces)
                {
                    let place = (anti, weight, term.key.to_string(), value.to_string());
                    *expected.entry(place).or_default() += 1;
                }
            }
        }
    }
    let mut found: BTreeMap<(bool, i64, String, String), i64> = BTreeMap::new();
    table.terms().selecting(asking, &table.namespaces, |one| {
        for (value, count) in &**one.values {
            let anti = one.kind == TermKind::AntiAffinity;
            *found.entry((anti, one.weight, one.key.to_string(), value.to_string())).or_default() += count;
        }
    });
    assert_eq!(found, expected);
}

fn history(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let asking = pod(
        "asking",
        json!({
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "nodeSelector": {"disk": "ssd"},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "web"}}}],
                "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "zone", "namespaceSelector": {}, "labelSelector": {"matchLabels": {"app": "db"}}}]}},
            },
        }),
    );
    let questions = questions(&asking);
    let mut table = Table::default();
    for step in 0..400 {
        match random.random_range(0..10) {
            0..2 => _ = table.set_node(&random_node(&mut random)),
            2 => _ = table.remove_node(&random_node(&mut random).name),
            3..7 => table.set_pod(&random_pod(&mut random)),
            7 => {
                let pod = random_pod(&mut random);
                table.assume(&pod, &pod.node.clone());
            }
            _ => _ = table.remove_pod(&random_pod(&mut random).uid),
        }
        if random.random_bool(0.3) || step == 399 {
            let (key, query) = &questions[random.random_range(0..questions.len())];
            check_counts(&table, key, query);
            check_terms(&table, &asking);
        }
    }
    for (key, query) in &questions {
        check_counts(&table, key, query);
    }
}

#[test]
fn counts_and_terms_stay_those_of_a_walk() {
    for seed in 0..50 {
        history(seed);
    }
}
