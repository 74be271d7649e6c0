//! Who runs a script: `nft`, or a fake that remembers it.

use std::net::IpAddr;
use std::process::Stdio;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{program} cannot be run: {source}")]
    Run { program: &'static str, source: std::io::Error },
    #[error("{program} refused: {message}")]
    Refused { program: &'static str, message: String },
}

/// UDP flows that connection tracking still sends to where they used to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// The address clients send to; `None` for a node port, which is any of the node's.
    pub destination: Option<IpAddr>,
    pub port: u16,
    /// Only the flows that were sent on to this endpoint.
    pub endpoint: Option<IpAddr>,
}

/// The kernel's packet filter and connection tracking.
#[async_trait]
pub trait PacketFilter: Send + Sync + 'static {
    /// Runs a script as one transaction: all of it takes effect, or nothing.
    async fn apply(&self, script: &str) -> Result<(), Error>;

    /// Makes connection tracking forget UDP flows. None to forget is no error.
    async fn forget(&self, flow: &Flow) -> Result<(), Error>;
}

/// `nft` and `conntrack`, found in PATH.
pub struct Nft;

#[async_trait]
impl PacketFilter for Nft {
    async fn apply(&self, script: &str) -> Result<(), Error> {
        run("nft", &["-f", "-"], script).await
    }

    async fn forget(&self, flow: &Flow) -> Result<(), Error> {
        let port = flow.port.to_string();
        let mut arguments: Vec<String> =
            ["-D", "-p", "udp", "--orig-port-dst", &port].map(str::to_owned).to_vec();
        let family = if [flow.destination, flow.endpoint].iter().flatten().any(IpAddr::is_ipv6) {
            "ipv6"
        } else {
            "ipv4"
        };
        arguments.extend(["-f".to_owned(), family.to_owned()]);
        for (flag, address) in [("--orig-dst", flow.destination), ("--reply-src", flow.endpoint)] {
            if let Some(address) = address {
                arguments.extend([flag.to_owned(), address.to_string()]);
            }
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match run("conntrack", &arguments, "").await {
            Err(Error::Refused { message, .. }) if message.contains("0 flow entries") => Ok(()),
            other => other,
        }
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
    let output = output.map_err(failed)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().chars().take(2000).collect();
        return Err(Error::Refused { program, message });
    }
    written.map_err(failed)
}

/// Remembers what it was told; can be made to refuse the next script.
#[derive(Default)]
pub struct Fake {
    pub scripts: Mutex<Vec<String>>,
    pub forgotten: Mutex<Vec<Flow>>,
    pub refuse_next: Mutex<bool>,
}

#[async_trait]
impl PacketFilter for Fake {
    async fn apply(&self, script: &str) -> Result<(), Error> {
        if std::mem::take(&mut *self.refuse_next.lock()) {
            return Err(Error::Refused { program: "nft", message: "refused, as asked".into() });
        }
        self.scripts.lock().push(script.to_owned());
        Ok(())
    }

    async fn forget(&self, flow: &Flow) -> Result<(), Error> {
        self.forgotten.lock().push(flow.clone());
        Ok(())
    }
}
