//! Volumes and claims.

use serde::Deserialize;

use client::{Key, Text};

use super::{CompiledSelector, Meta, compact, null_default, pod::Quantities};

/// Older than the field for the class, and still stronger.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PersistentVolumeClaim {
    pub metadata: Meta,
    pub spec: ClaimSpec,
    pub status: ClaimStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimSpec {
    #[serde(deserialize_with = "compact")]
    pub access_modes: Vec<String>,
    /// Without one it selects nothing: see [`CompiledSelector::source`].
    pub selector: CompiledSelector,
    pub volume_mode: Option<Text>,
    pub storage_class_name: Option<String>,
    pub volume_name: String,
    pub volume_attributes_class_name: Option<String>,
    pub resources: ClaimResources,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimResources {
    #[serde(deserialize_with = "null_default")]
    pub requests: Quantities,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimStatus {
    pub phase: String,
    #[serde(deserialize_with = "compact")]
    pub access_modes: Vec<String>,
    #[serde(deserialize_with = "null_default")]
    pub capacity: Quantities,
    pub current_volume_attributes_class_name: Option<String>,
    pub modify_volume_status: Option<ModifyVolumeStatus>,
    #[serde(deserialize_with = "null_default")]
    pub allocated_resources: Quantities,
}

/// A change of a claim's attributes class that is under way.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModifyVolumeStatus {
    pub target_volume_attributes_class_name: String,
}

impl PersistentVolumeClaim {
    /// The name of its class, which may be empty; none where it asks for the default.
    pub fn class(&self) -> Option<&str> {
        self.metadata.annotation(BETA_CLASS).or(self.spec.storage_class_name.as_deref())
    }

    pub fn mode(&self) -> &str {
        self.spec.volume_mode.as_deref().unwrap_or("Filesystem")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PersistentVolume {
    pub metadata: Meta,
    pub spec: VolumeSpec,
    pub status: VolumeStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VolumeSpec {
    #[serde(deserialize_with = "null_default")]
    pub capacity: Quantities,
    #[serde(deserialize_with = "compact")]
    pub access_modes: Vec<String>,
    pub claim_ref: Option<ClaimReference>,
    pub persistent_volume_reclaim_policy: Text,
    pub storage_class_name: Text,
    pub volume_mode: Option<Text>,
    pub volume_attributes_class_name: Option<String>,
    pub csi: Option<CsiSource>,
    pub host_path: Option<HostPath>,
    pub nfs: Option<Source>,
    pub fc: Option<Source>,
    pub iscsi: Option<Source>,
    pub flex_volume: Option<Source>,
    pub aws_elastic_block_store: Option<Source>,
    pub azure_disk: Option<Source>,
    pub azure_file: Option<Source>,
    pub cinder: Option<Source>,
    pub gce_persistent_disk: Option<Source>,
    pub portworx_volume: Option<Source>,
    pub vsphere_volume: Option<Source>,
}

impl VolumeSpec {
    /// The plugin of the volume, where a CSI driver does its work.
    pub fn migrated_plugin(&self) -> Option<&'static str> {
        let plugins = [
            (&self.aws_elastic_block_store, "kubernetes.io/aws-ebs"),
            (&self.azure_disk, "kubernetes.io/azure-disk"),
            (&self.azure_file, "kubernetes.io/azure-file"),
            (&self.cinder, "kubernetes.io/cinder"),
            (&self.gce_persistent_disk, "kubernetes.io/gce-pd"),
            (&self.portworx_volume, "kubernetes.io/portworx-volume"),
            (&self.vsphere_volume, "kubernetes.io/vsphere-volume"),
        ];
        plugins.into_iter().find(|(source, _)| source.is_some()).map(|(_, plugin)| plugin)
    }
}

/// The claim that a volume is reserved for. Without a uid any claim of that name is meant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClaimReference {
    pub namespace: Text,
    pub name: Text,
    pub uid: Text,
}

impl ClaimReference {
    pub fn key(&self) -> Key {
        Key { namespace: self.namespace.clone().into(), name: self.name.clone().into() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiSource {
    pub driver: Text,
    pub volume_handle: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct HostPath {
    pub path: String,
}

/// A source of a volume of which no field is read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Source {}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct VolumeStatus {
    pub phase: Text,
}

impl PersistentVolume {
    pub fn class(&self) -> &str {
        self.metadata.annotation(BETA_CLASS).unwrap_or(&self.spec.storage_class_name)
    }

    pub fn mode(&self) -> &str {
        self.spec.volume_mode.as_deref().unwrap_or("Filesystem")
    }

    /// Whether any claim may have it.
    pub fn is_available(&self) -> bool {
        self.status.phase == "Available" && self.spec.claim_ref.is_none()
    }

    /// Whether several nodes may have it at once; nothing is known of one without modes.
    pub fn may_be_attached_to_several(&self) -> bool {
        let modes = &self.spec.access_modes;
        modes.is_empty() || modes.iter().any(|mode| matches!(mode.as_str(), "ReadWriteMany" | "ReadOnlyMany"))
    }

    /// Whether its claim is gone.
    pub fn is_released(&self) -> bool {
        matches!(self.status.phase.as_str(), "Released" | "Failed")
    }

    /// Whether it is reserved for the claim.
    pub fn is_for(&self, claim: &PersistentVolumeClaim) -> bool {
        let meta = &claim.metadata;
        self.spec.claim_ref.as_ref().is_some_and(|own| {
            own.namespace == meta.namespace
                && *own.name == *meta.name
                && (own.uid.is_empty() || own.uid == meta.uid)
        })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageClass {
    pub metadata: Meta,
    pub provisioner: String,
    pub volume_binding_mode: Option<String>,
}

impl StorageClass {
    pub fn is_default(&self) -> bool {
        DEFAULT_CLASS.iter().any(|name| self.metadata.annotation(name) == Some("true"))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct CsiDriver {
    pub metadata: Meta,
    pub spec: CsiDriverSpec,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CsiDriverSpec {
    pub attach_required: Option<bool>,
    pub se_linux_mount: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct VolumeAttachment {
    pub metadata: Meta,
    pub spec: AttachmentSpec,
    pub status: AttachmentStatus,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSpec {
    pub attacher: Text,
    pub node_name: Text,
    pub source: AttachmentSource,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentSource {
    pub persistent_volume_name: Option<Text>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentStatus {
    pub attached: bool,
    pub attach_error: Option<AttachmentError>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct AttachmentError {
    pub message: String,
}
