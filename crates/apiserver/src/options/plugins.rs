//! Which admission plugins run, and how they are configured: `--enable-admission-plugins`, `--disable-admission-plugins`, the older
//! `--admission-control`, and the file of `--admission-control-config-file`.

mod configuration;

use std::collections::HashMap;
use std::path::Path;

use admission::Settings;
use serde::Deserialize;

use super::guards::read;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct Plugins {
    #[arg(long, value_delimiter = ',')]
    pub enable_admission_plugins: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    pub disable_admission_plugins: Vec<String>,
    /// The plugins that run, and no others.
    #[arg(long, value_delimiter = ',')]
    pub admission_control: Vec<String>,
    /// A file of kind AdmissionConfiguration.
    #[arg(long, default_value = "")]
    pub admission_control_config_file: String,
}

impl Plugins {
    /// Whether a plugin is to run.
    pub fn admits(&self, plugin: &str) -> bool {
        let listed = |list: &[String]| list.iter().any(|own| own == plugin);
        if !self.admission_control.is_empty() {
            return listed(&self.admission_control);
        }
        !listed(&self.disable_admission_plugins)
            && (listed(&self.enable_admission_plugins) || admission::on_by_default(plugin))
    }

    /// Plugins that run by default and are absent.
    pub fn absent(&self) -> Vec<&'static str> {
        let absent = admission::ALL.iter().filter(|entry| entry.is_absent() && self.admits(entry.name));
        absent.map(|entry| entry.name).collect()
    }

    /// Errors in the flags that name plugins.
    pub fn mistakes(&self) -> Vec<String> {
        let (enabled, disabled) = (&self.enable_admission_plugins, &self.disable_admission_plugins);
        let mut mistakes = Vec::new();
        let has_others = !enabled.is_empty() || !disabled.is_empty();
        if has_others && !self.admission_control.is_empty() {
            mistakes.push(
                "admission-control and enable-admission-plugins/disable-admission-plugins flags are mutually exclusive"
                    .to_owned(),
            );
        }
        let is_known = |name: &str| admission::ALL.iter().any(|entry| entry.name == name);
        for (flag, names) in [
            ("admission-control", &self.admission_control),
            ("enable-admission-plugins", enabled),
            ("disable-admission-plugins", disabled),
        ] {
            for name in names.iter().filter(|name| !is_known(name)) {
                mistakes.push(format!("{flag} plugin {name:?} is unknown"));
            }
        }
        let mut both: Vec<&str> =
            enabled.iter().filter(|name| disabled.contains(name)).map(String::as_str).collect();
        both.sort_unstable();
        both.dedup();
        if !both.is_empty() {
            let both = both.join(" ");
            mistakes.push(format!(
                "[{both}] in enable-admission-plugins and disable-admission-plugins overlapped"
            ));
        }
        // what is asked for and absent is not passed over
        let asked = enabled.iter().chain(&self.admission_control);
        let absent = |name: &&String| admission::ALL.iter().any(|own| own.name == **name && own.is_absent());
        mistakes
            .extend(asked.filter(absent).map(|name| format!("admission plugin {name} is not supported yet")));
        mistakes
    }

    /// What the file says to the plugins that run.
    pub fn settings(&self) -> Result<Settings, String> {
        let failed = |error: String| format!("failed to apply admission: {error}");
        let file = File::read(&self.admission_control_config_file)
            .map_err(|error| failed(format!("failed to read plugin config: {error}")))?;
        let mut settings = Settings::default();
        for entry in admission::ALL.iter().filter(|entry| self.admits(entry.name)) {
            let text = file.text_of(entry.name).map_err(failed)?;
            configuration::configure(entry.name, text.as_deref(), &mut settings)
                .map_err(|error| failed(error.of_plugin(entry.name)))?;
        }
        Ok(settings)
    }
}

/// Configurations by plugin.
#[derive(Default)]
struct File(HashMap<String, Source>);

enum Source {
    Text(String),
    Path(String),
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AdmissionConfiguration {
    plugins: Vec<PluginConfiguration>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PluginConfiguration {
    name: String,
    path: String,
    configuration: Option<serde_json::Value>,
}

/// Plugins whose own configuration may be the whole file, as it was before there was a kind for it, and the key by which such a file is
/// known.
const LEGACY: [(&str, &str); 2] =
    [("ImagePolicyWebhook", "imagePolicy"), ("PodNodeSelector", "podNodeSelectorPluginConfig")];

impl File {
    fn read(path: &str) -> Result<File, String> {
        if path.is_empty() {
            return Ok(File::default());
        }
        let text = read(path).map_err(|error| {
            format!("unable to read admission control configuration from {path:?} [{error}]")
        })?;
        let directory = Path::new(path).parent().unwrap_or(Path::new(""));
        File::parse(&text, directory)
    }

    fn parse(text: &str, directory: &Path) -> Result<File, String> {
        let kind = "AdmissionConfiguration";
        let read = |group: &str, versions: &[&str]| {
            daemon::config::strict::<AdmissionConfiguration>(text, group, versions, kind)
        };
        let decoded = read("apiserver.config.k8s.io", &["v1"])
            .or_else(|error| read("apiserver.k8s.io", &["v1alpha1"]).map_err(|_| error));
        let configuration = match decoded {
            Ok(configuration) => configuration,
            Err(error) => {
                let tree = daemon::config::yaml(text).unwrap_or_default();
                let is_legacy =
                    tree.get("kind").is_none() && LEGACY.iter().any(|(_, key)| tree.get(key).is_some());
                if !is_legacy {
                    return Err(error);
                }
                let whole = |(name, _): (&str, &str)| (name.to_owned(), Source::Text(text.to_owned()));
                return Ok(File(LEGACY.into_iter().map(whole).collect()));
            }
        };
        let mut sources = HashMap::new();
        for plugin in configuration.plugins {
            let source = match plugin.configuration {
                Some(configuration) => Source::Text(configuration.to_string()),
                None if plugin.path.is_empty() => continue,
                None => Source::Path(directory.join(&plugin.path).to_string_lossy().into_owned()),
            };
            // the first entry of a plugin counts
            sources.entry(plugin.name).or_insert(source);
        }
        Ok(File(sources))
    }

    fn text_of(&self, plugin: &str) -> Result<Option<String>, String> {
        match self.0.get(plugin) {
            None => Ok(None),
            Some(Source::Text(text)) => Ok(Some(text.clone())),
            Some(Source::Path(path)) => read(path)
                .map(Some)
                .map_err(|error| format!("couldn't open admission plugin configuration {path}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests;
