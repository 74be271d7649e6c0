//! One watch: a stream of events as the server frames them, a JSON object a line.

use std::marker::PhantomData;

use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::resource::Head;
use crate::{Body, Error, ResourceRef, Result};

/// A line longer than this is no event of any server's.
const LINE: usize = 64 << 20;

/// An event of a watch.
#[derive(Clone, Debug)]
pub enum WatchEvent<T> {
    Added(T),
    Modified(T),
    /// With the object's last state.
    Deleted(T),
    /// Nothing changed up to this resource version.
    Bookmark {
        resource_version: String,
        initial_events_end: bool,
    },
}

/// A running watch; dropping it ends it.
pub struct Watch<T> {
    lines: Lines,
    kind: String,
    view: PhantomData<fn() -> T>,
}

#[derive(Deserialize)]
pub(crate) struct RawEvent<'a> {
    #[serde(rename = "type")]
    pub kind: &'a str,
    #[serde(borrow)]
    pub object: &'a RawValue,
}

impl<T: DeserializeOwned> Watch<T> {
    pub(crate) fn new(resource: &ResourceRef, body: Body) -> Watch<T> {
        let lines = Lines { body, buffer: BytesMut::new(), searched: 0, ended: false };
        Watch { lines, kind: resource.kind.to_string(), view: PhantomData }
    }

    /// The next event; none at the regular end of the watch. An error event of the server is
    /// [`Error::Status`]. Safe to cancel: what has been read is kept.
    pub async fn next(&mut self) -> Result<Option<WatchEvent<T>>> {
        let what = format!("a watch event of {}", self.kind);
        self.next_with(|event| decode(event, &what)).await
    }

    /// The next event, undecoded.
    pub(crate) async fn next_with<R>(
        &mut self,
        read: impl FnOnce(&RawEvent<'_>) -> Result<R>,
    ) -> Result<Option<R>> {
        let Some(line) = self.lines.next().await? else {
            return Ok(None);
        };
        let event: RawEvent<'_> = serde_json::from_slice(&line)
            .map_err(|source| Error::Decode { what: format!("a watch event of {}", self.kind), source })?;
        if event.kind == "ERROR" {
            return Err(Error::from_status(serde_json::from_str(event.object.get()).map_err(|source| {
                Error::Decode { what: "the status of a watch's error event".into(), source }
            })?));
        }
        read(&event).map(Some)
    }
}

fn decode<T: DeserializeOwned>(event: &RawEvent<'_>, what: &str) -> Result<WatchEvent<T>> {
    let object = event.object.get();
    let typed = || serde_json::from_str(object).map_err(|source| Error::Decode { what: what.into(), source });
    Ok(match event.kind {
        "ADDED" => WatchEvent::Added(typed()?),
        "MODIFIED" => WatchEvent::Modified(typed()?),
        "DELETED" => WatchEvent::Deleted(typed()?),
        "BOOKMARK" => {
            let head: Head<'_> =
                serde_json::from_str(object).map_err(|source| Error::Decode { what: what.into(), source })?;
            WatchEvent::Bookmark {
                resource_version: head.metadata.resource_version.into_owned(),
                initial_events_end: object.contains("\"k8s.io/initial-events-end\":\"true\""),
            }
        }
        other => {
            return Err(Error::Config(format!("the server sent a watch event of unknown type {other:?}")));
        }
    })
}

struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer holds no line end.
    searched: usize,
    ended: bool,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<BytesMut>> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + at);
                self.buffer.advance(1);
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.ended {
                // A rest without a line end is an event that was cut off, unless the server omits the last line end.
                let rest = self.buffer.split();
                self.searched = 0;
                let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&rest).is_ok();
                return Ok(whole.then_some(rest));
            }
            if self.buffer.len() > LINE {
                return Err(Error::Config(format!("a watch event is longer than {LINE} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(source)) => {
                    return Err(Error::Transport {
                        method: "GET".into(),
                        url: "watch".into(),
                        source: source.into(),
                        sent: true,
                    });
                }
                None => self.ended = true,
            }
        }
    }
}
