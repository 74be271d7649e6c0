//! Generated histories with faults: the cache and a replica fed by the handler end up as the server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Event, Informer, Informers};
use k8s_openapi::api::core::v1::ConfigMap;

use crate::fake::{Fake, Fault};

type Replica = Arc<Mutex<BTreeMap<String, String>>>;

fn name(map: &ConfigMap) -> String {
    map.metadata.name.clone().unwrap()
}

fn value(map: &ConfigMap) -> String {
    map.data.as_ref().unwrap()["value"].clone()
}

/// Keeps a copy from events alone, checking that each follows from the one before.
fn replicate(informer: &Informer<ConfigMap>) -> Replica {
    let replica = Replica::default();
    let copy = replica.clone();
    informer.on_event(move |event| {
        let mut copy = copy.lock().unwrap();
        match event {
            Event::Added(new) => assert_eq!(copy.insert(name(new), value(new)), None, "added twice"),
            Event::Modified { old, new } => {
                assert_eq!(
                    copy.insert(name(new), value(new)),
                    Some(value(old)),
                    "old is not the last state reported"
                );
            }
            Event::Deleted(last) => assert!(copy.remove(&name(last)).is_some(), "deleted unseen"),
        }
    });
    replica
}

async fn settled(fake: &Fake, informer: &Informer<ConfigMap>, replica: &Replica) {
    let expected = fake.objects().await;
    for _ in 0..400 {
        let cached: BTreeMap<_, _> = informer.list().iter().map(|map| (name(map), value(map))).collect();
        if cached == expected && *replica.lock().unwrap() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let cached: BTreeMap<_, _> = informer.list().iter().map(|map| (name(map), value(map))).collect();
    assert_eq!(cached, expected);
    assert_eq!(*replica.lock().unwrap(), expected);
}

#[tokio::test]
async fn follows_through_faults() {
    let fake = Fake::start().await;
    for n in 0..8 {
        fake.put(&format!("m{n}"), n).await;
    }
    fake.fault(&[Fault::Code(500)]).await;
    let informers = Informers::new(fake.client());
    let informer: Informer<ConfigMap> = informers.all();
    let by_value = informer.index(|map| [value(map)]);
    let replica = replicate(&informer);
    informer.synced().await;
    settled(&fake, &informer, &replica).await;
    assert_eq!(by_value.count("3"), 1);

    // A pseudo-random history, the same every time.
    let mut seed = 7u64;
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    for round in 0..6 {
        for _ in 0..30 {
            let object = format!("m{}", next(10));
            if next(3) == 0 { fake.remove(&object).await } else { fake.put(&object, next(1000)).await }
        }
        match round % 4 {
            0 => fake.cut().await,
            1 => fake.compact().await,
            2 => {
                fake.fault(&[Fault::Close, Fault::Code(500)]).await;
                fake.cut().await;
            }
            _ => {}
        }
        // Changes that the watch does not see.
        for _ in 0..10 {
            let object = format!("m{}", next(10));
            if next(2) == 0 { fake.remove(&object).await } else { fake.put(&object, next(1000)).await }
        }
        if round == 1 {
            fake.compact().await;
        }
        settled(&fake, &informer, &replica).await;
    }
    for map in informer.list() {
        let found = by_value.get(&value(&map));
        assert!(found.iter().any(|other| name(other) == name(&map)));
    }

    // A handler that is added late gets every object.
    let late = replicate(&informer);
    assert!(!informer.has_synced());
    informer.synced().await;
    let expected = fake.objects().await;
    assert_eq!(*late.lock().unwrap(), expected);
    informers.shutdown().await;
}

#[tokio::test]
async fn a_store_put_back_is_listed_again() {
    let fake = Fake::start().await;
    for n in 0..4 {
        fake.put(&format!("m{n}"), n).await;
    }
    let informers = Informers::new(fake.client());
    let informer: Informer<ConfigMap> = informers.all();
    let replica = replicate(&informer);
    let backup = fake.backup().await;
    informer.synced().await;
    // What the backup does not know: m0 at the next version, and two versions more.
    fake.put("m0", 100).await;
    fake.put("new", 5).await;
    fake.remove("m1").await;
    settled(&fake, &informer, &replica).await;
    let watches = |requests: Vec<String>| requests.iter().filter(|one| one.contains("watch=")).count();
    let before = watches(fake.requests().await);
    fake.restore(backup).await;
    while watches(fake.requests().await) == before {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The same object at the same version, with other contents.
    fake.put("m0", 200).await;
    settled(&fake, &informer, &replica).await;
    informers.shutdown().await;
}

/// Notes what the cache had of an object when it learned that the store was put back.
struct Restored(Informer<ConfigMap>, Mutex<Vec<String>>);

impl client::Progress for Restored {
    fn restored(&self) {
        let map = self.0.get(Some("ns"), "m0").map(|map| value(&map));
        self.1.lock().unwrap().extend(map);
    }
}

#[tokio::test]
async fn a_list_of_an_earlier_version_is_of_a_store_put_back() {
    let fake = Fake::start().await;
    fake.put("m0", 0).await;
    let informers = Informers::new(fake.client());
    let informer: Informer<ConfigMap> = informers.all();
    let replica = replicate(&informer);
    let (mut objects, version) = fake.backup().await;
    informer.synced().await;
    let restored = Arc::new(Restored(informer.clone(), Mutex::default()));
    informer.follow(restored.clone());
    fake.put("m0", 100).await;
    fake.put("new", 5).await;
    settled(&fake, &informer, &replica).await;
    // The same object at the version that it had, with other contents; and no watch is resumed.
    let own = objects.get_mut("m0").unwrap();
    own["data"]["value"] = "200".into();
    own["metadata"]["resourceVersion"] = (version + 1).to_string().into();
    fake.fault(&[Fault::Code(410)]).await;
    fake.restore((objects, version + 1)).await;
    settled(&fake, &informer, &replica).await;
    assert_eq!(*restored.1.lock().unwrap(), ["100"], "it is reported once, before the cache changes");
    informers.shutdown().await;
}

#[tokio::test]
async fn a_second_request_shares_the_informer() {
    let fake = Fake::start().await;
    let informers = Informers::new(fake.client());
    let one: Informer<ConfigMap> = informers.all();
    let two: Informer<ConfigMap> = informers.all();
    one.synced().await;
    two.synced().await;
    let lists = fake.requests().await.iter().filter(|request| !request.contains("watch=")).count();
    assert_eq!(lists, 1);
    assert!(two.has_synced());
}
