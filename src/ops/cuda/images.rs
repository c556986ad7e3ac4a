//! The kernels as they are embedded, one image per architecture, and which of them a device runs.

use std::{fmt, str::FromStr};

use crate::error::Error;

/// Restricts the images to those of one architecture, for example `8.0` or `9.0a`.
const ONLY: &str = "VLC_CUDA_ARCH";

/// What an image is compiled for. The better of two is the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arch {
    /// The lowest compute capability that runs it.
    pub(super) version: (u32, u32),
    /// Whether no other capability runs it (`sm_90a`).
    pub(super) specific: bool,
}

impl Arch {
    pub(super) fn runs_on(self, capability: (u32, u32)) -> bool {
        if self.specific { self.version == capability } else { self.version <= capability }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}{}", self.version.0, self.version.1, if self.specific { "a" } else { "" })
    }
}

impl FromStr for Arch {
    type Err = ();

    fn from_str(text: &str) -> Result<Arch, ()> {
        let (numbers, specific) = text.strip_suffix('a').map_or((text, false), |numbers| (numbers, true));
        let (major, minor) = numbers.split_once('.').ok_or(())?;
        Ok(Arch { version: (major.parse().map_err(|_| ())?, minor.parse().map_err(|_| ())?), specific })
    }
}

/// A file of kernels in PTX for one architecture.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) arch: (u32, u32),
    pub(super) specific: bool,
    pub(super) ptx: &'static str,
}

impl Image {
    pub(super) fn target(&self) -> Arch {
        Arch { version: self.arch, specific: self.specific }
    }

    /// The version of PTX that a driver must know.
    pub(super) fn version(&self) -> &'static str {
        let line = self.ptx.lines().find_map(|line| line.trim().strip_prefix(".version"));
        line.map_or("unknown", |rest| rest.split_whitespace().next().unwrap_or("unknown"))
    }
}

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Those of `images` that run on a device, the best first.
pub(super) fn choose(images: &'static [Image], capability: (u32, u32), only: Option<Arch>) -> Vec<&'static Image> {
    let fits = |arch: Arch| arch.runs_on(capability) && only.is_none_or(|only| only == arch);
    let mut chosen: Vec<&Image> = images.iter().filter(|image| fits(image.target())).collect();
    chosen.sort_by_key(|image| std::cmp::Reverse(image.target()));
    chosen
}

/// The architectures of a list, the lowest first, for messages.
pub(super) fn names(images: &[Image]) -> String {
    let mut all: Vec<Arch> = images.iter().map(Image::target).collect();
    all.sort();
    all.iter().map(Arch::to_string).collect::<Vec<_>>().join(", ")
}

/// The architecture that the environment restricts the images to.
pub(super) fn only_from_env() -> Result<Option<Arch>, Error> {
    match std::env::var_os(ONLY) {
        Some(value) if !value.is_empty() => parse_only(&value.to_string_lossy(), PROBE).map(Some),
        _ => Ok(None),
    }
}

fn parse_only(text: &str, images: &[Image]) -> Result<Arch, Error> {
    let known = text.parse().ok().filter(|arch| images.iter().any(|image| image.target() == *arch));
    known.ok_or_else(|| Error::Config(format!("{ONLY}={text}: there are only kernels for {}", names(images))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn image(arch: (u32, u32), specific: bool) -> Image {
        Image { arch, specific, ptx: "// nothing\n.version 7.8\n.target sm_80\n" }
    }

    // Out of order on purpose.
    static LIST: &[Image] = &[
        image((5, 3), false),
        image((9, 0), true),
        image((8, 0), false),
        image((9, 0), false),
        image((8, 9), false),
    ];

    fn chosen(capability: (u32, u32), only: Option<&str>) -> String {
        let only = only.map(|text| parse_only(text, LIST).unwrap());
        let names: Vec<String> = choose(LIST, capability, only).iter().map(|i| i.target().to_string()).collect();
        names.join(" ")
    }

    #[test]
    fn the_best_that_runs_comes_first() {
        assert_eq!(chosen((9, 0), None), "9.0a 9.0 8.9 8.0 5.3");
        assert_eq!(chosen((12, 1), None), "9.0 8.9 8.0 5.3", "9.0a runs on 9.0 alone");
        assert_eq!(chosen((8, 7), None), "8.0 5.3");
        assert_eq!(chosen((6, 1), None), "5.3");
        assert_eq!(chosen((5, 0), None), "");
    }

    #[test]
    fn one_may_be_asked_for() {
        assert_eq!(chosen((9, 0), Some("8.0")), "8.0");
        assert_eq!(chosen((9, 0), Some("9.0a")), "9.0a");
        assert_eq!(chosen((8, 0), Some("9.0")), "");
        for unknown in ["7.0", "8.0a", "9", "sm_90", "9.0 "] {
            let error = parse_only(unknown, LIST).unwrap_err();
            assert!(matches!(&error, Error::Config(text) if text.contains("5.3, 8.0, 8.9, 9.0, 9.0a")), "{error}");
        }
    }

    #[test]
    fn an_image_names_its_version() {
        assert_eq!(LIST[0].version(), "7.8");
        assert_eq!(Image { arch: (8, 0), specific: false, ptx: "" }.version(), "unknown");
    }

    #[test]
    fn every_target_has_a_probe() {
        assert!(!PROBE.is_empty());
        for image in PROBE {
            assert!(image.ptx.contains(&format!(".target sm_{}", image.target().to_string().replace('.', ""))));
            assert_ne!(image.version(), "unknown");
        }
    }
}
