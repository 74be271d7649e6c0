//! `get` and `list`, from the watch cache.

use std::sync::Arc;
use std::time::Duration;

use api::{Status, Tree};
use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use daemon::aside::aside;
use http::{Response, StatusCode};
use machinery::fields::Term;
use serde::Serialize;
use watchcache::entry::Entry;
use watchcache::event::EventType;
use watchcache::filter::Filter;
use watchcache::{Cache, Snapshot, converted};

use super::options::{ListOptions, VersionMatch, get_version};
use super::render::{self, ListMeta};
use super::{Call, status_of};
use crate::body::Body;

/// More objects than can be matched in a moment.
pub const MANY: usize = 20_000;

/// How long a read waits for a resource version that is yet to come.
const WAIT: Duration = Duration::from_secs(3);

/// Waits until the cache is as new as the read asks: with nothing asked, as new as the store is now.
pub async fn wait_for(call: &Call<'_>, version: Option<u64>) -> Result<(), Status> {
    let feed = &call.server.resources.feed;
    let wanted = match version {
        Some(version) => version.max(1),
        None => {
            let stored = feed.store_revision().await.map_err(|error| Status::failure(500, "", error))?;
            stored.unsigned_abs()
        }
    };
    if feed.reached(i64::try_from(wanted).unwrap_or(i64::MAX), WAIT).await {
        return Ok(());
    }
    Err(Status::resource_version_too_large(wanted, feed.revision().unsigned_abs()))
}

/// `GET` of one object.
pub async fn get(call: &Call<'_>) -> Result<Response<Body>, Status> {
    wait_for(call, get_version(call.request.query())?).await?;
    let cache = call.cache()?;
    let entry = cache.find(call.namespace(), call.name())?.ok_or_else(|| call.not_found())?;
    Ok(render::object(StatusCode::OK, &entry, &call.target).await)
}

/// The filter of a list or watch.
pub fn filter(call: &Call<'_>, options: &ListOptions) -> Result<Filter, Status> {
    let cache = call.cache()?;
    let known = registry::selectable::fields(call.resource);
    let mut fields = options.fields.clone();
    for term in &mut fields.terms {
        if !known.iter().any(|(label, _)| *label == term.field) {
            return Err(Status::bad_request(registry::selectable::unsupported(call.resource, &term.field)));
        }
        // events are stored in the old group's form
        if let Some(rest) = term.field.strip_prefix("regarding.") {
            term.field = format!("involvedObject.{rest}");
        } else if term.field == "reportingController" {
            term.field = "reportingComponent".to_owned();
        }
    }
    if !call.name().is_empty() {
        // authorized by this name alone
        if fields.is_empty() {
            let (field, value) = ("metadata.name".to_owned(), call.name().to_owned());
            fields.terms.push(Term { field, value, negated: false });
        } else if fields.required("metadata.name") != Some(call.name()) {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
    }
    Filter::new(&cache.kind, call.resource, call.namespace(), options.labels.clone(), &fields)
        .map_err(|label| Status::bad_request(registry::selectable::unsupported(call.resource, &label)))
}

/// `GET` of a collection.
pub async fn list(call: &Call<'_>) -> Result<Response<Body>, Status> {
    let options = ListOptions::parse(call.request.query())?;
    let filter = filter(call, &options)?;
    let (entries, meta) = select(call, &options, &filter).await?;
    Ok(render::list(entries, &meta, &call.target).await)
}

/// The objects a list answers with, and its metadata.
pub async fn select(
    call: &Call<'_>,
    options: &ListOptions,
    filter: &Filter,
) -> Result<(Vec<Arc<Entry>>, ListMeta), Status> {
    let cache = call.cache()?;
    let namespaced = cache.kind.is_namespaced();
    let base = if namespaced && !filter.namespace.is_empty() {
        format!("{}/", filter.namespace)
    } else {
        String::new()
    };
    let any_version = options.given_version == "0";
    let (state, start) = if options.continue_token.is_empty() {
        (first(call, options, &cache).await?, String::new())
    } else {
        let token = Token::decode(&options.continue_token)?;
        if !options.given_version.is_empty() && !any_version {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let start = format!("{base}{}", token.key());
        (rest(call, &cache, &token).await?, start)
    };
    if !any_version && let Some(error) = cache.unreadable(&format!("{}{base}", cache.kind.prefix)) {
        return Err(error.of_list(&call.resource.plural));
    }
    let snapshot = match state {
        State::Cached(snapshot) => snapshot,
        State::Stored(revision) => return stored(call, options, filter, &base, &start, revision).await,
    };
    let failed = |status| render::unconverted_list(&call.resource.plural, status);
    let mut matching = snapshot.select(filter, &start, namespaced).cloned();
    let mut meta = ListMeta { resource_version: snapshot.revision, ..ListMeta::default() };
    // whoever takes any version takes what is in memory, all at once
    let many = snapshot.objects.len() > MANY;
    if options.limit == 0 || any_version {
        let entries = aside(many, || matching.collect());
        return Ok((converted::matching(entries, filter, usize::MAX).await.map_err(failed)?, meta));
    }
    let limit = options.limit as usize;
    let candidates = if filter.converts() { usize::MAX } else { limit };
    let entries = aside(many, || matching.by_ref().take(candidates).collect());
    let entries = converted::matching(entries, filter, limit).await.map_err(failed)?;
    let last = entries.last().filter(|last| match filter.is_plain() || filter.name().is_some() {
        true => matching.next().is_some(),
        // whether what follows matches is seen on the next page
        false => entries.len() == limit && snapshot.has_after(&base, &last.key),
    });
    if let Some(last) = last {
        // the rest is counted only when no selector has to be matched
        if filter.is_plain() {
            meta.remaining = Some(aside(many, || matching.count()) as i64 + 1);
        }
        let key = last.key.strip_prefix(base.as_str()).unwrap_or(&last.key);
        meta.continue_token = Token::new(snapshot.revision, format!("/{key}\0")).encode();
        cache.keep(&snapshot);
    }
    Ok((entries, meta))
}

/// Source of a list's objects.
enum State {
    Cached(Snapshot),
    /// The store has them as of this revision.
    Stored(i64),
}

async fn first(call: &Call<'_>, options: &ListOptions, cache: &Arc<Cache>) -> Result<State, Status> {
    let version = options.version()?;
    wait_for(call, version).await?;
    let fed = call.server.resources.feed.revision();
    match version.map(|version| i64::try_from(version).unwrap_or(i64::MAX)) {
        // pages are pages of one state: unless said otherwise, of the one that is named
        Some(version)
            if options.version_match == VersionMatch::Exact
                || (options.version_match == VersionMatch::Unset && options.limit > 0 && version > 0) =>
        {
            at(call, cache, version, fed)
        }
        _ => Ok(State::Cached(cache.snapshot(fed))),
    }
}

async fn rest(call: &Call<'_>, cache: &Arc<Cache>, token: &Token) -> Result<State, Status> {
    let feed = &call.server.resources.feed;
    let Ok(revision) = u64::try_from(token.rv) else {
        // an inconsistent token: continue from the current state
        wait_for(call, None).await?;
        return Ok(State::Cached(cache.snapshot(feed.revision())));
    };
    wait_for(call, Some(revision)).await?;
    match at(call, cache, token.rv, feed.revision()) {
        Err(status) if status.code == 410 => {
            let inconsistent = Token::new(-1, token.start.clone()).encode();
            Err(Status::expired_continue(INCONSISTENT, &inconsistent))
        }
        other => other,
    }
}

const INCONSISTENT: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";
const TOO_OLD: &str = "The resourceVersion for the provided list is too old.";

/// The objects as of an earlier revision: from the cache when it still knows, else from the store while that keeps them.
fn at(call: &Call<'_>, cache: &Arc<Cache>, revision: i64, fed: i64) -> Result<State, Status> {
    if revision < call.server.resources.feed.compacted() {
        return Err(Status::expired(TOO_OLD));
    }
    Ok(cache.snapshot_at(revision, fed).map_or(State::Stored(revision), State::Cached))
}

/// Objects read from the store at once.
const STORED_PAGE: usize = 500;

/// A page out of the store: only its keys are read, and nothing of it is kept.
async fn stored(
    call: &Call<'_>,
    options: &ListOptions,
    filter: &Filter,
    base: &str,
    start: &str,
    revision: i64,
) -> Result<(Vec<Arc<Entry>>, ListMeta), Status> {
    let kind = &call.cache()?.kind;
    let (prefix, store) = (kind.prefix.as_str(), &call.server.resources.store);
    let (mut from, mut end) = (format!("{prefix}{base}").into_bytes(), Vec::new());
    match filter.name() {
        // The name and the namespace are known, so the key is.
        Some(name) if !base.is_empty() || !kind.is_namespaced() => {
            from.extend_from_slice(name.as_bytes());
            end.extend_from_slice(&from);
            end.push(0);
        }
        _ => end = store::prefix_end(&from),
    }
    from = from.max(format!("{prefix}{start}").into_bytes());
    let limit = if options.limit > 0 { options.limit as usize } else { usize::MAX };
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    let mut count = None;
    while from < end && entries.len() <= limit {
        // One entry more than the limit shows whether more follow.
        let page = if filter.is_plain() { (limit - entries.len()).saturating_add(1) } else { STORED_PAGE };
        let range = store.range(&from, &end, page.min(STORED_PAGE) as i64, revision).await;
        let range = range.map_err(|error| match error {
            store::Error::Compacted { .. } => Status::expired(TOO_OLD),
            other => status_of(other),
        })?;
        count.get_or_insert(range.count);
        let mut candidates = Vec::new();
        for item in &range.items {
            let key = std::str::from_utf8(&item.key).ok().and_then(|key| key.strip_prefix(prefix));
            let Some(key) = key else { continue };
            let entry =
                Entry::decode(kind, key.into(), &item.value, item.mod_revision, EventType::Added.name())
                    .map_err(|error| error.of_list(&kind.resource.plural))?;
            if filter.may_match(&entry) {
                candidates.push(Arc::new(entry));
            }
        }
        let missing = limit.saturating_add(1) - entries.len();
        let matching = converted::matching(candidates, filter, missing).await;
        let matching = matching.map_err(|status| render::unconverted_list(&kind.resource.plural, status))?;
        entries.extend(matching.into_iter().take(missing));
        match range.items.last() {
            Some(last) if range.more => {
                from = last.key.to_vec();
                from.push(0);
            }
            _ => break,
        }
    }
    let mut meta = ListMeta { resource_version: revision, ..ListMeta::default() };
    if entries.len() > limit {
        entries.truncate(limit);
        if filter.is_plain() {
            meta.remaining = count.map(|count| count - limit as i64);
        }
        if let Some(last) = entries.last() {
            let key = last.key.strip_prefix(base).unwrap_or(&last.key);
            meta.continue_token = Token::new(revision, format!("/{key}\0")).encode();
        }
    }
    Ok((entries, meta))
}

/// Upstream's continue token. `start` is the key below the list's prefix, with a slash before it, which an older client
/// may have without.
#[derive(Default, Serialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

impl Token {
    fn new(rv: i64, start: String) -> Token {
        Token { v: "meta.k8s.io/v1".to_owned(), rv, start }
    }

    fn key(&self) -> &str {
        self.start.strip_prefix('/').unwrap_or(&self.start)
    }

    /// Whether the key stays below the prefix.
    fn is_clean(&self) -> bool {
        self.key().is_empty() || !self.key().split('/').any(|part| matches!(part, "" | "." | ".."))
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Names are read in any case, as upstream's reader does, and a null says nothing.
    fn read(bytes: &[u8]) -> Result<Token, String> {
        let fields = match api::decode::untyped(bytes)? {
            Tree::Object(fields) => fields,
            Tree::Null => return Ok(Token::default()),
            other => {
                let kind = kind_of(&other);
                return Err(format!(
                    "json: cannot unmarshal {kind} into Go value of type storage.continueToken"
                ));
            }
        };
        let mut token = Token::default();
        for (name, value) in fields {
            let name = name.to_ascii_lowercase();
            let expected = match (name.as_str(), &value) {
                (_, Tree::Null) => continue,
                ("v", Tree::String(text)) => {
                    token.v = text.to_string();
                    continue;
                }
                ("start", Tree::String(text)) => {
                    token.start = text.to_string();
                    continue;
                }
                ("rv", Tree::Number(number)) if number.is_i64() => {
                    token.rv = number.as_i64().unwrap_or_default();
                    continue;
                }
                ("v" | "start", _) => "string",
                ("rv", _) => "int64",
                _ => continue,
            };
            let kind = match &value {
                Tree::Number(number) if expected == "int64" => format!("number {number}"),
                other => kind_of(other).to_owned(),
            };
            return Err(format!(
                "json: cannot unmarshal {kind} into Go struct field continueToken.{name} of type {expected}"
            ));
        }
        Ok(token)
    }

    fn decode(text: &str) -> Result<Token, Status> {
        let not_valid = |why: String| {
            Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"))
        };
        let bytes =
            decoded(text).map_err(|at| not_valid(format!("illegal base64 data at input byte {at}")))?;
        let token = Token::read(&bytes).map_err(not_valid)?;
        match (token.v.as_str(), token.rv) {
            ("meta.k8s.io/v1", 0) => {
                Err(not_valid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)".to_owned()))
            }
            ("meta.k8s.io/v1", _) if token.start.is_empty() => {
                Err(not_valid("encoded start key empty (version meta.k8s.io/v1)".to_owned()))
            }
            ("meta.k8s.io/v1", _) if !token.is_clean() => Err(not_valid(token.start.clone())),
            ("meta.k8s.io/v1", _) => Ok(token),
            (other, _) => Err(not_valid(format!("server does not recognize this encoded version {other}"))),
        }
    }
}

fn kind_of(value: &Tree) -> &'static str {
    match value {
        Tree::Null => "null",
        Tree::Bool(_) => "bool",
        Tree::Number(_) => "number",
        Tree::String(_) => "string",
        Tree::Array(_) => "array",
        Tree::Object(_) => "object",
    }
}

/// Undoes base64 without padding; else the place where it is none.
fn decoded(text: &str) -> Result<Vec<u8>, usize> {
    let of_alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let of_line = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if let Some(at) = text.bytes().position(|byte| !of_alphabet(&byte) && !of_line(&byte)) {
        return Err(at);
    }
    let symbols: Vec<u8> = text.bytes().filter(|byte| !of_line(byte)).collect();
    LENIENT.decode(&symbols).map_err(|_| text.len().saturating_sub(1))
}

/// What the last symbol has beyond whole bytes is passed over.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = |start: &str| Token::decode(&Token::new(7, start.to_owned()).encode());
        // with the slash, as upstream makes them, and without, as it made them once
        for start in ["/default/web\0", "default/web\0"] {
            assert_eq!(token(start).unwrap().key(), "default/web\0");
        }
        assert_eq!(token("/").unwrap().key(), "");
        let refused = |text: &str| {
            let why = Token::decode(text).err().map(|status| status.message).unwrap_or_default();
            why.trim_start_matches("invalid continue token: continue key is not valid: ").to_owned()
        };
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for (text, expect) in [
            ("a b".to_owned(), "illegal base64 data at input byte 1"),
            ("YQ==".to_owned(), "illegal base64 data at input byte 2"),
            ("abcde".to_owned(), "illegal base64 data at input byte 4"),
            ("YR".to_owned(), "invalid character 'a' looking for beginning of value"),
            (encoded("nul"), "invalid character ' ' in literal null (expecting 'l')"),
            (encoded("null"), "server does not recognize this encoded version "),
            (encoded("[]"), "json: cannot unmarshal array into Go value of type storage.continueToken"),
            (
                encoded(r#"{"v":1}"#),
                "json: cannot unmarshal number into Go struct field continueToken.v of type string",
            ),
            (
                encoded(r#"{"rv":"1"}"#),
                "json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
            ),
            (encoded(r#"{"v":"a"}x"#), "invalid character 'x' after top-level value"),
            (encoded(r#"{"V":"meta.k8s.io/v1","RV":1,"Start":"a"}"#), ""),
        ] {
            assert_eq!(refused(&text), expect, "{text}");
        }
        for start in ["//web", "/web/", "./web", "a//b", "../secrets"] {
            assert_eq!(
                token(start).err().map(|status| status.message),
                Some(format!("invalid continue token: continue key is not valid: {start}"))
            );
        }
    }
}
