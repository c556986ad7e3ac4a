//! Which of a backend's devices is used.

use crate::{error::Error, ops::Backend};

/// Which device of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// The best: of CUDA devices the one with most memory; of wgpu adapters a discrete GPU, else an integrated one, never
    /// one that runs on the processor.
    #[default]
    Best,
    /// That of this number in [`devices`](super::devices), whatever it is; on the cpu 0.
    Number(usize),
    /// The wgpu adapter that runs on the processor (lavapipe, WARP, SwiftShader). Slow; for tests. [`Backend::Auto`] is wgpu
    /// then; the cpu and CUDA have none, which is [`Error::Config`].
    Software,
}

impl From<Option<usize>> for DeviceChoice {
    /// The device of that number, or the best.
    fn from(number: Option<usize>) -> DeviceChoice {
        number.map_or(DeviceChoice::Best, DeviceChoice::Number)
    }
}

impl DeviceChoice {
    /// The number asked for, of a backend without software adapters.
    pub(super) fn number(self, backend: Backend) -> Result<Option<usize>, Error> {
        match self {
            DeviceChoice::Best => Ok(None),
            DeviceChoice::Number(number) => Ok(Some(number)),
            DeviceChoice::Software => {
                Err(Error::Config(format!("{backend} has no software adapter: only wgpu has them")))
            }
        }
    }
}
