//! The `Accept` header: its clauses in the order in which they are tried, and the first of them that an endpoint can serve.
//!
//! Upstream looks twice. The router compares types without their parameters, and answers 406 in words of its own; then
//! the endpoint looks at the parameters, for which a range such as `application/*` counts as well.

use std::borrow::Cow;

use api::Status;
use http::HeaderMap;
use http::header::ACCEPT;

use super::{Accepted, Form, JSON, MediaType, PROTOBUF, YAML};

/// Media types of objects.
pub const OBJECTS: [&str; 3] = [JSON, YAML, PROTOBUF];
/// What collections have besides, since they can be watched.
pub const STREAMS: [&str; 2] =
    ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];

const TYPES: [(MediaType, &str); 3] =
    [(MediaType::Json, "json"), (MediaType::Yaml, "yaml"), (MediaType::Protobuf, "vnd.kubernetes.protobuf")];

/// Which forms an endpoint has besides the object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A resource: its metadata, and a table where it has rows.
    Resource { table: bool },
    /// A document or a `Status`, which has no other form.
    Plain,
    /// `/api` and `/apis`, which have an aggregated form and are asked for that alone.
    Discovery,
}

/// The `Accept` header; only the first one counts. A header that is not text matches no type, rather than counting as
/// absent.
pub fn accept(headers: &HeaderMap) -> Cow<'_, str> {
    headers.get(ACCEPT).map_or_else(Default::default, |value| String::from_utf8_lossy(value.as_bytes()))
}

/// The router's look, at types without their parameters.
pub fn route(headers: &HeaderMap, produced: &[&str]) -> Result<(), Status> {
    let text = accept(headers);
    let known = |clause: &str| {
        let range = clause.split(';').next().unwrap_or_default().trim_matches(' ');
        range == "*/*" || produced.contains(&range)
    };
    match text.is_empty() || text.split(',').any(known) {
        true => Ok(()),
        false => Err(Status::not_acceptable(produced)),
    }
}

/// The endpoint's look: the best of what the client accepts, where the endpoint has any of it.
pub fn choose(headers: &HeaderMap, endpoint: Endpoint) -> Option<Accepted> {
    let text = accept(headers);
    if text.is_empty() {
        return Some(Accepted::default()).filter(|_| endpoint != Endpoint::Discovery);
    }
    let of_clause = |clause: &Clause<'_>| {
        TYPES
            .iter()
            .filter(|(_, name)| clause.covers("application", name))
            .find_map(|(media, _)| clause.wants(*media, endpoint))
    };
    clauses(&text).iter().find_map(of_clause)
}

/// The best of what the client accepts for a document that has no other form; the first that is offered, if it accepts any.
pub fn best(headers: &HeaderMap, offered: &[&'static str]) -> Option<&'static str> {
    let text = accept(headers);
    if text.is_empty() {
        return offered.first().copied();
    }
    let covered = |clause: &Clause<'_>| {
        let mut types =
            offered.iter().filter_map(|offered| offered.split_once('/').map(|names| (*offered, names)));
        types.find(|(_, (main, sub))| clause.covers(main, sub)).map(|(offered, _)| offered)
    };
    clauses(&text).iter().find_map(covered)
}

/// Parts before and after a separator; without one, all is before it.
fn cut(text: &str, separator: char) -> (&str, &str) {
    text.split_once(separator).unwrap_or((text, ""))
}

struct Clause<'a> {
    main: &'a str,
    sub: &'a str,
    quality: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The clauses, best first. Upstream's order is not one that sorting by a key gives: a better quality and a type in place
/// of a range each pass what stands before them.
fn clauses(text: &str) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = text.split(',').filter_map(Clause::parse).collect();
    for end in 1..clauses.len() {
        let mut at = end;
        while at > 0 && clauses[at].passes(&clauses[at - 1]) {
            clauses.swap(at, at - 1);
            at -= 1;
        }
    }
    clauses
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Clause<'a>> {
        let mut parts = text.split(';');
        let (main, rest) = cut(parts.next().unwrap_or_default().trim_matches(' '), '/');
        let main = main.trim_matches(' ');
        let sub = match cut(rest, '/') {
            ("", "") if main == "*" => "*",
            ("", "") => return None,
            (sub, "") => sub.trim_matches(' '),
            _ => return None,
        };
        let (mut quality, mut parameters) = (1.0, Vec::new());
        for part in parts {
            let (name, rest) = cut(part, '=');
            let (value, more) = cut(rest, '=');
            if rest.is_empty() || !more.is_empty() {
                continue;
            }
            match name.trim_matches(' ') {
                "q" => quality = value.parse().unwrap_or(0.0),
                name => parameters.push((name, value.trim_matches(' '))),
            }
        }
        Some(Clause { main, sub, quality, parameters })
    }

    fn passes(&self, other: &Clause<'_>) -> bool {
        self.quality > other.quality
            || (self.main != "*" && other.main == "*")
            || (self.sub != "*" && other.sub == "*")
    }

    fn covers(&self, main: &str, sub: &str) -> bool {
        (self.main == main && (self.sub == sub || self.sub == "*")) || (self.main == "*" && self.sub == "*")
    }

    /// A parameter's value; of one that is repeated the last counts.
    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().rev().find(|(own, _)| *own == name).map(|(_, value)| *value)
    }

    /// What it wants in this media type, where the endpoint has it.
    fn wants(&self, media: MediaType, endpoint: Endpoint) -> Option<Accepted> {
        let stream = self.parameter("stream").unwrap_or_default();
        if !stream.is_empty() && (media == MediaType::Yaml || stream != "watch") {
            return None;
        }
        let server = self.parameter("sv").unwrap_or_default();
        if !server.is_empty() && (server != "v1" || !matches!(endpoint, Endpoint::Resource { .. })) {
            return None;
        }
        let plain = Accepted { media, pretty: self.parameter("pretty") == Some("1"), ..Accepted::default() };
        let [kind, group, version] = ["as", "g", "v"].map(|name| self.parameter(name));
        if kind.or(group).or(version).is_none() {
            return (endpoint != Endpoint::Discovery).then_some(plain);
        }
        let [kind, group, version] = [kind, group, version].map(Option::unwrap_or_default);
        match endpoint {
            Endpoint::Plain => None,
            Endpoint::Discovery => {
                (group == "apidiscovery.k8s.io" && version == "v2" && kind == "APIGroupDiscoveryList")
                    .then_some(plain)
            }
            Endpoint::Resource { table } => {
                let meta = match (group, version) {
                    ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
                    ("meta.k8s.io", "v1beta1") => "meta.k8s.io/v1beta1",
                    _ => return None,
                };
                let form = match kind {
                    "Table" if table && media != MediaType::Protobuf => Form::Table,
                    "PartialObjectMetadata" => Form::Metadata,
                    "PartialObjectMetadataList" => Form::MetadataList,
                    _ => return None,
                };
                Some(Accepted { form, meta, ..plain })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(accept: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())])
    }

    fn shown(accept: &str, endpoint: Endpoint) -> String {
        let Some(Accepted { media, form, meta, .. }) = choose(&headers(accept), endpoint) else {
            return "406".to_owned();
        };
        let version = if form == Form::Object { "" } else { meta.trim_start_matches("meta.k8s.io/") };
        format!("{media:?} {form:?} {version}").trim_end().to_owned()
    }

    #[test]
    fn the_best_media_type_is_chosen() {
        for (accept, expect) in [
            ("", "Json Object"),
            ("*/*", "Json Object"),
            ("*", "Json Object"),
            ("application/*", "Json Object"),
            ("*/json", "406"),
            ("text/html", "406"),
            ("APPLICATION/JSON", "406"),
            ("application/json/x", "406"),
            ("application/json/", "Json Object"),
            ("text/html, application/yaml", "Yaml Object"),
            ("application/json;q=0.5,application/yaml", "Yaml Object"),
            ("application/json;q=0.5,application/yaml;q=0.4", "Json Object"),
            ("application/json;q=x,application/yaml;q=0.1", "Yaml Object"),
            ("application/json;q=0", "Json Object"),
            // a type passes a range whatever their qualities
            ("*/*,application/yaml;q=0.1", "Yaml Object"),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", "Json Table v1"),
            ("application/json;as=Table;v=v1beta1;g=meta.k8s.io", "Json Table v1beta1"),
            ("application/yaml;as=Table;v=v1;g=meta.k8s.io", "Yaml Table v1"),
            ("application/json; as = Table ; v = v1 ; g = meta.k8s.io", "Json Table v1"),
            ("*/*;as=Table;v=v1;g=meta.k8s.io", "Json Table v1"),
            // neither has rows of protobuf
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", "406"),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json",
                "Json Object",
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
                "Protobuf Metadata v1",
            ),
            ("application/json;as=Table;v=v2;g=meta.k8s.io", "406"),
            ("application/json;as=Table;v=v1;g=apps", "406"),
            ("application/json;as=Table", "406"),
            ("application/json;as=Foo;v=v1;g=meta.k8s.io", "406"),
            ("application/json;v=v1;g=meta.k8s.io", "406"),
            ("application/json;as=", "Json Object"),
            ("application/json;stream=watch", "Json Object"),
            ("application/json;stream=other", "406"),
            ("application/yaml;stream=watch", "406"),
            ("application/json;sv=v1", "Json Object"),
            ("application/json;sv=v2", "406"),
            ("application/json;charset=utf-8;x=y=z", "Json Object"),
        ] {
            assert_eq!(shown(accept, Endpoint::Resource { table: true }), expect, "{accept}");
        }
    }

    #[test]
    fn endpoints_have_forms_of_their_own() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml";
        let discovery = "application/json;as=APIGroupDiscoveryList;v=v2;g=apidiscovery.k8s.io";
        let earlier = "application/json;as=APIGroupDiscoveryList;v=v2beta1;g=apidiscovery.k8s.io";
        for (accept, endpoint, expect) in [
            (table, Endpoint::Resource { table: false }, "Yaml Object"),
            (table, Endpoint::Plain, "Yaml Object"),
            (discovery, Endpoint::Plain, "406"),
            (discovery, Endpoint::Discovery, "Json Object"),
            (earlier, Endpoint::Discovery, "406"),
            ("application/json", Endpoint::Discovery, "406"),
            ("", Endpoint::Discovery, "406"),
            ("application/json;sv=v1", Endpoint::Plain, "406"),
        ] {
            assert_eq!(shown(accept, endpoint), expect, "{accept} {endpoint:?}");
        }
    }

    #[test]
    fn only_the_first_header_counts() {
        let mut headers = headers(YAML);
        headers.append(ACCEPT, PROTOBUF.parse().unwrap());
        assert_eq!(accept(&headers), YAML);
        assert!(route(&headers, &[PROTOBUF]).is_err());
    }
}
