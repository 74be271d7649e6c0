//! Assembles the kubelet and runs its tasks until shutdown. Pods keep running.

use crate::allocation::{self, Allocations};
use crate::cgroups::Cgroups;
use crate::clock::Clock;
use crate::config::KubeletConfiguration;
use crate::container_config;
use crate::env::Allocatable;
use crate::events::{Events, Normal, Warning};
use crate::housekeeping::Housekeeping;
use crate::images::{self, Puller};
use crate::mirror;
use crate::node;
use crate::node::swap::Swap;
use crate::objects::{ApiObjects, Objects, Standalone};
use crate::options::Options;
use crate::paths::Paths;
use crate::pleg::Pleg;
use crate::pods::PodManager;
use crate::probes::Probes;
use crate::resolv_conf;
use crate::sources;
use crate::status;
use crate::volumes;
use crate::worker::supervisor::Supervisor;
use anyhow::{Context, bail};
use client::{Client, Config, EventRecorder, Informers};
use cri::{ImageService, RuntimeService};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus, Service};
use parking_lot::RwLock;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// Everything the kubelet's parts share.
pub struct Kubelet {
    pub node_name: String,
    pub addresses: Arc<node::addresses::Addresses>,
    pub config: Arc<KubeletConfiguration>,
    pub paths: Paths,
    /// `None` standalone.
    pub client: Option<Client>,
    pub pods: Arc<PodManager>,
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    pub runtime_name: String,
    pub objects: Arc<dyn Objects>,
    pub events: Arc<Events>,
    pub volumes: Arc<volumes::Manager>,
    pub puller: Puller,
    pub image_collector: images::gc::Collector,
    pub probes: Probes,
    pub cgroups: Cgroups,
    pub allocations: Allocations,
    pub status: Arc<status::manager::Manager>,
    pub mirrors: mirror::Queue,
    pub pleg: Pleg,
    pub housekeeping: Housekeeping,
    pub supervisor: Arc<Supervisor>,
    pub machine: node::machine::Machine,
    pub resolv_conf: resolv_conf::File,
    pub container_node: container_config::Node,
    pub runtime_health: RwLock<node::RuntimeHealth>,
    /// Labels the node is registered with.
    pub labels: std::collections::BTreeMap<String, String>,
    /// What its object says, as far as that is known.
    pub node_facts: RwLock<node::Facts>,
    pub cloud: node::cloud::Cloud,
    pub pressure: RwLock<crate::eviction::Pressure>,
    pub started: tokio::time::Instant,
    pub clock: Clock,
}

/// The parts that tests replace.
pub struct Parts {
    pub runtime: Arc<dyn RuntimeService>,
    pub images: Arc<dyn ImageService>,
    pub runtime_name: String,
    pub client: Option<Client>,
    pub objects: Arc<dyn Objects>,
    pub events: Arc<Events>,
    pub paths: Paths,
    pub node_name: String,
    pub addresses: Arc<node::addresses::Addresses>,
    pub labels: std::collections::BTreeMap<String, String>,
    pub cloud: node::cloud::Cloud,
    pub allocations: Allocations,
    /// `/sys/fs/cgroup`.
    pub cgroup_mount: std::path::PathBuf,
    /// The machine's by default, with which the runtime's agrees.
    pub clock: Clock,
}

impl Kubelet {
    pub fn new(config: KubeletConfiguration, parts: Parts) -> Arc<Self> {
        let machine = node::machine::Machine::read();
        let mut config = config;
        config.max_pods = config.most_pods(machine.cpus);
        let config = Arc::new(config);
        let pods = Arc::new(PodManager::new());
        let period = i64::try_from(config.cpu_cfs_quota_period.0.as_micros()).unwrap_or(100_000);
        let cgroups = Cgroups::new(
            &parts.cgroup_mount,
            &config.cgroup_root,
            config.cgroups_per_qos,
            config.cpu_cfs_quota,
            period,
        )
        .with_pids_limit(config.pod_pids_limit);
        let container_node = container_config::Node {
            memory_capacity: machine.memory_bytes,
            cgroup_v2: cgroups.is_v2(),
            swap: Swap::new(
                &config.memory_swap.swap_behavior,
                machine.swap_bytes,
                &parts.cgroup_mount,
                cgroups.is_v2(),
            ),
            cfs_quota: config.cpu_cfs_quota,
            cfs_period_microseconds: period,
            seccomp_default: config.seccomp_default,
            seccomp_root: parts.paths.root.join("seccomp"),
        };
        let at_once = match (config.serialize_image_pulls, config.max_parallel_image_pulls) {
            (true, _) => Some(1),
            (false, limit) => limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0),
        };
        let allocatable = node::allocatable(&config, &machine, &parts.paths);
        let volumes = volumes::Manager::new(
            parts.paths.clone(),
            parts.objects.clone(),
            parts.events.clone(),
            volumes::Node { name: parts.node_name.clone(), allocatable },
        );
        let resolv_conf = resolv_conf::File::new(config.resolv_conf.as_deref().unwrap_or("/etc/resolv.conf"));
        Arc::new(Self {
            status: status::manager::Manager::new(parts.client.clone(), pods.clone()),
            puller: Puller::new(
                parts.images.clone(),
                parts.objects.clone(),
                parts.events.clone(),
                images::records::Records::new(&parts.paths.root, config.image_policy().unwrap_or_default()),
                at_once,
                parts.clock.clone(),
            ),
            image_collector: Default::default(),
            probes: Probes::default(),
            mirrors: mirror::queue(),
            pleg: Pleg::default(),
            housekeeping: Housekeeping::default(),
            supervisor: Arc::default(),
            runtime_health: RwLock::default(),
            pressure: RwLock::default(),
            node_facts: RwLock::new(node::Facts::first(&parts.labels, &parts.node_name)),
            started: tokio::time::Instant::now(),
            clock: parts.clock,
            node_name: parts.node_name,
            addresses: parts.addresses,
            paths: parts.paths,
            client: parts.client,
            runtime: parts.runtime,
            images: parts.images,
            runtime_name: parts.runtime_name,
            objects: parts.objects,
            events: parts.events,
            labels: parts.labels,
            cloud: parts.cloud,
            allocations: parts.allocations,
            config,
            pods,
            volumes,
            cgroups,
            machine,
            resolv_conf,
            container_node,
        })
    }

    /// Why pods with a network of their own cannot start yet.
    pub fn network_problem(&self) -> Option<String> {
        self.runtime_health.read().network.clone()
    }

    pub fn allocatable(&self) -> Allocatable {
        node::allocatable(&self.config, &self.machine, &self.paths)
    }

    /// Takes in what the API server has of the node.
    pub fn note_node(&self, node: &Node) {
        let facts = node::Facts::of(node);
        self.events.set_node_uid(&facts.uid);
        *self.node_facts.write() = facts;
    }

    /// The status the API server has of a pod, for a static pod that of its mirror, unless that is of an earlier manifest.
    pub fn reported(&self, pod: &Pod) -> Option<PodStatus> {
        use crate::pods::{CONFIG_HASH, MIRROR, annotation, name, namespace};
        if !crate::pods::is_static(pod) {
            return pod.status.clone();
        }
        let mirror = self.pods.mirror(namespace(pod), name(pod))?;
        let its_own = annotation(&mirror, MIRROR) == annotation(pod, CONFIG_HASH);
        mirror.status.clone().filter(|_| its_own)
    }

    /// The addresses of a pod's sandbox when the runtime was last asked.
    pub async fn runtime_ips(&self, uid: &str) -> Vec<String> {
        self.pods.runtime_pod(uid).map(|found| found.ips().to_vec()).unwrap_or_default()
    }
}

/// Runs until `shutdown`.
pub async fn run(options: Options, shutdown: CancellationToken) -> anyhow::Result<()> {
    let config = options.configuration()?;
    info!(version = daemon::version::GIT_VERSION, "Kubelet version");
    daemon::absent::warn_of_fields(config.without_effect());
    if options.kubeconfig.is_empty() && !options.bootstrap_kubeconfig.is_empty()
        || !options.bootstrap_kubeconfig.is_empty() && !Path::new(&options.kubeconfig).exists()
    {
        bail!(
            "--bootstrap-kubeconfig is not supported yet: give a --kubeconfig with the node's own client certificate"
        );
    }
    let cgroup_mount = Path::new("/sys/fs/cgroup");
    let v2 = cgroup_mount.join("cgroup.controllers").exists();
    if !v2 && config.fail_cgroup_v1 {
        bail!(
            "kubelet is configured to not run on a host using cgroup v1. cgroup v1 support is unsupported and will be removed in a future release"
        );
    }
    if config.cgroup_driver != "cgroupfs" {
        bail!("cgroupDriver {:?} is not supported yet, only cgroupfs", config.cgroup_driver);
    }
    let swaps = node::swap::check(config.fail_swap_on, &config.memory_swap.swap_behavior, v2)?;
    daemon::limits::raise_open_files();
    daemon::limits::set_oom_score(config.oom_score_adj);

    // The runtime does not know where we were started.
    let root = std::path::absolute(&options.root_dir).context("--root-dir")?;
    let node_name = node::name(&options.hostname_override)?;
    let addresses = Arc::new(node::addresses::Addresses::new(&options.node_ip, &node_name)?);
    addresses.refresh().await;
    if config.enable_server {
        // Errors here are reported now, not only after the runtime has answered.
        let folder = root.join("pki");
        crate::server::certificate(&config, &folder, &node_name, &addresses.get())
            .context("failed to construct kubelet dependencies")?;
        let authority = &config.authentication.x509.client_ca_file;
        if !authority.is_empty() {
            daemon::serving::authority::Authority::from_file(Path::new(authority))
                .context("unable to load client CA file")?;
        }
    }

    let timeout = config.runtime_request_timeout.0;
    let observer: cri::observed::Observer = Arc::new(crate::figures::runtime_call);
    let connect = |endpoint: &str| cri::Client::observed(endpoint, timeout, Some(observer.clone()));
    let runtime = connect(&config.container_runtime_endpoint)?;
    let image_client = connect(&config.image_service_endpoint)?;
    let version = wait_for_runtime(&runtime, &shutdown).await?;
    info!(runtime = version.runtime_name, version = version.runtime_version, "Container runtime initialized");

    let client = match options.kubeconfig.as_str() {
        "" => None,
        path => {
            let mut config_of_client = Config::from_kubeconfig(path).context("reading --kubeconfig")?;
            config_of_client.rate = config.rate();
            Some(Client::new(config_of_client.with_user_agent(&daemon::version::user_agent("kubelet")))?)
        }
    };
    let informers = client.clone().map(Informers::new);
    let objects: Arc<dyn Objects> = match (&client, &informers) {
        (Some(client), Some(informers)) => {
            Arc::new(ApiObjects::new(client.clone(), informers.all::<Service>(), &node_name))
        }
        _ => Arc::new(Standalone::default()),
    };
    let recorder = client.clone().map(|client| EventRecorder::new(client, "kubelet", &node_name));
    let mut paths = Paths::new(root);
    paths.pod_logs_root = config.pod_logs_dir.clone().into();
    let allocations = Allocations::open(&paths.root)?;
    let parts = Parts {
        runtime: Arc::new(runtime),
        images: Arc::new(image_client),
        runtime_name: version.runtime_name,
        client,
        objects,
        events: Arc::new(Events::new(recorder.clone())),
        paths,
        node_name,
        addresses,
        labels: options.labels()?,
        cloud: node::cloud::Cloud::new(&options.cloud_provider, &options.node_ip),
        allocations,
        cgroup_mount: cgroup_mount.into(),
        clock: Clock::default(),
    };
    let kubelet = Kubelet::new(config, parts);
    kubelet.cgroups.ensure_top().context("making the pods' cgroups")?;
    node::shares::limit_pods(&kubelet);
    std::fs::create_dir_all(kubelet.paths.pods_dir()).context("making the root folder")?;
    if swaps && !node::swap::memory_stays_in_memory(&kubelet.machine.kernel_version) {
        let text = "The tmpfs noswap option is not supported. Memory-backed volumes (e.g. secrets, emptyDirs, etc.) might be swapped to disk and should no longer be considered secure.";
        kubelet.events.node(&kubelet.node_name, Warning, "PossibleMemoryBackedVolumesOnDisk", text);
    }
    serve(kubelet, informers, shutdown).await?;
    if let Some(recorder) = recorder {
        recorder.shutdown().await;
    }
    Ok(())
}

fn listen(address: &str, port: u16, field: &str) -> anyhow::Result<TcpListener> {
    match address.parse::<IpAddr>() {
        Ok(ip) => Ok(daemon::serving::bind(SocketAddr::new(ip, port), false)?),
        Err(_) => bail!("{field} {address:?} of the configuration is not an IP address"),
    }
}

async fn wait_for_runtime(
    runtime: &cri::Client,
    shutdown: &CancellationToken,
) -> anyhow::Result<cri::v1::VersionResponse> {
    for attempt in 0.. {
        match runtime.check_version().await {
            Ok(version) => return Ok(version),
            Err(error) if attempt == 60 => {
                return Err(error).context("validate service connection: validate CRI v1 runtime API");
            }
            Err(error) => {
                warn!(%error, "The container runtime does not answer yet");
                tokio::select! {
                    () = shutdown.cancelled() => bail!("stopped while waiting for the container runtime"),
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                }
            }
        }
    }
    bail!("no container runtime")
}

/// Runs the tasks of an assembled kubelet until `shutdown`.
pub async fn serve(
    kubelet: Arc<Kubelet>,
    informers: Option<Informers>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let config = kubelet.config.clone();
    let tasks = TaskTracker::new();
    kubelet.events.node(&kubelet.node_name, Normal, "Starting", "Starting kubelet.");

    if !kubelet.cgroups.is_v2() {
        let text = "cgroup v1 detected. cgroup v1 support is deprecated and will be removed in a future release. Please migrate to cgroup v2. More information at https://git.k8s.io/enhancements/keps/sig-node/5573-remove-cgroup-v1";
        kubelet.events.node(&kubelet.node_name, Warning, "CgroupV1", text);
    }

    if config.healthz_port > 0 {
        let listener =
            listen(&config.healthz_bind_address, u16::try_from(config.healthz_port)?, "healthzBindAddress")?;
        tasks.spawn(crate::metrics::serve_health(kubelet.clone(), listener, shutdown.clone()));
    }
    if config.enable_server {
        let listener = listen(&config.address, u16::try_from(config.port)?, "address")?;
        let tls = crate::server::certificate(
            &config,
            &kubelet.paths.root.join("pki"),
            &kubelet.node_name,
            &kubelet.addresses.get(),
        )
        .context("failed to construct kubelet dependencies")?;
        let (kubelet, shutdown) = (kubelet.clone(), shutdown.clone());
        tasks.spawn(async move { crate::server::run(kubelet, listener, tls, shutdown).await });
    }

    node::update_runtime_health(&kubelet).await;
    kubelet.puller.recover().await;
    tasks.spawn(node::addresses::follow(kubelet.clone(), shutdown.clone()));
    tasks.spawn(node::watch_runtime(kubelet.clone(), shutdown.clone()));
    tasks.spawn(kubelet.status.clone().run(shutdown.clone()));
    tasks.spawn(mirror::run(kubelet.clone(), shutdown.clone()));
    tasks.spawn(kubelet.volumes.clone().run(kubelet.pods.clone(), shutdown.clone()));
    tasks.spawn(crate::log_rotation::run(kubelet.clone(), shutdown.clone()));
    tasks.spawn(images::gc::run(kubelet.clone(), shutdown.clone()));
    tasks.spawn(allocation::resize::run(kubelet.clone(), shutdown.clone()));
    tasks.spawn(crate::eviction::run(kubelet.clone(), shutdown.clone()));
    let relist = kubelet.clone();
    let stop = shutdown.clone();
    tasks.spawn(async move { relist.pleg.run(relist.clone(), stop).await });
    if kubelet.client.is_some() {
        tasks.spawn(node::run(kubelet.clone(), shutdown.clone()));
        tasks.spawn(node::lease::run(kubelet.clone(), shutdown.clone()));
    }

    let changes = sources::Changes::default();
    let received = changes.clone();
    let pods = informers
        .as_ref()
        .map(|informers| sources::api::watch(informers, &kubelet.node_name, changes.clone()));
    if config.static_pod_path.is_empty() {
        kubelet.pods.set_manifests_known();
    } else {
        let first_changes = changes.clone();
        let file = sources::file::run(
            config.static_pod_path.clone(),
            kubelet.node_name.clone(),
            config.file_check_frequency.0,
            changes,
            shutdown.clone(),
        );
        let pods = pods.clone();
        let first = first_changes;
        tasks.spawn(async move {
            // The mirrors carry the status of static pods from before a restart. Where the API server is itself a
            // static pod, waiting for it is useless, so the wait is bounded.
            if let Some(pods) = pods
                && tokio::time::timeout(Duration::from_secs(2), pods.synced()).await.is_ok()
            {
                for mirror in pods.list().into_iter().filter(|pod| crate::pods::is_mirror(pod)) {
                    first.send(sources::Change::Put(mirror));
                }
            }
            file.await;
        });
    }
    daemon::notify::ready();
    match pods {
        None => kubelet.pods.set_api_known(),
        Some(pods) => {
            let (changes, stop) = (received.clone(), shutdown.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    // Behind the pods themselves, which were queued before.
                    () = pods.synced() => changes.send(sources::Change::ApiListed),
                }
            });
        }
    }
    tasks.spawn(sources::dispatch(kubelet.clone(), received, shutdown.clone()));
    let (clean, stop) = (kubelet.clone(), shutdown.clone());
    tasks.spawn(async move { clean.housekeeping.run(clean.clone(), stop).await });

    shutdown.cancelled().await;
    info!("Stopping; pods keep running");
    kubelet.probes.stop_all();
    tasks.close();
    let drained = async {
        tasks.wait().await;
        kubelet.supervisor.finished().await;
    };
    if tokio::time::timeout(Duration::from_secs(10), drained).await.is_err() {
        warn!("Some tasks did not end in time");
    }
    if let Some(informers) = informers {
        informers.shutdown().await;
    }
    Ok(())
}
