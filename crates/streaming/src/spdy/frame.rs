//! Frames, to and from bytes. Data frames are handed on in pieces as they arrive, never gathered.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::Error;
use super::headers::{Deflater, Headers, Inflater};

const VERSION: u16 = 3;
/// A control frame longer than this is a mistake or an attack.
const CONTROL_LIMIT: usize = 64 << 10;

const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;

#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    SynStream {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    SynReply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    RstStream {
        stream: u32,
        status: u32,
    },
    Ping {
        id: u32,
    },
    GoAway {
        last_good: u32,
        status: u32,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// A piece of a data frame; `fin` stands on the last piece.
    Data {
        stream: u32,
        fin: bool,
        bytes: Bytes,
    },
    /// SETTINGS, WINDOW_UPDATE and whatever else needs no answer.
    Ignored,
}

/// Statuses of RST_STREAM.
pub mod status {
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INVALID_STREAM: u32 = 2;
    pub const REFUSED_STREAM: u32 = 3;
    pub const CANCEL: u32 = 5;
}

/// A data frame under way.
struct Partial {
    stream: u32,
    fin: bool,
    left: usize,
}

#[derive(Default)]
pub struct Decoder {
    inflater: Inflater,
    partial: Option<Partial>,
}

impl Decoder {
    /// Takes the next frame off the front of `buffer`; `None` means that more bytes are needed.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
        if let Some(partial) = &mut self.partial {
            if buffer.is_empty() {
                return Ok(None);
            }
            let bytes = buffer.split_to(buffer.len().min(partial.left)).freeze();
            partial.left -= bytes.len();
            let done = partial.left == 0;
            let frame = Frame::Data { stream: partial.stream, fin: partial.fin && done, bytes };
            if done {
                self.partial = None;
            }
            return Ok(Some(frame));
        }
        if buffer.len() < 8 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([0, buffer[5], buffer[6], buffer[7]]) as usize;
        let flags = buffer[4];
        if buffer[0] & 0x80 == 0 {
            let stream = u32::from_be_bytes([buffer[0], buffer[1], buffer[2], buffer[3]]);
            buffer.advance(8);
            let fin = flags & FIN != 0;
            if length == 0 {
                return Ok(Some(Frame::Data { stream, fin, bytes: Bytes::new() }));
            }
            self.partial = Some(Partial { stream, fin, left: length });
            return self.decode(buffer);
        }
        if length > CONTROL_LIMIT {
            return Err(Error::Frame("control frame too long"));
        }
        if buffer.len() < 8 + length {
            return Ok(None);
        }
        let version = u16::from_be_bytes([buffer[0] & 0x7f, buffer[1]]);
        let kind = u16::from_be_bytes([buffer[2], buffer[3]]);
        if version != VERSION {
            return Err(Error::Frame("another version than 3"));
        }
        buffer.advance(8);
        let body = buffer.split_to(length).freeze();
        self.control(kind, flags, body).map(Some)
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Frame, Error> {
        let fin = flags & FIN != 0;
        let needs = match kind {
            1 => 10,
            2 | 6 | 8 => 4,
            3 | 7 => 8,
            _ => return Ok(Frame::Ignored),
        };
        if body.len() < needs {
            return Err(Error::Frame("cut short"));
        }
        let first = body.get_u32();
        let stream = first & 0x7fff_ffff;
        Ok(match kind {
            1 => {
                if flags & UNIDIRECTIONAL != 0 {
                    return Err(Error::Frame("unidirectional streams are not spoken here"));
                }
                body.advance(6);
                Frame::SynStream { stream, fin, headers: self.inflater.inflate(&body)? }
            }
            2 => Frame::SynReply { stream, fin, headers: self.inflater.inflate(&body)? },
            3 => Frame::RstStream { stream, status: body.get_u32() },
            6 => Frame::Ping { id: first },
            7 => Frame::GoAway { last_good: stream, status: body.get_u32() },
            _ => Frame::Headers { stream, fin, headers: self.inflater.inflate(&body)? },
        })
    }
}

#[derive(Default)]
pub struct Encoder {
    deflater: Deflater,
}

impl Encoder {
    /// Appends the frame to `out`. Data longer than a frame holds (16 MiB) is refused.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), Error> {
        match frame {
            Frame::SynStream { stream, fin, headers } => self.control(1, *fin, out, |deflater, out| {
                out.put_u32(*stream);
                out.put_u32(0);
                out.put_u16(0);
                deflater.deflate(headers, out)
            }),
            Frame::SynReply { stream, fin, headers } => self.control(2, *fin, out, |deflater, out| {
                out.put_u32(*stream);
                deflater.deflate(headers, out)
            }),
            Frame::Headers { stream, fin, headers } => self.control(8, *fin, out, |deflater, out| {
                out.put_u32(*stream);
                deflater.deflate(headers, out)
            }),
            Frame::RstStream { stream, status } => self.pair(3, *stream, *status, out),
            Frame::GoAway { last_good, status } => self.pair(7, *last_good, *status, out),
            Frame::Ping { id } => self.control(6, false, out, |_, out| {
                out.put_u32(*id);
                Ok(())
            }),
            Frame::Data { stream, fin, bytes } => {
                if bytes.len() > 0xff_ffff {
                    return Err(Error::Frame("too much data for one frame"));
                }
                out.put_u32(stream & 0x7fff_ffff);
                out.put_u32(bytes.len() as u32 | u32::from(*fin) << 24);
                out.extend_from_slice(bytes);
                Ok(())
            }
            Frame::Ignored => Ok(()),
        }
    }

    fn pair(&mut self, kind: u16, first: u32, second: u32, out: &mut BytesMut) -> Result<(), Error> {
        self.control(kind, false, out, |_, out| {
            out.put_u32(first);
            out.put_u32(second);
            Ok(())
        })
    }

    fn control(
        &mut self,
        kind: u16,
        fin: bool,
        out: &mut BytesMut,
        body: impl FnOnce(&mut Deflater, &mut BytesMut) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = out.len();
        out.put_u16(VERSION | 0x8000);
        out.put_u16(kind);
        out.put_u32(0);
        body(&mut self.deflater, out)?;
        let length = out.len() - start - 8;
        if length > 0xff_ffff {
            return Err(Error::Frame("headers too large"));
        }
        let field = length as u32 | u32::from(fin) << 24;
        out[start + 4..start + 8].copy_from_slice(&field.to_be_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers() -> Headers {
        vec![("streamtype".to_owned(), "stdin".to_owned()), ("port".to_owned(), "80".to_owned())]
    }

    #[test]
    fn frames_go_round_however_they_are_cut() {
        let frames = [
            Frame::SynStream { stream: 1, fin: false, headers: headers() },
            Frame::SynReply { stream: 1, fin: false, headers: Vec::new() },
            Frame::Data { stream: 1, fin: false, bytes: Bytes::from_static(b"abc") },
            Frame::Ping { id: 7 },
            Frame::Headers { stream: 1, fin: true, headers: headers() },
            Frame::RstStream { stream: 3, status: status::CANCEL },
            Frame::Data { stream: 1, fin: true, bytes: Bytes::new() },
            Frame::GoAway { last_good: 1, status: 0 },
        ];
        let (mut encoder, mut wire) = (Encoder::default(), BytesMut::new());
        for frame in &frames {
            encoder.encode(frame, &mut wire).unwrap();
        }
        for step in [1, 2, 3, 7, 64, 4096] {
            let (mut decoder, mut buffer, mut seen) = (Decoder::default(), BytesMut::new(), Vec::new());
            for piece in wire.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(frame) = decoder.decode(&mut buffer).unwrap() {
                    match (seen.last_mut(), frame) {
                        (
                            Some(Frame::Data { stream, fin: fin @ false, bytes }),
                            Frame::Data { stream: next, fin: last, bytes: more },
                        ) if *stream == next && !more.is_empty() => {
                            *bytes = [bytes.as_ref(), more.as_ref()].concat().into();
                            *fin = last;
                        }
                        (_, frame) => seen.push(frame),
                    }
                }
            }
            assert_eq!(seen, frames, "in pieces of {step}");
        }
    }

    #[test]
    fn bad_frames_are_refused() {
        let table: &[(&[u8], &str)] = &[
            (&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], "another version than 3"),
            (&[0x80, 3, 0, 6, 0, 0, 0, 2, 0, 0], "cut short"),
            (&[0x80, 3, 0, 1, 0, 0x10, 0, 0], "control frame too long"),
            (
                &[0x80, 3, 0, 1, 2, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
                "unidirectional streams are not spoken here",
            ),
        ];
        for (bytes, want) in table {
            match Decoder::default().decode(&mut BytesMut::from(*bytes)) {
                Err(Error::Frame(text)) => assert_eq!(text, *want),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn rubbish_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), kind in 0u8..10) {
            let mut decoder = Decoder::default();
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
            // The same as the body of a well-formed control frame.
            let mut framed = BytesMut::from(&[0x80, 3, 0, kind, 0, 0, (bytes.len() >> 8) as u8, bytes.len() as u8][..]);
            framed.extend_from_slice(&bytes);
            while let Ok(Some(_)) = decoder.decode(&mut framed) {}
        }
    }
}
