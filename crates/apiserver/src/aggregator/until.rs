//! A body with an end in time: who has not read it by then misses the rest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::Body;

pub struct Until {
    body: Body,
    late: Pin<Box<Sleep>>,
}

impl Until {
    pub fn new(body: Body, deadline: Instant) -> Until {
        Until { body, late: Box::pin(tokio::time::sleep_until(deadline)) }
    }
}

impl http_body::Body for Until {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // looked at first: a body that never lacks anything ends, too
        if self.late.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
