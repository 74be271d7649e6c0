//! What became of a request: conditions, of which some are for `approval` alone, and the certificate, which is set once.

use api::Tree;
use api::status::Cause;
use machinery::bounds::{Seen, is_full};
use machinery::fieldpath::Path;
use x509_parser::pem::Pem;

use crate::kinds::config::bytes;
use crate::strategy::Context;
use crate::tree::{list, same, text};

/// Types whose status is `True` where they are there at all.
const ANSWERS: [&str; 3] = ["Approved", "Denied", "Failed"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

static STATUS: Path<'static> = Path::new("status");

/// Checks an update, of whichever part: a part that may not write the status has left it as it was.
pub(super) fn check(context: &Context<'_>, request: &Tree, old: Option<&Tree>, errors: &mut Vec<Cause>) {
    let Some(old) = old else { return };
    let all = STATUS.field("conditions");
    let (now, before) = (list(request, "status.conditions"), list(old, "status.conditions"));
    conditions(now, before, &all, errors);
    let (certificate, first) = (text(request, "status.certificate"), text(old, "status.certificate"));
    if certificate != first
        && let Some(problem) = certificate_problem(&bytes(certificate))
    {
        errors.push(STATUS.field("certificate").invalid("<certificate data>", &problem));
    }
    let of = |conditions: &[Tree], kind: &str| -> Vec<Tree> {
        conditions.iter().filter(|condition| text(condition, "type") == kind).cloned().collect()
    };
    for kind in ANSWERS {
        if of(now, kind).len() < of(before, kind).len() {
            errors.push(all.forbidden(&format!("updates may not remove a condition of type {kind:?}")));
        }
    }
    for kind in ANSWERS[..2].iter().filter(|_| context.subresource != Some("approval")) {
        let (now, before) = (of(now, kind), of(before, kind));
        if now.len() > before.len() {
            errors.push(all.forbidden(&format!("updates may not add a condition of type {kind:?}")));
        } else if now.len() == before.len() && now.iter().zip(&before).any(|(now, before)| !same(now, before))
        {
            errors.push(all.forbidden(&format!("updates may not modify a condition of type {kind:?}\n")));
        }
    }
    if certificate != first {
        let at = STATUS.field("certificate");
        if context.subresource != Some("status") {
            errors.push(at.forbidden("updates may not set certificate content"));
        } else if !first.is_empty() {
            errors.push(at.forbidden("updates may not modify existing certificate content"));
        }
    }
}

/// What was wrong before may stay so.
fn conditions(now: &[Tree], before: &[Tree], path: &Path<'_>, errors: &mut Vec<Cause>) {
    let untyped = before.iter().any(|condition| text(condition, "type").is_empty());
    let mut known = Seen::new();
    let repeated = before.iter().any(|condition| known.repeats(text(condition, "type")));
    let mut seen = Seen::new();
    for (index, condition) in now.iter().enumerate() {
        if is_full(errors) {
            return;
        }
        let (kind, status, at) = (text(condition, "type"), text(condition, "status"), path.index(index));
        if kind.is_empty() && !untyped {
            errors.push(at.field("type").required(""));
        }
        let allowed: &[&str] = if ANSWERS.contains(&kind) { &["True"] } else { &STATUSES };
        if status.is_empty() {
            errors.push(at.field("status").required(""));
        } else if !allowed.contains(&status) {
            errors.push(at.field("status").not_supported(status, allowed));
        }
        if seen.repeats(kind) && !repeated {
            errors.push(at.field("type").duplicate(kind));
        }
    }
}

fn certificate_problem(data: &[u8]) -> Option<String> {
    if data.is_empty() {
        return None;
    }
    let mut count = 0;
    for block in Pem::iter_from_buffer(data).map_while(Result::ok) {
        if block.label != "CERTIFICATE" {
            return Some(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        count += 1;
        if block.contents.is_empty() {
            return Some("found CERTIFICATE PEM block containing 0 certificates".to_owned());
        }
        if x509_parser::parse_x509_certificate(&block.contents).is_err() {
            return Some("x509: malformed certificate".to_owned());
        }
    }
    (count == 0).then(|| "must contain at least one CERTIFICATE PEM block".to_owned())
}
