//! Requests on one resource, by its run-time name. The typed methods of [`Client`](crate::Client) are
//! these with the resource of their view.

use bytes::Bytes;
use http::Method;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::journal;
use crate::options::Query;
use crate::{
    Client, DeleteOptions, Error, Key, List, ListOptions, Patch, Request, ResourceRef, Result, Watch,
    WatchOptions,
};

const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

/// A resource seen through a client; see [`Client::at`].
#[derive(Clone, Copy)]
pub struct Api<'a> {
    pub(crate) client: &'a Client,
    pub(crate) resource: &'a ResourceRef,
    pub(crate) metadata_only: bool,
}

impl Api<'_> {
    /// Asks for `PartialObjectMetadata` in get, list, watch and patch.
    pub fn metadata_only(mut self) -> Self {
        self.metadata_only = true;
        self
    }

    pub async fn get<T: DeserializeOwned>(&self, namespace: Option<&str>, name: &str) -> Result<T> {
        self.client.call(self.request(Method::GET, self.resource.path(namespace, Some(name), None))).await
    }

    /// `GET …/{name}/{subresource}`.
    pub async fn get_subresource<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
    ) -> Result<T> {
        let path = self.resource.path(namespace, Some(name), Some(subresource));
        self.client.call(Request::get(path)).await
    }

    pub async fn list<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        options: &ListOptions,
    ) -> Result<List<T>> {
        let mut items = Vec::new();
        let page = self
            .page(namespace, options, |_, raw| {
                items.push(serde_json::from_str(raw)?);
                Ok(())
            })
            .await?;
        Ok(List {
            items,
            resource_version: page.resource_version,
            continue_token: page.continue_token,
            remaining: page.remaining,
        })
    }

    /// Reads a page, giving the list's resource version and each item's text to `item`.
    pub(crate) async fn page(
        &self,
        namespace: Option<&str>,
        options: &ListOptions,
        mut item: impl FnMut(&str, &str) -> Result<(), serde_json::Error>,
    ) -> Result<Page> {
        let path = with_query(self.resource.path(namespace, None, None), options.query());
        let what = || format!("the list of {}", self.resource.plural);
        let mut request = Request::get(path);
        if self.metadata_only {
            request = request.accept(METADATA_LIST);
        }
        let bytes = self.client.bytes(request).await?;
        let list: RawList<'_> =
            serde_json::from_slice(&bytes).map_err(|source| Error::Decode { what: what(), source })?;
        for raw in list.items.unwrap_or_default() {
            item(&list.metadata.resource_version, raw.get())
                .map_err(|source| Error::Decode { what: what(), source })?;
        }
        Ok(Page {
            resource_version: list.metadata.resource_version,
            continue_token: Some(list.metadata.continue_token).filter(|token| !token.is_empty()),
            remaining: list.metadata.remaining_item_count,
        })
    }

    pub async fn create<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        object: &impl Serialize,
    ) -> Result<T> {
        let path = self.resource.path(namespace, None, None);
        self.write(namespace, "", self.request(Method::POST, path).json(object)?).await
    }

    pub async fn create_subresource<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: &str,
        object: &impl Serialize,
    ) -> Result<T> {
        let path = self.resource.path(namespace, Some(name), Some(subresource));
        self.client.call(Request::new(Method::POST, path).json(object)?).await
    }

    pub async fn update<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        object: &impl Serialize,
    ) -> Result<T> {
        let path = self.resource.path(namespace, Some(name), subresource);
        self.write(namespace, name, self.request(Method::PUT, path).json(object)?).await
    }

    pub async fn patch<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
    ) -> Result<T> {
        let mut query = Query::default();
        if let Patch::Apply { manager, force, .. } = &patch {
            query.add("fieldManager", manager);
            query.add("force", if *force { "true" } else { "false" });
        }
        let path = with_query(self.resource.path(namespace, Some(name), subresource), query);
        let request =
            self.request(Method::PATCH, path).json(patch.body())?.content_type(patch.content_type());
        self.write(namespace, name, request).await
    }

    pub async fn delete(&self, namespace: Option<&str>, name: &str, options: &DeleteOptions) -> Result<()> {
        let path = self.resource.path(namespace, Some(name), None);
        let request = Request::new(Method::DELETE, path).json(&options.body())?;
        self.journaled(namespace, name, request).await.map(drop)
    }

    /// Deletes everything the selectors of `list` select.
    pub async fn delete_collection(
        &self,
        namespace: Option<&str>,
        options: &DeleteOptions,
        list: &ListOptions,
    ) -> Result<()> {
        let path = with_query(self.resource.path(namespace, None, None), list.query());
        let request = Request::new(Method::DELETE, path).json(&options.body())?;
        self.client.bytes(request).await.map(drop)
    }

    pub async fn watch<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        options: &WatchOptions,
    ) -> Result<Watch<T>> {
        let path = with_query(self.resource.path(namespace, None, None), options.query());
        let mut request = Request::get(path);
        if self.metadata_only {
            request = request.accept(METADATA);
        }
        Ok(Watch::new(self.resource, self.client.stream(request).await?.into_body()))
    }

    async fn write<T: DeserializeOwned>(
        &self,
        namespace: Option<&str>,
        name: &str,
        request: Request,
    ) -> Result<T> {
        let what = format!("the answer to {} {}", request.method, request.path);
        let bytes = self.journaled(namespace, name, request).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::Decode { what, source })
    }

    async fn journaled(&self, namespace: Option<&str>, name: &str, request: Request) -> Result<Bytes> {
        let answer = self.client.bytes(request).await;
        if let Some(journal) = &self.client.journal {
            let key = Key::new(namespace.unwrap_or_default(), name);
            match &answer {
                Ok(bytes) => journal::report(&**journal, self.resource, &key, bytes),
                Err(error) if error.is_doubtful() => journal.doubted(self.resource, &key),
                Err(_) => {}
            }
        }
        answer
    }

    fn request(&self, method: Method, path: String) -> Request {
        let request = Request::new(method, path);
        if self.metadata_only { request.accept(METADATA) } else { request }
    }
}

pub(crate) struct Page {
    pub resource_version: String,
    pub continue_token: Option<String>,
    pub remaining: Option<i64>,
}

#[derive(Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
    remaining_item_count: Option<i64>,
}

fn with_query(path: String, query: Query) -> String {
    if query.0.is_empty() { path } else { format!("{path}?{}", query.0) }
}
