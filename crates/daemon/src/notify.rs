//! Reports readiness to the service manager that started the daemon: `sd_notify(3)`, for units of `Type=notify`.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The daemon serves. Without a service manager that asks for it, nothing is said.
pub fn ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else { return };
    match send(socket.as_bytes(), "READY=1\n") {
        Ok(()) => tracing::debug!("Reported readiness to the service manager"),
        Err(error) => tracing::warn!(%error, "Unable to send systemd daemon successful start message"),
    }
}

/// `socket` is a path, or after an `@` a name that is in no folder.
fn send(socket: &[u8], text: &str) -> io::Result<()> {
    let address = match socket.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(socket))?,
    };
    let sender = UnixDatagram::unbound()?;
    // a manager that does not read must not block the start
    sender.set_nonblocking(true)?;
    sender.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_have_paths_or_names() {
        let name = format!("corten-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let receivers = [
            (UnixDatagram::bind(&path).unwrap(), path.as_os_str().as_bytes().to_vec()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}").into_bytes(),
            ),
        ];
        for (receiver, socket) in receivers {
            send(&socket, "READY=1\n").unwrap();
            let mut buffer = [0; 32];
            let length = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1\n");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send(b"/nonexistent/socket", "READY=1\n").is_err());
    }
}
