//! Packet filter rules as data: a [`Ruleset`], the script that turns one into another in a single
//! transaction, and who runs it. nftables only; iptables is deliberately absent.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod nft;
mod ruleset;

pub use nft::{Error, Fake, Flow, Nft, PacketFilter, Remembered};
pub use ruleset::{Family, Ruleset, Script};
