//! Listening, with Go's habits: a wildcard address accepts connections of both families, and a failure is reported in the
//! words of Go's net package.

use std::io::{Error, ErrorKind, Result};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

/// Binds `address`, with SO_REUSEPORT when asked for. `0.0.0.0` and `::` are one socket for IPv6 and IPv4; where the
/// host has no IPv6, for IPv4 alone.
pub fn bind(address: SocketAddr, share_port: bool) -> Result<TcpListener> {
    let bound = if address.ip().is_unspecified() {
        match socket(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), address.port()), share_port) {
            Err(error) if without_ipv6(&error) => {
                socket(SocketAddr::new(IpAddr::from([0, 0, 0, 0]), address.port()), share_port)
            }
            bound => bound,
        }
    } else {
        socket(address, share_port)
    };
    bound.map_err(|error| {
        let cause = error.to_string();
        let cause = cause.split(" (os error").next().unwrap_or_default().to_lowercase();
        Error::new(error.kind(), format!("listen tcp {address}: bind: {cause}"))
    })
}

fn socket(address: SocketAddr, share_port: bool) -> Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, !address.ip().is_unspecified())?;
    }
    socket.set_reuseaddr(true)?;
    if share_port {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(4096)
}

fn without_ipv6(error: &Error) -> bool {
    let unknown_family = rustix::io::Errno::AFNOSUPPORT.raw_os_error();
    error.raw_os_error() == Some(unknown_family) || error.kind() == ErrorKind::AddrNotAvailable
}

/// IPv4 peers of a socket for both families are `::ffff:a.b.c.d`; here they are `a.b.c.d`.
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
