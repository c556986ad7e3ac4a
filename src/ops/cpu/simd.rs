//! Which vector instructions the kernels are compiled for and run with: the widest this machine has, or those that the
//! environment variable `VLC_SIMD` names. Dense products choose for themselves (faer), as do the tables of queries, whose
//! values do not depend on it.

use std::{fmt, str::FromStr};

use pulp::{Simd, WithSimd};

use crate::error::Error;

/// An instruction set that this machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Whatever the compiler's target has.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL.
    Avx512,
    /// AArch64.
    Neon,
}

impl Level {
    /// All of them, widest first.
    pub(in crate::ops) const ALL: [Level; 4] = [Level::Avx512, Level::Avx2, Level::Neon, Level::Portable];

    fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Neon => "neon",
        }
    }

    /// Whether this machine can run it.
    pub(in crate::ops) fn available(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Level::Neon => pulp::aarch64::Neon::try_new().is_some(),
            _ => false,
        }
    }

    /// The level that `VLC_SIMD` names, or the widest.
    pub(crate) fn from_env() -> Result<Level, Error> {
        let widest = || Level::ALL.into_iter().find(|l| l.available()).unwrap_or(Level::Portable);
        match std::env::var("VLC_SIMD") {
            Ok(name) if !name.is_empty() => name.parse(),
            _ => Ok(widest()),
        }
    }

    /// Runs `op` compiled for this level.
    pub(in crate::ops) fn run<Op: WithSimd>(self, op: Op) -> Op::Output {
        #[cfg(target_arch = "x86_64")]
        {
            if self == Level::Avx512
                && let Some(simd) = pulp::x86::V4::try_new()
            {
                return Simd::vectorize(simd, op);
            }
            if self == Level::Avx2
                && let Some(simd) = pulp::x86::V3::try_new()
            {
                return Simd::vectorize(simd, op);
            }
        }
        #[cfg(target_arch = "aarch64")]
        if self == Level::Neon
            && let Some(simd) = pulp::aarch64::Neon::try_new()
        {
            return Simd::vectorize(simd, op);
        }
        Simd::vectorize(pulp::Scalar::new(), op)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(name: &str) -> Result<Level, Error> {
        match Level::ALL.into_iter().find(|l| l.name() == name) {
            Some(level) if level.available() => Ok(level),
            Some(_) => Err(Error::Config(format!("VLC_SIMD={name}: this machine does not have these instructions"))),
            None => Err(Error::Config(format!("VLC_SIMD={name} is unknown; use portable, avx2, avx512 or neon"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_unknown_ones_refused() {
        assert_eq!("portable".parse::<Level>().unwrap(), Level::Portable);
        assert!("sse9".parse::<Level>().unwrap_err().to_string().contains("portable, avx2, avx512 or neon"));
        assert!(Level::ALL.iter().any(|l| !l.available()), "no machine has both AVX-512 and NEON");
    }
}
