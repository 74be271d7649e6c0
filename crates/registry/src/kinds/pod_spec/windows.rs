//! Containers that are processes of a Windows host.

use api::Tree;
use api::status::Cause;
use machinery::bounds::is_full;
use machinery::fieldpath::Path;

use crate::tree::{flag, get, list};

const FIELD: &str = "securityContext.windowsOptions.hostProcess";

/// All of a pod's containers are the host's processes, on the host's network, or none.
pub(super) fn host_process(spec: &Tree, path: &Path<'_>, errors: &mut Vec<Cause>) {
    let of_pod = get(spec, FIELD).as_bool();
    let (mut all, mut host) = (0, 0);
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        let containers = path.field(field);
        for (index, container) in list(spec, field).iter().enumerate() {
            if is_full(errors) {
                return;
            }
            let own = get(container, FIELD).as_bool();
            if let (Some(own), Some(of_pod)) = (own, of_pod)
                && own != of_pod
            {
                let at = containers.index(index);
                let detail =
                    format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
                errors.push(at.field(FIELD).invalid(own, &detail));
            }
            all += 1;
            host += usize::from(own == Some(true) || of_pod == Some(true));
        }
    }
    if host == 0 {
        return;
    }
    if host != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(path.invalid("", detail));
    }
    if !flag(spec, "hostNetwork") {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(path.field("hostNetwork").invalid(false, detail));
    }
}
