//! Paths on disk. The layout is upstream's: tools, log collectors and a kubelet that takes over
//! from another find their files by it.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub struct Paths {
    /// `--root-dir`, by default `/var/lib/kubelet`.
    pub root: PathBuf,
    /// By default `/var/log/pods`.
    pub pod_logs_root: PathBuf,
    /// By default `/var/log/containers`: a link per container, for log collectors.
    pub container_links: PathBuf,
}

impl Paths {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            pod_logs_root: "/var/log/pods".into(),
            container_links: "/var/log/containers".into(),
        }
    }

    /// Everything below one folder, for tests.
    pub fn below(folder: &Path) -> Self {
        Self {
            root: folder.join("kubelet"),
            pod_logs_root: folder.join("pods"),
            container_links: folder.join("containers"),
        }
    }

    pub fn pods_dir(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub fn pod_dir(&self, uid: &str) -> PathBuf {
        self.pods_dir().join(uid)
    }

    pub fn volumes_dir(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("volumes")
    }

    /// `plugin` in its escaped form, e.g. `kubernetes.io~configmap`.
    pub fn volume_dir(&self, uid: &str, plugin: &str, name: &str) -> PathBuf {
        self.volumes_dir(uid).join(plugin).join(name)
    }

    pub fn plugins_dir(&self, uid: &str, plugin: &str) -> PathBuf {
        self.pod_dir(uid).join("plugins").join(plugin)
    }

    pub fn subpaths_dir(&self, uid: &str, volume: &str, container: &str, index: usize) -> PathBuf {
        self.subpaths_root(uid).join(volume).join(container).join(index.to_string())
    }

    pub fn subpaths_root(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("volume-subpaths")
    }

    pub fn etc_hosts(&self, uid: &str) -> PathBuf {
        self.pod_dir(uid).join("etc-hosts")
    }

    /// Holds a container's termination messages, one file per instance.
    pub fn container_dir(&self, uid: &str, container: &str) -> PathBuf {
        self.pod_dir(uid).join("containers").join(container)
    }

    pub fn pod_logs(&self, namespace: &str, name: &str, uid: &str) -> PathBuf {
        self.pod_logs_root.join(format!("{namespace}_{name}_{uid}"))
    }

    pub fn container_log(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        container: &str,
        restart: u32,
    ) -> PathBuf {
        self.pod_logs(namespace, name, uid).join(container).join(format!("{restart}.log"))
    }

    /// The link in `/var/log/containers`; its name is cut to what file systems take.
    pub fn container_link(&self, namespace: &str, name: &str, container: &str, id: &str) -> PathBuf {
        let mut file = format!("{name}_{namespace}_{container}-{id}");
        file.truncate(251);
        self.container_links.join(file + ".log")
    }
}
