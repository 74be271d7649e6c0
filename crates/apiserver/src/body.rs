//! The one response body type: whole bytes, or a stream of chunks.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::mpsc;

/// How much of a list a connection takes in one turn, about: to encrypt and send it keeps a worker busy.
const TURN: usize = 1 << 20;

/// A response body.
pub struct Body(Kind);

enum Kind {
    Whole(Option<Bytes>),
    Chunks(Chunks),
    Channel(mpsc::Receiver<Bytes>),
    Other(Pin<Box<dyn http_body::Body<Data = Bytes, Error = io::Error> + Send>>),
}

struct Chunks {
    stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    is_list: bool,
    /// Bytes of this turn.
    taken: usize,
}

impl Chunks {
    fn new(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static, is_list: bool) -> Chunks {
        Chunks { stream: Box::pin(stream), is_list, taken: 0 }
    }

    /// The next chunk. A list never lacks one, so its turns are ended here.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.is_list && self.taken >= TURN {
            self.taken = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = self.stream.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(chunk))) => self.taken += chunk.len(),
            _ => self.taken = 0,
        }
        next
    }
}

impl Body {
    pub fn empty() -> Body {
        Body(Kind::Whole(None))
    }

    /// Chunks as they come; the connection's flow control holds the stream back.
    pub fn stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
        Body(Kind::Chunks(Chunks::new(stream, false)))
    }

    /// Chunks that are all there already: a long list, worth compressing.
    pub fn list(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
        Body(Kind::Chunks(Chunks::new(stream, true)))
    }

    /// Whether [`Body::list`] made it.
    pub fn is_list(&self) -> bool {
        matches!(&self.0, Kind::Chunks(chunks) if chunks.is_list)
    }

    /// The same body with every piece of it changed.
    pub fn changed(self, mut change: impl FnMut(Bytes) -> Bytes + Send + 'static) -> Body {
        match self.0 {
            Kind::Whole(bytes) => bytes.map(change).unwrap_or_default().into(),
            Kind::Chunks(Chunks { stream, is_list, .. }) => {
                Body(Kind::Chunks(Chunks::new(stream.map(move |piece| piece.map(&mut change)), is_list)))
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
            Kind::Chunks(chunks) => chunks.poll(context).map(|next| next.map(|chunk| chunk.map(Frame::data))),
            Kind::Channel(receiver) => {
                receiver.poll_recv(context).map(|next| next.map(|chunk| Ok(Frame::data(chunk))))
            }
            Kind::Other(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Whole(bytes) => bytes.is_none(),
            Kind::Chunks(_) | Kind::Channel(_) => false,
            Kind::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Chunks(_) | Kind::Channel(_) => SizeHint::default(),
            Kind::Other(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that each turn takes, to the end of the body.
    fn turns(body: Body) -> Vec<usize> {
        let mut body = Box::pin(body);
        let (mut turns, mut context) = (vec![0], Context::from_waker(std::task::Waker::noop()));
        loop {
            match http_body::Body::poll_frame(body.as_mut(), &mut context) {
                Poll::Ready(Some(frame)) => {
                    *turns.last_mut().unwrap() += frame.unwrap().into_data().unwrap().len()
                }
                Poll::Ready(None) => return turns,
                Poll::Pending => turns.push(0),
            }
        }
    }

    #[test]
    fn a_long_list_is_sent_in_turns() {
        let chunks = || futures::stream::iter((0..100).map(|_| Ok(Bytes::from(vec![b'x'; 1 << 16]))));
        let expected = [&[TURN; 6][..], &[4 << 16]].concat();
        assert_eq!(turns(Body::list(chunks())), expected);
        assert_eq!(turns(Body::list(chunks()).changed(|piece| piece)), expected);
    }
}
