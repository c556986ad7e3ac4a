//! Changes to a file.

use std::path::Path;

pub(crate) fn sweep(_path: &Path) {}
