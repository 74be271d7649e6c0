//! postStart and preStop hooks.

use crate::pods::title;
use crate::probes::check::{http_request, pod_ip};
use crate::probes::http;
use crate::run::Kubelet;
use crate::runtime::Container as Instance;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use std::sync::Arc;
use std::time::Duration;

/// What a postStart hook has for one exchange; a preStop hook has the grace of its container.
pub const POST_START: Duration = Duration::from_secs(600);

/// Runs a hook to its end, an HTTP exchange no longer than `limit`. The error is upstream's text.
pub async fn run(
    kubelet: &Arc<Kubelet>,
    pod: &Pod,
    instance: &Instance,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    let name = &instance.name;
    let pod_title = title(pod);
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = format!("[{}]", command.join(" "));
        let failed = |error: String, output: &str| {
            format!(
                "Exec lifecycle hook ({shown}) for Container {name:?} in Pod {pod_title:?} failed - error: {error}, message: {output:?}"
            )
        };
        let answer = kubelet.runtime.exec_sync(&instance.id, command.clone(), Duration::ZERO).await;
        let answer = answer.map_err(|error| failed(error.to_string(), ""))?;
        if answer.exit_code != 0 {
            let output = [answer.stdout, answer.stderr].concat();
            let error = format!("command '{}' exited with {}", command.join(" "), answer.exit_code);
            return Err(failed(error, &String::from_utf8_lossy(&output)));
        }
        return Ok(());
    }
    if let Some(get) = &hook.http_get {
        const CONNECT: Duration = Duration::from_secs(30);
        let path = get.path.clone().unwrap_or_default();
        let failed = |error: String| {
            format!(
                "HTTP lifecycle hook ({path}) for Container {name:?} in Pod {pod_title:?} failed - error: {error}"
            )
        };
        let spec =
            pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        let container: Container = spec.into_iter().find(|it| it.name == *name).cloned().unwrap_or_default();
        let request =
            http_request(get, &container, &pod_ip(kubelet, pod), "kube-lifecycle").map_err(failed)?;
        return http::get_within(&request, CONNECT, limit).await.map(drop).map_err(failed);
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        return Ok(());
    }
    Err("Cannot run handler: invalid handler".into())
}
