//! What is on the disk: files that are mapped, locked, written whole or not at all, and the segments in them.

pub(crate) mod access;
pub(crate) mod disk;
pub(crate) mod guard;
pub(crate) mod head;
pub(crate) mod lengths;
pub(crate) mod lock;
pub(crate) mod mmap;
pub(crate) mod publish;
pub(crate) mod segments;
pub(crate) mod spool;
