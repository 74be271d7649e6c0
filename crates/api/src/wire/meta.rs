//! Changes an object's bytes in place: the resource version, which is not stored but sent.

use super::encode::{put_bytes, put_nested, put_tag};
use super::envelope;
use super::reader::Reader;
use super::{Error, TypeMeta};

/// Every kind keeps `ObjectMeta` in field 1, and that its resource version in field 6.
const METADATA: u32 = 1;
const RESOURCE_VERSION: u32 = 6;

/// Appends an object's bytes (no envelope) with another resource version. The rest is copied as it is.
pub fn set_resource_version(raw: &[u8], resource_version: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut reader = Reader::new(raw);
    let mut copied = 0;
    loop {
        let start = reader.position;
        match reader.next()? {
            Some((METADATA, value)) => {
                let metadata = value.bytes()?;
                out.extend_from_slice(&raw[copied..start]);
                put_tag(METADATA, 2, out);
                put_nested(out, |out| replace(metadata, RESOURCE_VERSION, resource_version, out))?;
                copied = reader.position;
                break;
            }
            Some(_) => {}
            None => return Err(Error::Malformed("an object without metadata")),
        }
    }
    out.extend_from_slice(&raw[copied..]);
    Ok(())
}

/// [`set_resource_version`] on an enveloped object.
pub fn with_resource_version(stored: &[u8], resource_version: &str) -> Result<Vec<u8>, Error> {
    let envelope = envelope::unwrap(stored)?;
    let mut out = Vec::with_capacity(stored.len() + resource_version.len() + 8);
    let type_meta: TypeMeta<'_> = envelope.type_meta;
    envelope::wrap_with(type_meta, &mut out, |out| {
        set_resource_version(envelope.raw, resource_version, out)
    })?;
    Ok(out)
}

/// Copies a message with one string field set, at the place its tag belongs.
fn replace(data: &[u8], tag: u32, value: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    let mut reader = Reader::new(data);
    let mut written = false;
    loop {
        let start = reader.position;
        let next = reader.next()?;
        let number = next.map_or(u32::MAX, |(number, _)| number);
        if !written && number >= tag {
            put_tag(tag, 2, out);
            put_bytes(value.as_bytes(), out);
            written = true;
        }
        match next {
            None => return Ok(()),
            Some(_) if number == tag => {}
            Some(_) => out.extend_from_slice(&data[start..reader.position]),
        }
    }
}
