//! A connection on which nothing is read before something was written. Servers that answer whoever connects, without waiting
//! to be asked, are common (`printf … | nc -l`); a client that finds an answer to no question gives up.

use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What the other side said first, as far as the end of the line.
#[derive(Clone, Default)]
pub(super) struct FirstLine(Arc<Mutex<Vec<u8>>>);

/// What is kept of it at most.
const LONGEST: usize = 4096;

impl FirstLine {
    pub(super) fn text(&self) -> String {
        let all = String::from_utf8_lossy(&self.0.lock()).into_owned();
        let line = all.split('\n').next().unwrap_or_default();
        line.strip_suffix('\r').unwrap_or(line).to_owned()
    }

    fn add(&self, bytes: &[u8]) {
        let mut line = self.0.lock();
        if !line.contains(&b'\n') {
            let room = LONGEST.saturating_sub(line.len()).min(bytes.len());
            line.extend_from_slice(&bytes[..room]);
        }
    }
}

pub(super) struct Asking<S> {
    pub(super) stream: S,
    pub(super) asked: bool,
    /// Waker of a reader that has to wait.
    pub(super) waits: Option<Waker>,
    pub(super) first_line: FirstLine,
}

impl<S: AsyncRead + Unpin> AsyncRead for Asking<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            self.waits = Some(context.waker().clone());
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.first_line.add(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Asking<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, buffer));
        self.asked = true;
        if let Some(waker) = self.waits.take() {
            waker.wake();
        }
        // Whoever has answered and gone need not hear the question.
        Poll::Ready(written.or(Ok(buffer.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
