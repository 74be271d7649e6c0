//! Mount points of this machine, as the kernel lists them.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

/// The mount points at or below `path`, the deepest and latest first.
pub fn below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let path = real(path)?;
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(std::ffi::OsStr::from_bytes(&unescape(field))))
        .filter(|point| point.starts_with(&path))
        .collect();
    found.reverse();
    found.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    Ok(found)
}

pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    let path = real(path)?;
    Ok(below(&path)?.contains(&path))
}

/// `path` as the kernel's table has it: absolute, and without symbolic links on the way. The kubelet's root folder may be behind
/// one. The last part is not followed: it may be a mount that does not answer any more.
fn real(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path.canonicalize() };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    match parent.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(real(parent)?.join(name)),
        parent => Ok(parent?.join(name)),
    }
}

/// Spaces and the like are octal in the kernel's table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(code) => {
                plain.push(code);
                rest = &after[3..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    plain
}

/// A file system in memory of at most `size` bytes.
pub fn tmpfs(path: &Path, size: i64) -> io::Result<()> {
    let size = if size > 0 { format!("size={size},") } else { String::new() };
    // Kernels before 6.4 do not know `noswap`.
    for options in [format!("{size}noswap"), size.trim_end_matches(',').to_owned()] {
        let options = std::ffi::CString::new(options)?;
        match mount("tmpfs", path, "tmpfs", MountFlags::empty(), options.as_c_str()) {
            Err(rustix::io::Errno::INVAL) => {}
            result => return Ok(result?),
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount_bind(source, target)?)
}

/// Takes away every mount at or below `path`.
pub fn clear(path: &Path) -> io::Result<()> {
    for point in below(path)? {
        match unmount(point.as_path(), UnmountFlags::NOFOLLOW) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(error) => {
                let error = io::Error::from(error);
                return Err(io::Error::new(error.kind(), format!("unmount {}: {error}", point.display())));
            }
        }
    }
    Ok(())
}

/// Unmounts what is below `path`, then removes it with its content. Nothing mounted is ever deleted.
pub fn remove(path: &Path) -> io::Result<()> {
    clear(path)?;
    if let Some(point) = below(path)?.first() {
        return Err(io::Error::other(format!("{} is still mounted", point.display())));
    }
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_and_names_unescaped() {
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
        assert_eq!(unescape(b"/a\\040b\\134"), b"/a b\\");
        assert_eq!(unescape(b"/a\\9"), b"/a\\9");
    }

    #[test]
    fn mounts_are_found_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert!(is_mount_point(&link.join("proc")).unwrap());
        assert!(!is_mount_point(&link.join("proc/self")).unwrap());
        assert!(below(&link.join("proc")).unwrap().contains(&"/proc".into()));
        assert!(below(&link.join("missing/deep")).unwrap().is_empty());
    }
}
