use api::json;

use super::kubelet::{container, forward_options, log_options, stream_options};
use super::*;

#[test]
fn paths_behind_the_prefix_stay_raw() {
    let check = |path: &str, expect: Option<&str>| {
        let info = RequestInfo::of(&Method::GET, &path.parse().unwrap());
        assert_eq!(path_behind(path, &info).as_deref(), expect, "{path}");
    };
    check("/api/v1/nodes/n/proxy", None);
    check("/api/v1/nodes/n/proxy/", Some("/"));
    check("/api/v1/namespaces/a/pods/p:80/proxy/x%2Fy/", Some("/x%2Fy/"));
    check("/api/v1/namespaces/a/services/https:s:web/proxy/proxy/z", Some("/proxy/z"));
    check("/api/v1/namespaces/pods/pods/p/proxy/z", Some("/z"));
    // what the router takes for a slash is one here
    check("/api/v1/%6Eamespaces/a/pods/p/proxy/z", Some("/z"));
    check("/api/v1/namespaces/a%2Fpods/p/proxy%2fz", Some("/z"));
}

#[test]
fn the_container_of_a_request() {
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]}});
    let message = |asked: &str| container(&pod, asked.into()).map_err(|status| status.message);
    assert_eq!(message("i"), Ok("i".into()));
    assert_eq!(message("zz"), Err("container zz is not valid for pod p".into()));
    assert_eq!(
        message(""),
        Err("a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]".into())
    );
}

#[test]
fn options_become_the_kubelets() {
    assert_eq!(log_options("p", "follow=true&tailLines=5&container=a").unwrap(), "follow=true&tailLines=5");
    assert_eq!(
        log_options("p", "tailLines=-1").unwrap_err().message,
        "PodLogOptions \"p\" is invalid: tailLines: Invalid value: -1: must be greater than or equal to 0"
    );
    let refused = |query: &str| log_options("p", query).unwrap_err().message;
    assert_eq!(
        refused("sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z"),
        "PodLogOptions \"p\" is invalid: []: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
    );
    assert_eq!(
        refused("stream=Stdout"),
        "PodLogOptions \"p\" is invalid: stream: Forbidden: may not be specified"
    );
    assert_eq!(forward_options("ports=80,443").unwrap(), "port=80&port=443");
    assert_eq!(
        forward_options("ports=99999999").unwrap_err().message,
        "cannot convert to []int32: strconv.ParseUint: parsing \"99999999\": value out of range"
    );
    assert_eq!(
        stream_options(
            "command=sh&command=-c&command=a+b%26&stdin=true&stdout=true&stderr=true&container=x",
            true
        )
        .unwrap(),
        "input=1&output=1&error=1&command=sh&command=-c&command=a%20b%26"
    );
}

#[tokio::test]
async fn no_name_leads_to_this_machine() {
    let check = async |host: &str, expect: Result<&str, &str>| {
        let host = host.to_owned();
        let mut place =
            Place { transport: Transport::Plain, host, port: 80, path: String::new(), addresses: Vec::new() };
        let answer = place.resolve().await.map_err(|status| (status.code, status.message));
        assert_eq!(answer, expect.map(|_| ()).map_err(|why| (400, why.to_owned())), "{}", place.host);
        let found: Vec<String> = place.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(found, expect.map(|address| vec![address.to_owned()]).unwrap_or_default());
    };
    check("10.0.0.1", Ok("10.0.0.1:80")).await;
    check("2001:db8::1", Ok("[2001:db8::1]:80")).await;
    for host in [
        "127.0.0.1",
        "localhost",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "169.254.169.254",
        "fe80::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "255.255.255.255",
        "127.1",
        "0x7f.1",
        "2130706433",
    ] {
        check(host, Err("address not allowed")).await;
    }
    check("no-such-host.invalid", Err("lookup no-such-host.invalid: no such host")).await;
}

#[test]
fn names_with_scheme_and_port() {
    let check = |text: &str, expect| assert_eq!(super::place::split(text), expect, "{text}");
    check("p", Some(("", "p", "")));
    check("p:80", Some(("", "p", "80")));
    check("https:p:", Some(("https", "p", "")));
    for text in ["", ":80", "ftp:p:80", "http::80", "a:b:c:d"] {
        check(text, None);
    }
}
