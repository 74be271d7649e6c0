//! Pages and redirects of a proxied backend: links to the backend's own root lead back through the proxy.
//!
//! A backend does not know under which path it is seen, so `/login` in one of its pages would be the API server's. What is relative or
//! names another host stays. The page's markup is looked at only as far as finding tags and their attributes takes, and passes
//! as it comes: no more than a tag is kept.

mod stream;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue};

pub use stream::rewritten;

/// A longer tag passes with its links as they are.
const LONGEST_TAG: usize = 64 << 10;

/// The place under which a client sees a backend.
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

/// Where in a page the next byte is.
enum State {
    Text,
    /// What is kept begins with `<`.
    Tag {
        quote: Option<u8>,
    },
    /// In a tag that was too long to be kept; `text` is the element whose content it begins.
    LongTag {
        quote: Option<u8>,
        text: Vec<u8>,
    },
    Comment {
        dashes: usize,
    },
    /// In an element whose content is text, up to this end; what is kept is the beginning of it.
    Content {
        end: Vec<u8>,
    },
}

/// Leads a page's links through the proxy, a piece at a time.
pub struct Rewriter {
    view: View,
    state: State,
    kept: Vec<u8>,
}

impl Rewriter {
    pub fn new(view: View) -> Rewriter {
        Rewriter { view, state: State::Text, kept: Vec::new() }
    }

    /// Takes the next piece, and gives out what is decided.
    pub fn push(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while let Some((&byte, rest)) = piece.split_first() {
            match &mut self.state {
                State::Text => {
                    let text = piece.iter().position(|byte| *byte == b'<').unwrap_or(piece.len());
                    out.extend_from_slice(&piece[..text]);
                    piece = &piece[text..];
                    if let Some((open, rest)) = piece.split_first() {
                        self.kept.push(*open);
                        self.state = State::Tag { quote: None };
                        piece = rest;
                    }
                    continue;
                }
                State::Tag { .. } => {
                    self.kept.push(byte);
                    self.in_tag(byte, out);
                }
                State::LongTag { quote, text } => {
                    out.push(byte);
                    if ends_tag(quote, byte) {
                        self.state = content_of(text);
                    }
                }
                State::Comment { dashes } => {
                    out.push(byte);
                    match byte {
                        b'-' => *dashes += 1,
                        b'>' if *dashes >= 2 => self.state = State::Text,
                        _ => *dashes = 0,
                    }
                }
                State::Content { end } => {
                    if !byte.eq_ignore_ascii_case(&end[self.kept.len()]) {
                        out.append(&mut self.kept);
                    }
                    // only the first byte of the end tag can start a new match
                    match byte.eq_ignore_ascii_case(&end[self.kept.len()]) {
                        true => self.kept.push(byte),
                        false => out.push(byte),
                    }
                    if self.kept.len() == end.len() {
                        self.state = State::Tag { quote: None };
                    }
                }
            }
            piece = rest;
        }
    }

    /// The page is over.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let kept = std::mem::take(&mut self.kept);
        match self.state {
            State::Tag { .. } => self.view.tag(&kept, out),
            _ => out.extend_from_slice(&kept),
        }
    }

    /// A byte of a tag is kept.
    fn in_tag(&mut self, byte: u8, out: &mut Vec<u8>) {
        let State::Tag { quote } = &mut self.state else { return };
        let begins = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'/' | b'!' | b'?');
        if self.kept.len() == 2 && !begins(byte) {
            // a `<` of the text
            self.state = if byte == b'<' { State::Tag { quote: None } } else { State::Text };
            out.append(&mut self.kept);
            if byte == b'<' {
                self.kept.extend(out.pop());
            }
        } else if self.kept == b"<!--" {
            out.append(&mut self.kept);
            self.state = State::Comment { dashes: 2 };
        } else if ends_tag(quote, byte) {
            self.view.tag(&self.kept, out);
            self.state = content_of(text_element(&self.kept).unwrap_or_default());
            self.kept.clear();
        } else if self.kept.len() > LONGEST_TAG {
            let text = text_element(&self.kept).unwrap_or_default().to_vec();
            self.state = State::LongTag { quote: *quote, text };
            out.append(&mut self.kept);
        }
    }
}

/// Whether a byte ends a tag; a `>` within quotes does not.
fn ends_tag(quote: &mut Option<u8>, byte: u8) -> bool {
    match (*quote, byte) {
        (None, b'>') => return true,
        (None, b'"' | b'\'') => *quote = Some(byte),
        (Some(open), byte) if open == byte => *quote = None,
        _ => {}
    }
    false
}

/// The state after an opening tag: inside an element with raw content, or in ordinary text where the name is empty.
fn content_of(name: &[u8]) -> State {
    match name {
        [] => State::Text,
        name => State::Content { end: [b"</", name].concat() },
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
