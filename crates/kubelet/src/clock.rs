//! The time of day as pods have it. The runtime stamps what it reports by the machine's clock, and times are compared with
//! its stamps: so a test that runs on time of its own passes one clock to both.

use jiff::Timestamp;
use std::sync::Arc;

#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// `read` gives nanoseconds since the epoch.
    pub fn new(read: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// Nanoseconds since the epoch.
    pub fn nanoseconds(&self) -> i64 {
        (self.0)()
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.nanoseconds())).unwrap_or(Timestamp::MAX)
    }
}

impl Default for Clock {
    /// The machine's.
    fn default() -> Self {
        Self::new(|| i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
    }
}
