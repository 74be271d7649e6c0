//! Flags that several daemons share, to be flattened into a daemon's own.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::{Duration, Unsupported};
use crate::serving::identity::ProxyHeaders;

/// A path that may be empty, which clap's own parser refuses.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// How a daemon logs.
#[derive(Clone, Debug, clap::Args)]
pub struct Logging {
    /// Number for the log level verbosity.
    #[arg(long = "v", default_value_t = 0)]
    pub verbosity: u32,
    /// Sets the log format: text or json.
    #[arg(long, default_value = "text")]
    pub logging_format: String,
    /// Maximum time between log flushes; lines are written at once here.
    #[arg(long, default_value = "5s", hide = true)]
    pub log_flush_frequency: Duration,
    /// pattern=N settings for file-filtered logging.
    #[arg(long, default_value = "")]
    pub vmodule: String,
}

impl Logging {
    /// Upstream's flags for logs that every daemon takes without effect.
    pub(super) const UNSUPPORTED: [Unsupported; 4] = [
        Unsupported { name: "log-json-info-buffer-size", boolean: false },
        Unsupported { name: "log-json-split-stream", boolean: true },
        Unsupported { name: "log-text-info-buffer-size", boolean: false },
        Unsupported { name: "log-text-split-stream", boolean: true },
    ];

    /// Takes format and verbosity from `logging` of a configuration file, where no flag sets them. Ignores a file that cannot be read:
    /// loading the configuration reports that.
    pub fn with_file(mut self, path: &Path) -> Logging {
        let tree = std::fs::read_to_string(path).ok().and_then(|text| crate::config::yaml(&text).ok());
        let logging = tree.as_ref().and_then(|tree| tree.get("logging"));
        let of = |name: &str| logging.and_then(|logging| logging.get(name));
        if self.logging_format == "text"
            && let Some(format) = of("format").and_then(|format| format.as_str()).filter(|it| !it.is_empty())
        {
            self.logging_format = format.to_owned();
        }
        if self.verbosity == 0
            && let Some(verbosity) = of("verbosity").and_then(|it| u32::try_from(it.as_u64()?).ok())
        {
            self.verbosity = verbosity;
        }
        self
    }

    /// Starts logging with these settings.
    pub fn init(&self) -> Result<(), crate::logging::UnsupportedFormat> {
        crate::logging::init(self.verbosity, &self.logging_format, &self.vmodule)
    }
}

/// The front proxy that a daemon believes, where it does not ask the cluster for it: without a file there is none.
#[derive(Clone, Debug, clap::Args)]
pub struct RequestHeader {
    /// The authority of the front proxy's certificate.
    #[arg(long, default_value = "", value_parser = path())]
    pub requestheader_client_ca_file: PathBuf,
    /// Common names that may be a front proxy; any that the authority signed where none is given.
    #[arg(long, value_delimiter = ',')]
    pub requestheader_allowed_names: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "x-remote-user")]
    pub requestheader_username_headers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub requestheader_uid_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "x-remote-group")]
    pub requestheader_group_headers: Vec<String>,
    #[arg(long, value_delimiter = ',', default_value = "x-remote-extra-")]
    pub requestheader_extra_headers_prefix: Vec<String>,
}

impl RequestHeader {
    pub fn headers(&self) -> ProxyHeaders {
        ProxyHeaders {
            username: self.requestheader_username_headers.clone(),
            uid: self.requestheader_uid_headers.clone(),
            group: self.requestheader_group_headers.clone(),
            extra_prefix: self.requestheader_extra_headers_prefix.clone(),
        }
    }
}

/// How a daemon serves TLS. Ports and certificate names differ, so the defaults are set by
/// `mut_arg` or by looking at `None`.
#[derive(Clone, Debug, clap::Args)]
pub struct SecureServing {
    /// The IP address on which to listen for the secure port.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// The port on which to serve HTTPS; 0 is none.
    #[arg(long)]
    pub secure_port: Option<u16>,
    /// Directory where the certificates are when no file is named.
    #[arg(long, default_value = "", value_parser = path())]
    pub cert_dir: PathBuf,
    /// File containing the x509 certificate for HTTPS.
    #[arg(long, default_value = "", value_parser = path())]
    pub tls_cert_file: PathBuf,
    /// File containing the x509 private key.
    #[arg(long, default_value = "", value_parser = path())]
    pub tls_private_key_file: PathBuf,
    /// Minimum TLS version supported: VersionTLS12 or VersionTLS13.
    #[arg(long, default_value = "")]
    pub tls_min_version: String,
    /// Cipher suites of the server; the default is the provider's.
    #[arg(long, value_delimiter = ',')]
    pub tls_cipher_suites: Vec<String>,
    /// Serve HTTP/1.1 only.
    #[arg(long)]
    pub disable_http2_serving: bool,
    /// Streams a client may have open on one HTTP/2 connection; 0 is the default.
    #[arg(long, default_value_t = 0)]
    pub http2_max_streams_per_connection: u32,
    /// SO_REUSEPORT on the port.
    #[arg(long)]
    pub permit_port_sharing: bool,
    /// SO_REUSEADDR on the port.
    #[arg(long)]
    pub permit_address_sharing: bool,
}
