//! Answers for people: JSON with line breaks, where the query or the media type asks for it, or where a browser or a
//! command line client is at the other end.

use access::request_info::parameter;
use bytes::Bytes;
use daemon::aside::{LARGE_BODY, aside};
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Response};
use http_body::Body as _;

use crate::body::Body;
use crate::negotiate::{Endpoint, JSON, Negotiated, choose};

/// The answer as its client is to see it.
pub fn answer(query: &str, headers: &HeaderMap, answer: Response<Body>) -> Response<Body> {
    let json = answer.headers().get(CONTENT_TYPE).is_some_and(|own| own == JSON);
    if !json || answer.extensions().get::<Negotiated>().is_none() || !wanted(query, headers) {
        return answer;
    }
    let mut indenter = Indenter::default();
    let large = answer.body().size_hint().lower() > LARGE_BODY as u64;
    aside(large, || answer.map(|body| body.changed(move |bytes| indenter.indent(&bytes))))
}

fn wanted(query: &str, headers: &HeaderMap) -> bool {
    if choose(headers, Endpoint::Resource { table: true }).is_some_and(|accepted| accepted.pretty) {
        return true;
    }
    match parameter(query, "pretty").filter(|text| !text.is_empty()) {
        Some(text) => matches!(text.as_str(), "1" | "t" | "T" | "TRUE" | "true" | "True"),
        None => {
            let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
            ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
        }
    }
}

/// Breaks the lines of JSON that comes in pieces and has no space between its parts.
#[derive(Default)]
struct Indenter {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// An object or list is open in which nothing stands yet.
    opened: bool,
}

impl Indenter {
    fn indent(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(bytes.len() * 3 / 2);
        for byte in bytes.iter().copied() {
            if self.in_text {
                out.push(byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_text = false,
                    _ => {}
                }
                continue;
            }
            // white space after the document is no part of it
            if byte.is_ascii_whitespace() {
                continue;
            }
            let empty = std::mem::take(&mut self.opened);
            let closes = matches!(byte, b'}' | b']');
            if closes {
                self.depth = self.depth.saturating_sub(1);
            }
            if empty != closes {
                self.line(&mut out);
            }
            out.push(byte);
            match byte {
                b'{' | b'[' => {
                    self.depth += 1;
                    self.opened = true;
                }
                b',' => self.line(&mut out),
                b':' => out.push(b' '),
                b'"' => self.in_text = true,
                _ => {}
            }
        }
        out.into()
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.extend(std::iter::repeat_n(b' ', 2 * self.depth));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_broken_as_encoders_do_it() {
        for tree in [
            json!({}),
            json!([]),
            json!({"a": {}, "b": [], "c": [1, -2.5, null, true, "x"], "d": {"e": [{}, [[]], {"f": "g"}]}}),
            json!({"quoted \"{\\": "a\\\"b,c:[]{}", "é": "\n\t"}),
            json!([[[{"a": [{}]}]]]),
        ] {
            let compact = format!("{tree}\n");
            let expect = serde_json::to_string_pretty(&tree).unwrap();
            for size in [1, 2, 3, 7, compact.len()] {
                let mut indenter = Indenter::default();
                let pieces = compact.as_bytes().chunks(size).map(|piece| indenter.indent(piece));
                let got = pieces.collect::<Vec<_>>().concat();
                assert_eq!(String::from_utf8(got).unwrap(), expect, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn pretty_answers_by_query_and_agent() {
        for (query, agent, accept, expect) in [
            ("", "kubectl/v1.37.1", "", false),
            ("", "curl/7.88.1", "", true),
            ("pretty=false", "curl/7.88.1", "", false),
            ("pretty=x", "curl/7.88.1", "", false),
            ("pretty=", "Mozilla/5.0 (X11)", "", true),
            ("pretty=1", "", "", true),
            ("pretty=True", "kubectl/v1.37.1", "", true),
            ("", "Wget/1.21", "application/json", true),
            ("", "", "application/json;pretty=1", true),
            ("", "", "application/json;pretty=0", false),
        ] {
            let headers = HeaderMap::from_iter([
                (USER_AGENT, agent.parse().unwrap()),
                (http::header::ACCEPT, accept.parse().unwrap()),
            ]);
            assert_eq!(wanted(query, &headers), expect, "{query} {agent} {accept}");
        }
    }
}
