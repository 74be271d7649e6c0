//! The channel protocols that remote commands speak inside WebSocket messages: the first byte (or, in the
//! base64 variants, the first digit) of a message names the channel.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// v5 alone: the channel named by the second byte has ended.
const CLOSE: u8 = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V5,
    V4,
    V4Base64,
    /// Before v4: the error channel carries plain text, and nothing on success.
    Plain,
    PlainBase64,
}

/// What a client's message says.
#[derive(Debug, PartialEq)]
pub enum Input {
    Data(u8, Bytes),
    /// The client sends no more on this channel.
    End(u8),
    /// A message without meaning, or of the WebSocket layer.
    Nothing,
    /// The client goes.
    Close,
}

impl Protocol {
    /// The first offered protocol that is known here, with its name. A client that offers none speaks
    /// [`Protocol::Plain`]; `None` when it offers only unknown ones.
    pub fn negotiate<'a>(offered: &[&'a str]) -> Option<(Protocol, Option<&'a str>)> {
        if offered.is_empty() {
            return Some((Protocol::Plain, None));
        }
        offered.iter().find_map(|name| {
            let protocol = match *name {
                "v5.channel.k8s.io" => Protocol::V5,
                "v4.channel.k8s.io" => Protocol::V4,
                "v4.base64.channel.k8s.io" => Protocol::V4Base64,
                "channel.k8s.io" | "" => Protocol::Plain,
                "base64.channel.k8s.io" => Protocol::PlainBase64,
                _ => return None,
            };
            Some((protocol, Some(*name)))
        })
    }

    /// Whether the error channel carries a `Status` as JSON, on success too.
    pub fn has_status(self) -> bool {
        matches!(self, Protocol::V5 | Protocol::V4 | Protocol::V4Base64)
    }

    fn is_base64(self) -> bool {
        matches!(self, Protocol::V4Base64 | Protocol::PlainBase64)
    }

    pub fn message(self, channel: u8, bytes: &[u8]) -> Message {
        if self.is_base64() {
            let mut text = String::with_capacity(1 + bytes.len().div_ceil(3) * 4);
            text.push(char::from(b'0' + channel));
            STANDARD.encode_string(bytes, &mut text);
            return Message::text(text);
        }
        let mut message = Vec::with_capacity(1 + bytes.len());
        message.push(channel);
        message.extend_from_slice(bytes);
        Message::binary(message)
    }

    /// The end of a session that went as it should: clients take any other close for a failure.
    pub fn goodbye() -> Message {
        Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
    }

    pub fn parse(self, message: Message) -> Input {
        let bytes: Bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return Input::Close,
            _ => return Input::Nothing,
        };
        let Some((&first, rest)) = bytes.split_first() else { return Input::Nothing };
        if self.is_base64() {
            return match (first.checked_sub(b'0'), STANDARD.decode(rest)) {
                (Some(channel @ 0..=9), Ok(data)) => Input::Data(channel, data.into()),
                _ => Input::Nothing,
            };
        }
        match (first, rest) {
            (CLOSE, [channel, ..]) if self == Protocol::V5 => Input::End(*channel),
            (CLOSE, _) => Input::Nothing,
            _ => Input::Data(first, bytes.slice(1..)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiates_the_first_known_offer() {
        let table: &[(&[&str], Option<Protocol>)] = &[
            (&[], Some(Protocol::Plain)),
            (&["v5.channel.k8s.io", "v4.channel.k8s.io"], Some(Protocol::V5)),
            (&["v9.channel.k8s.io", "base64.channel.k8s.io"], Some(Protocol::PlainBase64)),
            (&["chat"], None),
        ];
        for (offered, want) in table {
            assert_eq!(Protocol::negotiate(offered).map(|(protocol, _)| protocol), *want, "{offered:?}");
        }
    }

    #[test]
    fn parses_messages() {
        let data = |channel, bytes: &'static [u8]| Input::Data(channel, Bytes::from_static(bytes));
        let table: Vec<(Protocol, Message, Input)> = vec![
            (Protocol::V5, Message::binary(vec![0, b'a']), data(0, b"a")),
            (Protocol::V5, Message::binary(vec![255, 0]), Input::End(0)),
            (Protocol::V5, Message::binary(vec![255]), Input::Nothing),
            (Protocol::V4, Message::binary(vec![255, 0]), Input::Nothing),
            (Protocol::V4, Message::binary(vec![4]), data(4, b"")),
            (Protocol::V4, Message::binary(Vec::new()), Input::Nothing),
            (Protocol::V4Base64, Message::text("0aGk="), data(0, b"hi")),
            (Protocol::V4Base64, Message::text("0!"), Input::Nothing),
            (Protocol::V4, Message::Close(None), Input::Close),
        ];
        for (protocol, message, want) in table {
            assert_eq!(protocol.parse(message.clone()), want, "{protocol:?} {message:?}");
        }
        assert_eq!(Protocol::PlainBase64.message(1, b"hi"), Message::text("1aGk="));
    }
}
