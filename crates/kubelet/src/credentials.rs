//! Pull credentials: which of a pod's pull secrets fit an image.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use cri::v1::AuthConfig;
use k8s_openapi::api::core::v1::{Pod, Secret};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::objects::Objects;
use crate::pods::namespace;

/// What a registry may ask for, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    pub auth: AuthConfig,
    pub source: SecretName,
    /// Upstream's hash of what stands in the secret.
    pub hash: String,
}

#[derive(Clone, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(default)]
pub struct SecretName {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl Credential {
    pub fn new(auth: AuthConfig, email: &str, source: SecretName) -> Self {
        let hash = hash(&auth, email);
        Self { auth, source, hash }
    }
}

/// SHA-256 of the credential as Go writes it in JSON: without empty fields, and with what HTML gives a meaning escaped.
fn hash(auth: &AuthConfig, email: &str) -> String {
    let fields =
        [("username", auth.username.as_str()), ("password", auth.password.as_str()), ("email", email)];
    let fields: Vec<String> = fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{:?}:{}", name, serde_json::Value::from(value)))
        .collect();
    let mut text = String::new();
    for character in format!("{{{}}}", fields.join(",")).chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => text += &format!("\\u{:04x}", u32::from(character)),
            other => text.push(other),
        }
    }
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The credentials of the pod's pull secrets that fit the image, those of the longest registry path first. None
/// means: pull without. A secret that is not there is passed over, as its image may well be public.
pub async fn for_image(objects: &dyn Objects, pod: &Pod, image: &str) -> Vec<Credential> {
    let mut keyring = Keyring::default();
    let references =
        pod.spec.as_ref().and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
    for reference in references {
        match objects.secret(namespace(pod), &reference.name).await {
            Ok(secret) => keyring.add(&secret),
            Err(error) => tracing::info!(secret = reference.name, %error, "Unable to retrieve pull secret"),
        }
    }
    keyring.lookup(image)
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
    email: String,
}

/// Credentials by registry host and path.
#[derive(Default)]
pub struct Keyring {
    entries: Vec<(String, Credential)>,
}

impl Keyring {
    /// Takes in a `dockerconfigjson` or `dockercfg` secret; of others it takes nothing.
    pub fn add(&mut self, secret: &Secret) {
        let data =
            |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
        let entries = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => data(".dockerconfigjson")
                .and_then(|bytes| serde_json::from_slice::<DockerConfig>(bytes).ok())
                .map(|config| config.auths),
            Some("kubernetes.io/dockercfg") => {
                data(".dockercfg").and_then(|bytes| serde_json::from_slice(bytes).ok())
            }
            _ => None,
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let metadata = &secret.metadata;
        let source = SecretName {
            namespace: text(&metadata.namespace),
            name: text(&metadata.name),
            uid: text(&metadata.uid),
        };
        for (location, entry) in entries.unwrap_or_default() {
            let email = entry.email.clone();
            self.entries.push((key(&location), Credential::new(entry.into(), &email, source.clone())));
        }
        self.entries.sort_by(|(one, _), (other, _)| other.cmp(one));
    }

    pub fn lookup(&self, image: &str) -> Vec<Credential> {
        let repository = repository(image);
        let mut found: Vec<Credential> = Vec::new();
        let mut take = |entry: &Credential| {
            if !found.contains(entry) {
                found.push(entry.clone());
            }
        };
        self.entries.iter().filter(|(key, _)| matches(key, &repository)).for_each(|(_, entry)| take(entry));
        if repository.starts_with("docker.io/") {
            self.entries
                .iter()
                .filter(|(key, _)| key == "index.docker.io")
                .for_each(|(_, entry)| take(entry));
        }
        found
    }
}

impl From<Entry> for AuthConfig {
    fn from(entry: Entry) -> Self {
        let mut config =
            AuthConfig { username: entry.username, password: entry.password, ..AuthConfig::default() };
        let decoded = STANDARD
            .decode(&entry.auth)
            .or_else(|_| STANDARD_NO_PAD.decode(entry.auth.trim_end_matches('=')));
        let text = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok());
        if let Some((username, password)) = text.as_deref().and_then(|text| text.split_once(':')) {
            config.username = username.to_owned();
            // Some tools pad the password with zero bytes.
            config.password = password.trim_end_matches('\0').to_owned();
        }
        config
    }
}

/// A location as written in the file, without scheme and API version.
fn key(location: &str) -> String {
    let bare = location.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = bare.split_once('/').unwrap_or((bare, ""));
    let path = path.strip_prefix("v1/").or(path.strip_prefix("v2/")).unwrap_or(path);
    let path = if matches!(path, "v1" | "v2") { "" } else { path.trim_end_matches('/') };
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// The image's registry and path, in full and without tag and digest.
fn repository(image: &str) -> String {
    let name = image.split('@').next().unwrap_or(image);
    let (head, last) = name.rsplit_once('/').map_or(("", name), |(head, last)| (head, last));
    let last = last.split(':').next().unwrap_or(last);
    let path = if head.is_empty() { last.to_owned() } else { format!("{head}/{last}") };
    match path.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => {
            path.strip_prefix("index.docker.io/").map_or(path.clone(), |rest| format!("docker.io/{rest}"))
        }
        Some(_) => format!("docker.io/{path}"),
        None => format!("docker.io/library/{path}"),
    }
}

/// Whether the key's host, part by part and with wildcards, and the beginning of its path are the repository's.
fn matches(key: &str, repository: &str) -> bool {
    let (wanted, wanted_path) = key.split_once('/').unwrap_or((key, ""));
    let (host, path) = repository.split_once('/').unwrap_or((repository, ""));
    let (wanted, wanted_port) = wanted.split_once(':').unwrap_or((wanted, ""));
    let (host, port) = host.split_once(':').unwrap_or((host, ""));
    wanted_port == port
        && path.starts_with(wanted_path)
        && wanted.split('.').count() == host.split('.').count()
        && wanted
            .split('.')
            .zip(host.split('.'))
            .all(|(pattern, part)| glob(pattern.as_bytes(), part.as_bytes()))
}

/// `*` and `?` within one part of a host name.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        (Some((b'?', pattern)), Some((_, text))) => glob(pattern, text),
        (Some((one, pattern)), Some((other, text))) if one == other => glob(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(kind: &str, key: &str, content: &str) -> Secret {
        let data = json!({key: STANDARD.encode(content)});
        serde_json::from_value(json!({"metadata": {"name": "s"}, "type": kind, "data": data})).unwrap()
    }

    #[test]
    fn credentials_fit_by_host_wildcard_port_and_path() {
        let auths = json!({"auths": {
            "https://index.docker.io/v1/": {"auth": STANDARD.encode("hub:secret")},
            "registry.example.com": {"username": "host", "password": "1"},
            "registry.example.com/team": {"username": "team", "password": "2"},
            "*.wild.example.com": {"username": "wild", "password": "3"},
            "localhost:5000": {"username": "local", "password": "4"},
        }});
        let mut keyring = Keyring::default();
        keyring.add(&secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &auths.to_string()));
        keyring.add(&secret("Opaque", ".dockerconfigjson", &auths.to_string()));
        keyring.add(&secret(
            "kubernetes.io/dockercfg",
            ".dockercfg",
            r#"{"old.example.com": {"username": "old"}}"#,
        ));
        let table: &[(&str, &[&str])] = &[
            ("busybox", &["hub"]),
            ("team/busybox:1", &["hub"]),
            ("docker.io/library/busybox@sha256:abc", &["hub"]),
            ("registry.example.com/a", &["host"]),
            ("registry.example.com/team/a:1", &["team", "host"]),
            ("a.wild.example.com/x", &["wild"]),
            ("a.b.wild.example.com/x", &[]),
            ("localhost:5000/web:v1", &["local"]),
            ("localhost:5001/web", &[]),
            ("old.example.com/x", &["old"]),
        ];
        for (image, want) in table {
            let names: Vec<_> = keyring.lookup(image).into_iter().map(|entry| entry.auth.username).collect();
            assert_eq!(names, *want, "{image}");
        }
        assert_eq!(keyring.lookup("busybox")[0].auth.password, "secret");
    }

    #[test]
    fn rubbish_gives_nothing() {
        let mut keyring = Keyring::default();
        keyring.add(&secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "{"));
        keyring.add(&secret("kubernetes.io/dockercfg", ".dockercfg", "[]"));
        assert!(keyring.lookup("busybox").is_empty());
    }
}
