//! One module a verb: its arguments and `run`.

pub(crate) mod completions;
pub(crate) mod compress;
pub(crate) mod decode;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod eval;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod query;
pub(crate) mod test;
pub(crate) mod verify;
