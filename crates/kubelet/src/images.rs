//! Has the image of a container or volume present: inspects, pulls with the pod's credentials, backs off where that fails.

pub mod gc;
pub mod policy;
pub mod records;
pub mod reference;

use crate::clock::Clock;
use crate::credentials::{self, Credential};
use crate::events::{Events, Normal, Warning};
use crate::objects::Objects;
use crate::plan::backoff::Backoffs;
use crate::pods;
use cri::ImageService;
use cri::v1::{Image, ImageSpec, PodSandboxConfig};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use records::Pulled;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tracing::warn;

/// Why a container has to wait: `reason` is what its status shows.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Error {
    pub reason: &'static str,
    pub message: String,
    /// When it is worth another try, where that is known.
    pub wait: Option<Duration>,
}

impl Error {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), wait: None }
    }
}

pub struct Puller {
    service: Arc<dyn ImageService>,
    objects: Arc<dyn Objects>,
    events: Arc<Events>,
    /// `None` pulls without a limit.
    slots: Option<Semaphore>,
    backoffs: Mutex<Backoffs>,
    records: records::Records,
    clock: Clock,
    /// Why the last pull failed, by pod uid and image.
    failures: Mutex<HashMap<(String, String), String>>,
}

/// Who uses an image, which its events are about.
#[derive(Clone, Copy, Debug)]
pub enum User<'a> {
    Container(&'a str),
    /// A volume of the pod, which is nobody's in particular.
    Volume,
}

/// A present image, and how to name it to the runtime.
pub struct Present {
    pub spec: ImageSpec,
    pub image: Image,
}

impl Puller {
    /// `at_once`: how many pulls run side by side; `None` is no limit.
    pub fn new(
        service: Arc<dyn ImageService>,
        objects: Arc<dyn Objects>,
        events: Arc<Events>,
        records: records::Records,
        at_once: Option<usize>,
        clock: Clock,
    ) -> Self {
        Self {
            service,
            objects,
            events,
            records,
            clock,
            slots: at_once.map(Semaphore::new),
            backoffs: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    pub async fn ensure(
        &self,
        pod: &Pod,
        user: User<'_>,
        image: &str,
        policy: Option<&str>,
        sandbox: &PodSandboxConfig,
    ) -> Result<Present, Error> {
        let event = |kind, reason, message: &str| self.event(pod, user, kind, reason, message);
        let full = reference::with_tag(image).map_err(|error| {
            let message = format!("Failed to apply default image tag {image:?}: {error}");
            event(Warning, "InspectFailed", &message);
            Error::new("InvalidImageName", message)
        })?;
        let policy = policy.unwrap_or(if full.ends_with(":latest") { "Always" } else { "IfNotPresent" });
        let spec = ImageSpec {
            image: full.clone(),
            user_specified_image: image.into(),
            annotations: pod.metadata.annotations.clone().unwrap_or_default(),
            ..Default::default()
        };
        let found = self.service.image_status(spec.clone()).await.map_err(|error| {
            let message = format!("Failed to inspect image {:?}: {error}", full);
            event(Warning, "InspectFailed", &message);
            Error::new("ImageInspectError", message)
        })?;
        match (policy, found) {
            ("Always", _) | ("IfNotPresent", None) => {}
            ("IfNotPresent", Some(found)) if !self.may_use(pod, &found, image).await => {}
            // A pod that may not use an image must not learn that it is present.
            (_, Some(image_found))
                if policy == "IfNotPresent" || self.may_use(pod, &image_found, image).await =>
            {
                let message = format!(
                    "Container image {image:?} already present on machine and can be accessed by the pod"
                );
                event(Normal, "Pulled", &message);
                return Ok(present(spec, image_found));
            }
            (_, _) => {
                let message = format!("Container image {image:?} is not present with pull policy of Never");
                event(Warning, "ErrImageNeverPull", &message);
                return Err(Error::new("ErrImageNeverPull", message));
            }
        }
        self.pull(pod, user, image, spec, sandbox).await
    }

    fn event(&self, pod: &Pod, user: User<'_>, kind: crate::events::Type, reason: &str, message: &str) {
        match user {
            User::Container(name) => self.events.container(pod, name, kind, reason, message),
            User::Volume => self.events.event(pod, kind, reason, message),
        }
    }

    async fn pull(
        &self,
        pod: &Pod,
        user: User<'_>,
        image: &str,
        spec: ImageSpec,
        sandbox: &PodSandboxConfig,
    ) -> Result<Present, Error> {
        let event = |kind, reason, message: &str| self.event(pod, user, kind, reason, message);
        let uid = pods::uid(pod);
        let key = (uid.to_owned(), spec.image.clone());
        let name = &spec.image;
        let wait = self.backoffs.lock().remaining_since_update(uid, name, self.clock.nanoseconds());
        if wait.is_some() {
            let mut message = format!("Back-off pulling image {image:?}");
            event(Normal, "BackOff", &message);
            if let Some(cause) = self.failures.lock().get(&key) {
                message = format!("{message}: {cause}");
            }
            return Err(Error { wait, ..Error::new("ImagePullBackOff", message) });
        }

        let waiting = Instant::now();
        let _slot = match &self.slots {
            Some(slots) => slots.acquire().await.ok(),
            None => None,
        };
        let intent = self.records.begin(image).map_err(|error| {
            let message =
                format!("Failed to record image pull intent for container image {image:?}: {error}");
            Error::new("ErrImagePull", message)
        })?;
        event(Normal, "Pulling", &format!("Pulling image {image:?}"));
        let pulling = Instant::now();
        let credential = match self.try_pull(pod, &spec, sandbox).await {
            Ok(credential) => credential,
            Err(error) => {
                if let Err(error) = intent.failed() {
                    warn!(image, %error, "Cannot note that a pull has failed");
                }
                // An error without a specific code is reported by its message alone.
                let message = match error.code {
                    cri::Code::Unknown => error.message,
                    _ => error.to_string(),
                };
                event(Warning, "Failed", &format!("Failed to pull image {image:?}: {message}"));
                let now = self.clock.nanoseconds();
                self.backoffs.lock().next(uid, name, now, now);
                self.failures.lock().insert(key, format!("ErrImagePull: {message}"));
                return Err(Error::new("ErrImagePull", message));
            }
        };
        self.failures.lock().remove(&key);
        let image_found = self.service.image_status(spec.clone()).await.ok().flatten().unwrap_or_default();
        let how = credential.as_ref().map_or(Pulled::Freely, Pulled::With);
        if let Err(error) = intent.finished(&image_found.id, how) {
            warn!(image, %error, "Cannot note who may use an image");
        }
        event(
            Normal,
            "Pulled",
            &format!(
                "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {} bytes.",
                text(pulling.elapsed()),
                text(waiting.elapsed()),
                image_found.size
            ),
        );
        Ok(present(spec, image_found))
    }

    async fn may_use(&self, pod: &Pod, found: &Image, image: &str) -> bool {
        let credentials = credentials::for_image(&*self.objects, pod, image).await;
        self.records.allows(&found.id, image, &credentials)
    }

    /// Tries to pull with each matching credential, or without one. Returns the one that worked.
    async fn try_pull(
        &self,
        pod: &Pod,
        spec: &ImageSpec,
        sandbox: &PodSandboxConfig,
    ) -> cri::Result<Option<Credential>> {
        let credentials = credentials::for_image(&*self.objects, pod, &spec.image).await;
        let mut attempts: Vec<_> = credentials.into_iter().map(Some).collect();
        if attempts.is_empty() {
            attempts.push(None);
        }
        let mut last = Ok(None);
        for credential in attempts {
            let auth = credential.as_ref().map(|credential| credential.auth.clone());
            match self.service.pull_image(spec.clone(), auth, Some(sandbox.clone())).await {
                Ok(_) => return Ok(credential),
                Err(error) => last = Err(error),
            }
        }
        last
    }

    /// What an earlier kubelet was pulling when it ended: to be called before the first pod starts.
    pub async fn recover(&self) {
        match self.service.list_images(None).await {
            Ok(images) => self.records.recover(&images),
            Err(error) => warn!(%error, "Failed to list images, interrupted pulls stay noted"),
        }
    }

    pub(crate) fn prune_records(&self, present: &HashSet<&str>, listed: jiff::Timestamp) {
        self.records.prune(present, listed);
    }

    pub(crate) fn forget_image(&self, id: &str) {
        self.records.forget(id);
    }

    /// A pod is gone: its back-offs are forgotten.
    pub fn forget(&self, uid: &str) {
        self.backoffs.lock().forget(uid);
        self.failures.lock().retain(|(of, _), _| of != uid);
    }
}

fn present(spec: ImageSpec, image: Image) -> Present {
    // Containers are created from the image's id: a tag may move between pull and create.
    let id = if image.id.is_empty() { spec.image.clone() } else { image.id.clone() };
    Present { spec: ImageSpec { image: id, ..spec }, image }
}

/// A duration to the millisecond, as Go prints it.
fn text(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    daemon::flags::Duration(Duration::from_millis(millis)).to_string()
}
