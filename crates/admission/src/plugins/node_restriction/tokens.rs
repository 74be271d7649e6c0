//! Tokens of service accounts: a node asks for those that its own pods use, for whom these say.

use api::{Status, Tree};

use super::NodeRestriction;
use crate::{Attributes, Operation, Question};
use registry::references::volume_claim;
use registry::tree::{get, has, list, text, texts};

/// Volumes of the tree that are mounted by a driver in its stead.
const MIGRATED: [(&str, &str); 7] = [
    ("awsElasticBlockStore", "ebs.csi.aws.com"),
    ("azureDisk", "disk.csi.azure.com"),
    ("azureFile", "file.csi.azure.com"),
    ("cinder", "cinder.csi.openstack.org"),
    ("gcePersistentDisk", "pd.csi.storage.gke.io"),
    ("portworxVolume", "pxd.portworx.com"),
    ("vsphereVolume", "csi.vsphere.vmware.com"),
];

impl NodeRestriction {
    pub(super) async fn token(
        &self,
        attributes: &Attributes<'_>,
        request: &Tree,
        node: &str,
    ) -> Result<(), Status> {
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let refuse = |why: &str| Err(attributes.forbid(why));
        let reference = get(request, "spec.boundObjectRef");
        let name = text(reference, "name");
        if (text(reference, "apiVersion"), text(reference, "kind")) != ("v1", "Pod") || name.is_empty() {
            return refuse("node requested token not bound to a pod");
        }
        let uid = text(reference, "uid");
        if uid.is_empty() {
            return refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.pod_of(attributes, name).await?;
        if uid != text(&pod, "metadata.uid") {
            return refuse(&format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
            ));
        }
        if text(&pod, "spec.nodeName") != node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        self.audience(attributes, request, &pod).await
    }

    /// A token is for whom one of the pod's volumes wants it, or for whom the node may ask anyway.
    async fn audience(&self, attributes: &Attributes<'_>, request: &Tree, pod: &Tree) -> Result<(), Status> {
        let audiences: Vec<&str> = texts(request, "spec.audiences").collect();
        let audience = match audiences.as_slice() {
            [] => "",
            [only] => only,
            _ => return Err(attributes.forbid("node may only request 0 or 1 audiences")),
        };
        match self.wants(attributes, pod, audience) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(errors) => {
                let errors = match errors.as_slice() {
                    [only] => only.clone(),
                    several => format!("[{}]", several.join(", ")),
                };
                let why = format!("error validating audience {audience:?}: {errors}");
                return Err(attributes.forbid(&why));
            }
        }
        let question = Question {
            verb: "request-serviceaccounts-token-audience",
            group: "",
            resource: audience,
            namespace: attributes.namespace,
            name: attributes.name,
        };
        if self.services.allows(&attributes.user, &question).await {
            return Ok(());
        }
        let user = attributes.user.name;
        Err(attributes
            .forbid(&format!("{user} is not authorized to request tokens for audience {audience:?}")))
    }

    /// Whether one of the pod's volumes wants a token for this audience; errors where none does and some cannot be known.
    fn wants(&self, attributes: &Attributes<'_>, pod: &Tree, audience: &str) -> Result<bool, Vec<String>> {
        let mut errors = Vec::new();
        for volume in list(pod, "spec.volumes") {
            let token = |source: &Tree| {
                has(source, "serviceAccountToken") && text(source, "serviceAccountToken.audience") == audience
            };
            if list(volume, "projected.sources").iter().any(token) {
                return Ok(true);
            }
            match self.driver(attributes, pod, volume).and_then(|driver| match driver {
                Some(driver) => self.driver_wants(&driver, audience),
                None => Ok(false),
            }) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() { Ok(false) } else { Err(errors) }
    }

    /// The CSI driver that mounts a volume of the pod.
    fn driver(
        &self,
        attributes: &Attributes<'_>,
        pod: &Tree,
        volume: &Tree,
    ) -> Result<Option<String>, String> {
        let Some(claim) = volume_claim(pod, volume) else { return Ok(driver_of(volume)) };
        let found = self.services.get("", "persistentvolumeclaims", attributes.namespace, &claim);
        let found = found
            .map_err(|status| status.message)?
            .ok_or_else(|| format!("persistentvolumeclaim {claim:?} not found"))?;
        let name = text(&found, "spec.volumeName");
        let volume = self.services.get("", "persistentvolumes", "", name);
        let volume = volume
            .map_err(|status| status.message)?
            .ok_or_else(|| format!("persistentvolume {name:?} not found"))?;
        Ok(driver_of(get(&volume, "spec")))
    }

    fn driver_wants(&self, driver: &str, audience: &str) -> Result<bool, String> {
        let found = self.services.get("storage.k8s.io", "csidrivers", "", driver);
        let found = found
            .map_err(|status| status.message)?
            .ok_or_else(|| format!("csidriver.storage.k8s.io {driver:?} not found"))?;
        Ok(list(&found, "spec.tokenRequests").iter().any(|wanted| text(wanted, "audience") == audience))
    }
}

fn driver_of(volume: &Tree) -> Option<String> {
    let own = text(volume, "csi.driver");
    if !own.is_empty() {
        return Some(own.to_owned());
    }
    let migrated = MIGRATED.iter().find(|(source, _)| has(volume, source));
    migrated.map(|(_, driver)| (*driver).to_owned())
}
