//! Paths of the node itself.

use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use k8s_openapi::api::core::v1::HostPathVolumeSource;

/// Makes or checks what the volume's type asks for.
pub fn set_up(source: &HostPathVolumeSource) -> Result<(), String> {
    let path = Path::new(&source.path);
    let kind = source.type_.as_deref().unwrap_or_default();
    let create = match kind {
        "" => return Ok(()),
        "DirectoryOrCreate" => {
            !path.exists() && make_folder(path).map(|()| true).map_err(|error| error.to_string())?
        }
        "FileOrCreate" => {
            !path.exists() && make_file(path).map(|()| true).map_err(|error| error.to_string())?
        }
        _ => false,
    };
    if create {
        return Ok(());
    }
    let file_type = std::fs::metadata(path).map(|metadata| metadata.file_type()).ok();
    let failed = |text: &str| match &file_type {
        None => Err(format!(
            "hostPath type check failed, {0} {text}, unable to determine its type: path {0:?} does not exist",
            source.path
        )),
        Some(found) => {
            Err(format!("hostPath type check failed: {} {text}, it's a {}", source.path, name_of(found)))
        }
    };
    let is = |test: fn(&std::fs::FileType) -> bool| file_type.as_ref().is_some_and(test);
    match kind {
        "Directory" | "DirectoryOrCreate" if !is(std::fs::FileType::is_dir) => failed("is not a directory"),
        "File" | "FileOrCreate" if !is(std::fs::FileType::is_file) => failed("is not a file"),
        "Socket" if !is(std::fs::FileType::is_socket) => failed("is not a socket file"),
        "CharDevice" if !is(std::fs::FileType::is_char_device) => failed("is not a character device"),
        "BlockDevice" if !is(std::fs::FileType::is_block_device) => failed("is not a block device"),
        "Directory" | "DirectoryOrCreate" | "File" | "FileOrCreate" | "Socket" | "CharDevice"
        | "BlockDevice" => Ok(()),
        other => Err(format!("{other} is an invalid volume type")),
    }
}

/// As the types of volumes are called.
fn name_of(found: &std::fs::FileType) -> &'static str {
    if found.is_dir() {
        "Directory"
    } else if found.is_socket() {
        "Socket"
    } else if found.is_block_device() {
        "BlockDevice"
    } else if found.is_char_device() {
        "CharDevice"
    } else {
        "File"
    }
}

fn make_folder(path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

fn make_file(path: &Path) -> std::io::Result<()> {
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(path).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("file"), "").unwrap();
        let table = [
            ("missing", "", Ok(())),
            ("missing", "Directory", Err("is not a directory")),
            ("missing", "File", Err("is not a file")),
            ("file", "Directory", Err("is not a directory")),
            ("file", "DirectoryOrCreate", Err("is not a directory")),
            ("file", "File", Ok(())),
            ("file", "Socket", Err("is not a socket file")),
            ("made/deep", "DirectoryOrCreate", Ok(())),
            ("made/deep", "Directory", Ok(())),
            ("touched", "FileOrCreate", Ok(())),
            ("touched", "File", Ok(())),
            ("file", "BlockDevice", Err("is not a block device")),
        ];
        for (name, kind, want) in table {
            let source = HostPathVolumeSource { path: at(name), type_: Some(kind.into()) };
            let path = at(name);
            let want = want.map_err(|text| match name {
                "missing" => format!(
                    "hostPath type check failed, {path} {text}, unable to determine its type: path {path:?} does not exist"
                ),
                _ => format!("hostPath type check failed: {path} {text}, it's a File"),
            });
            assert_eq!(set_up(&source), want, "{name} as {kind}");
        }
        let null = HostPathVolumeSource { path: "/dev/null".into(), type_: Some("CharDevice".into()) };
        assert_eq!(set_up(&null), Ok(()));
    }
}
