//! Expressions compared with what upstream's API server makes of them: errors of compilation, types, estimated and actual
//! costs, values and errors of evaluation. The tables were recorded from upstream's own libraries, in the environment that
//! [`support::environment`] makes.

mod hostile;
mod policies;
mod recorded;
mod schemas;
mod support;
