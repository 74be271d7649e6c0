//! Custom resources whose versions a webhook converts.

use std::sync::Arc;
use std::time::Duration;

use api::{Tree, json};
use http::Method;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::core::Rig;
use crate::definitions::{DEFINITIONS, WIDGETS, condition, definition, follow, version};
use crate::webhooks::Webhook;

const LATER: &str = "/apis/example.com/v2/namespaces/default/widgets";

/// Converts `place` of v1 into `host` and `port` of v2, and back; `mode` says what is wrong with the answers.
async fn converter() -> (Webhook, Arc<Mutex<&'static str>>) {
    let mode: Arc<Mutex<&'static str>> = Arc::default();
    let asked = mode.clone();
    let webhook = Webhook::answering(move |_, review| respond(*asked.lock(), review)).await;
    (webhook, mode)
}

fn respond(mode: &str, review: &Tree) -> Tree {
    let wanted = &review["request"]["desiredAPIVersion"];
    if mode == "silent" || mode == "silent to v2" && *wanted == "example.com/v2" {
        return Tree::Null;
    }
    let mut objects: Vec<Tree> = review["request"]["objects"].as_array().unwrap().clone();
    for object in &mut objects {
        let spec = object["spec"].clone();
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        object["spec"] = match (wanted.as_str(), text("place").split_once(':')) {
            (Some("example.com/v2"), Some((host, port))) => json!({"host": host, "port": port}),
            (Some("example.com/v1"), _) => json!({"place": format!("{}:{}", text("host"), text("port"))}),
            _ => json!({}),
        };
        object["apiVersion"] = wanted.clone();
        let metadata = &mut object["metadata"];
        match mode {
            "name" => metadata["name"] = "x".into(),
            "uid of object" => metadata["uid"] = "x".into(),
            "label" => metadata["labels"] = json!({"converted": "yes"}),
            "labels" => metadata["labels"] = json!({"converted": "not so"}),
            "numbers" => metadata["labels"] = json!({"converted": 1}),
            "generation" => metadata["generation"] = 99.into(),
            "kind" => object["kind"] = "Other".into(),
            "version" => object["apiVersion"] = "example.com/v9".into(),
            "null" => *object = Tree::Null,
            _ => {}
        }
    }
    let mut response = json!({"uid": review["request"]["uid"], "result": {"status": "Success"}});
    response["convertedObjects"] = Tree::Array(objects);
    match mode {
        "uid" => response["uid"] = "x".into(),
        "few" => response["convertedObjects"] = json!([]),
        "failed" => response["result"] = json!({"status": "Failed", "message": "not today"}),
        "mute" => response["result"] = json!({"status": "Failed"}),
        "none" => response = Tree::Null,
        "long" => response["result"]["message"] = "x".repeat(2 << 20).into(),
        _ => {}
    }
    let kind = if mode == "review" { "Other" } else { "ConversionReview" };
    json!({"kind": kind, "apiVersion": review["apiVersion"], "response": response})
}

/// A definition with two versions, of which the named one is stored.
fn converted(webhook: &Webhook, stored: &str) -> Tree {
    let text = json!({"type": "string"});
    let versions = json!([
        version("v1", stored == "v1", json!({"place": text})),
        version("v2", stored == "v2", json!({"host": text, "port": text})),
    ]);
    let mut made = definition("widgets", "Widget", versions);
    made["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v7", "v1"],
        "clientConfig": {"url": format!("https://{}/convert", webhook.address), "caBundle": webhook.authority},
    }});
    made
}

fn earlier(name: &str, place: &str) -> Tree {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"place": place}})
}

fn later(name: &str, host: &str, port: &str) -> Tree {
    json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": name},
        "spec": {"host": host, "port": port}})
}

async fn stored(rig: &Rig, name: &str) -> Tree {
    let key = format!("/registry/example.com/widgets/default/{name}");
    let found = rig.server.resources.store.get(key.as_bytes()).await.unwrap().0.unwrap();
    serde_json::from_slice(&found.value).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_converts_what_is_read_and_written() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let (webhook, mode) = converter().await;
    rig.create(DEFINITIONS, converted(&webhook, "v1")).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;

    rig.create(WIDGETS, earlier("a", "h:1")).await;
    assert!(webhook.asked.lock().is_empty(), "nothing was to be converted");
    let made = rig.create(LATER, later("b", "k", "2")).await;
    assert_eq!(
        (&made["apiVersion"], &made["spec"]),
        (&json!("example.com/v2"), &json!({"host": "k", "port": "2"}))
    );
    assert_eq!(stored(&rig, "b").await["spec"], json!({"place": "k:2"}));
    assert_eq!(rig.get(&format!("{LATER}/a")).await.tree["spec"], json!({"host": "h", "port": "1"}));
    assert_eq!(rig.get(&format!("{WIDGETS}/b")).await.tree["spec"], json!({"place": "k:2"}));

    // as many objects as there are go in one review
    for name in ["c", "d", "e"] {
        rig.create(WIDGETS, earlier(name, "h:1")).await;
    }
    webhook.asked.lock().clear();
    let list = rig.get(LATER).await.tree;
    assert_eq!(list["items"].as_array().unwrap().len(), 5);
    assert!(list["items"].as_array().unwrap().iter().all(|item| item["apiVersion"] == "example.com/v2"));
    let sizes: Vec<usize> = webhook
        .asked
        .lock()
        .drain(..)
        .map(|(_, review)| review["request"]["objects"].as_array().unwrap().len())
        .collect();
    assert_eq!(sizes, [4]);
    // and what was converted is kept
    *mode.lock() = "failed";
    assert_eq!(rig.get(LATER).await.tree["items"], list["items"]);
    *mode.lock() = "";

    let from = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let mut watch = rig.watch(&format!("{LATER}?watch=1&resourceVersion={from}")).await;
    let patched = rig.json(Method::PATCH, &format!("{LATER}/a"), json!({"spec": {"port": "9"}})).await;
    assert_eq!((patched.code, &patched.tree["spec"]["port"]), (200, &json!("9")), "{}", patched.tree);
    assert_eq!(watch.next().await, ("MODIFIED".to_owned(), patched.tree));
    assert_eq!(stored(&rig, "a").await["spec"], json!({"place": "h:9"}));

    // managers of both versions
    let apply = async |path: &str, manager: &str, object: Tree| {
        let headers = [("content-type", "application/apply-patch+yaml")];
        let path = format!("{path}/f?fieldManager={manager}");
        rig.send(Method::PATCH, &path, &headers, object.to_string()).await.status().as_u16()
    };
    assert_eq!(apply(LATER, "one", later("f", "h", "1")).await, 201);
    assert_eq!(apply(WIDGETS, "two", earlier("f", "h:1")).await, 200);
    assert_eq!(apply(LATER, "one", later("f", "h", "3")).await, 409);

    webhook.asked.lock().clear();
    let patched = rig.json(Method::PATCH, &format!("{WIDGETS}/f"), json!({"spec": {"place": "h:5"}})).await;
    assert_eq!(patched.code, 200, "{}", patched.tree);
    let managers = patched.tree["metadata"]["managedFields"].as_array().unwrap();
    let of = |manager: &str| {
        managers.iter().find(|entry| entry["manager"] == manager).map(|entry| &entry["fieldsV1"])
    };
    assert_eq!(of("one"), Some(&json!({"f:spec": {"f:host": {}}})));
    assert_eq!(of("two"), None);
    // the old and the new one together
    let reviews: Vec<_> =
        webhook.asked.lock().drain(..).map(|(_, review)| review["request"].clone()).collect();
    assert_eq!(reviews.len(), 1, "{reviews:?}");
    assert_eq!(reviews[0]["desiredAPIVersion"], "example.com/v2");
    assert_eq!(reviews[0]["objects"].as_array().unwrap().len(), 2);
    // what a manager applies no more stays where another owns it in another version
    assert_eq!(
        apply(
            LATER,
            "one",
            json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "f"}})
        )
        .await,
        200
    );
    assert_eq!(rig.get(&format!("{LATER}/f")).await.tree["spec"], json!({"host": "h", "port": "5"}));

    *mode.lock() = "label";
    let labelled = rig.get(&format!("{LATER}/b")).await.tree;
    assert_eq!(labelled["metadata"]["labels"], json!({"converted": "yes"}));
    *mode.lock() = "generation";
    assert_eq!(rig.get(&format!("{LATER}/b")).await.tree["metadata"]["generation"], 1);
    *mode.lock() = "";
    let deleted = rig.json(Method::DELETE, &format!("{LATER}/b"), Tree::Null).await;
    assert_eq!(deleted.code, 200);
}

#[tokio::test]
async fn objects_of_several_versions_are_stored_beside_each_other() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let (webhook, mode) = converter().await;
    rig.create(DEFINITIONS, converted(&webhook, "v1")).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    for name in ["a", "b", "c"] {
        rig.create(WIDGETS, earlier(name, "h:1")).await;
    }
    let mut watch = rig.watch(&format!("{WIDGETS}?watch=1")).await;
    let spec = json!({"spec": converted(&webhook, "v2")["spec"]});
    let changed = rig.json(Method::PATCH, &format!("{DEFINITIONS}/widgets.example.com"), spec).await;
    assert_eq!(changed.tree["status"]["storedVersions"], json!(["v1", "v2"]));
    watch.ended().await;
    rig.create(LATER, later("d", "h", "2")).await;

    // an object in the version that it is stored in needs nobody
    *mode.lock() = "failed";
    assert_eq!(rig.get(&format!("{WIDGETS}/a")).await.tree["spec"], json!({"place": "h:1"}));
    assert_eq!(rig.get(&format!("{LATER}/a")).await.code, 500);
    *mode.lock() = "";
    let names = |list: &Tree| {
        list["items"].as_array().unwrap().iter().map(|item| item["spec"].clone()).collect::<Vec<_>>()
    };
    let (first, second) = (json!({"host": "h", "port": "1"}), json!({"host": "h", "port": "2"}));
    assert_eq!(names(&rig.get(LATER).await.tree), [first.clone(), first.clone(), first, second]);
    let (first, second) = (json!({"place": "h:1"}), json!({"place": "h:2"}));
    assert_eq!(names(&rig.get(WIDGETS).await.tree), [first.clone(), first.clone(), first, second]);

    // an update that changes nothing brings an object to the version that is stored now
    assert_eq!(stored(&rig, "a").await["apiVersion"], "example.com/v1");
    let patched = rig.json(Method::PATCH, &format!("{WIDGETS}/a"), json!({})).await;
    assert_eq!((patched.code, &patched.tree["spec"]), (200, &json!({"place": "h:1"})), "{}", patched.tree);
    let now = stored(&rig, "a").await;
    assert_eq!(
        (&now["apiVersion"], &now["spec"]),
        (&json!("example.com/v2"), &json!({"host": "h", "port": "1"}))
    );

    let finalizers = json!({"metadata": {"finalizers": ["example.com/f"]}});
    rig.json(Method::PATCH, &format!("{WIDGETS}/b"), finalizers).await;
    for name in ["b", "c"] {
        let deleted = rig.json(Method::DELETE, &format!("{WIDGETS}/{name}"), Tree::Null).await;
        assert_eq!(deleted.code, 200, "{}", deleted.tree);
    }
    assert_eq!(stored(&rig, "b").await["spec"], json!({"host": "h", "port": "1"}));
    assert_eq!(rig.get(&format!("{WIDGETS}/c")).await.code, 404);
}

/// What a list shows, by name.
async fn shown(rig: &Rig, path: &str, selector: &str) -> Vec<String> {
    let list = rig.get(&format!("{path}?{selector}")).await;
    assert_eq!(list.code, 200, "{selector}: {}", list.tree);
    let name = |item: &Tree| item["metadata"]["name"].as_str().unwrap().to_owned();
    list.tree["items"].as_array().unwrap().iter().map(name).collect()
}

fn selectable(mut definition: Tree) -> Tree {
    for version in definition["spec"]["versions"].as_array_mut().unwrap() {
        version["selectableFields"] = match version["name"].as_str() {
            Some("v1") => json!([{"jsonPath": ".spec.place"}]),
            _ => json!([{"jsonPath": ".spec.host"}, {"jsonPath": ".spec.port"}]),
        };
    }
    definition
}

#[tokio::test]
async fn each_version_is_selected_by_its_own_fields() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let (webhook, mode) = converter().await;
    rig.create(DEFINITIONS, selectable(converted(&webhook, "v1"))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    let (host, both) = ("fieldSelector=spec.host%3Dh1", "fieldSelector=spec.host%3Dh1,spec.port%3D80");
    let mut by_host = rig.watch(&format!("{LATER}?watch=1&{host}")).await;
    let mut by_both = rig.watch(&format!("{LATER}?watch=1&{both}")).await;
    let mut by_place = rig.watch(&format!("{WIDGETS}?watch=1&fieldSelector=spec.place%3Dh1:80")).await;
    let made = rig.create(LATER, later("a", "h1", "80")).await;
    rig.create(LATER, later("b", "h1", "8080")).await;
    rig.create(LATER, later("c", "h2", "80")).await;
    let from = made["metadata"]["resourceVersion"].as_str().unwrap().to_owned();

    assert_eq!(shown(&rig, LATER, host).await, ["a", "b"]);
    assert_eq!(shown(&rig, LATER, both).await, ["a"]);
    assert_eq!(shown(&rig, LATER, "fieldSelector=spec.host!%3Dh1").await, ["c"]);
    assert_eq!(shown(&rig, LATER, &format!("{host}&limit=1")).await, ["a"]);
    assert_eq!(shown(&rig, WIDGETS, "fieldSelector=spec.place%3Dh1:8080").await, ["b"]);
    // as of an earlier revision, which the store has to be asked for
    let earlier_state = format!("{host}&resourceVersion={from}&resourceVersionMatch=Exact");
    assert_eq!(shown(&rig, LATER, &earlier_state).await, ["a"]);
    for (path, selector) in
        [(LATER, "fieldSelector=spec.place%3Dh1:80"), (WIDGETS, "fieldSelector=spec.host%3Dh1")]
    {
        let label = if path == LATER { "spec.place" } else { "spec.host" };
        let refused = rig.get(&format!("{path}?{selector}")).await;
        assert_eq!(refused.tree["message"], format!("field label not supported: {label}"));
    }

    let added = |name: &str| ("ADDED".to_owned(), name.to_owned());
    let gone = |name: &str| ("DELETED".to_owned(), name.to_owned());
    for name in ["a", "b"] {
        assert_eq!(by_host.next_name().await, added(name));
    }
    assert_eq!(by_both.next_name().await, added("a"));
    assert_eq!(by_place.next_name().await, added("a"));
    // what happened before a watch began
    let mut since = rig.watch(&format!("{LATER}?watch=1&{host}&resourceVersion={from}")).await;
    assert_eq!(since.next_name().await, added("b"));

    let changed = rig.json(Method::PATCH, &format!("{LATER}/b"), json!({"spec": {"host": "h2"}})).await;
    let (event, object) = by_host.next().await;
    assert_eq!((event.as_str(), &object["spec"]["host"]), ("DELETED", &json!("h1")));
    assert_eq!(object["metadata"]["resourceVersion"], changed.tree["metadata"]["resourceVersion"]);
    assert_eq!(since.next_name().await, gone("b"));

    let deleted = rig.json(Method::DELETE, &format!("{LATER}?{both}"), Tree::Null).await;
    assert_eq!(deleted.code, 200, "{}", deleted.tree);
    assert_eq!(shown(&rig, LATER, "").await, ["b", "c"]);
    for watch in [&mut by_host, &mut by_both, &mut by_place] {
        assert_eq!(watch.next_name().await, gone("a"));
    }

    // labels are those of the converted object, too
    *mode.lock() = "label";
    rig.create(WIDGETS, earlier("d", "h3:80")).await;
    assert_eq!(shown(&rig, LATER, "labelSelector=converted%3Dyes").await, ["d"]);
    assert!(shown(&rig, WIDGETS, "labelSelector=converted%3Dyes").await.is_empty());
    *mode.lock() = "failed";
    rig.create(WIDGETS, earlier("e", "h1:1")).await;
    let failed = rig.get(&format!("{LATER}?{host}")).await;
    assert_eq!((failed.code, &failed.tree["reason"]), (500, &json!("StorageReadError")), "{}", failed.tree);
}

#[tokio::test]
async fn objects_stored_at_another_version_are_selected_as_they_are_shown() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let (webhook, _mode) = converter().await;
    rig.create(DEFINITIONS, selectable(converted(&webhook, "v1"))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    rig.create(WIDGETS, earlier("a", "h1:80")).await;
    let mut watch = rig.watch(&format!("{WIDGETS}?watch=1")).await;
    let spec = json!({"spec": selectable(converted(&webhook, "v2"))["spec"]});
    let changed = rig.json(Method::PATCH, &format!("{DEFINITIONS}/widgets.example.com"), spec).await;
    assert_eq!(changed.tree["status"]["storedVersions"], json!(["v1", "v2"]));
    watch.ended().await;
    rig.create(LATER, later("b", "h1", "80")).await;
    assert_eq!(shown(&rig, LATER, "fieldSelector=spec.host%3Dh1").await, ["a", "b"]);
    assert_eq!(shown(&rig, WIDGETS, "fieldSelector=spec.place%3Dh1:80").await, ["a", "b"]);
    let mut watch = rig.watch(&format!("{LATER}?watch=1&fieldSelector=spec.host%3Dh1")).await;
    for name in ["a", "b"] {
        assert_eq!(watch.next_name().await, ("ADDED".to_owned(), name.to_owned()));
    }
    rig.json(Method::DELETE, &format!("{LATER}/a"), Tree::Null).await;
    assert_eq!(watch.next_name().await, ("DELETED".to_owned(), "a".to_owned()));
}

#[tokio::test]
async fn fields_of_versions_that_differ_in_their_schemas_alone() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let text = json!({"type": "string"});
    let open = |version: Tree| {
        let mut version = version;
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"] =
            true.into();
        version
    };
    let versions = json!([
        open(version("v1", true, json!({"place": text}))),
        version("v2", false, json!({"host": text, "port": text, "place": text})),
    ]);
    rig.create(DEFINITIONS, selectable(definition("widgets", "Widget", versions))).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    let mut watch = rig.watch(&format!("{LATER}?watch=1&fieldSelector=spec.host%3Dh1")).await;
    rig.create(LATER, later("a", "h1", "80")).await;
    rig.create(LATER, later("b", "h2", "80")).await;
    assert_eq!(shown(&rig, LATER, "fieldSelector=spec.host%3Dh1").await, ["a"]);
    assert_eq!(shown(&rig, LATER, "fieldSelector=spec.port%3D80").await, ["a", "b"]);
    assert_eq!(watch.next_name().await, ("ADDED".to_owned(), "a".to_owned()));
    rig.json(Method::PATCH, &format!("{LATER}/a"), json!({"spec": {"host": "h2"}})).await;
    assert_eq!(watch.next_name().await, ("DELETED".to_owned(), "a".to_owned()));
}

#[tokio::test]
async fn answers_that_are_no_conversions_are_refused_in_upstreams_words() {
    let rig = Rig::start().await;
    let _tasks = follow(&rig).await;
    let (webhook, mode) = converter().await;
    rig.create(DEFINITIONS, converted(&webhook, "v1")).await;
    condition(&rig, "widgets.example.com", "Established", "True").await;
    rig.create(WIDGETS, earlier("a", "h:1")).await;
    let cases = [
        ("name", "returned invalid object: must have the same name: NAME != x"),
        (
            "labels",
            "returned invalid metadata: metadata.labels: Invalid value: \"not so\": a valid label must be",
        ),
        (
            "numbers",
            "returned invalid metadata: metadata.labels[converted] must be a string, but is int64 in converted object",
        ),
        ("kind", "returned invalid object at index 0: invalid kind (expected Widget, received Other)"),
        (
            "version",
            "returned invalid object at index 0: invalid groupVersion (expected TO, received example.com/v9)",
        ),
        ("few", "returned 0 objects, expected 1"),
        ("failed", "failed: not today"),
        ("mute", "failed: response.result.status was 'Failed', not 'Success'"),
        ("none", "failed: no response provided"),
        (
            "review",
            "failed: no kind \"Other\" is registered for version \"apiextensions.k8s.io/v1\" in scheme",
        ),
        ("uid", "failed: expected response.uid="),
        ("long", "failed: Post \"https://"),
    ];
    for (case, words) in cases {
        *mode.lock() = case;
        let expect = |from: &str, to: &str, name: &str| {
            let words = words.replace("NAME", name).replace("TO", to);
            format!("conversion webhook for {from}, Kind=Widget {words}")
        };
        let written = rig.json(Method::POST, LATER, later("n", "h", "1")).await;
        let message = written.tree["message"].as_str().unwrap().to_owned();
        assert_eq!((written.code, &written.tree["reason"]), (500, &Tree::Null), "{}", written.tree);
        assert!(message.starts_with(&expect("example.com/v2", "example.com/v1", "n")), "{case}: {message}");
        let read = rig.get(&format!("{LATER}/a")).await;
        assert_eq!((read.code, &read.tree["reason"]), (500, &json!("InternalError")), "{}", read.tree);
        let message = read.tree["message"].as_str().unwrap();
        let around = "Internal error occurred: StorageError: corrupt object, Code: 7, Key: /example.com/widgets/default/a,";
        assert!(message.starts_with(around), "{message}");
        assert!(message.contains(&expect("example.com/v1", "example.com/v2", "a")), "{case}: {message}");
    }
    *mode.lock() = "null";
    let written = rig.json(Method::POST, LATER, later("n", "h", "1")).await;
    assert_eq!(written.tree["message"], "unexpected end of JSON input");
}

/// Waits until the webhook was asked so often.
async fn asked(webhook: &Webhook, times: usize) {
    while webhook.asked.lock().len() < times {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs a test where few threads may block, and ends even where all do.
fn on_few_threads(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .unwrap();
    let (done, end) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        test.await;
        done.send(()).unwrap();
    });
    let ended = end.recv_timeout(Duration::from_secs(20));
    runtime.shutdown_background();
    ended.unwrap();
}

#[test]
fn a_webhook_that_does_not_answer_keeps_no_thread() {
    on_few_threads(async {
        let rig = Arc::new(Rig::start().await);
        let _tasks = follow(&rig).await;
        let (webhook, mode) = converter().await;
        rig.create(DEFINITIONS, converted(&webhook, "v1")).await;
        condition(&rig, "widgets.example.com", "Established", "True").await;
        // its manager's fields are of the version that is not stored
        rig.create(LATER, later("a", "h", "1")).await;
        *mode.lock() = "silent";
        webhook.asked.lock().clear();
        let mut patches = JoinSet::new();
        for place in 0..16 {
            let rig = rig.clone();
            let spec = json!({"spec": {"place": format!("h:{place}")}});
            patches.spawn(
                async move { rig.json(Method::PATCH, &format!("{WIDGETS}/a?dryRun=All"), spec).await },
            );
        }
        asked(&webhook, 16).await;
        assert_eq!(rig.get(&format!("{WIDGETS}/a")).await.tree["spec"], json!({"place": "h:1"}));
        assert!(patches.try_join_next().is_none());
    });
}

#[test]
fn a_webhook_that_does_not_answer_keeps_no_costly_check_waiting() {
    on_few_threads(async {
        let rig = Arc::new(Rig::start().await);
        let _tasks = follow(&rig).await;
        let (webhook, mode) = converter().await;
        let numbers = json!({"type": "array", "maxItems": 1000, "items": {"type": "integer"},
            "x-kubernetes-validations": [{"rule": "self.all(x, self.all(y, x <= y))"}]});
        let mut made = converted(&webhook, "v1");
        let properties = "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties";
        made.pointer_mut(properties).unwrap()["numbers"] = numbers.clone();
        rig.create(DEFINITIONS, made).await;
        condition(&rig, "widgets.example.com", "Established", "True").await;
        let versions = json!([version("v1", true, json!({"numbers": numbers}))]);
        let mut gadgets = definition("gadgets", "Gadget", versions);
        gadgets["spec"]["names"]["shortNames"] = json!([]);
        rig.create(DEFINITIONS, gadgets).await;
        condition(&rig, "gadgets.example.com", "Established", "True").await;
        // it is checked as the version that the client sent, to which the stored one is converted
        *mode.lock() = "silent to v2";
        let mut creates = JoinSet::new();
        for name in 0..16 {
            let rig = rig.clone();
            creates.spawn(async move {
                rig.json(Method::POST, LATER, later(&format!("n{name}"), "h", "1")).await
            });
        }
        asked(&webhook, 32).await;
        let gadget = json!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "g"},
            "spec": {"numbers": [1, 1]}});
        rig.create("/apis/example.com/v1/namespaces/default/gadgets", gadget).await;
        assert!(creates.try_join_next().is_none());
    });
}
