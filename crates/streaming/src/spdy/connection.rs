//! A connection: many streams over one pair of bytes. The caller drives it by polling the future that
//! [`connect`] returns; dropping that future ends every stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::frame::{Decoder, Encoder, Frame, status};
use super::{Error, Headers};

/// Which end of the connection this is: it decides the numbers of the streams opened here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// Chunks that wait in a stream for its reader before the connection stops reading.
const STREAM_QUEUE: usize = 8;
/// Frames that wait for the writer; opening and sending waits when it is full.
const WRITE_QUEUE: usize = 32;
/// Streams of the peer that nobody has accepted yet; more are refused.
const ACCEPT_QUEUE: usize = 64;
const CHUNK: usize = 32 << 10;

enum Item {
    Bytes(Bytes),
    End,
    Reset(u32),
}

struct Shared {
    streams: Mutex<FxHashMap<u32, mpsc::Sender<Item>>>,
    next: AtomicU32,
    /// Streams must reach the peer in the order of their numbers.
    opening: tokio::sync::Mutex<()>,
    frames: mpsc::Sender<Frame>,
}

/// Opens and accepts streams.
pub struct Connection {
    shared: Arc<Shared>,
    incoming: mpsc::Receiver<Incoming>,
}

/// A stream that the peer opened.
pub struct Incoming {
    pub headers: Headers,
    pub sender: Sender,
    pub receiver: Receiver,
}

impl Incoming {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Starts speaking on `io`. Nothing moves unless the returned future is polled; it ends when the peer closes.
pub fn connect<IO>(io: IO, side: Side) -> (Connection, impl Future<Output = Result<(), Error>>)
where
    IO: AsyncRead + AsyncWrite,
{
    let (frames, outgoing) = mpsc::channel(WRITE_QUEUE);
    let (accepted, incoming) = mpsc::channel(ACCEPT_QUEUE);
    let shared = Arc::new(Shared {
        streams: Mutex::default(),
        next: AtomicU32::new(if side == Side::Client { 1 } else { 2 }),
        opening: tokio::sync::Mutex::default(),
        frames,
    });
    let driver = drive(io, shared.clone(), outgoing, accepted);
    (Connection { shared, incoming }, driver)
}

impl Connection {
    /// Opens a stream. It does not wait for the peer's SYN_REPLY: a refusal shows as a reset when receiving.
    pub async fn open(&self, headers: Headers) -> Result<(Sender, Receiver), Error> {
        let _order = self.shared.opening.lock().await;
        let stream = self.shared.next.fetch_add(2, Ordering::Relaxed);
        let halves = self.shared.add(stream);
        let frame = Frame::SynStream { stream, fin: false, headers };
        self.shared.frames.send(frame).await.map_err(|_| Error::Closed)?;
        Ok(halves)
    }

    /// The next stream that the peer opens; `None` when the connection has ended.
    pub async fn accept(&mut self) -> Option<Incoming> {
        self.incoming.recv().await
    }
}

impl Shared {
    fn add(self: &Arc<Self>, stream: u32) -> (Sender, Receiver) {
        let (sender, items) = mpsc::channel(STREAM_QUEUE);
        self.streams.lock().insert(stream, sender);
        (
            Sender { stream, frames: self.frames.clone() },
            Receiver { items, ended: false, shared: self.clone(), stream },
        )
    }
}

/// The sending half of a stream.
pub struct Sender {
    stream: u32,
    frames: mpsc::Sender<Frame>,
}

impl Sender {
    /// Waits while the connection is busy.
    pub async fn send(&self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(CHUNK));
            self.put(Frame::Data { stream: self.stream, fin: false, bytes: piece }).await?;
        }
        Ok(())
    }

    /// Half-closes the stream: the peer reads the end, and may go on sending.
    pub async fn finish(self) -> Result<(), Error> {
        self.put(Frame::Data { stream: self.stream, fin: true, bytes: Bytes::new() }).await
    }

    async fn put(&self, frame: Frame) -> Result<(), Error> {
        self.frames.send(frame).await.map_err(|_| Error::Closed)
    }
}

/// The receiving half of a stream. What arrives after it was dropped is thrown away.
pub struct Receiver {
    items: mpsc::Receiver<Item>,
    ended: bool,
    shared: Arc<Shared>,
    stream: u32,
}

impl Receiver {
    /// The next bytes, `None` at the end of the stream. Safe to cancel.
    pub async fn receive(&mut self) -> Result<Option<Bytes>, Error> {
        if self.ended {
            return Ok(None);
        }
        match self.items.recv().await {
            Some(Item::Bytes(bytes)) => Ok(Some(bytes)),
            Some(Item::End) => {
                self.ended = true;
                Ok(None)
            }
            Some(Item::Reset(status)) => {
                self.ended = true;
                Err(Error::Reset(status))
            }
            None => {
                self.ended = true;
                Err(Error::Closed)
            }
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.streams.lock().remove(&self.stream);
    }
}

/// Ends every stream when the driver is dropped, in whatever way.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.streams.lock().clear();
    }
}

async fn drive<IO>(
    io: IO,
    shared: Arc<Shared>,
    mut outgoing: mpsc::Receiver<Frame>,
    accepted: mpsc::Sender<Incoming>,
) -> Result<(), Error>
where
    IO: AsyncRead + AsyncWrite,
{
    let _ending = Ending(shared.clone());
    let (mut reader, mut writer) = tokio::io::split(io);
    let write = async {
        let mut encoder = Encoder::default();
        let mut buffer = BytesMut::new();
        while let Some(frame) = outgoing.recv().await {
            encoder.encode(&frame, &mut buffer)?;
            while buffer.len() < 2 * CHUNK {
                let Ok(frame) = outgoing.try_recv() else { break };
                encoder.encode(&frame, &mut buffer)?;
            }
            writer.write_all(&buffer).await?;
            writer.flush().await?;
            buffer.clear();
        }
        Ok(())
    };
    let read = async {
        let mut decoder = Decoder::default();
        let mut buffer = BytesMut::with_capacity(CHUNK);
        loop {
            while let Some(frame) = decoder.decode(&mut buffer)? {
                take(frame, &shared, &accepted).await?;
            }
            buffer.reserve(CHUNK);
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = read => result,
        result = write => result,
    }
}

async fn take(frame: Frame, shared: &Arc<Shared>, accepted: &mpsc::Sender<Incoming>) -> Result<(), Error> {
    let answer = |frame| shared.frames.try_send(frame).map_err(|_| Error::Flooded);
    match frame {
        Frame::SynStream { stream, fin, headers } => {
            if shared.streams.lock().contains_key(&stream) {
                return answer(Frame::RstStream { stream, status: status::PROTOCOL_ERROR });
            }
            let (sender, receiver) = shared.add(stream);
            match accepted.try_send(Incoming { headers, sender, receiver }) {
                Ok(()) => answer(Frame::SynReply { stream, fin: false, headers: Headers::new() })?,
                Err(_) => return answer(Frame::RstStream { stream, status: status::REFUSED_STREAM }),
            }
            if fin {
                hand(shared, stream, Item::End).await;
            }
        }
        Frame::Data { stream, fin, bytes } => {
            if !bytes.is_empty() {
                hand(shared, stream, Item::Bytes(bytes)).await;
            }
            if fin {
                hand(shared, stream, Item::End).await;
            }
        }
        Frame::SynReply { stream, fin, .. } | Frame::Headers { stream, fin, .. } => {
            if fin {
                hand(shared, stream, Item::End).await;
            }
        }
        Frame::RstStream { stream, status } => hand(shared, stream, Item::Reset(status)).await,
        Frame::Ping { id } => answer(Frame::Ping { id })?,
        Frame::GoAway { .. } | Frame::Ignored => {}
    }
    Ok(())
}

/// Gives the item to the stream's reader, waiting for it; a stream that nobody reads takes nothing.
async fn hand(shared: &Arc<Shared>, stream: u32, item: Item) {
    let sender = shared.streams.lock().get(&stream).cloned();
    if let Some(sender) = sender {
        let last = !matches!(item, Item::Bytes(_));
        let _ = sender.send(item).await;
        if last {
            shared.streams.lock().remove(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_carry_bytes_both_ways_and_half_close() {
        let (near, far) = tokio::io::duplex(100);
        let (client, client_driver) = connect(near, Side::Client);
        let (mut server, server_driver) = connect(far, Side::Server);
        let echo = async {
            let mut stream = server.accept().await.unwrap();
            assert_eq!(stream.header("streamtype"), Some("stdin"));
            let mut total = 0;
            while let Some(bytes) = stream.receiver.receive().await.unwrap() {
                total += bytes.len();
            }
            stream.sender.send(Bytes::from(total.to_string())).await.unwrap();
            stream.sender.finish().await.unwrap();
            server.accept().await
        };
        let ask = async {
            let (sender, mut receiver) =
                client.open(vec![("streamType".into(), "stdin".into())]).await.unwrap();
            sender.send(Bytes::from(vec![b'x'; 200_000])).await.unwrap();
            sender.finish().await.unwrap();
            let answer = receiver.receive().await.unwrap().unwrap();
            assert_eq!(answer, "200000");
            assert_eq!(receiver.receive().await.unwrap(), None);
        };
        tokio::select! {
            () = ask => {}
            _ = echo => panic!("the server's connection ended"),
            _ = client_driver => panic!("the client's driver ended"),
            _ = server_driver => panic!("the server's driver ended"),
        }
    }

    #[tokio::test]
    async fn a_lost_connection_ends_its_streams() {
        let (near, far) = tokio::io::duplex(100);
        let (client, driver) = connect(near, Side::Client);
        let driver = tokio::spawn(driver);
        let (sender, mut receiver) = client.open(Vec::new()).await.unwrap();
        drop(far);
        assert!(matches!(receiver.receive().await, Err(Error::Closed)));
        let _ = driver.await.unwrap();
        assert!(matches!(sender.send(Bytes::from_static(b"x")).await, Err(Error::Closed)));
    }
}
