//! Reports to an observer how long each call to the runtime took until it answered, and whether it failed.

use futures::future::BoxFuture;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::{Channel, Error};

/// Called with the method's name as in the protocol, e.g. `RunPodSandbox`.
pub type Observer = Arc<dyn Fn(&str, Duration, bool) + Send + Sync>;

#[derive(Clone)]
pub(crate) struct Observed {
    pub(crate) channel: Channel,
    pub(crate) observer: Option<Observer>,
}

impl tower::Service<Request<Body>> for Observed {
    type Response = Response<Body>;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response<Body>, Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        tower::Service::poll_ready(&mut self.channel, context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        let began = Instant::now();
        let call = tower::Service::call(&mut self.channel, request);
        let observer = self.observer.clone();
        Box::pin(async move {
            let result = call.await;
            if let Some(observer) = observer {
                // A failure without a message body carries its status in the head.
                let failed = result.as_ref().map_or(true, |answer| {
                    answer.headers().get("grpc-status").is_some_and(|status| status != "0")
                });
                observer(&method, began.elapsed(), failed);
            }
            result
        })
    }
}
