//! How long a request may take.

use std::time::Duration;

use access::request_info::parameter;
use api::Status;

use super::Front;

impl Front {
    /// How long a request may take, by the server and by what its query asks for.
    pub(super) fn allotted(&self, query: &str) -> Result<Duration, Status> {
        let asked = parameter(query, "timeout");
        let asked = asked.filter(|text| !text.is_empty());
        let negative = asked.as_ref().is_some_and(|text| {
            text.strip_prefix('-').is_some_and(|rest| rest.parse::<daemon::flags::Duration>().is_ok())
        });
        match asked.map(|text| text.parse::<daemon::flags::Duration>()) {
            Some(Ok(asked)) if !asked.is_zero() => Ok(asked.0.min(self.timeout)),
            // a negative timeout counts as none
            Some(Err(_)) if negative => Ok(self.timeout),
            Some(Err(error)) => {
                Err(Status::bad_request(format!("invalid timeout specified in the request URL - {error}")))
            }
            _ => Ok(self.timeout),
        }
    }
}
