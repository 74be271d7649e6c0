//! The network: a test runs itself again in namespaces where it is the node, and runs itself further as servers and clients
//! in the namespaces of pods and of the world outside.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const NODE: &str = "192.0.2.1/32";
pub const NODE_V6: &str = "fd00:2::1/128";
pub const OUTSIDE: &str = "192.0.2.2";
pub const POD_1: &str = "10.244.0.2";
pub const POD_2: &str = "10.244.0.3";
pub const POD_1_V6: &str = "fd00:244::2";
pub const POD_2_V6: &str = "fd00:244::3";
/// A pod of another node, reached by the world outside.
pub const REMOTE_POD: &str = "10.244.1.2";

const STAGE: &str = "CORTEN_PROXY_STAGE";
const ARGUMENT: &str = "CORTEN_PROXY_ARGUMENT";
/// How often a client asks, so that each of two endpoints has been chosen.
const TIMES: usize = 24;
const PATIENCE: Duration = Duration::from_secs(1);
const PORT: u16 = 8080;

const SET_UP: &str = r#"
mount -t tmpfs tmpfs /run && mkdir -p /run/netns
ip link set lo up
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
# Whoever is refused is to know, each time.
echo 0 >/proc/sys/net/ipv4/icmp_ratelimit
echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects
echo 0 >/proc/sys/net/ipv4/conf/default/send_redirects
join() { # a namespace, its addresses, the node's
	ip netns add "$1"
	ip link add "$1" type veth peer name eth0 netns "$1"
	ip addr add "$4" dev "$1"
	ip addr add "$5" dev "$1" nodad
	ip link set "$1" up
	ip -n "$1" link set lo up
	ip -n "$1" addr add "$2" dev eth0
	ip -n "$1" addr add "$3" dev eth0 nodad
	ip -n "$1" link set eth0 up
	ip -n "$1" route replace "${4%/*}" dev eth0
	ip -n "$1" route replace "${5%/*}" dev eth0
	ip -n "$1" route add default via "${4%/*}"
	ip -n "$1" route add default via "${5%/*}"
	ip route replace "${2%/*}" dev "$1"
	ip route replace "${3%/*}" dev "$1"
}
join pod-1 10.244.0.2/32 fd00:244::2/128 10.244.0.1/32 fd00:244::1/128
join pod-2 10.244.0.3/32 fd00:244::3/128 10.244.0.1/32 fd00:244::1/128
join outside 192.0.2.2/24 fd00:2::2/64 192.0.2.1/24 fd00:2::1/64
ip -n outside addr add 10.244.1.2/32 dev lo
ip route add 10.244.1.0/24 via 192.0.2.2
for network in 10.96.0.0/16 203.0.113.1 203.0.113.9 fd00:96::/64; do ip route add $network dev outside; done
"#;

#[derive(Clone, Copy)]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Runs `test`, which is the body of the test of that name, on the node.
pub fn inside(name: &str, test: impl Future<Output = ()>) {
    if std::env::var(STAGE).is_ok_and(|stage| stage == "node") {
        let servers = [("pod-1", POD_1, POD_1_V6), ("pod-2", POD_2, POD_2_V6), ("outside", REMOTE_POD, "")]
            .map(|(namespace, v4, v6)| Server::start(namespace, &format!("{v4} {v6}")));
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
        drop(servers);
        return;
    }
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout != b"0\n" {
        eprintln!("not root: {name} is skipped");
        return;
    }
    let set_up = format!("set -e\n{SET_UP}\nexec \"$0\" --exact {name} --nocapture");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "sh", "-c", &set_up])
        .arg(std::env::current_exe().unwrap())
        .env(STAGE, "node")
        .status()
        .unwrap();
    assert!(status.success());
}

struct Server(Child);

impl Server {
    fn start(namespace: &str, addresses: &str) -> Server {
        let mut server = Server(role(namespace, "serve", addresses).spawn().unwrap());
        let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("listening")), "{namespace} does not listen");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill(); // it may have failed by itself
        let _ = self.0.wait();
    }
}

fn role(namespace: &str, stage: &str, argument: &str) -> Command {
    let executable = std::env::current_exe().unwrap();
    let mut command = match namespace {
        "node" => Command::new(executable),
        _ => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(executable);
            command
        }
    };
    command.args(["--exact", "helper", "--nocapture"]).env(STAGE, stage).env(ARGUMENT, argument);
    command.stdout(Stdio::piped());
    command
}

pub fn nft(script: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{script}");
}

/// Checks who answers there, each with the client that it sees.
pub fn probe(from: &str, protocol: Protocol, to: &str, expect: &[String]) {
    let answers = answers(from, protocol, to);
    let mut expect = expect.to_vec();
    expect.sort();
    assert_eq!(answers, expect, "from {from} to {to}");
}

pub fn answers(from: &str, protocol: Protocol, to: &str) -> Vec<String> {
    let stage = if let Protocol::Tcp = protocol { "connect" } else { "send" };
    let output = role(from, stage, to).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("answer: ")).collect();
    answers.into_iter().map(str::to_owned).collect()
}

/// What a helper does, where this process is one.
pub fn help() {
    let Ok(argument) = std::env::var(ARGUMENT) else { return };
    match std::env::var(STAGE).as_deref() {
        Ok("serve") => serve(argument.split_whitespace()),
        Ok(stage) => {
            let to: SocketAddr = argument.parse().unwrap();
            let ask = if stage == "connect" { connect } else { send };
            for answer in (0..TIMES).map(|_| ask(to)) {
                match answer {
                    Ok(answer) => println!("answer: {answer}"),
                    Err(error) => return println!("answer: {}", describe(&error)),
                }
            }
        }
        Err(_) => {}
    }
}

/// Answers with its own address and the client's, until it is killed.
fn serve<'a>(addresses: impl Iterator<Item = &'a str>) {
    let mut servers = Vec::new();
    for address in addresses.map(|address| address.parse::<IpAddr>().unwrap()) {
        let (tcp, udp) =
            (TcpListener::bind((address, PORT)).unwrap(), UdpSocket::bind((address, PORT)).unwrap());
        servers.push(std::thread::spawn(move || {
            for connection in tcp.incoming().map(Result::unwrap) {
                let client = connection.peer_addr().unwrap().ip();
                let _ = { &connection }.write_all(format!("{address} sees {client}").as_bytes()); // it may be gone
            }
        }));
        servers.push(std::thread::spawn(move || {
            loop {
                let (_, client) = udp.recv_from(&mut [0; 16]).unwrap();
                let _ = udp.send_to(format!("{address} sees {}", client.ip()).as_bytes(), client); // likewise
            }
        }));
    }
    println!("listening");
    servers.into_iter().for_each(|server| server.join().unwrap());
}

fn connect(to: SocketAddr) -> io::Result<String> {
    let mut connection = TcpStream::connect_timeout(&to, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer)
}

fn send(to: SocketAddr) -> io::Result<String> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(to)?;
    socket.send(b"who?")?;
    let mut answer = [0; 100];
    let size = socket.recv(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..size]).into_owned())
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "timeout".to_owned(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "unreachable".to_owned(),
        _ => error.to_string(),
    }
}
