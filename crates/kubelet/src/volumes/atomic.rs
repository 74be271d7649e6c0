//! Files that change all at once: a reader sees the old set or the new, never a mixture.
//!
//! The files lie in a folder named after the time they were written; `..data` links to it and is replaced by
//! renaming; the names a container sees link through `..data`. It is the layout upstream's volumes have.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_tmp";

/// A file to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    pub user: Option<u32>,
}

/// Files by their path within the volume.
pub type Payload = BTreeMap<String, File>;

/// The group that a pod's volumes belong to, where it names one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ownership {
    pub group: Option<u32>,
}

/// Makes the folder hold exactly the payload; says whether anything was to be done.
pub fn write(folder: &Path, payload: &Payload, ownership: Ownership) -> io::Result<bool> {
    for path in payload.keys() {
        check(path)?;
    }
    let old = match std::fs::read_link(folder.join(DATA)) {
        Ok(name) => Some(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let current = match &old {
        Some(name) => is_current(&folder.join(name), payload, ownership)?,
        None => false,
    };
    if !current {
        let new = make_folder(folder)?;
        if let Err(error) = fill(&folder.join(&new), payload, ownership) {
            let _ = std::fs::remove_dir_all(folder.join(&new));
            return Err(error);
        }
        let staged = folder.join(DATA_NEW);
        match std::fs::remove_file(&staged) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(&new, &staged)?,
        }
        std::fs::rename(&staged, folder.join(DATA))?;
    }
    let visible: BTreeSet<&str> =
        payload.keys().filter_map(|path| path.trim_start_matches("./").split('/').next()).collect();
    link(folder, &visible)?;
    prune(folder)?;
    Ok(!current)
}

fn check(path: &str) -> io::Result<()> {
    let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    if path.is_empty() {
        return invalid(format!("invalid path: must not be empty: {path:?}"));
    }
    if path.starts_with('/') {
        return invalid(format!("invalid path: must be relative path: {path}"));
    }
    if path.len() > 4096 {
        return invalid(format!("invalid path: must be less than or equal to 4096 characters: {path}"));
    }
    let mut components = Path::new(path).components();
    if components.clone().any(|component| component == Component::ParentDir) {
        return invalid(format!("invalid path: must not contain '..': {path}"));
    }
    if components.any(|component| component.as_os_str().len() > 255) {
        return invalid(format!(
            "invalid path: filename must be less than or equal to 255 characters: {path}"
        ));
    }
    if path.starts_with("..") {
        return invalid(format!("invalid path: must not start with '..': {path}"));
    }
    Ok(())
}

/// Whether the folder holds these files with these modes, and no others.
fn is_current(folder: &Path, payload: &Payload, ownership: Ownership) -> io::Result<bool> {
    let mut present = BTreeSet::new();
    if !folder.is_dir() {
        return Ok(false);
    }
    walk(folder, Path::new(""), &mut present)?;
    if present.len() != payload.len() {
        return Ok(false);
    }
    for (path, file) in payload {
        let full = folder.join(path);
        if !present.contains(&normal(path)) {
            return Ok(false);
        }
        let metadata = std::fs::metadata(&full)?;
        let same_owner = file.user.is_none_or(|user| metadata.uid() == user)
            && ownership.group.is_none_or(|group| metadata.gid() == group);
        if metadata.mode() & 0o7777 != mode(file, ownership)
            || !same_owner
            || metadata.len() != file.data.len() as u64
            || std::fs::read(&full)? != file.data
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn normal(path: &str) -> PathBuf {
    Path::new(path).components().filter(|component| *component != Component::CurDir).collect()
}

fn walk(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            walk(root, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// A group that owns the file may read it.
fn mode(file: &File, ownership: Ownership) -> u32 {
    file.mode & 0o7777 | if ownership.group.is_some() { 0o440 } else { 0 }
}

fn make_folder(parent: &Path) -> io::Result<OsString> {
    loop {
        let now = jiff::Zoned::now().strftime("..%Y_%m_%d_%H_%M_%S").to_string();
        let name = format!("{now}.{}", rand::random::<u32>());
        match std::fs::DirBuilder::new().mode(0o755).create(parent.join(&name)) {
            Ok(()) => {
                // Whatever the umask is.
                std::fs::set_permissions(parent.join(&name), std::fs::Permissions::from_mode(0o755))?;
                return Ok(name.into());
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn fill(folder: &Path, payload: &Payload, ownership: Ownership) -> io::Result<()> {
    own_folder(folder, ownership)?;
    for (path, file) in payload {
        let path = normal(path);
        let mut parent = folder.to_owned();
        for component in path.parent().into_iter().flat_map(Path::components) {
            parent.push(component);
            match std::fs::create_dir(&parent) {
                Ok(()) => {
                    std::fs::set_permissions(&parent, std::fs::Permissions::from_mode(0o755))?;
                    own_folder(&parent, ownership)?;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        let full = folder.join(&path);
        std::fs::write(&full, &file.data)?;
        if file.user.is_some() || ownership.group.is_some() {
            chown(&full, file.user, ownership.group)?;
        }
        std::fs::set_permissions(&full, std::fs::Permissions::from_mode(mode(file, ownership)))?;
    }
    Ok(())
}

/// Gives a folder to the group: its members may list it, and what is made in it stays the group's.
pub fn own_folder(folder: &Path, ownership: Ownership) -> io::Result<()> {
    let Some(group) = ownership.group else { return Ok(()) };
    chown(folder, None, Some(group))?;
    let mode = std::fs::metadata(folder)?.mode() & 0o7777;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode | 0o2550))
}

/// Makes the visible names link through `..data`, and removes links to what is gone.
fn link(folder: &Path, visible: &BTreeSet<&str>) -> io::Result<()> {
    for name in visible {
        let target = Path::new(DATA).join(name);
        let path = folder.join(name);
        match std::fs::read_link(&path) {
            Ok(old) if old == target => {}
            Ok(_) => {
                std::fs::remove_file(&path)?;
                symlink(&target, &path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => symlink(&target, &path)?,
            Err(error) => return Err(error),
        }
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let of_ours = entry.file_type()?.is_symlink()
            && std::fs::read_link(entry.path()).is_ok_and(|target| target == Path::new(DATA).join(&name));
        if of_ours && name.to_str().is_none_or(|name| !visible.contains(name)) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes folders of earlier writes, also of one that was cut off by a crash.
fn prune(folder: &Path) -> io::Result<()> {
    let current = std::fs::read_link(folder.join(DATA))?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let dated = name.to_str().is_some_and(|name| name.starts_with("..") && name != DATA);
        if dated && entry.file_type()?.is_dir() && current.as_os_str() != name {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(files: &[(&str, &str, u32)]) -> Payload {
        let file = |data: &str, mode| File { data: data.into(), mode, user: None };
        files.iter().map(|(path, data, mode)| ((*path).to_owned(), file(data, *mode))).collect()
    }

    /// What a container sees: path, content, mode.
    fn seen(folder: &Path) -> Vec<(String, String, u32)> {
        let mut paths = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name();
            if name.to_str().unwrap().starts_with("..") {
                continue;
            }
            if folder.join(&name).is_dir() {
                walk(folder, Path::new(&name), &mut paths).unwrap();
            } else {
                paths.insert(name.into());
            }
        }
        let read = |path: &PathBuf| {
            let full = folder.join(path);
            let mode = std::fs::metadata(&full).unwrap().mode() & 0o7777;
            (path.display().to_string(), std::fs::read_to_string(full).unwrap(), mode)
        };
        paths.iter().map(read).collect()
    }

    #[test]
    fn each_write_replaces_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let steps: &[&[(&str, &str, u32)]] = &[
            &[("a", "1", 0o644), ("b", "2", 0o400)],
            &[("a", "1", 0o644), ("deep/d", "4", 0o600), ("deep/er/c", "3", 0o644)],
            &[("a", "changed", 0o644)],
            &[("a", "changed", 0o600)],
            &[],
            &[("back", "", 0o644)],
        ];
        for step in steps {
            let payload = payload(step);
            assert!(write(folder, &payload, Ownership::default()).unwrap(), "{step:?}");
            let want: Vec<_> =
                step.iter().map(|(path, data, mode)| (path.to_string(), data.to_string(), *mode)).collect();
            assert_eq!(seen(folder), want);
            assert!(!write(folder, &payload, Ownership::default()).unwrap(), "twice {step:?}");
            let dated = std::fs::read_dir(folder).unwrap().filter(|entry| {
                let entry = entry.as_ref().unwrap();
                entry.file_type().unwrap().is_dir()
            });
            assert_eq!(dated.count(), 1);
        }
    }

    #[test]
    fn a_write_cut_off_is_made_good() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let files = payload(&[("a", "1", 0o644)]);
        write(folder, &files, Ownership::default()).unwrap();
        std::fs::remove_file(folder.join("a")).unwrap();
        std::fs::create_dir(folder.join("..2020_01_01_00_00_00.1")).unwrap();
        symlink("..2020_01_01_00_00_00.1", folder.join(DATA_NEW)).unwrap();
        assert!(!write(folder, &files, Ownership::default()).unwrap());
        assert_eq!(seen(folder).len(), 1);
        assert!(!folder.join("..2020_01_01_00_00_00.1").exists());
        assert!(write(folder, &payload(&[("a", "2", 0o644)]), Ownership::default()).unwrap());
    }

    #[test]
    fn paths_out_of_the_volume_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["", "/etc/passwd", "../x", "a/../../x", "..data", "..x", &"x".repeat(256)] {
            let result = write(folder.path(), &payload(&[(path, "", 0o644)]), Ownership::default());
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
