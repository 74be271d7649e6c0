//! `/statusz` and `/flagz`: what this process is, and how it was started. As text for people, or in the forms of
//! `config.k8s.io` for those who ask for them. Where upstream's text varies its delimiter, so that nobody parses it, ours
//! is `:`; there is no Go version.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::{flags, metrics, version};

const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";
const NOT_ACCEPTABLE: &str =
    "only the following media types are accepted: application/json, application/yaml, text/plain";

/// The pages of one daemon.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    /// `kube-scheduler`; the API server is `apiserver`.
    pub name: &'static str,
    /// Paths that `/statusz` lists, sorted.
    pub paths: &'static [&'static str],
}

impl Pages {
    /// The answer where `path` is one of the two.
    pub fn answer(&self, path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let (kind, page) = match path {
            "/statusz" => ("Statusz", Page::Status),
            "/flagz" => ("Flagz", Page::Flags),
            _ => return None,
        };
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let accept = accept.collect::<Vec<_>>().join(",");
        Some(match negotiate(&accept, kind) {
            None => not_acceptable(),
            Some(Form::Text) => respond(self.text(page), "text/plain; charset=utf-8"),
            Some(Form::Structured { yaml, version }) => self.structured(page, kind, yaml, version),
        })
    }

    fn text(&self, page: Page) -> String {
        match page {
            Page::Status => {
                let (started, up) = times();
                let (minutes, seconds) = (up / 60, up % 60);
                format!(
                    "\n{} statusz\n{WARNING}\n\nStarted: {}\nUp: {} hr {:02} min {seconds:02} sec\nBinary version: {}\n\
                     Emulation version: {}.{}\nPaths: {}\n",
                    self.name,
                    started.strftime("%a %b %e %H:%M:%S UTC %Y"),
                    minutes / 60,
                    minutes % 60,
                    version::GIT_VERSION.trim_start_matches('v'),
                    version::MAJOR,
                    version::MINOR,
                    self.paths.join(" "),
                )
            }
            Page::Flags => {
                let mut text = format!("\n{} flagz\n{WARNING}\n", self.name);
                for (name, value) in flags::values() {
                    let _ = writeln!(text, "{name} {value}");
                }
                text
            }
        }
    }

    fn structured(&self, page: Page, kind: &str, yaml: bool, version: &str) -> Response<Full<Bytes>> {
        let mut tree = json!({
            "kind": kind,
            "apiVersion": format!("config.k8s.io/{version}"),
            "metadata": {"name": self.name},
        });
        match page {
            Page::Status => {
                let (started, up) = times();
                tree["startTime"] = started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
                tree["uptimeSeconds"] = up.into();
                tree["goVersion"] = "".into();
                tree["binaryVersion"] = version::GIT_VERSION.trim_start_matches('v').into();
                tree["emulationVersion"] = format!("{}.{}", version::MAJOR, version::MINOR).into();
                tree["paths"] = json!(self.paths);
            }
            Page::Flags => tree["flags"] = json!(flags::values()),
        }
        let (text, base) = match yaml {
            true => (as_yaml(tree), "application/yaml"),
            false => (serde_json::to_string_pretty(&tree).map(|text| text + "\n").ok(), "application/json"),
        };
        let Some(text) = text else {
            let mut response = respond("Internal Server Error\n".into(), "text/plain; charset=utf-8");
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return response;
        };
        let mut response = respond(text, "");
        let headers = response.headers_mut();
        let media_type = format!("{base};g=config.k8s.io;v={version};as={kind}");
        if let Ok(value) = HeaderValue::from_str(&media_type) {
            headers.insert(header::CONTENT_TYPE, value);
        }
        let page = kind.to_lowercase();
        let warning = format!(
            "299 - \"This version of the {page} endpoint is deprecated. Please use a newer version.\""
        );
        if let Ok(value) = HeaderValue::from_str(&warning)
            && version != "v1beta1"
        {
            headers.insert(header::WARNING, value);
        }
        response
    }
}

#[derive(Clone, Copy)]
enum Page {
    Status,
    Flags,
}

#[derive(Debug, PartialEq)]
enum Form {
    Text,
    Structured { yaml: bool, version: &'static str },
}

/// The first of the accepted forms that there is; those of one quality are in their order.
fn negotiate(accept: &str, kind: &str) -> Option<Form> {
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    let mut clauses: Vec<(f64, BTreeMap<&str, &str>, &str)> = accept
        .split(',')
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let parameters: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
            let quality = parameters.get("q").and_then(|text| text.parse().ok()).unwrap_or(1.0);
            (quality, parameters, media_type)
        })
        .collect();
    clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
    clauses.iter().find_map(|(_, parameters, media_type)| {
        let parameter = |name: &str| parameters.get(name).copied().unwrap_or_default();
        let plain = ["as", "g", "v"].iter().all(|name| parameter(name).is_empty());
        match *media_type {
            "text/plain" | "text/*" | "*/*" if plain => Some(Form::Text),
            "application/json" | "application/yaml"
                if parameter("as") == kind && parameter("g") == "config.k8s.io" =>
            {
                let yaml = *media_type == "application/yaml";
                match parameter("v") {
                    "v1beta1" => Some(Form::Structured { yaml, version: "v1beta1" }),
                    "v1alpha1" => Some(Form::Structured { yaml, version: "v1alpha1" }),
                    _ => None,
                }
            }
            _ => None,
        }
    })
}

/// When the process started, and for how many seconds it has been running.
fn times() -> (jiff::Timestamp, i64) {
    let now = jiff::Timestamp::now();
    let started = metrics::process::start_time()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds as i64).ok())
        .unwrap_or(now);
    (started, (now.as_second() - started.as_second()).max(0))
}

/// YAML with sorted keys, as upstream writes it.
fn as_yaml(tree: Value) -> Option<String> {
    let Value::Object(fields) = tree else { return None };
    let sorted: BTreeMap<String, Value> = fields.into_iter().collect();
    serde_saphyr::to_string(&sorted).ok()
}

fn not_acceptable() -> Response<Full<Bytes>> {
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": NOT_ACCEPTABLE,
        "reason": "NotAcceptable",
        "code": 406,
    });
    let text = serde_json::to_string_pretty(&status).unwrap_or_default();
    let mut response = respond(text, "application/json");
    *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    response
}

fn respond(text: String, media_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const PAGES: Pages = Pages { name: "kube-test", paths: &["/flagz", "/statusz"] };

    async fn get(path: &str, accept: &str) -> (StatusCode, HeaderMap, String) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        let (parts, body) = PAGES.answer(path, &headers).unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn text_has_upstreams_layout() {
        let (_, headers, text) = get("/statusz", "*/*").await;
        assert_eq!(headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
        assert!(text.starts_with(&format!("\nkube-test statusz\n{WARNING}\n\nStarted: ")), "{text}");
        assert!(text.contains("\nUp: 0 hr 0"), "{text}");
        let end = "Binary version: 1.37.1\nEmulation version: 1.37\nPaths: /flagz /statusz\n";
        assert!(text.ends_with(end), "{text}");
        let (_, _, text) = get("/flagz", "text/*").await;
        assert!(text.starts_with(&format!("\nkube-test flagz\n{WARNING}\n")), "{text}");
    }

    #[tokio::test]
    async fn forms_for_machines() {
        let (_, headers, text) =
            get("/statusz", "application/json;v=v1beta1;g=config.k8s.io;as=Statusz").await;
        assert_eq!(headers[header::CONTENT_TYPE], "application/json;g=config.k8s.io;v=v1beta1;as=Statusz");
        assert!(!headers.contains_key(header::WARNING));
        let tree: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(tree["apiVersion"], "config.k8s.io/v1beta1");
        assert_eq!(tree["metadata"]["name"], "kube-test");
        assert_eq!(tree["paths"][1], "/statusz");
        let (_, headers, text) = get("/flagz", "application/yaml;v=v1alpha1;g=config.k8s.io;as=Flagz").await;
        let warning =
            "299 - \"This version of the flagz endpoint is deprecated. Please use a newer version.\"";
        assert_eq!(headers[header::WARNING], warning);
        assert!(text.starts_with("apiVersion: config.k8s.io/v1alpha1\nflags:"), "{text}");
    }

    #[tokio::test]
    async fn media_types_are_negotiated() {
        for (accept, status) in [
            ("application/json", 406),
            ("application/json;v=v1;g=config.k8s.io;as=Statusz", 406),
            ("application/json;v=v1beta1;g=config.k8s.io;as=Flagz", 406),
            ("application/vnd.kubernetes.protobuf;v=v1beta1;g=config.k8s.io;as=Statusz", 406),
            ("text/html", 406),
            ("text/html, text/plain;q=0.5", 200),
        ] {
            let (found, _, text) = get("/statusz", accept).await;
            assert_eq!(found.as_u16(), status, "{accept}");
            assert!(found == StatusCode::OK || text.contains(NOT_ACCEPTABLE), "{text}");
        }
        assert!(PAGES.answer("/statusz/x", &HeaderMap::new()).is_none());
    }
}
