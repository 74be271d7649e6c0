//! The envelope around a protobuf object: four magic bytes, then `runtime.Unknown` with the object's
//! `apiVersion` and `kind` and its bytes.

use super::Error;
use super::encode::{put_bytes, put_tag, put_varint};
use super::reader::Reader;

pub const MAGIC: &[u8; 4] = b"k8s\0";

/// The media type of enveloped objects.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What an object says of its own type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TypeMeta<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub type_meta: TypeMeta<'a>,
    pub raw: &'a [u8],
    pub content_encoding: &'a str,
    pub content_type: &'a str,
}

/// Whether bytes start like an enveloped object.
pub fn is_enveloped(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Appends an object's bytes in their envelope.
pub fn wrap(type_meta: TypeMeta<'_>, raw: &[u8], out: &mut Vec<u8>) {
    out.reserve(raw.len() + type_meta.api_version.len() + type_meta.kind.len() + 24);
    wrap_with(type_meta, out, |out| {
        out.extend_from_slice(raw);
        Ok::<(), std::convert::Infallible>(())
    })
    .unwrap_or_else(|never| match never {});
}

/// Appends an envelope whose content `write` appends.
pub fn wrap_with<E>(
    type_meta: TypeMeta<'_>,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    out.extend_from_slice(MAGIC);
    put_tag(1, 2, out);
    // both lengths fit one byte each in practice, but need not
    let mut header = Vec::with_capacity(type_meta.api_version.len() + type_meta.kind.len() + 4);
    put_tag(1, 2, &mut header);
    put_bytes(type_meta.api_version.as_bytes(), &mut header);
    put_tag(2, 2, &mut header);
    put_bytes(type_meta.kind.as_bytes(), &mut header);
    put_bytes(&header, out);
    put_tag(2, 2, out);
    super::encode::put_nested(out, write)?;
    put_tag(3, 2, out);
    put_varint(0, out);
    put_tag(4, 2, out);
    put_varint(0, out);
    Ok(())
}

/// Opens an envelope.
pub fn unwrap(bytes: &[u8]) -> Result<Envelope<'_>, Error> {
    let data = bytes.strip_prefix(MAGIC).ok_or(Error::NoMagic)?;
    let mut envelope = Envelope::default();
    let mut reader = Reader::new(data);
    while let Some((number, raw)) = reader.next()? {
        match number {
            1 => {
                let mut inner = Reader::new(raw.bytes()?);
                while let Some((number, raw)) = inner.next()? {
                    match number {
                        1 => envelope.type_meta.api_version = utf8(raw.bytes()?)?,
                        2 => envelope.type_meta.kind = utf8(raw.bytes()?)?,
                        _ => {}
                    }
                }
            }
            2 => envelope.raw = raw.bytes()?,
            3 => envelope.content_encoding = utf8(raw.bytes()?)?,
            4 => envelope.content_type = utf8(raw.bytes()?)?,
            _ => {}
        }
    }
    Ok(envelope)
}

pub(super) fn utf8(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Malformed("text is not UTF-8"))
}
