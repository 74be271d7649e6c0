use packetfilter::Fake;

use super::*;
use crate::base::Settings;
use crate::conntrack::Former;
use crate::conntrack::tests::{dns, flow};

fn tables() -> Vec<Table> {
    let settings =
        |family| Settings { family, mark: 0x4000, masquerade_all: false, cluster_networks: Vec::new() };
    [Family::Ip, Family::Ip6].map(|family| Table::new(settings(family))).into()
}

const SIX: (&str, &str) = ("[fd96::7]:80", "[fd00::2]:53");

/// The Service in both families; of IPv6 it has but the second endpoint.
fn services(family: Family, endpoints: &[&str]) -> Services {
    let mut forward = dns(endpoints);
    if family == Family::Ip6 {
        forward = dns(&["fd00::3"]);
        forward.cluster_ip = "fd96::7".parse().unwrap();
    }
    vec![(Key::new("default", "dns"), vec![forward])]
}

fn networks() -> Networks {
    Networks { node_ports: vec!["192.0.2.1/32".parse().unwrap()], services: Vec::new() }
}

async fn run(filter: &Fake, tables: &mut [Table], endpoints: &[&str]) -> bool {
    let mut good = true;
    for table in tables {
        let services = services(table.family(), endpoints);
        good &= program(filter, table, &networks(), services).await.is_ok();
    }
    good
}

fn track(filter: &Fake, flows: &[(&str, &str)]) {
    filter.tracked.lock().extend(flows.iter().map(|(destination, endpoint)| flow(destination, endpoint)));
}

#[tokio::test]
async fn a_restart_keeps_the_flows_of_endpoints_that_serve() {
    let filter = Fake::default();
    let kept = [("10.96.0.7:80", "10.244.0.2:53"), ("192.0.2.1:30053", "10.244.0.2:53")];
    track(&filter, &kept);
    track(&filter, &[("10.96.0.7:80", "10.244.0.9:53")]);
    assert!(run(&filter, &mut tables(), &["10.244.0.2"]).await);
    assert_eq!(*filter.forgotten.lock(), [flow("10.96.0.7:80", "10.244.0.9:53")]);
    assert_eq!(filter.tracked.lock().len(), kept.len());
}

#[tokio::test]
async fn flows_of_a_service_that_is_gone_are_forgotten() {
    let filter = Fake::default();
    let table = &mut tables()[0];
    let services = services(Family::Ip, &["10.244.0.2"]);
    assert!(program(&filter, table, &networks(), services).await.is_ok());
    track(&filter, &[("10.96.0.7:80", "10.244.0.2:53")]);
    let gone = vec![(Key::new("default", "dns"), Vec::new())];
    assert!(program(&filter, table, &networks(), gone).await.is_ok());
    assert!(filter.tracked.lock().is_empty());
    assert_eq!(*table.former(), Former::default());
}

#[tokio::test]
async fn a_transaction_that_fails_once_is_made_again() {
    let filter = Fake::default();
    let mut tables = tables();
    assert!(run(&filter, &mut tables, &["10.244.0.2", "10.244.0.3"]).await);
    track(&filter, &[("10.96.0.7:80", "10.244.0.2:53")]);
    *filter.refuse_next.lock() = true;
    assert!(run(&filter, &mut tables, &["10.244.0.3"]).await);
    assert_eq!(*filter.forgotten.lock(), [flow("10.96.0.7:80", "10.244.0.2:53")]);
    assert!(!tables.iter().any(Table::is_unclean));
}

#[tokio::test]
async fn a_family_does_not_wait_for_the_other() {
    let filter = Fake::default();
    let mut tables = tables();
    track(&filter, &[("10.96.0.7:80", "10.244.0.2:53"), SIX]);
    *filter.refuse_word.lock() = Some("table ip kube-proxy".into());
    assert!(!run(&filter, &mut tables, &["10.244.0.3"]).await);
    assert_eq!(*filter.forgotten.lock(), [flow(SIX.0, SIX.1)]);
    *filter.refuse_word.lock() = None;
    assert!(run(&filter, &mut tables, &["10.244.0.3"]).await);
    assert_eq!(filter.forgotten.lock().last(), Some(&flow("10.96.0.7:80", "10.244.0.2:53")));
}

#[tokio::test]
async fn flows_that_could_not_be_deleted_are_retried() {
    let filter = Fake::default();
    let mut tables = tables();
    track(&filter, &[("10.96.0.7:80", "10.244.0.9:53"), ("192.0.2.1:30053", "10.244.0.9:53")]);
    *filter.refuse_forgetting.lock() = true;
    assert!(run(&filter, &mut tables, &["10.244.0.2"]).await, "the rules are in");
    assert_eq!(filter.tracked.lock().len(), 1);
    assert!(tables[0].is_unclean());
    let before = filter.scripts.lock().len();
    assert!(run(&filter, &mut tables, &["10.244.0.2"]).await);
    assert!(filter.tracked.lock().is_empty() && !tables[0].is_unclean());
    assert_eq!(filter.scripts.lock().len(), before, "no rule changed");
}

/// As many Services, each of a cluster IP and an endpoint with its number.
fn many(count: u8) -> Services {
    let service = |number| {
        let mut forward = dns(&[&format!("10.244.0.{number}")]);
        (forward.node_port, forward.cluster_ip) = (0, [10, 96, 1, number].into());
        forward.name = format!("service-{number}");
        (Key::new("default", &forward.name), vec![forward])
    };
    (0..count).map(service).collect()
}

async fn check_refused(already: u8, anew: bool) {
    let filter = Fake::default();
    let table = &mut tables()[0];
    program(&filter, table, &networks(), many(already)).await.unwrap();
    if anew {
        table.distrust();
    }
    *filter.refuse_word.lock() = Some("10.244.0.17 ".into());
    let refused = program(&filter, table, &networks(), many(50)).await.unwrap();
    let refused: Vec<String> = refused.into_iter().map(|(key, _)| key.to_string()).collect();
    assert_eq!(refused, ["default/service-17"]);
    assert_eq!(table.len(), 49);
    let scripts = filter.scripts.lock().join("");
    assert!((0..50).all(|number| number == 17 || scripts.contains(&format!("10.244.0.{number} . 53"))));
    // It is tried again when it changes, or when all is.
    *filter.refuse_word.lock() = None;
    assert!(program(&filter, table, &networks(), many(50)).await.unwrap().is_empty());
    assert_eq!(table.len(), 50);
}

#[tokio::test]
async fn a_service_that_is_refused_does_not_keep_the_others_from_their_rules() {
    check_refused(0, false).await;
    check_refused(10, false).await;
    check_refused(10, true).await;
}

#[tokio::test]
async fn no_service_is_left_out_when_every_script_is_refused() {
    let filter = Fake::default();
    let table = &mut tables()[0];
    *filter.refuse_word.lock() = Some("10.244.0.".into());
    assert!(program(&filter, table, &networks(), many(50)).await.is_err());
    assert_eq!(filter.scripts.lock().len(), 0);
    *filter.refuse_word.lock() = Some("add table".into());
    assert!(program(&filter, table, &networks(), many(50)).await.is_err());
    *filter.refuse_word.lock() = None;
    assert!(program(&filter, table, &networks(), many(50)).await.unwrap().is_empty());
    assert_eq!(table.len(), 50);
}

/// There may be no program to forget flows with, and the kernel may go on refusing.
#[tokio::test]
async fn former_forwards_do_not_grow_with_each_retry() {
    let filter = Fake::default();
    let table = &mut tables()[0];
    program(&filter, table, &networks(), services(Family::Ip, &["10.244.0.2"])).await.unwrap();
    let mut once = Former::default();
    table.forwards().for_each(|forward| once.add(forward));
    *filter.refuse_word.lock() = Some("add element".into());
    for number in 3..50 {
        let services = services(Family::Ip, &[&format!("10.244.0.{number}")]);
        assert!(program(&filter, table, &networks(), services.clone()).await.is_ok_and(|it| it.len() == 1));
        let change = table.update(base::ruleset(&table.settings, &networks()), services);
        table.undo(change);
        assert_eq!(*table.former(), once);
    }
}

#[tokio::test]
async fn rules_that_others_have_flushed_are_restored() {
    let filter = Fake::default();
    let mut tables = tables();
    program(&filter, &mut tables[0], &networks(), many(3)).await.unwrap();
    *filter.refuse_word.lock() = Some("flush chain ip kube-proxy services".into());
    look_after(&filter, &mut tables[..1]).await;
    assert!(tables[0].is_unknown());
    *filter.refuse_word.lock() = None;
    program(&filter, &mut tables[0], &networks(), Services::new()).await.unwrap();
    let last = filter.scripts.lock().last().cloned().unwrap();
    assert!(last.contains("delete table") && last.contains("10.244.0.2 . 53"));
}

#[tokio::test]
async fn rules_do_not_hang_on_what_is_remembered_of_clients() {
    let filter = Fake::default();
    let table = &mut tables()[0];
    let mut services = many(1);
    services[0].1[0].affinity = Some(60);
    program(&filter, table, &networks(), services.clone()).await.unwrap();
    let script = filter.scripts.lock().last().cloned().unwrap();
    let set = script.split("add set ip kube-proxy affinity-").nth(1).unwrap().split(' ').next().unwrap();
    let client =
        packetfilter::Remembered { set: format!("affinity-{set}"), element: "10.0.0.1 expires 1s".into() };
    filter.remembered.lock().push(client);
    for refused in [None, Some("expires".to_owned())] {
        let kept = refused.is_none();
        *filter.refuse_word.lock() = refused;
        table.distrust();
        assert!(program(&filter, table, &networks(), services.clone()).await.unwrap().is_empty());
        let script = filter.scripts.lock().last().cloned().unwrap();
        assert!(script.contains("delete table") && script.contains("10.0.0.1 expires 1s") == kept);
    }
}

#[tokio::test]
async fn chains_without_use_are_deleted_later() {
    let filter = Fake::default();
    let mut tables = tables();
    let mut services = many(1);
    services[0].1[0].affinity = Some(60);
    program(&filter, &mut tables[0], &networks(), services).await.unwrap();
    program(&filter, &mut tables[0], &networks(), many(1)).await.unwrap();
    assert!(!filter.scripts.lock().last().unwrap().contains("delete chain"));
    look_after(&filter, &mut tables[..1]).await;
    let last = filter.scripts.lock().last().cloned().unwrap();
    assert_eq!(last.matches("delete chain ip kube-proxy ").count(), 2);
    assert!(tables[0].unused().is_empty());
}
