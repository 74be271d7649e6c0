//! SPDY/3.1 as far as Kubernetes' remote commands need it: streams with headers, data, half-close and reset.
//!
//! Flow control windows are deliberately absent, as in every peer that speaks this dialect: a slow reader holds
//! the whole connection back.

pub mod connection;
pub mod frame;
pub mod headers;

pub use connection::{Connection, Incoming, Receiver, Sender, Side, connect};
pub use frame::{Decoder, Encoder, Frame};
pub use headers::Headers;

/// Errors of a connection or one of its streams.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read or write on the SPDY connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("SPDY frame: {0}")]
    Frame(&'static str),
    #[error("SPDY header block: {0}")]
    Headers(&'static str),
    #[error("the peer reset the stream with status {0}")]
    Reset(u32),
    #[error("the SPDY connection is closed")]
    Closed,
    #[error("the peer sends requests faster than it reads answers")]
    Flooded,
}
