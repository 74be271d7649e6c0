//! Where the API server is and who we are: from a kubeconfig or from the pod we run in.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use serde::Deserialize;
use tokio::sync::Notify;

use crate::{Error, LeaderHealth, Rate, Result};

/// Bytes given inline, or in a file that is read again when it changes.
#[derive(Clone)]
pub enum Material {
    Inline(Vec<u8>),
    File(PathBuf),
    /// Bytes that their owner replaces, such as a token renewed by request.
    Shared(Arc<Renewed>),
}

/// Bytes whose owner renews them, before they run out or when the server refuses them.
pub struct Renewed {
    bytes: ArcSwap<Vec<u8>>,
    refused: Notify,
}

impl Renewed {
    pub fn new(bytes: Vec<u8>) -> Renewed {
        Renewed { bytes: ArcSwap::from_pointee(bytes), refused: Notify::new() }
    }

    pub fn replace(&self, bytes: Vec<u8>) {
        self.bytes.store(Arc::new(bytes));
    }

    /// Waits until the server has refused them.
    pub async fn refused(&self) {
        self.refused.notified().await;
    }

    pub(crate) fn refuse(&self) {
        self.refused.notify_one();
    }
}

impl std::fmt::Debug for Material {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Material::Inline(_) => formatter.write_str("Inline(..)"),
            Material::File(path) => write!(formatter, "File({})", path.display()),
            Material::Shared(_) => formatter.write_str("Shared(..)"),
        }
    }
}

impl PartialEq for Material {
    fn eq(&self, other: &Material) -> bool {
        match (self, other) {
            (Material::Inline(one), Material::Inline(two)) => one == two,
            (Material::File(one), Material::File(two)) => one == two,
            (Material::Shared(one), Material::Shared(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Material {
    pub(crate) fn read(&self) -> Result<Vec<u8>> {
        match self {
            Material::Inline(bytes) => Ok(bytes.clone()),
            Material::Shared(bytes) => Ok(bytes.bytes.load().to_vec()),
            Material::File(path) => {
                std::fs::read(path).map_err(|source| Error::File { path: path.display().to_string(), source })
            }
        }
    }
}

/// Who we are to the server.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// Certificate chain and private key, PEM. Both may be in one file.
    pub certificate: Option<(Material, Material)>,
    /// A bearer token.
    pub token: Option<Material>,
    /// Act as this user.
    pub impersonate: Option<String>,
}

/// A connection's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Scheme, authority and an optional path prefix.
    pub server: http::Uri,
    /// What to verify the server's certificate against, when not the host of `server`.
    pub server_name: Option<String>,
    /// PEM; the system's bundle when not given.
    pub certificate_authority: Option<Material>,
    /// Accept any server certificate.
    pub insecure: bool,
    pub credentials: Credentials,
    pub user_agent: String,
    /// The context's namespace; `default` when it names none.
    pub namespace: String,
    /// How long a request may wait for the head of its answer.
    pub timeout: Duration,
    /// No limit where not given.
    pub rate: Option<Rate>,
    /// Writes are sent only as long as this leads; always where not given.
    pub while_leading: Option<LeaderHealth>,
}

const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Config {
    /// A server without credentials, e.g. for tests.
    pub fn new(server: &str) -> Result<Config> {
        let server = if server.contains("://") { server.to_string() } else { format!("http://{server}") };
        let server: http::Uri = server
            .trim_end_matches('/')
            .parse()
            .map_err(|error| Error::Config(format!("server {server:?}: {error}")))?;
        if server.host().is_none() || !matches!(server.scheme_str(), Some("http" | "https")) {
            return Err(Error::Config(format!("server {server}: not an http or https URL")));
        }
        Ok(Config {
            server,
            server_name: None,
            certificate_authority: None,
            insecure: false,
            credentials: Credentials::default(),
            user_agent: default_user_agent(),
            namespace: "default".into(),
            timeout: Duration::from_secs(60),
            rate: None,
            while_leading: None,
        })
    }

    /// The current context of a kubeconfig file. Relative paths in it are relative to it.
    pub fn from_kubeconfig(path: impl AsRef<Path>) -> Result<Config> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::File { path: path.display().to_string(), source })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Config::from_kubeconfig_text(&text, folder)
            .map_err(|error| Error::Config(format!("{}: {error}", path.display())))
    }

    /// As [`Config::from_kubeconfig`], from text.
    pub fn from_kubeconfig_text(text: &str, folder: &Path) -> Result<Config> {
        let kubeconfig: Kubeconfig =
            serde_saphyr::from_str(text).map_err(|error| Error::Config(error.to_string()))?;
        kubeconfig.config(folder)
    }

    /// From the service account mounted into the pod we run in.
    pub fn in_cluster() -> Result<Config> {
        let variable = |name: &str| {
            std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
                Error::Config(
                    "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT must be defined"
                        .into(),
                )
            })
        };
        let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let folder = Path::new(SERVICE_ACCOUNT);
        let mut config = Config::new(&format!("https://{host}:{port}"))?;
        config.certificate_authority = Some(Material::File(folder.join("ca.crt")));
        config.credentials.token = Some(Material::File(folder.join("token")));
        if let Ok(namespace) = std::fs::read_to_string(folder.join("namespace")) {
            config.namespace = namespace.trim().to_string();
        }
        Ok(config)
    }

    /// The kubeconfig where a path is given, else the pod's service account.
    pub fn from_kubeconfig_or_cluster(path: Option<&str>) -> Result<Config> {
        match path.filter(|path| !path.is_empty()) {
            Some(path) => Config::from_kubeconfig(path),
            None => Config::in_cluster(),
        }
    }

    /// Appends the daemon's part to the user agent, as in `kube-scheduler/leader-election`.
    pub fn with_user_agent(mut self, agent: &str) -> Config {
        self.user_agent = agent.to_string();
        self
    }
}

fn default_user_agent() -> String {
    let program = std::env::args()
        .next()
        .and_then(|path| Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "corten".into());
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!("{program}/v{} ({}/{architecture})", env!("CARGO_PKG_VERSION"), std::env::consts::OS)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Kubeconfig {
    clusters: Vec<NamedCluster>,
    users: Vec<NamedUser>,
    contexts: Vec<NamedContext>,
    current_context: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NamedUser {
    name: String,
    user: User,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    as_uid: Option<serde_json::Value>,
    as_groups: Option<serde_json::Value>,
    as_user_extra: Option<serde_json::Value>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
    username: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

impl Kubeconfig {
    fn config(self, folder: &Path) -> Result<Config> {
        if self.current_context.is_empty() {
            return Err(Error::Config("no current-context is set".into()));
        }
        let missing = |what: &str, name: &str| Error::Config(format!("{what} {name:?} does not exist"));
        let context = self
            .contexts
            .into_iter()
            .find(|context| context.name == self.current_context)
            .ok_or_else(|| missing("context", &self.current_context))?
            .context;
        let cluster = self
            .clusters
            .into_iter()
            .find(|cluster| cluster.name == context.cluster)
            .ok_or_else(|| missing("cluster", &context.cluster))?
            .cluster;
        let user = match self.users.into_iter().find(|user| user.name == context.user) {
            Some(named) => named.user,
            None if context.user.is_empty() => User::default(),
            None => return Err(missing("user", &context.user)),
        };
        for (given, what) in [
            (user.exec.is_some(), "exec credential plugins"),
            (user.auth_provider.is_some(), "auth-provider credentials"),
            (user.username.is_some(), "username and password"),
            (user.as_uid.is_some(), "as-uid"),
            (user.as_groups.is_some(), "as-groups"),
            (user.as_user_extra.is_some(), "as-user-extra"),
            (cluster.proxy_url.is_some(), "proxy-url"),
        ] {
            if given {
                return Err(Error::Config(format!("{what}: not supported")));
            }
        }

        let mut config = Config::new(&cluster.server)?;
        config.server_name = cluster.tls_server_name;
        config.insecure = cluster.insecure_skip_tls_verify;
        config.certificate_authority = material(
            "certificate-authority",
            cluster.certificate_authority,
            cluster.certificate_authority_data,
            folder,
        )?;
        if config.insecure && config.certificate_authority.is_some() {
            return Err(Error::Config(
                "specifying a root certificates file with the insecure flag is not allowed".into(),
            ));
        }
        let certificate =
            material("client-certificate", user.client_certificate, user.client_certificate_data, folder)?;
        let key = material("client-key", user.client_key, user.client_key_data, folder)?;
        config.credentials.certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(Error::Config("client-certificate is given without client-key".into()));
            }
            (None, Some(_)) => {
                return Err(Error::Config("client-key is given without client-certificate".into()));
            }
        };
        // Upstream reads the file while it is there, whatever `token` says.
        config.credentials.token = match (user.token_file, user.token) {
            (Some(file), _) if !file.is_empty() => Some(Material::File(folder.join(file))),
            (_, Some(token)) if !token.is_empty() => Some(Material::Inline(token.into_bytes())),
            _ => None,
        };
        config.credentials.impersonate = user.impersonate;
        if let Some(namespace) = context.namespace.filter(|namespace| !namespace.is_empty()) {
            config.namespace = namespace;
        }
        Ok(config)
    }
}

/// Inline data wins over a file, as upstream documents.
fn material(
    what: &str,
    file: Option<String>,
    data: Option<String>,
    folder: &Path,
) -> Result<Option<Material>> {
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let data: String = data.split_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data)
            .map_err(|error| Error::Config(format!("{what}-data: {error}")))?;
        return Ok(Some(Material::Inline(bytes)));
    }
    Ok(file.filter(|file| !file.is_empty()).map(|file| Material::File(folder.join(file))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config> {
        Config::from_kubeconfig_text(text, Path::new("/etc/kubernetes"))
    }

    const HEAD: &str = "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{name: c, context: {cluster: k, user: u, namespace: prod}}]\n";

    #[test]
    fn files_are_relative_to_the_kubeconfig() {
        let config = parse(&format!(
            "{HEAD}clusters: [{{name: k, cluster: {{server: 'https://10.0.0.1:6443/prefix/', certificate-authority: pki/ca.crt}}}}]\nusers: [{{name: u, user: {{client-certificate: /a.crt, client-key: b.key, tokenFile: t}}}}]\n"
        ))
        .unwrap();
        assert_eq!(config.server.path(), "/prefix");
        assert_eq!(config.namespace, "prod");
        assert_eq!(config.certificate_authority, Some(Material::File("/etc/kubernetes/pki/ca.crt".into())));
        assert_eq!(config.credentials.token, Some(Material::File("/etc/kubernetes/t".into())));
        let (certificate, key) = config.credentials.certificate.unwrap();
        assert_eq!(certificate, Material::File("/a.crt".into()));
        assert_eq!(key, Material::File("/etc/kubernetes/b.key".into()));
    }

    #[test]
    fn data_wins_and_may_be_folded() {
        let config = parse(&format!(
            "{HEAD}clusters: [{{name: k, cluster: {{server: 'localhost:80', certificate-authority: x, certificate-authority-data: 'aGVs\n    bG8='}}}}]\nusers: [{{name: u, user: {{token: abc}}}}]\n"
        ))
        .unwrap();
        assert_eq!(config.server.scheme_str(), Some("http"));
        assert_eq!(config.certificate_authority, Some(Material::Inline(b"hello".to_vec())));
        assert_eq!(config.credentials.token, Some(Material::Inline(b"abc".to_vec())));
    }

    #[test]
    fn unusable_configurations_are_named() {
        let user = |user: &str| {
            parse(&format!(
                "{HEAD}clusters: [{{name: k, cluster: {{server: 'https://h'}}}}]\nusers: [{{name: u, user: {user}}}]\n"
            ))
            .unwrap_err()
            .to_string()
        };
        assert!(user("{exec: {command: aws}}").contains("exec credential plugins: not supported"));
        for field in ["as-groups: [g]", "as-uid: u", "as-user-extra: {a: [b]}"] {
            assert!(user(&format!("{{as: a, {field}}}")).contains(": not supported"), "{field}");
        }
        let insecure = parse(&format!(
            "{HEAD}clusters: [{{name: k, cluster: {{server: 'https://h', insecure-skip-tls-verify: true, certificate-authority: x}}}}]\nusers: [{{name: u, user: {{token: a}}}}]\n"
        ));
        assert!(insecure.unwrap_err().to_string().contains("with the insecure flag is not allowed"));
        assert!(user("{client-key: b}").contains("client-key is given without client-certificate"));
        assert!(
            parse("current-context: x\n").unwrap_err().to_string().contains("context \"x\" does not exist")
        );
        assert!(parse("kind: Config\n").unwrap_err().to_string().contains("no current-context"));
    }
}
