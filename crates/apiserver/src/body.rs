//! The one response body type: whole bytes, or a stream of chunks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

/// A response body.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Chunks { stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>, is_list: bool },
    Channel(mpsc::Receiver<Bytes>),
    Other(Pin<Box<dyn http_body::Body<Data = Bytes, Error = io::Error> + Send>>),
}

impl Body {
    pub fn empty() -> Body {
        Body(Kind::Whole(None))
    }

    /// Chunks as they come; the connection's flow control holds the stream back.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
        Body(Kind::Chunks { stream: Box::pin(stream), is_list: false })
    }

    /// Chunks that are all there already: a long list, worth compressing.
    pub fn list(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
        Body(Kind::Chunks { stream: Box::pin(stream), is_list: true })
    }

    /// Whether [`Body::list`] made it.
    pub fn is_list(&self) -> bool {
        matches!(self.0, Kind::Chunks { is_list: true, .. })
    }

    /// The same body with every piece of it changed.
    pub fn changed(self, mut change: impl FnMut(Bytes) -> Bytes + Send + 'static) -> Body {
        match self.0 {
            Kind::Whole(bytes) => bytes.map(change).unwrap_or_default().into(),
            Kind::Chunks { stream, is_list } => {
                let stream = Box::pin(stream.map(move |piece| piece.map(&mut change)));
                Body(Kind::Chunks { stream, is_list })
            }
            other => Body(other),
        }
    }

    /// Chunks from a bounded channel; ends when the sender is dropped.
    pub fn channel(receiver: mpsc::Receiver<Bytes>) -> Body {
        Body(Kind::Channel(receiver))
    }

    /// Any other body, such as the answer of a proxied request.
    pub fn wrap<B>(body: B) -> Body
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Body(Kind::Other(Box::pin(body.map_err(io::Error::other))))
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Body {
        Body(Kind::Whole((!bytes.is_empty()).then_some(bytes)))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Body {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Body {
    fn from(text: String) -> Body {
        Bytes::from(text).into()
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Body {
        Bytes::from_static(text.as_bytes()).into()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut self.0 {
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Chunks { stream, .. } => {
                stream.as_mut().poll_next(context).map(|next| next.map(|chunk| chunk.map(Frame::data)))
            }
            Kind::Channel(receiver) => {
                receiver.poll_recv(context).map(|next| next.map(|chunk| Ok(Frame::data(chunk))))
            }
            Kind::Other(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Chunks { .. } | Kind::Channel(_) => false,
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Chunks { .. } | Kind::Channel(_) => SizeHint::default(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}
