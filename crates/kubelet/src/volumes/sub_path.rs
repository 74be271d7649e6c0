//! Parts of volumes. A container may have put a symbolic link anywhere in a volume it can write, so a path below
//! one is resolved by the kernel with nothing outside the volume in reach, and what was found is mounted by its
//! descriptor, not by its name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, open, openat2};

use super::mounting;

/// Mounts `part` of the volume at `target`, making it a folder where there is nothing yet.
pub fn mount(volume: &Path, part: &str, target: &Path) -> io::Result<()> {
    let found = resolve(volume, Path::new(part))?;
    if mounting::is_mount_point(target)? {
        let (old, new) = (std::fs::metadata(target)?, fstat(&found)?);
        if (old.dev(), old.ino()) == (new.st_dev, new.st_ino) {
            return Ok(());
        }
        mounting::clear(target)?;
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent)?;
    }
    if FileType::from_raw_mode(fstat(&found)?.st_mode) == FileType::Directory {
        if target.is_file() {
            std::fs::remove_file(target)?;
        }
        std::fs::create_dir_all(target)?;
    } else {
        if target.is_dir() {
            std::fs::remove_dir(target)?;
        }
        std::fs::OpenOptions::new().create(true).append(true).open(target)?;
    }
    mounting::bind(Path::new(&format!("/proc/self/fd/{}", found.as_raw_fd())), target)
}

/// Opens a path below the folder, without ever leaving the folder. Missing folders are made, with the mode of
/// the volume's own.
fn resolve(volume: &Path, part: &Path) -> io::Result<OwnedFd> {
    if part.components().any(|component| component == Component::ParentDir) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "must not contain '..'"));
    }
    // A volume that is a single file has no parts but itself.
    let root = open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let part: std::path::PathBuf =
        part.components().filter(|component| matches!(component, Component::Normal(_))).collect();
    if part.as_os_str().is_empty() {
        return Ok(root);
    }
    match below(&root, &part) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let mode = Mode::from_raw_mode(std::fs::metadata(volume)?.mode() & 0o7777);
    let mut path = std::path::PathBuf::new();
    let mut parent = root.try_clone()?;
    for component in part.components() {
        path.push(component);
        parent = match below(&root, &path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match mkdirat(parent.as_fd(), component.as_os_str(), mode) {
                    // A link that leads to nothing: making its target would be writing through it.
                    Err(rustix::io::Errno::EXIST) | Ok(()) => {}
                    Err(error) => return Err(error.into()),
                }
                let made = below(&root, &path)?;
                set_mode(&made, mode)?;
                made
            }
            result => result?,
        };
    }
    Ok(parent)
}

fn below(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?)
}

/// Past the umask.
fn set_mode(folder: &OwnedFd, mode: Mode) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    Ok(rustix::fs::chmodat(CWD, path, mode, rustix::fs::AtFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn nothing_outside_the_volume_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let volume = folder.path().join("volume");
        std::fs::create_dir_all(volume.join("inner/deep")).unwrap();
        std::fs::create_dir(folder.path().join("outside")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("../outside", volume.join("relative")).unwrap();
        symlink("inner/deep", volume.join("fine")).unwrap();
        symlink("nowhere", volume.join("dangling")).unwrap();
        for part in ["inner", "inner/deep", "fine", "./inner//deep/", "new/folders", "fine/new"] {
            assert!(resolve(&volume, Path::new(part)).is_ok(), "{part}");
        }
        assert!(volume.join("new/folders").is_dir() && volume.join("inner/deep/new").is_dir());
        for part in [
            "absolute",
            "absolute/passwd",
            "relative",
            "relative/new",
            "inner/../..",
            "dangling",
            "dangling/x",
        ] {
            assert!(resolve(&volume, Path::new(part)).is_err(), "{part}");
        }
        assert_eq!(std::fs::read_dir(folder.path().join("outside")).unwrap().count(), 0);
    }
}
