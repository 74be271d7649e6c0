//! The node's own log folder, as a file server.

use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::io::AsyncReadExt;

use super::{Body, respond, text};

pub const ROOT: &str = "/var/log";

/// A file, or the list of a folder. Links are followed as long as they stay within the root.
pub async fn serve(root: &Path, parts: &[&str], slash: bool) -> Response<Body> {
    let missing = || text(StatusCode::NOT_FOUND, "404 page not found\n");
    let Some(path) = resolve(root, parts).await else { return missing() };
    let Ok(metadata) = tokio::fs::metadata(&path).await else { return missing() };
    if metadata.is_dir() {
        if !slash {
            let mut response = text(StatusCode::MOVED_PERMANENTLY, "");
            let to = format!("{}/", parts.last().copied().unwrap_or("logs"));
            if let Ok(to) = HeaderValue::from_str(&to) {
                response.headers_mut().insert(header::LOCATION, to);
            }
            return response;
        }
        return match list(&path).await {
            Ok(page) => respond(StatusCode::OK, "text/html; charset=utf-8", page),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
    }
    if !metadata.is_file() {
        return missing();
    }
    match tokio::fs::File::open(&path).await {
        Ok(file) => stream(file),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

async fn resolve(root: &Path, parts: &[&str]) -> Option<PathBuf> {
    if parts.iter().any(|part| *part == ".." || part.contains(['/', '\0'])) {
        return None;
    }
    let root = tokio::fs::canonicalize(root).await.ok()?;
    let path =
        tokio::fs::canonicalize(parts.iter().fold(root.clone(), |path, part| path.join(part))).await.ok()?;
    path.starts_with(&root).then_some(path)
}

async fn list(folder: &Path) -> std::io::Result<String> {
    let mut names = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let mut name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().await?.is_dir() {
            name.push('/');
        }
        names.push(name);
    }
    names.sort();
    let mut page =
        "<!doctype html>\n<meta name=\"viewport\" content=\"width=device-width\">\n<pre>\n".to_owned();
    for name in names {
        let name = name.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&#34;");
        page.push_str(&format!("<a href=\"{name}\">{name}</a>\n"));
    }
    page.push_str("</pre>\n");
    Ok(page)
}

fn stream(file: tokio::fs::File) -> Response<Body> {
    let chunks = futures::stream::unfold(Some(file), |file| async {
        let mut file = file?;
        let mut buffer = BytesMut::with_capacity(64 << 10);
        match file.read_buf(&mut buffer).await {
            Ok(0) => None,
            Ok(_) => Some((Ok::<Bytes, std::io::Error>(buffer.freeze()), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    });
    let body = StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))).boxed_unsync();
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(root: &Path, parts: &[&str], slash: bool) -> (u16, String) {
        let response = serve(root, parts, slash).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn files_and_folders_within_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("log");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/a.log"), "hello").unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("sub/a.log", root.join("link")).unwrap();
        std::os::unix::fs::symlink("../secret", root.join("out")).unwrap();
        assert_eq!(get(&root, &["sub", "a.log"], false).await, (200, "hello".into()));
        assert_eq!(get(&root, &["link"], false).await, (200, "hello".into()));
        assert_eq!(get(&root, &["out"], false).await.0, 404);
        assert_eq!(get(&root, &["..", "secret"], false).await.0, 404);
        assert_eq!(get(&root, &["sub"], false).await.0, 301);
        let (status, page) = get(&root, &[], true).await;
        assert!(status == 200 && page.contains("<a href=\"sub/\">sub/</a>"), "{page}");
    }
}
