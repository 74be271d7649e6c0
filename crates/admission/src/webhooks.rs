//! Webhooks: whom to ask about a request, what they are sent, and what becomes of their answers. Who is down costs the requests
//! that would have asked them, and no others.

mod call;
mod hook;
mod matching;
mod mutating;
mod review;
mod validating;

pub use call::{CallError, Called};
pub use hook::{ClientConfig, Hook, ServiceReference};
pub use mutating::MutatingAdmissionWebhook;
pub(crate) use mutating::Rounds;
pub use validating::ValidatingAdmissionWebhook;
