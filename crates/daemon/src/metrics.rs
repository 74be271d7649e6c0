//! Metrics in Prometheus' text form under upstream's exact names.
//!
//! A registry of our own: `prometheus-client` appends `_total` to every counter and `_info` to infos,
//! and upstream's names are the interface. A metric is a `LazyLock` beside the code that counts:
//!
//! ```
//! use std::sync::LazyLock;
//! use daemon::metrics::{self, CounterVec};
//! static BINDS: LazyLock<CounterVec> =
//!     LazyLock::new(|| metrics::registry().counter_vec("binds_total", "Bindings made.", &["result"]));
//! BINDS.with(&["ok"]).inc();
//! ```

pub(crate) mod process;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

pub use value::{Counter, Gauge, Histogram, Timer};

/// The media type of [`Registry::text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Prometheus' default buckets, in seconds.
pub const DEFAULT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The process' registry. It holds the `process_*` metrics and `kubernetes_build_info` from the start.
pub fn registry() -> &'static Registry {
    static GLOBAL: LazyLock<Registry> = LazyLock::new(|| {
        let registry = Registry::default();
        process::register(&registry);
        registry
    });
    &GLOBAL
}

/// The registry behind `/metrics/slis`: results of health checks, and when the process started.
pub fn slis() -> &'static Registry {
    static GLOBAL: LazyLock<Registry> = LazyLock::new(|| {
        let registry = Registry::default();
        process::register_start(&registry);
        registry
    });
    &GLOBAL
}

/// Metrics by name.
#[derive(Default)]
pub struct Registry {
    families: RwLock<BTreeMap<String, Family>>,
}

struct Family {
    help: String,
    labels: Vec<&'static str>,
    kind: Kind,
}

enum Kind {
    Counter(Children<Counter>),
    Gauge(Children<Gauge>),
    Histogram(Children<Histogram>),
    /// Read when scraped; `true` for a counter.
    Read(bool, Read),
}

/// Label values and the number, for metrics that are read when scraped.
pub type Samples = Vec<(Vec<String>, f64)>;
type Read = Box<dyn Fn() -> Samples + Send + Sync>;
type Children<T> = Arc<Vector<T>>;

/// One metric per combination of label values.
pub struct Vector<T> {
    make: Box<dyn Fn() -> T + Send + Sync>,
    children: RwLock<HashMap<String, Arc<T>>>,
}

pub type CounterVec = Arc<Vector<Counter>>;
pub type GaugeVec = Arc<Vector<Gauge>>;
pub type HistogramVec = Arc<Vector<Histogram>>;

/// Separates label values in a child's key; occurs in none of our label values.
const SEPARATOR: char = '\u{1f}';

impl<T> Vector<T> {
    fn new(make: impl Fn() -> T + Send + Sync + 'static) -> Arc<Vector<T>> {
        Arc::new(Vector { make: Box::new(make), children: RwLock::default() })
    }

    /// The metric of these label values, in the order of the labels. Keep the answer where the values are fixed.
    pub fn with(&self, values: &[&str]) -> Arc<T> {
        let mut key = String::with_capacity(64);
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                key.push(SEPARATOR);
            }
            key.push_str(value);
        }
        if let Some(child) = self.children.read().get(&key) {
            return child.clone();
        }
        self.children.write().entry(key).or_insert_with(|| Arc::new((self.make)())).clone()
    }

    /// Forgets a child, e.g. of an object that is gone.
    pub fn remove(&self, values: &[&str]) {
        self.children.write().remove(&values.join(&SEPARATOR.to_string()));
    }

    fn single(&self) -> Arc<T> {
        self.with(&[])
    }
}

impl Registry {
    pub fn counter(&self, name: &str, help: &str) -> Arc<Counter> {
        self.counter_vec(name, help, &[]).single()
    }

    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&'static str]) -> CounterVec {
        let vector = Vector::new(Counter::default);
        match self.add(name, help, labels, Kind::Counter(vector.clone())) {
            Some(Kind::Counter(old)) => old,
            _ => vector,
        }
    }

    pub fn gauge(&self, name: &str, help: &str) -> Arc<Gauge> {
        self.gauge_vec(name, help, &[]).single()
    }

    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&'static str]) -> GaugeVec {
        let vector = Vector::new(Gauge::default);
        match self.add(name, help, labels, Kind::Gauge(vector.clone())) {
            Some(Kind::Gauge(old)) => old,
            _ => vector,
        }
    }

    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Arc<Histogram> {
        self.histogram_vec(name, help, &[], buckets).single()
    }

    pub fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&'static str],
        buckets: &[f64],
    ) -> HistogramVec {
        let buckets: Arc<[f64]> = buckets.into();
        let vector = Vector::new(move || Histogram::new(buckets.clone()));
        match self.add(name, help, labels, Kind::Histogram(vector.clone())) {
            Some(Kind::Histogram(old)) => old,
            _ => vector,
        }
    }

    /// A gauge read when scraped.
    pub fn gauge_fn(
        &self,
        name: &str,
        help: &str,
        labels: &[&'static str],
        read: impl Fn() -> Samples + Send + Sync + 'static,
    ) {
        self.add(name, help, labels, Kind::Read(false, Box::new(read)));
    }

    /// A counter read when scraped.
    pub fn counter_fn(
        &self,
        name: &str,
        help: &str,
        labels: &[&'static str],
        read: impl Fn() -> Samples + Send + Sync + 'static,
    ) {
        self.add(name, help, labels, Kind::Read(true, Box::new(read)));
    }

    /// Everything, as a scrape answers it.
    pub fn text(&self) -> String {
        let families = self.families.read();
        let mut out = String::with_capacity(64 * 1024);
        for (name, family) in families.iter() {
            text::family(&mut out, name, family);
        }
        out
    }

    /// Registers; a name already there keeps its metric, which is returned.
    fn add(&self, name: &str, help: &str, labels: &[&'static str], kind: Kind) -> Option<Kind> {
        let mut families = self.families.write();
        if let Some(old) = families.get(name) {
            return Some(match &old.kind {
                Kind::Counter(old) => Kind::Counter(old.clone()),
                Kind::Gauge(old) => Kind::Gauge(old.clone()),
                Kind::Histogram(old) => Kind::Histogram(old.clone()),
                Kind::Read(..) => return None,
            });
        }
        families.insert(name.into(), Family { help: help.into(), labels: labels.to_vec(), kind });
        None
    }
}
