//! OpenAPI of aggregated servers: their v2 documents, cut to what they answer for and merged into ours, and the index of their v3 ones.
//!
//! Absent: v3 documents for a server that has none, which upstream makes of its v2 one.

mod merge;

use std::sync::Arc;
use std::time::Duration;

use api::Tree;
use daemon::aside::aside;
use http::StatusCode;
use registry::tree::{entries, text};

use super::fetch::Fetch;
use super::{Aggregator, Target};
pub use merge::merged;

const USER: &str = "system:aggregator";
const TIMEOUT: Duration = Duration::from_secs(60);
const LONGEST: usize = 32 << 20;
/// Documents that one server's index may name.
const MOST_DOCUMENTS: usize = 1000;

/// What is known of one server's documents.
#[derive(Clone, Default)]
pub struct Known {
    etag: String,
    /// Of its version alone.
    pub swagger: Option<Arc<Tree>>,
    /// Paths of its v3 documents, with their entries in the index.
    pub documents: Vec<(String, Tree)>,
}

fn question<'a>(path: &'a str, etag: &'a str) -> Fetch<'a> {
    let accept = "application/json";
    Fetch { path, user: USER, master: false, accept, etag, longest: LONGEST, timeout: TIMEOUT }
}

/// Asks for what has changed.
pub async fn fetch(aggregator: &Aggregator, target: &Target, known: &Known) -> Result<Known, String> {
    if !target.is_available() {
        return Err("service unavailable".to_owned());
    }
    let address = aggregator.address(target)?;
    let mut known = known.clone();
    let answer = aggregator.fetch(target, &address, &question("/openapi/v2", &known.etag)).await?;
    match answer.status {
        StatusCode::NOT_MODIFIED => {}
        StatusCode::NOT_FOUND => (known.etag, known.swagger) = (String::new(), None),
        StatusCode::OK => {
            let prefix = format!("{}/", target.service.path());
            let read = || serde_json::from_slice(&answer.body).map(|whole| merge::below(&whole, &prefix));
            let swagger = aside(true, read).map_err(|error| error.to_string())?;
            if known.swagger.as_deref() != Some(&swagger) {
                known.swagger = Some(Arc::new(swagger));
            }
            known.etag = answer.etag();
        }
        other => return Err(format!("failed to retrieve openAPI spec, http error: {other}")),
    }
    let answer = aggregator.fetch(target, &address, &question("/openapi/v3", "")).await?;
    match answer.status {
        StatusCode::NOT_FOUND => known.documents.clear(),
        StatusCode::OK => {
            let index: Tree =
                aside(true, || serde_json::from_slice(&answer.body)).map_err(|error| error.to_string())?;
            let named = entries(&index, "paths").filter(|(_, entry)| entry["serverRelativeURL"].is_string());
            let entry = |entry: &Tree| api::json!({"serverRelativeURL": text(entry, "serverRelativeURL")});
            known.documents =
                named.map(|(path, own)| (path.to_owned(), entry(own))).take(MOST_DOCUMENTS).collect();
        }
        _ => return Err("Error, could not get list of group versions for APIService".to_owned()),
    }
    Ok(known)
}
