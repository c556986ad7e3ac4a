//! The learned decoder: a small network behind the codes that brings a decoded row nearer to what was encoded.
//!
//! With y the anchor and codeword of a row in the active directions of the chart, the row is decoded from `y' = u net(y / u)`
//! ([`Mlp`]) in the place of y; u is about the deviation of what the codes leave, so that the network deals with numbers of about 1. The network is trained on the rows of the store (`train.rs`), whose codes are then chosen for what the
//! network makes of them (`synthesis.rs`). Its weights are a few bits each, rounded while they are trained.
//!
//! A scan cannot look through the network: it gives a shortlist, of which each row is decoded and scored again (`rescore.rs`), on
//! the CPU whatever the backend. As that has the rows' lengths, none are kept.

pub(crate) mod choice;
pub(crate) mod codewords;
pub(crate) mod quick;
pub(crate) mod reaches;
pub(crate) mod rescore;
pub(crate) mod synthesis;
pub(crate) mod train;

pub(crate) use choice::{choose, expected_share};
pub(crate) use train::{ROWS, Wanted, train};
