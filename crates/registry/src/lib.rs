//! A strategy per resource: defaults, validation, columns, selectable fields, subresources; and the admission
//! plugins. Pure but for admission plugins that read caches. No HTTP.

pub mod strategy;
