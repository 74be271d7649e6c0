//! Attachments of volumes to nodes: what is attached where never changes.

use api::Tree;
use api::status::Cause;
use machinery::fieldpath::Path;
use machinery::names;

use crate::kinds::storage;
use crate::kinds::volume::driver_name;
use crate::rules;
use crate::strategy::Context;
use crate::tree::{entries, get, has, int, text};

const METADATA_BYTES: usize = 256 << 10;
const MESSAGE_BYTES: usize = 1024;

/// Checks what is attached where, and the status: a write of either checks both.
pub(super) fn check(_: &Context<'_>, attachment: &Tree, _: Option<&Tree>, errors: &mut Vec<Cause>) {
    driver_name(text(attachment, "spec.attacher"), &Path::new("spec.attacher"), errors);
    let (path, source) = (Path::new("spec.source"), get(attachment, "spec.source"));
    let volume = rules::given(source, "persistentVolumeName");
    match (has(source, "inlineVolumeSpec"), volume) {
        (false, None) => {
            errors
                .push(path.required("must specify exactly one of inlineVolumeSpec and persistentVolumeName"));
        }
        (true, Some(_)) => {
            errors.push(
                path.forbidden("must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
            );
        }
        (false, Some("")) => {
            let detail = "must specify non empty persistentVolumeName";
            errors.push(path.field("persistentVolumeName").required(detail));
        }
        (false, Some(_)) => {}
        (true, None) => {
            storage::inline_volume(get(source, "inlineVolumeSpec"), &path.field("inlineVolumeSpec"), errors);
        }
    }
    let node = text(attachment, "spec.nodeName");
    rules::format(node, names::dns1123_subdomain(node), &Path::new("spec.nodeName"), errors);
    status(attachment, errors);
    if let Some(name) = volume {
        rules::format(name, names::dns1123_subdomain(name), &path.field("persistentVolumeName"), errors);
    }
}

fn status(attachment: &Tree, errors: &mut Vec<Cause>) {
    let path = Path::new("status");
    let size = |(key, value): (&str, &Tree)| key.len() + value.as_str().map_or(0, str::len);
    if entries(attachment, "status.attachmentMetadata").map(size).sum::<usize>() > METADATA_BYTES {
        errors.push(path.field("attachmentMetadata").too_long(METADATA_BYTES));
    }
    for field in ["attachError", "detachError"] {
        let (error, at) = (get(attachment, "status").get(field).unwrap_or(&Tree::Null), path.field(field));
        if text(error, "message").len() > MESSAGE_BYTES {
            errors.push(at.field("message").too_long(MESSAGE_BYTES));
        }
        if let Some(code) = int(error, "errorCode").filter(|code| *code < 0) {
            errors.push(at.field("errorCode").invalid(code, "must be between 0 and 2147483647, inclusive"));
        }
    }
}
