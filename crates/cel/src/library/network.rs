//! IP addresses and networks.

use std::net::{IpAddr, Ipv4Addr};

use super::{Context, Extended, Row, row, take};
use crate::error::EvalError;
use crate::text;
use crate::value::{Outcome, Value};

pub(crate) const ROWS: &[Row] = &[
    row("string_to_ip", "ip(string) -> net.IP", ip),
    row("cidr_ip", ".ip(net.CIDR) -> net.IP", cidr_ip),
    row("ip_family", ".family(net.IP) -> int", family),
    row("ip_is_canonical", "ip.isCanonical(string) -> bool", is_canonical),
    row("ip_is_unspecified", ".isUnspecified(net.IP) -> bool", is_unspecified),
    row("ip_is_loopback", ".isLoopback(net.IP) -> bool", is_loopback),
    row("ip_is_link_local_multicast", ".isLinkLocalMulticast(net.IP) -> bool", is_link_local_multicast),
    row("ip_is_link_local_unicast", ".isLinkLocalUnicast(net.IP) -> bool", is_link_local_unicast),
    row("ip_is_global_unicast", ".isGlobalUnicast(net.IP) -> bool", is_global_unicast),
    row("is_ip", "isIP(string) -> bool", is_ip),
    row("ip_to_string", "string(net.IP) -> string", to_string),
    row("string_to_cidr", "cidr(string) -> net.CIDR", cidr),
    row("cidr_contains_ip_string", ".containsIP(net.CIDR, string) -> bool", contains_ip),
    row("cidr_contains_ip_ip", ".containsIP(net.CIDR, net.IP) -> bool", contains_ip),
    row("cidr_contains_cidr_string", ".containsCIDR(net.CIDR, string) -> bool", contains_cidr),
    row("cidr_contains_cidr", ".containsCIDR(net.CIDR, net.CIDR) -> bool", contains_cidr),
    row("cidr_prefix_length", ".prefixLength(net.CIDR) -> int", prefix_length),
    row("cidr_masked", ".masked(net.CIDR) -> net.CIDR", masked),
    row("is_cidr", "isCIDR(string) -> bool", is_cidr),
    row("cidr_to_string", "string(net.CIDR) -> string", to_string),
];

/// A network, with the address as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub length: u8,
}

impl Cidr {
    /// The address as a number of `width` bits, without those of hosts.
    fn network(&self) -> u128 {
        let shift = u32::from(width(&self.address) - self.length);
        number(&self.address).checked_shr(shift).unwrap_or(0).checked_shl(shift).unwrap_or(0)
    }

    fn contains(&self, address: &IpAddr) -> bool {
        self.address.is_ipv4() == address.is_ipv4()
            && Cidr { address: *address, length: self.length }.network() == self.network()
    }
}

fn width(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(*address).into(),
        IpAddr::V6(address) => (*address).into(),
    }
}

/// Reads an address. Zones and mapped IPv4 addresses are refused.
fn parse_ip(text: &str) -> Result<IpAddr, String> {
    if text.contains(':') && text.contains('%') {
        return Err(format!("IP address {} with zone value is not allowed", text::quote(text)));
    }
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {} is not allowed", text::quote(text)))
        }
        Ok(address) => Ok(address),
        Err(_) => {
            let (quoted, reason) = (text::quote(text), address_error(text));
            Err(format!(
                "IP Address {quoted} parse error during conversion from string: ParseAddr({quoted}): {reason}"
            ))
        }
    }
}

/// What is wrong with an address, as Go says it.
fn address_error(text: &str) -> String {
    match text.find(['.', ':', '%']).map(|at| text.as_bytes()[at]) {
        Some(b'.') => ipv4_error(text),
        Some(b':') => ipv6_error(text),
        Some(_) => "missing IPv6 address".to_owned(),
        None => "unable to parse IP".to_owned(),
    }
}

fn ipv4_error(text: &str) -> String {
    let at = |offset: usize, what: &str| format!("{what} (at {})", text::quote(&text[offset..]));
    let (mut fields, mut value, mut digits) = (0, 0u32, 0);
    for (offset, c) in text.char_indices() {
        match c {
            '0'..='9' if digits == 1 && value == 0 => {
                return "IPv4 field has octet with leading zero".to_owned();
            }
            '0'..='9' => {
                value = value * 10 + (c as u32 - '0' as u32);
                digits += 1;
                if value > 255 {
                    return "IPv4 field has value >255".to_owned();
                }
            }
            '.' if digits == 0 => return at(offset, "IPv4 field must have at least one digit"),
            '.' if offset + 1 == text.len() => return at(offset, "IPv4 field must have at least one digit"),
            '.' if fields == 3 => return "IPv4 address too long".to_owned(),
            '.' => (fields, value, digits) = (fields + 1, 0, 0),
            _ => return at(offset, "unexpected character"),
        }
    }
    "IPv4 address too short".to_owned()
}

fn ipv6_error(text: &str) -> String {
    let at = |offset: usize, what: &str| format!("{what} (at {})", text::quote(&text[offset..]));
    let (mut digits, mut shortened) = (0, false);
    for (offset, c) in text.char_indices() {
        let starts_double = text[offset..].starts_with("::");
        match c {
            ':' if starts_double && shortened => return at(offset + 1, "multiple :: in address"),
            ':' if starts_double => shortened = true,
            ':' if offset + 1 == text.len() && !text.ends_with("::") => {
                return at(offset, "colon must be followed by more characters");
            }
            ':' => digits = 0,
            '.' => {}
            c if c.is_ascii_hexdigit() && digits == 4 => {
                return at(offset - 4, "each group must have 4 or less digits");
            }
            c if c.is_ascii_hexdigit() => digits += 1,
            _ if digits == 0 => return at(offset, "each colon-separated field must have at least one digit"),
            _ => return at(offset, "unexpected character, want colon"),
        }
    }
    "address string too short".to_owned()
}

fn parse_cidr(text: &str) -> Result<Cidr, String> {
    let wrong = |reason: &str| {
        let reason = format!("netip.ParsePrefix({}): {reason}", text::quote(text));
        Err(format!("network address parse error during conversion from string: {reason}"))
    };
    let Some((address, length)) = text.rsplit_once('/') else { return wrong("no '/'") };
    let address: IpAddr = match address.parse() {
        Ok(address) => address,
        Err(_) if address.contains('%') => return wrong("IPv6 zones cannot be present in a prefix"),
        Err(_) => return wrong(&format!("ParseAddr({}): {}", text::quote(address), address_error(address))),
    };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    let has_zero = length.len() > 1 && length.starts_with('0');
    let length = match length.parse::<u8>() {
        _ if !is_number || has_zero => {
            return wrong(&format!("bad bits after slash: {}", text::quote(length)));
        }
        Ok(length) if length <= width(&address) => length,
        _ => return wrong("prefix length out of range"),
    };
    if matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some()) {
        return Err(format!("IPv4-mapped IPv6 address {} is not allowed", text::quote(text)));
    }
    Ok(Cidr { address, length })
}

fn ip<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => match parse_ip(text) {
        Ok(address) => Ok(Value::Extended(Extended::Ip(address))),
        Err(message) => Err(EvalError::message(message)),
    })
}

fn is_ip<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::Bool(parse_ip(text).is_ok())))
}

fn is_canonical<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => match parse_ip(text) {
        Ok(address) => Ok(Value::Bool(address.to_string() == **text)),
        Err(message) => Err(EvalError::message(message)),
    })
}

fn address(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<IpAddr> {
    take!(context, args, [Value::Extended(Extended::Ip(address))] => Ok(*address))
}

fn network(context: &Context<'_>, args: &[Value<'_>]) -> Outcome<Cidr> {
    take!(context, args, [Value::Extended(Extended::Cidr(cidr))] => Ok(*cidr))
}

fn family<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Int(if address(context, args)?.is_ipv4() { 4 } else { 6 }))
}

fn is_unspecified<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(address(context, args)?.is_unspecified()))
}

fn is_loopback<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(address(context, args)?.is_loopback()))
}

fn is_link_local_multicast<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(match address(context, args)? {
        IpAddr::V4(address) => matches!(address.octets(), [224, 0, 0, _]),
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }))
}

fn link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_link_local_unicast<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Bool(link_local(&address(context, args)?)))
}

fn is_global_unicast<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let address = address(context, args)?;
    let special =
        address.is_unspecified() || address.is_loopback() || address.is_multicast() || link_local(&address);
    Ok(Value::Bool(!special && address != IpAddr::V4(Ipv4Addr::BROADCAST)))
}

fn cidr<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::Extended(Extended::Cidr(cidr_of(text)?))))
}

fn cidr_of(text: &str) -> Outcome<Cidr> {
    parse_cidr(text).map_err(|message| {
        EvalError::message(format!("network address parse error during conversion from string: {message}"))
    })
}

fn is_cidr<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    take!(context, args, [Value::String(text)] => Ok(Value::Bool(parse_cidr(text).is_ok())))
}

fn contains_ip<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let contains = match args {
        [Value::Extended(Extended::Cidr(cidr)), Value::Extended(Extended::Ip(address))] => {
            cidr.contains(address)
        }
        [Value::Extended(Extended::Cidr(cidr)), Value::String(text)] => match parse_ip(text) {
            Ok(address) => cidr.contains(&address),
            // An address that cannot be read is no address, and the error is of the call.
            Err(_) => return Err(EvalError::no_such_overload()),
        },
        args => return Err(super::mismatch(context.function, args)),
    };
    Ok(Value::Bool(contains))
}

fn contains_cidr<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let (cidr, other) = match args {
        [Value::Extended(Extended::Cidr(cidr)), Value::Extended(Extended::Cidr(other))] => (*cidr, *other),
        [Value::Extended(Extended::Cidr(cidr)), Value::String(text)] => (*cidr, cidr_of(text)?),
        args => return Err(super::mismatch(context.function, args)),
    };
    Ok(Value::Bool(cidr.length <= other.length && cidr.contains(&other.address)))
}

fn cidr_ip<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Extended(Extended::Ip(network(context, args)?.address)))
}

fn prefix_length<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    Ok(Value::Int(network(context, args)?.length.into()))
}

fn masked<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    let cidr = network(context, args)?;
    let address = match cidr.address {
        IpAddr::V4(_) => IpAddr::V4((cidr.network() as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(cidr.network().into()),
    };
    Ok(Value::Extended(Extended::Cidr(Cidr { address, ..cidr })))
}

fn to_string<'v>(context: &Context<'_>, args: &mut [Value<'v>]) -> Outcome<Value<'v>> {
    match args {
        [Value::Extended(Extended::Ip(address))] => Ok(Value::text(address.to_string())),
        [Value::Extended(Extended::Cidr(cidr))] => {
            Ok(Value::text(format!("{}/{}", cidr.address, cidr.length)))
        }
        args => Err(super::mismatch(context.function, args)),
    }
}
