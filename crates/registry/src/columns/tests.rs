use super::*;
use api::json;

#[test]
fn durations() {
    for (seconds, expect) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (200, "3m20s"),
        (600, "10m"),
        (10_700, "178m"),
        (10_800, "3h"),
        (12_660, "3h31m"),
        (172_000, "47h"),
        (190_800, "2d5h"),
        (864_000, "10d"),
        (94_608_000 + 86_400 * 40, "3y40d"),
        (-1, "0s"),
        (-5, "<invalid>"),
    ] {
        assert_eq!(human_duration(seconds), expect, "{seconds}");
    }
}

#[test]
fn pods() {
    let resource = crate::kind::built_in("", "v1", "pods").unwrap();
    let now: Timestamp = "2026-01-01T00:10:00Z".parse().unwrap();
    let check = |spec: Tree, status: Tree, expect: [&str; 3]| {
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec, "status": status});
        let cells = cells(resource, &pod, now);
        assert_eq!(
            [&cells[1], &cells[2], &cells[3]],
            [&json!(expect[0]), &json!(expect[1]), &json!(expect[2])],
            "{pod}"
        );
        assert_eq!(cells.len(), definitions(resource).len());
        assert_eq!(cells[4], json!("10m"));
    };
    let one = json!({"containers": [{"name": "c"}]});
    let with_init = json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]});
    check(one.clone(), json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
    check(
        one.clone(),
        json!({"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 2, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2026-01-01T00:08:00Z"}}}]}),
        ["1/1", "Running", "2 (2m ago)"],
    );
    check(
        one.clone(),
        json!({"phase": "Running", "containerStatuses": [{"restartCount": 5, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        ["0/1", "CrashLoopBackOff", "5"],
    );
    check(
        one.clone(),
        json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 3}}}]}),
        ["0/1", "ExitCode:3", "0"],
    );
    check(
        with_init.clone(),
        json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]}),
        ["0/2", "Init:0/2", "0"],
    );
    check(
        with_init,
        json!({"phase": "Running", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}},
        {"name": "s", "started": true, "ready": true, "restartCount": 1}],
        "containerStatuses": [{"name": "c", "ready": true, "state": {"running": {}}}]}),
        ["2/2", "Running", "1"],
    );
}

/// Every column and cell of tables that upstream's API server (v1.37.1) made.
#[test]
fn recorded_tables() {
    let mut failures = 0;
    let other = std::env::var("CORTEN_RECORDED").ok();
    let text = other.and_then(|folder| std::fs::read_to_string(format!("{folder}/tables.jsonl")).ok());
    for line in text.as_deref().unwrap_or(include_str!("tables.jsonl")).lines() {
        let table: Tree = serde_json::from_str(line).unwrap();
        let word = |field: &str| table[field].as_str().unwrap();
        let resource = crate::kind::built_in(word("group"), word("version"), word("plural")).unwrap();
        let now: Timestamp = word("now").parse().unwrap();
        let shape: Vec<Tree> = definitions(resource)
            .iter()
            .map(|c| json!({"name": c.name, "type": c.ty, "format": c.format, "priority": c.priority}))
            .collect();
        if Tree::Array(shape.clone()) != table["columns"] {
            failures += 1;
            println!("--- {}\n got {shape:?}\nwant {}", word("plural"), table["columns"]);
        }
        for row in table["rows"].as_array().unwrap() {
            let got = Tree::Array(cells(resource, &row["object"], now));
            if got != row["cells"] {
                failures += 1;
                println!("--- {}\n got {got}\nwant {}", word("plural"), row["cells"]);
            }
        }
    }
    assert_eq!(failures, 0);
}

/// The texts are of columns that are there, and of kinds served by default nearly every column has one.
#[test]
fn columns_say_what_they_show() {
    let mut known = std::collections::HashSet::new();
    for resource in crate::kind::by_default() {
        for column in definitions(resource) {
            let served = resource.verbs.iter().any(|verb| *verb == "list");
            let silent = (&*resource.plural, column.name) == ("runtimeclasses", "Handler");
            if served && !silent {
                assert_ne!(description(resource, column.name), "", "{} {}", resource.plural, column.name);
            }
            known.insert(format!("{}.{}\t{}", resource.plural, resource.group, column.name));
            known.insert(format!("*.\t{}", column.name));
        }
    }
    for line in include_str!("descriptions.txt").lines() {
        let mut words = line.split('\t');
        let (resource, column) = (words.next().unwrap(), words.next().unwrap());
        let dot = if resource.contains('.') { "" } else { "." };
        assert!(known.contains(&format!("{resource}{dot}\t{column}")), "{resource} {column}");
    }
}
