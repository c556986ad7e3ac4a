//! One module a verb: its arguments and `run`.

pub(crate) mod append;
pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod compress;
pub(crate) mod decode;
pub(crate) mod delete;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod eval;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod merge;
pub(crate) mod query;
pub(crate) mod salvage;
pub(crate) mod test;
pub(crate) mod train;
pub(crate) mod transcode;
pub(crate) mod verify;
