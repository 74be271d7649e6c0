//! Taints of devices, tolerations, and rules that give taints.

use client::{Metadata, View};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::slice::{Device, Slice};
use crate::cluster::Symbol;

/// Kept as it came, too: it is copied into the allocation.
#[derive(Clone, Debug)]
pub struct DeviceToleration {
    key: String,
    is_exists: bool,
    value: String,
    effect: String,
    pub whole: Value,
}

impl<'de> Deserialize<'de> for DeviceToleration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::deserialize(deserializer)?;
        let text = |field: &str| whole[field].as_str().unwrap_or_default().to_owned();
        let is_exists = text("operator") == "Exists";
        Ok(DeviceToleration {
            key: text("key"),
            is_exists,
            value: text("value"),
            effect: text("effect"),
            whole,
        })
    }
}

impl DeviceToleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && (self.is_exists || self.value == taint.value)
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: String,
}

impl Taint {
    pub fn keeps_out(&self) -> bool {
        matches!(self.effect.as_str(), "NoSchedule" | "NoExecute")
    }
}

/// A taint that an administrator gives to devices.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawRule")]
pub struct TaintRule {
    pub name: Symbol,
    selector: Option<RuleSelector>,
    pub taint: Taint,
}

impl View for TaintRule {
    type Of = k8s_openapi::api::resource::v1::DeviceTaintRule;
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RuleSelector {
    driver: Option<String>,
    pool: Option<String>,
    device: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawRule {
    metadata: Metadata,
    spec: RawRuleSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RawRuleSpec {
    device_selector: Option<RuleSelector>,
    taint: Taint,
}

impl From<RawRule> for TaintRule {
    fn from(RawRule { metadata, spec }: RawRule) -> TaintRule {
        TaintRule { name: Symbol::new(&metadata.name), selector: spec.device_selector, taint: spec.taint }
    }
}

impl TaintRule {
    /// Without a selector it selects nothing; each part that is absent selects all.
    pub(super) fn selects(&self, slice: &Slice, device: &Device) -> bool {
        let is = |wanted: &Option<String>, own: &Symbol| {
            wanted.as_ref().is_none_or(|wanted| *wanted == own.as_str())
        };
        self.selector.as_ref().is_some_and(|selector| {
            is(&selector.driver, &slice.driver)
                && is(&selector.pool, &slice.pool)
                && is(&selector.device, &device.name)
        })
    }
}
