//! Pages and redirects of a proxied backend: links to the backend's own root lead back through the proxy.
//!
//! A backend does not know under which path it is seen, so `/login` in one of its pages would be the API server's. What is relative or
//! names another host stays. The page's markup is looked at only as far as finding tags and their attributes takes.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::{DeflateDecoder, GzDecoder};
use flate2::write::{DeflateEncoder, GzEncoder};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue};

/// A page has to be held whole to be changed; one longer than this is an error.
pub const LONGEST: usize = 32 << 20;

/// Where a backend is seen.
#[derive(Clone, Debug)]
pub struct View {
    /// The request's path up to and with `/proxy`.
    pub prefix: String,
    /// The backend's `host:port`.
    pub backend: String,
    /// The host that the client asked for.
    pub host: String,
}

impl View {
    /// A link as the client has to follow it.
    pub fn link<'l>(&self, link: &'l str) -> Cow<'l, str> {
        let (origin, rest) = split(link);
        let authority = origin.rsplit('/').next().unwrap_or_default();
        let own = authority.is_empty() || authority == self.backend || authority == self.host;
        if !own || !rest.starts_with('/') || (authority.is_empty() && !origin.is_empty() && origin != "//") {
            return Cow::Borrowed(link);
        }
        // a link that names the client's way here keeps it
        let origin = if authority == self.host { origin } else { "" };
        let prefix = if rest.starts_with(&self.prefix) { "" } else { &self.prefix };
        if origin.is_empty() && prefix.is_empty() && authority.is_empty() {
            return Cow::Borrowed(link);
        }
        Cow::Owned(format!("{origin}{prefix}{rest}"))
    }

    /// Leads a redirect through the proxy.
    pub fn redirect(&self, headers: &mut HeaderMap) {
        let location = headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let link = location.map(|location| HeaderValue::from_str(&self.link(location)));
        if let Some(Ok(link)) = link {
            headers.insert(LOCATION, link);
        }
    }

    /// The page with its links led through the proxy, encoded as it came.
    pub fn page(&self, headers: &mut HeaderMap, page: Bytes) -> std::io::Result<Bytes> {
        let page = match encoding(headers) {
            "gzip" => {
                let mut out = GzEncoder::new(Vec::new(), Compression::fast());
                out.write_all(&self.links(&limited(GzDecoder::new(&*page))?))?;
                out.finish()?
            }
            "deflate" => {
                let mut out = DeflateEncoder::new(Vec::new(), Compression::fast());
                out.write_all(&self.links(&limited(DeflateDecoder::new(&*page))?))?;
                out.finish()?
            }
            _ => self.links(&page),
        };
        headers.insert(CONTENT_LENGTH, page.len().into());
        Ok(page.into())
    }

    /// Walks from tag to tag. Comments, and elements whose content is text, are passed over.
    fn links(&self, page: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(page.len() + 256);
        let mut rest = page;
        while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
            let (before, tag) = rest.split_at(at);
            out.extend_from_slice(before);
            let end = if tag.starts_with(b"<!--") { past(tag, b"-->") } else { tag_end(tag) };
            let (tag, behind) = tag.split_at(end);
            self.tag(tag, &mut out);
            let text = text_element(tag).map_or(0, |name| closing(behind, name));
            out.extend_from_slice(&behind[..text]);
            rest = &behind[text..];
        }
        out.extend_from_slice(rest);
        out
    }

    /// Copies a tag, its links changed.
    fn tag(&self, tag: &[u8], out: &mut Vec<u8>) {
        let attributes = attributes_of(name(tag));
        let Some(text) = std::str::from_utf8(tag).ok().filter(|_| !attributes.is_empty()) else {
            out.extend_from_slice(tag);
            return;
        };
        let mut copied = 0;
        for (attribute, from, to) in values(text) {
            if attributes.iter().any(|own| own.eq_ignore_ascii_case(attribute)) {
                out.extend_from_slice(&text.as_bytes()[copied..from]);
                out.extend_from_slice(self.link(&text[from..to]).as_bytes());
                copied = to;
            }
        }
        out.extend_from_slice(&text.as_bytes()[copied..]);
    }
}

/// Whether an answer is a page whose links can be changed.
pub fn is_page(headers: &HeaderMap) -> bool {
    let content = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content.split(';').next().is_some_and(|kind| kind.trim() == "text/html")
        && matches!(encoding(headers), "" | "gzip" | "deflate")
}

fn encoding(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn limited(from: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    from.take(LONGEST as u64 + 1).read_to_end(&mut page)?;
    if page.len() > LONGEST { Err(std::io::Error::other("the page is too long")) } else { Ok(page) }
}

/// Scheme and authority, and what comes behind them.
fn split(link: &str) -> (&str, &str) {
    let scheme = link.find("//").filter(|at| {
        let scheme = &link[..*at];
        scheme.is_empty()
            || scheme.strip_suffix(':').is_some_and(|name| {
                !name.is_empty()
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            })
    });
    let Some(at) = scheme else { return ("", link) };
    let end = link[at + 2..].find(['/', '?', '#']).map_or(link.len(), |end| at + 2 + end);
    link.split_at(end)
}

/// Which attributes of an element hold one link.
fn attributes_of(element: &[u8]) -> &'static [&'static str] {
    match element.to_ascii_lowercase().as_slice() {
        b"a" | b"area" | b"base" | b"link" => &["href"],
        b"applet" => &["codebase"],
        b"audio" | b"embed" | b"script" | b"source" => &["src"],
        b"blockquote" | b"del" | b"ins" | b"q" => &["cite"],
        b"body" => &["background"],
        b"button" => &["formaction"],
        b"command" => &["icon"],
        b"form" => &["action"],
        b"frame" | b"iframe" => &["longdesc", "src"],
        b"head" => &["profile"],
        b"html" => &["manifest"],
        b"img" => &["longdesc", "src", "usemap"],
        b"input" => &["src", "usemap", "formaction"],
        b"object" => &["classid", "codebase", "data", "usemap"],
        b"video" => &["poster", "src"],
        _ => &[],
    }
}

/// The name in an opening tag; empty for anything else.
fn name(tag: &[u8]) -> &[u8] {
    let inner = tag.get(1..).unwrap_or_default();
    let end = inner.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(inner.len());
    &inner[..end]
}

/// The elements in whose content `<` does not begin a tag.
fn text_element(tag: &[u8]) -> Option<&[u8]> {
    let name = name(tag);
    let text = ["script", "style", "textarea", "title", "xmp"];
    text.iter().any(|own| own.as_bytes().eq_ignore_ascii_case(name)).then_some(name)
}

/// Where `</name` begins.
fn closing(content: &[u8], name: &[u8]) -> usize {
    let closes = |window: &[u8]| window.starts_with(b"</") && window[2..].eq_ignore_ascii_case(name);
    content.windows(name.len() + 2).position(closes).unwrap_or(content.len())
}

fn past(text: &[u8], end: &[u8]) -> usize {
    text.windows(end.len()).position(|window| window == end).map_or(text.len(), |at| at + end.len())
}

/// Behind the `>` that ends a tag; one within quotes does not.
fn tag_end(tag: &[u8]) -> usize {
    let mut quote = None;
    for (at, byte) in tag.iter().enumerate().skip(1) {
        match (quote, byte) {
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    tag.len()
}

/// Each attribute with where its value begins and ends.
fn values(tag: &str) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    let bytes = tag.as_bytes();
    let mut at = 0;
    while let Some(equals) = bytes[at..].iter().position(|byte| *byte == b'=').map(|found| at + found) {
        let attribute = tag[at..equals].trim_end();
        let attribute =
            attribute.rsplit(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or_default();
        let blank = bytes[equals + 1..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let start = equals + 1 + blank;
        let (from, to) = match bytes.get(start) {
            Some(quote @ (b'"' | b'\'')) => {
                let inner = &bytes[start + 1..];
                let length = inner.iter().position(|byte| byte == quote).unwrap_or(inner.len());
                (start + 1, start + 1 + length)
            }
            _ => {
                let inner = &bytes[start.min(bytes.len())..];
                let length = inner.iter().position(|byte| byte.is_ascii_whitespace() || *byte == b'>');
                (start, start + length.unwrap_or(inner.len()))
            }
        };
        found.push((attribute, from, to));
        at = to;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            prefix: "/api/v1/namespaces/n/services/s/proxy".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            host: "localhost:8001".to_owned(),
        }
    }

    #[test]
    fn links() {
        let check = |link: &str, expect: &str| {
            let expect = expect.replace('~', "/api/v1/namespaces/n/services/s/proxy");
            assert_eq!(view().link(link), expect, "{link}");
        };
        check("/x", "~/x");
        check("/x/?a=b#c", "~/x/?a=b#c");
        check("/", "~/");
        check("x/y", "x/y");
        check("", "");
        check("#top", "#top");
        check("http://10.0.0.1:80/x", "~/x");
        check("http://localhost:8001/x", "http://localhost:8001~/x");
        check("//10.0.0.1:80/x", "~/x");
        check("https://example.com/x", "https://example.com/x");
        check("mailto:someone@example.com", "mailto:someone@example.com");
        check("/api/v1/namespaces/n/services/s/proxy/x", "~/x");
    }

    #[test]
    fn pages() {
        let check = |page: &str, expect: &str| {
            let expect = expect.replace('~', "/api/v1/namespaces/n/services/s/proxy");
            assert_eq!(String::from_utf8(view().links(page.as_bytes())).unwrap(), expect);
        };
        check(r#"<p><a class=x href="/y">z</a> 1 < 2"#, r#"<p><a class=x href="~/y">z</a> 1 < 2"#);
        check("<IMG alt='a > b' SRC=/i.png><br/>", "<IMG alt='a > b' SRC=~/i.png><br/>");
        check("<!-- <a href='/x'> --><a href='/x'>", "<!-- <a href='/x'> --><a href='~/x'>");
        check(
            r#"<script src="/s.js">if (a<b) x = '<a href="/x">'</script><link href="/c">"#,
            r#"<script src="~/s.js">if (a<b) x = '<a href="/x">'</script><link href="~/c">"#,
        );
        check("<a href=", "<a href=");
        check("<p title=\"/x\">", "<p title=\"/x\">");
    }

    #[test]
    fn a_page_stays_encoded_as_it_was() {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(is_page(&headers));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"<a href=/x>").unwrap();
        let page = view().page(&mut headers, encoder.finish().unwrap().into()).unwrap();
        assert_eq!(headers[CONTENT_LENGTH], page.len().to_string());
        let plain = limited(GzDecoder::new(&*page)).unwrap();
        assert_eq!(plain, b"<a href=/api/v1/namespaces/n/services/s/proxy/x>");
    }
}
