//! The body of a page on its way: decoded, rewritten and encoded again, as much of it at a time as comes out small.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzEncoder, MultiGzDecoder};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body_util::BodyExt as _;

use super::{Rewriter, View, encoding};
use crate::body::Body;

/// What is decoded at a time: a thousandfold of it may come out.
const ENCODED: usize = 256;
const PLAIN: usize = 16 << 10;
/// An answer's chunk is about so long.
const CHUNK: usize = 16 << 10;

/// The page with its links led through the proxy, encoded as it comes.
pub fn rewritten(view: View, headers: &mut HeaderMap, body: Body) -> Body {
    headers.remove(CONTENT_LENGTH);
    let coding = match encoding(headers) {
        "gzip" => {
            Coding::Gzip(MultiGzDecoder::new(Vec::new()), GzEncoder::new(Vec::new(), Compression::fast()))
        }
        "deflate" => Coding::Deflate(
            DeflateDecoder::new(Vec::new()),
            DeflateEncoder::new(Vec::new(), Compression::fast()),
        ),
        _ => Coding::Plain(Vec::new()),
    };
    let page =
        Page { body, input: Bytes::new(), began: false, ended: false, rewriter: Rewriter::new(view), coding };
    Body::stream(futures::stream::try_unfold(page, async |mut page| {
        Ok(page.next().await?.map(|chunk| (chunk, page)))
    }))
}

/// How a page is encoded, with both ways of it.
enum Coding {
    Plain(Vec<u8>),
    Gzip(MultiGzDecoder<Vec<u8>>, GzEncoder<Vec<u8>>),
    Deflate(DeflateDecoder<Vec<u8>>, DeflateEncoder<Vec<u8>>),
}

impl Coding {
    fn decode(&mut self, piece: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Coding::Plain(_) => Ok(piece.to_vec()),
            Coding::Gzip(decoder, _) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Coding::Deflate(decoder, _) => {
                decoder.write_all(piece)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    /// An error where the page is cut off.
    fn decoded(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Coding::Plain(_) => Ok(Vec::new()),
            Coding::Gzip(decoder, _) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Coding::Deflate(decoder, _) => {
                decoder.try_finish()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    fn encode(&mut self, plain: &[u8]) -> io::Result<()> {
        match self {
            Coding::Plain(out) => out.write_all(plain),
            Coding::Gzip(_, encoder) => encoder.write_all(plain),
            Coding::Deflate(_, encoder) => encoder.write_all(plain),
        }
    }

    fn encoded(&mut self) -> io::Result<()> {
        match self {
            Coding::Plain(_) => Ok(()),
            Coding::Gzip(_, encoder) => encoder.try_finish(),
            Coding::Deflate(_, encoder) => encoder.try_finish(),
        }
    }

    fn out(&mut self) -> &mut Vec<u8> {
        match self {
            Coding::Plain(out) => out,
            Coding::Gzip(_, encoder) => encoder.get_mut(),
            Coding::Deflate(_, encoder) => encoder.get_mut(),
        }
    }
}

struct Page {
    body: Body,
    /// What came and is not decoded yet.
    input: Bytes,
    began: bool,
    ended: bool,
    rewriter: Rewriter,
    coding: Coding,
}

impl Page {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.ended {
            if self.input.is_empty() {
                match self.body.frame().await.transpose()? {
                    Some(frame) => self.input = frame.into_data().unwrap_or_default(),
                    None => self.end()?,
                }
                continue;
            }
            self.began = true;
            let most = if matches!(self.coding, Coding::Plain(_)) { PLAIN } else { ENCODED };
            let piece = self.input.split_to(most.min(self.input.len()));
            let plain = self.coding.decode(&piece)?;
            let mut rewritten = Vec::with_capacity(plain.len());
            self.rewriter.push(&plain, &mut rewritten);
            self.coding.encode(&rewritten)?;
            if self.coding.out().len() >= CHUNK || self.input.is_empty() && !self.coding.out().is_empty() {
                break;
            }
            // much may have come of little, and others wait for this thread
            tokio::task::yield_now().await;
        }
        let out = std::mem::take(self.coding.out());
        Ok((!out.is_empty()).then(|| out.into()))
    }

    /// An answer that has no body, as to a HEAD, stays without.
    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        if !self.began {
            self.coding = Coding::Plain(Vec::new());
            return Ok(());
        }
        let mut rewritten = Vec::new();
        let plain = self.coding.decoded()?;
        self.rewriter.push(&plain, &mut rewritten);
        self.rewriter.finish(&mut rewritten);
        self.coding.encode(&rewritten)?;
        self.coding.encoded()
    }
}
