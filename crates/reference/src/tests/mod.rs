//! The oracle's own tests. `writer` builds `.vlc` bytes by hand.

mod arithmetic;
mod hostile;
mod read;
mod store;
mod writer;

mod mlp;
