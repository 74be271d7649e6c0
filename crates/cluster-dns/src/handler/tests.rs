use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use hickory_resolver::config::ResolverConfig;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_server::Server;
use serde_json::json;
use tokio::net::UdpSocket;

use super::*;
use crate::directory::fixed::Fixed;

const PODS: u8 = 100;

/// A headless service of many pods.
fn facts() -> Fixed {
    let endpoints: Vec<_> =
        (0..PODS).map(|number| json!({"addresses": [IpAddr::from([10, 0, 0, number])]})).collect();
    Fixed {
        namespaces: vec!["default"],
        services: vec![Arc::new(
            serde_json::from_value(
                json!({"metadata": {"name": "db", "namespace": "default"}, "spec": {"clusterIP": "None"}}),
            )
            .unwrap(),
        )],
        slices: vec![Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": "db"}},
                "ports": [{"name": "sql", "port": 1}], "endpoints": endpoints,
            }))
            .unwrap(),
        )],
    }
}

async fn ask(server: SocketAddr, edns: Option<Edns>) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message
        .add_query(Query::query(Name::from_ascii("db.default.svc.cluster.local.").unwrap(), RecordType::A));
    message.edns = edns;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_bytes().unwrap(), server).await.unwrap();
    let mut answer = vec![0; 65536];
    let length = socket.recv(&mut answer).await.unwrap();
    Message::from_bytes(&answer[..length]).unwrap()
}

fn taking(payload: u16, version: u8) -> Option<Edns> {
    let mut edns = Edns::new();
    edns.set_max_payload(payload).set_version(version);
    Some(edns)
}

#[tokio::test]
async fn answers_by_udp() {
    let resolver =
        TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default())
            .build()
            .unwrap();
    let mut server = Server::new(Handler::with("cluster.local", facts(), resolver).unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    server.register_socket(socket);

    let short = ask(address, None).await;
    assert!(short.metadata.truncation && short.edns.is_none());
    let whole = ask(address, taking(4096, 0)).await;
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (PODS.into(), false));
    assert!(whole.edns.is_some(), "who speaks of EDNS is answered with it");
    let later = ask(address, taking(4096, 1)).await;
    assert_eq!(
        (u16::from(later.metadata.response_code), later.answers.len()),
        (ResponseCode::BADVERS.into(), 0)
    );

    let mut first = HashSet::new();
    for _ in 0..20 {
        first.insert(ask(address, taking(4096, 0)).await.answers[0].data.to_string());
    }
    assert!(first.len() > 1, "not everybody gets the same pod");
    server.shutdown_gracefully().await.unwrap();
}
