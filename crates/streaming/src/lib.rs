//! The streaming protocols of exec, attach, port-forward and logs, free of anything that is a daemon's own.
//!
//! Clients speak SPDY/3.1 or WebSocket; the runtime's streaming server speaks SPDY. So an SPDY client is joined
//! to the runtime byte for byte ([`pipe`]), a WebSocket client's channels are translated to SPDY streams
//! ([`translate`]), and a client that tunnels SPDY inside WebSocket messages has it unwrapped ([`pipe::tunnel`]).
//! Everything is generic over `AsyncRead + AsyncWrite` and holds no more than a few chunks in memory.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod channels;
pub mod messages;
pub mod pipe;
pub mod spdy;
pub mod translate;
pub mod upgrade;
