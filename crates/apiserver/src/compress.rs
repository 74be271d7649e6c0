//! gzip for large answers, for clients that take it.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use daemon::aside::Parts;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::Stream;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Response};
use http_body::Body as _;

use crate::body::Body;

/// Smaller answers are not worth it.
const WORTH: u64 = 128 << 10;

/// Compresses an answer that is known to be large, or a streamed list. Watches stay as they are.
pub fn compress(headers: &HeaderMap, answer: Response<Body>) -> Response<Body> {
    let accepts = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|each| each.trim().split(';').next() == Some("gzip"));
    let hint = answer.body().size_hint();
    let large = hint.lower() > WORTH || answer.body().is_list();
    if !accepts || !large || !answer.headers().contains_key(CONTENT_TYPE) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    parts.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(CONTENT_LENGTH);
    let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
    let gzip = Gzip { body, read: Bytes::new(), encoder, parts: Parts::begin() };
    Response::from_parts(parts, Body::stream(gzip))
}

/// Compressed at once.
const PIECE: usize = 64 << 10;

struct Gzip {
    body: Body,
    /// The part of the body's last frame that is yet to be compressed.
    read: Bytes,
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// A client that reads fast must not keep a worker to itself.
    parts: Parts,
}

impl Stream for Gzip {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Some(encoder) = this.encoder.as_mut() else { return Poll::Ready(None) };
            if this.parts.over() {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            if !this.read.is_empty() {
                let piece = this.read.split_to(this.read.len().min(PIECE));
                encoder.write_all(&piece)?;
                if encoder.get_ref().is_empty() {
                    continue;
                }
                return Poll::Ready(Some(Ok(std::mem::take(encoder.get_mut()).into())));
            }
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    this.read = frame.into_data().unwrap_or_default();
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    let Some(encoder) = this.encoder.take() else { return Poll::Ready(None) };
                    return Poll::Ready(Some(encoder.finish().map(Bytes::from)));
                }
            }
        }
    }
}
