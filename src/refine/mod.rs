//! A refine layer: codes of what the base codes leave of a row, by which the best rows of a scan are scored again.
//!
//! A row is then decoded as `u_hat + e_hat`, the base's row and the decoded residual. The residual is coded as the base codes
//! rows: along its principal directions in the metric of the queries, rates by water-filling, chain codes, everything
//! rounded to what is stored. It has no mean, as the anchors and tables of the base are means already, and so no anchors.
//!
//! Search reads the symbols of a few hundred rows here and there, so a row's stand together ([`packed_len`] bytes), not in planes as
//! those that are scanned.

pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod rescore;
pub(crate) mod train;

pub(crate) use train::train;
