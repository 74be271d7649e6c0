//! An etcd and an API server over it, on free ports of the loopback address, and daemons that use them.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use client::{Client, Config, Material, Request};
use tempfile::TempDir;

use crate::{Daemon, Pki};

const PATIENCE: Duration = Duration::from_secs(60);
/// How often a starting daemon is asked whether it is ready.
const POLL: Duration = Duration::from_millis(5);

/// Where the daemons' binaries are.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub folder: PathBuf,
    pub etcd: PathBuf,
}

/// A daemon that uses the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ControllerManager,
    Scheduler,
    /// With nftables, as the node `bench-node`.
    Proxy,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::ControllerManager => "kube-controller-manager",
            Kind::Scheduler => "kube-scheduler",
            Kind::Proxy => "kube-proxy",
        }
    }
}

pub struct Stack {
    binaries: Binaries,
    pub apiserver: Daemon,
    /// From exec to the first good answer of `/readyz`.
    pub ready: Duration,
    _etcd: Daemon,
    pki: Pki,
    admin: (Material, Material),
    port: u16,
    etcd_port: u16,
    folder: TempDir,
}

impl Stack {
    pub async fn start(binaries: &Binaries) -> Result<Stack> {
        let folder = tempfile::Builder::new().prefix("corten-").tempdir()?;
        let pki = Pki::new(&folder.path().join("pki"))?;
        let admin = pki.issue("admin", Some("system:masters"))?;
        pki.issue("apiserver", None)?;
        let (port, etcd_port, peer_port) = (free_port()?, free_port()?, free_port()?);
        let (client_url, peer_url) =
            (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let arguments = [
            format!("--data-dir={}", folder.path().join("etcd").display()),
            format!("--listen-client-urls={client_url}"),
            format!("--advertise-client-urls={client_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
            "--quota-backend-bytes=4294967296".to_owned(),
        ];
        let mut etcd = Daemon::start(&binaries.etcd, &arguments, folder.path().join("etcd.log"))?;
        answers(&mut etcd, &Client::new(Config::new(&client_url)?)?, "/health").await?;
        let arguments = apiserver_flags(&pki, port, etcd_port);
        let apiserver = Daemon::start(
            &binaries.folder.join("kube-apiserver"),
            &arguments,
            folder.path().join("kube-apiserver.log"),
        )?;
        let binaries = binaries.clone();
        let mut stack = Stack {
            binaries,
            apiserver,
            ready: Duration::ZERO,
            _etcd: etcd,
            pki,
            admin,
            port,
            etcd_port,
            folder,
        };
        stack.wait().await?;
        Ok(stack)
    }

    /// Ends the API server and starts it again on the same etcd.
    pub async fn restart(self) -> Result<Stack> {
        let binaries = self.binaries.clone();
        self.hand_over(&binaries, false).await
    }

    /// Ends the API server, or kills it, and starts another one on the same etcd and port.
    pub async fn hand_over(self, binaries: &Binaries, kill: bool) -> Result<Stack> {
        let Stack { apiserver, _etcd, pki, admin, port, etcd_port, folder, .. } = self;
        if kill {
            apiserver.kill().await?
        } else {
            apiserver.stop().await?
        }
        let arguments = apiserver_flags(&pki, port, etcd_port);
        let apiserver = Daemon::start(
            &binaries.folder.join("kube-apiserver"),
            &arguments,
            folder.path().join("kube-apiserver.log"),
        )?;
        let binaries = binaries.clone();
        let mut stack =
            Stack { binaries, apiserver, ready: Duration::ZERO, _etcd, pki, admin, port, etcd_port, folder };
        stack.wait().await?;
        Ok(stack)
    }

    async fn wait(&mut self) -> Result<()> {
        let client = self.client()?;
        self.ready = answers(&mut self.apiserver, &client, "/readyz").await?;
        Ok(())
    }

    /// A new client as administrator: a connection of its own.
    pub fn client(&self) -> Result<Client> {
        let mut config = Config::new(&format!("https://127.0.0.1:{}", self.port))?;
        config.certificate_authority = Some(Material::Inline(fs::read(self.pki.path("ca.crt"))?));
        config.credentials.certificate = Some(self.admin.clone());
        Ok(Client::new(config)?)
    }

    /// A client of the JSON gateway of its etcd.
    pub fn etcd(&self) -> Result<Client> {
        Ok(Client::new(Config::new(&format!("http://127.0.0.1:{}", self.etcd_port))?)?)
    }

    /// The authority of its certificates.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    pub fn clients(&self, count: usize) -> Result<Vec<Client>> {
        (0..count).map(|_| self.client()).collect()
    }

    /// Starts another daemon, of the same or other binaries, and waits until it is healthy.
    pub async fn daemon(&self, binaries: &Binaries, kind: Kind) -> Result<Daemon> {
        let port = free_port()?;
        let kubeconfig = self
            .pki
            .kubeconfig(&format!("system:{}", kind.name()), &format!("https://127.0.0.1:{}", self.port))?;
        let arguments = self.daemon_flags(kind, &kubeconfig, port)?;
        let log = self.folder.path().join(format!("{}.log", kind.name()));
        let mut daemon = Daemon::start(&binaries.folder.join(kind.name()), &arguments, log)?;
        // A proxy is healthy only on a node that there is.
        let (scheme, path) = if kind == Kind::Proxy { ("http", "/livez") } else { ("https", "/healthz") };
        let mut config = Config::new(&format!("{scheme}://127.0.0.1:{port}"))?;
        config.insecure = true;
        answers(&mut daemon, &Client::new(config)?, path).await?;
        Ok(daemon)
    }

    fn daemon_flags(&self, kind: Kind, kubeconfig: &Path, port: u16) -> Result<Vec<String>> {
        let kubeconfig = kubeconfig.display();
        if kind == Kind::Proxy {
            let config = self.folder.path().join("kube-proxy.yaml");
            let metrics = free_port()?;
            fs::write(
                &config,
                format!(
                    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n\
                     clientConnection: {{kubeconfig: {kubeconfig}}}\nclusterCIDR: 10.244.0.0/16\n\
                     hostnameOverride: bench-node\nconntrack: {{maxPerCore: 0}}\n\
                     healthzBindAddress: 127.0.0.1:{port}\nmetricsBindAddress: 127.0.0.1:{metrics}\n"
                ),
            )?;
            return Ok(vec![format!("--config={}", config.display())]);
        }
        let mut flags = vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            // Nobody stands by, and a lease that its holder left behind would make the next one wait.
            "--leader-elect=false".to_owned(),
            // Upstream's own limits would otherwise be all that is measured.
            "--kube-api-qps=5000".to_owned(),
            "--kube-api-burst=5000".to_owned(),
        ];
        if kind == Kind::ControllerManager {
            let pki = |file| self.pki.path(file).display().to_string();
            flags.extend([
                // Nobody renews the leases of nodes that are only objects.
                "--controllers=*,-node-lifecycle-controller".to_owned(),
                format!("--root-ca-file={}", pki("ca.crt")),
                format!("--cluster-signing-cert-file={}", pki("ca.crt")),
                format!("--cluster-signing-key-file={}", pki("ca.key")),
                format!("--service-account-private-key-file={}", pki("sa.key")),
                "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
                "--use-service-account-credentials=true".to_owned(),
            ]);
        }
        Ok(flags)
    }
}

fn apiserver_flags(pki: &Pki, port: u16, etcd_port: u16) -> Vec<String> {
    let path = |file: &str| pki.path(file).display().to_string();
    vec![
        "--advertise-address=127.0.0.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(), // endpoints may not be on loopback
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--allow-privileged=true".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        format!("--client-ca-file={}", path("ca.crt")),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", path("sa.pub")),
        format!("--service-account-signing-key-file={}", path("sa.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        format!("--tls-cert-file={}", path("apiserver.crt")),
        format!("--tls-private-key-file={}", path("apiserver.key")),
    ]
}

/// Asks until the answer is good, and says how long that took since the daemon was started.
async fn answers(daemon: &mut Daemon, client: &Client, path: &str) -> Result<Duration> {
    loop {
        let request = Request::get(path).accept("*/*").timeout(Duration::from_secs(5));
        match client.bytes(request).await {
            Ok(_) => return Ok(daemon.started.elapsed()),
            Err(error) if daemon.started.elapsed() > PATIENCE => {
                bail!("no good answer of {path} in {PATIENCE:?}: {error}")
            }
            Err(_) => daemon.check()?,
        }
        tokio::time::sleep(POLL).await;
    }
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(listener.local_addr()?.port())
}

/// Waits until `condition` holds; how long that took.
pub async fn until(
    what: &str,
    patience: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let started = Instant::now();
    while !condition().await? {
        if started.elapsed() > patience {
            bail!("{what}: not so after {patience:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(started.elapsed())
}
