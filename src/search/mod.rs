//! What a search needs beside the codes: tables of a query, cells to look at, and the truth to compare with.

pub(crate) mod exact;
pub(crate) mod probe;
pub(crate) mod recall;
pub(crate) mod rescore;
pub(crate) mod similarity;
pub(crate) mod tables;
