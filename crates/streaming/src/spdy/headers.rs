//! Header blocks: name-value pairs, compressed with one zlib context per direction and connection.

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Error;

/// Lower-case names with their values, in the order sent.
pub type Headers = Vec<(String, String)>;

/// A header block may not grow beyond this when inflated: remote commands need a few hundred bytes.
const LIMIT: usize = 256 << 10;

/// The words of the dictionary of SPDY/3 that stand in it with their length before them.
const WORDS: &[&str] = &[
    "options",
    "head",
    "post",
    "put",
    "delete",
    "trace",
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "content-base",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "retry-after",
    "server",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "method",
    "get",
    "status",
    "200 OK",
    "version",
    "HTTP/1.1",
    "url",
    "public",
    "set-cookie",
    "keep-alive",
    "origin",
];

/// The rest of it, run together.
const TAIL: &str = concat!(
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505",
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized",
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable",
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT",
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,",
    "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
);

fn dictionary() -> Vec<u8> {
    let mut dictionary = Vec::with_capacity(1423);
    for word in WORDS {
        dictionary.put_u32(word.len() as u32);
        dictionary.extend_from_slice(word.as_bytes());
    }
    dictionary.extend_from_slice(TAIL.as_bytes());
    dictionary
}

/// The sending side's compression context.
pub struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::new(9), true);
        // A fresh context takes a dictionary; were it refused, the peer would merely see an uncompressed history.
        let _ = compress.set_dictionary(&dictionary());
        Self(compress)
    }
}

impl Deflater {
    /// Appends the compressed block to `out`.
    pub fn deflate(&mut self, headers: &Headers, out: &mut BytesMut) -> Result<(), Error> {
        let mut plain = Vec::with_capacity(128);
        plain.put_u32(headers.len() as u32);
        for (name, value) in headers {
            plain.put_u32(name.len() as u32);
            plain.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
            plain.put_u32(value.len() as u32);
            plain.extend_from_slice(value.as_bytes());
        }
        let mut input = plain.as_slice();
        let mut chunk = [0; 4096];
        loop {
            let (taken, made) = (self.0.total_in(), self.0.total_out());
            self.0
                .compress(input, &mut chunk, FlushCompress::Sync)
                .map_err(|_| Error::Headers("cannot compress"))?;
            let taken = (self.0.total_in() - taken) as usize;
            let made = (self.0.total_out() - made) as usize;
            out.extend_from_slice(&chunk[..made]);
            input = &input[taken..];
            if input.is_empty() && made < chunk.len() {
                return Ok(());
            }
        }
    }
}

/// The receiving side's compression context.
pub struct Inflater(Decompress);

impl Default for Inflater {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Inflater {
    pub fn inflate(&mut self, block: &[u8]) -> Result<Headers, Error> {
        let mut plain = Vec::with_capacity(512);
        let mut input = block;
        let mut chunk = [0; 4096];
        loop {
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let result = self.0.decompress(input, &mut chunk, FlushDecompress::Sync);
            let taken = (self.0.total_in() - before_in) as usize;
            let made = (self.0.total_out() - before_out) as usize;
            input = input.get(taken..).unwrap_or_default();
            plain.extend_from_slice(&chunk[..made]);
            if plain.len() > LIMIT {
                return Err(Error::Headers("too large"));
            }
            match result {
                Ok(Status::StreamEnd) => break,
                Ok(_) if made == chunk.len() => {}
                Ok(_) if input.is_empty() || (taken == 0 && made == 0) => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(&dictionary())
                        .map_err(|_| Error::Headers("compressed with an unknown dictionary"))?;
                }
                Err(_) => return Err(Error::Headers("cannot decompress")),
            }
        }
        parse(&plain)
    }
}

fn parse(mut plain: &[u8]) -> Result<Headers, Error> {
    let count = number(&mut plain)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut plain)?;
        headers.push((name.to_ascii_lowercase(), text(&mut plain)?));
    }
    Ok(headers)
}

fn number(plain: &mut &[u8]) -> Result<u32, Error> {
    let (number, rest) = plain.split_first_chunk::<4>().ok_or(Error::Headers("cut short"))?;
    *plain = rest;
    Ok(u32::from_be_bytes(*number))
}

fn text(plain: &mut &[u8]) -> Result<String, Error> {
    let length = number(plain)? as usize;
    let (text, rest) = plain.split_at_checked(length).ok_or(Error::Headers("cut short"))?;
    *plain = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Headers("not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_is_the_published_one() {
        assert_eq!(dictionary().len(), 1423);
    }

    #[test]
    fn blocks_go_round_in_one_context() {
        let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
        for kind in ["error", "stdin", "stdout", "resize", ""] {
            let headers =
                vec![("streamType".to_owned(), kind.to_owned()), ("x".to_owned(), "y".repeat(10_000))];
            let mut block = BytesMut::new();
            deflater.deflate(&headers, &mut block).unwrap();
            let mut want = headers;
            want[0].0 = "streamtype".to_owned();
            assert_eq!(inflater.inflate(&block).unwrap(), want);
        }
    }

    #[test]
    fn a_block_that_swells_is_refused() {
        let mut block = BytesMut::new();
        let headers = vec![("x".to_owned(), "y".repeat(LIMIT + 1))];
        Deflater::default().deflate(&headers, &mut block).unwrap();
        assert!(matches!(Inflater::default().inflate(&block), Err(Error::Headers("too large"))));
    }
}
