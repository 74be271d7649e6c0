//! Who runs a script: `nft`, or a fake that remembers it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Output, Stdio};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::Family;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program} cannot be run: {source}")]
    Run { program: &'static str, source: std::io::Error },
    #[error("{program} refused: {message}")]
    Refused { program: &'static str, message: String },
}

/// UDP flows that connection tracking knows, of whichever clients: where they were sent, and where they are sent on to.
/// The two are of one family, and the same where nothing translates them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// What the clients send to.
    pub destination: SocketAddr,
    /// Who answers.
    pub endpoint: SocketAddr,
}

impl Flow {
    pub fn family(&self) -> Family {
        if self.destination.is_ipv4() { Family::Ip } else { Family::Ip6 }
    }

    /// Reads a line of `conntrack -L`: what is named first is the way there, what is named again is the way back.
    fn parse(line: &str) -> Option<Flow> {
        let of = |name: &'static str| {
            line.split_ascii_whitespace()
                .filter_map(|word| word.split_once('='))
                .filter(move |(key, _)| *key == name)
                .map(|(_, value)| value)
        };
        let destination = SocketAddr::new(of("dst").next()?.parse().ok()?, of("dport").next()?.parse().ok()?);
        let endpoint = SocketAddr::new(of("src").nth(1)?.parse().ok()?, of("sport").nth(1)?.parse().ok()?);
        Some(Flow { destination, endpoint })
    }

    /// Arguments with which `conntrack` deletes the flows.
    fn arguments(&self) -> Vec<String> {
        let [address, port] = [self.destination.ip().to_string(), self.destination.port().to_string()];
        let [reply, reply_port] = [self.endpoint.ip().to_string(), self.endpoint.port().to_string()];
        let words = ["-D", "-f", conntrack_family(self.family()), "-p", "udp", "--orig-dst", &address];
        let more = ["--orig-port-dst", &port, "--reply-src", &reply, "--reply-port-src", &reply_port];
        words.into_iter().chain(more).map(str::to_owned).collect()
    }
}

fn conntrack_family(family: Family) -> &'static str {
    match family {
        Family::Ip => "ipv4",
        Family::Ip6 => "ipv6",
    }
}

/// The kernel's packet filter and connection tracking.
#[async_trait]
pub trait PacketFilter: Send + Sync + 'static {
    /// Runs a script as one transaction: all of it takes effect, or nothing.
    async fn apply(&self, script: &str) -> Result<(), Error>;

    /// Whether the kernel would take a script, which is not run.
    async fn check(&self, script: &str) -> Result<(), Error>;

    /// The elements of a table's sets with a timeout, which the kernel adds on its own: what [`crate::Script::add_element`] takes
    /// to make them again, with the time that they have left. An absent table has none.
    async fn remembered(&self, family: Family, table: &str) -> Result<Vec<Remembered>, Error>;

    /// The UDP flows of a family that connection tracking knows.
    async fn flows(&self, family: Family) -> Result<BTreeSet<Flow>, Error>;

    /// Makes connection tracking forget UDP flows. None to forget is no error.
    async fn forget(&self, flow: &Flow) -> Result<(), Error>;

    /// Whether an address is one of this host's.
    fn is_local(&self, address: &IpAddr) -> bool;
}

/// An element that the kernel added by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub set: String,
    /// The key and the time it has left: `10.0.0.1 expires 2h59m`.
    pub element: String,
}

impl Remembered {
    /// Reads what `nft list sets` prints.
    fn parse(listing: &str) -> Vec<Remembered> {
        let (mut found, mut set, mut inside) = (Vec::new(), "", false);
        for line in listing.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("set ").and_then(|line| line.strip_suffix(" {")) {
                (set, inside) = (name, false);
                continue;
            }
            let elements = match line.strip_prefix("elements = {") {
                Some(elements) => elements,
                None if inside => line,
                None => continue,
            };
            inside = !elements.ends_with('}');
            let elements = elements.trim_end_matches('}').split(',').map(str::trim);
            found.extend(
                elements
                    .filter(|element| element.contains(" expires "))
                    .map(|element| Remembered { set: set.to_owned(), element: element.to_owned() }),
            );
        }
        found
    }
}

/// `nft` and `conntrack`, found in PATH.
pub struct Nft;

#[async_trait]
impl PacketFilter for Nft {
    async fn apply(&self, script: &str) -> Result<(), Error> {
        run("nft", &["-f", "-"], script).await
    }

    async fn check(&self, script: &str) -> Result<(), Error> {
        run("nft", &["-c", "-f", "-"], script).await
    }

    async fn remembered(&self, family: Family, table: &str) -> Result<Vec<Remembered>, Error> {
        let program = "nft";
        let output = Command::new(program)
            .args(["list", "sets", "table", &family.to_string(), table])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| Error::Run { program, source })?;
        let listing = String::from_utf8_lossy(&output.stdout).into_owned();
        match finish(program, output) {
            Ok(()) => Ok(Remembered::parse(&listing)),
            Err(Error::Refused { message, .. }) if message.contains("No such file or directory") => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    async fn flows(&self, family: Family) -> Result<BTreeSet<Flow>, Error> {
        let program = "conntrack";
        let failed = |source| Error::Run { program, source };
        let mut child = Command::new(program)
            .args(["-L", "-f", conntrack_family(family), "-p", "udp"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let mut flows = BTreeSet::new();
        // Line by line: there may be a hundred thousand clients, of few flows.
        if let Some(output) = child.stdout.take() {
            let mut lines = BufReader::new(output).lines();
            while let Some(line) = lines.next_line().await.map_err(failed)? {
                flows.extend(Flow::parse(&line));
            }
        }
        finish(program, child.wait_with_output().await.map_err(failed)?)?;
        Ok(flows)
    }

    async fn forget(&self, flow: &Flow) -> Result<(), Error> {
        let arguments = flow.arguments();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match run("conntrack", &arguments, "").await {
            Err(Error::Refused { message, .. }) if message.contains("0 flow entries") => Ok(()),
            other => other,
        }
    }

    fn is_local(&self, address: &IpAddr) -> bool {
        // Only its own addresses can be bound.
        UdpSocket::bind((*address, 0)).is_ok()
    }
}

async fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<(), Error> {
    let failed = |source| Error::Run { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let stdin = child.stdin.take();
    let write = async {
        match stdin {
            Some(mut stdin) => stdin.write_all(input.as_bytes()).await,
            None => Ok(()),
        }
    };
    // Both at once: a program that complains a lot must not wait for its reader.
    let (written, output) = tokio::join!(write, child.wait_with_output());
    finish(program, output.map_err(failed)?)?;
    written.map_err(failed)
}

fn finish(program: &'static str, output: Output) -> Result<(), Error> {
    if output.status.success() {
        return Ok(());
    }
    let message = String::from_utf8_lossy(&output.stderr).trim().chars().take(2000).collect();
    Err(Error::Refused { program, message })
}

/// Keeps the scripts that it got; can be made to refuse the next one or those with some word, or the next flow to forget.
#[derive(Default)]
pub struct Fake {
    pub scripts: Mutex<Vec<String>>,
    /// What connection tracking knows.
    pub tracked: Mutex<BTreeSet<Flow>>,
    pub forgotten: Mutex<Vec<Flow>>,
    pub remembered: Mutex<Vec<Remembered>>,
    pub refuse_next: Mutex<bool>,
    /// Scripts that contain it are refused, whether run or checked.
    pub refuse_word: Mutex<Option<String>>,
    pub refuse_forgetting: Mutex<bool>,
}

#[async_trait]
impl PacketFilter for Fake {
    async fn apply(&self, script: &str) -> Result<(), Error> {
        if std::mem::take(&mut *self.refuse_next.lock()) {
            return Err(Error::Refused { program: "nft", message: "refused, as asked".into() });
        }
        self.check(script).await?;
        self.scripts.lock().push(script.to_owned());
        Ok(())
    }

    async fn check(&self, script: &str) -> Result<(), Error> {
        match &*self.refuse_word.lock() {
            Some(word) if script.contains(word.as_str()) => {
                Err(Error::Refused { program: "nft", message: format!("{word} is refused, as asked") })
            }
            _ => Ok(()),
        }
    }

    async fn remembered(&self, _: Family, _: &str) -> Result<Vec<Remembered>, Error> {
        Ok(self.remembered.lock().clone())
    }

    async fn flows(&self, family: Family) -> Result<BTreeSet<Flow>, Error> {
        Ok(self.tracked.lock().iter().filter(|flow| flow.family() == family).copied().collect())
    }

    async fn forget(&self, flow: &Flow) -> Result<(), Error> {
        if std::mem::take(&mut *self.refuse_forgetting.lock()) {
            return Err(Error::Refused { program: "conntrack", message: "refused, as asked".into() });
        }
        self.tracked.lock().remove(flow);
        self.forgotten.lock().push(*flow);
        Ok(())
    }

    fn is_local(&self, _: &IpAddr) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, destination: &str, endpoint: &str, arguments: &str) {
        let flow = Flow { destination: destination.parse().unwrap(), endpoint: endpoint.parse().unwrap() };
        assert_eq!(Flow::parse(line), Some(flow));
        assert_eq!(flow.arguments().join(" "), arguments);
    }

    #[test]
    fn flows_are_read_and_deleted_in_their_own_family() {
        check(
            "udp      17 29 src=10.0.0.9 dst=10.96.0.10 sport=40000 dport=53 [UNREPLIED] src=10.244.0.2 dst=10.0.0.9 \
             sport=5353 dport=40000 mark=0 use=1",
            "10.96.0.10:53",
            "10.244.0.2:5353",
            "-D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.244.0.2 --reply-port-src 5353",
        );
        // A node port of an IPv6 Service.
        check(
            "udp      17 170 src=fd01::9 dst=fd01::1 sport=40000 dport=30053 packets=2 bytes=90 src=fd00::2 dst=fd01::1 \
             sport=53 dport=40000 packets=2 bytes=90 [ASSURED] mark=0 use=1",
            "[fd01::1]:30053",
            "[fd00::2]:53",
            "-D -f ipv6 -p udp --orig-dst fd01::1 --orig-port-dst 30053 --reply-src fd00::2 --reply-port-src 53",
        );
    }

    #[test]
    fn other_lines_are_no_flows() {
        assert_eq!(Flow::parse(""), None);
        assert_eq!(Flow::parse("conntrack v1.4.7 (conntrack-tools): 0 flow entries have been shown."), None);
    }

    #[test]
    fn elements_with_a_timeout_are_read_of_a_listing() {
        let listing = "table ip kube-proxy {\n\tset cluster-ips {\n\t\ttype ipv4_addr\n\t\telements = { 10.96.0.1, 10.96.0.10 }\n\t}\n\n\
                       \tset affinity-10800-x/y__10.0.0.1/80 {\n\t\ttype ipv4_addr\n\t\tflags dynamic,timeout\n\t\ttimeout 3h\n\
                       \t\telements = { 10.0.0.1 expires 2h59m59s992ms, 10.0.0.2 expires 9m59s992ms,\n\t\t\t     10.0.0.3 expires 1s }\n\
                       \t}\n\tset empty {\n\t\ttype ipv4_addr\n\t}\n}\n";
        let expect = ["10.0.0.1 expires 2h59m59s992ms", "10.0.0.2 expires 9m59s992ms", "10.0.0.3 expires 1s"];
        let set = "affinity-10800-x/y__10.0.0.1/80";
        assert_eq!(
            Remembered::parse(listing),
            expect.map(|element| Remembered { set: set.to_owned(), element: element.to_owned() })
        );
    }
}
