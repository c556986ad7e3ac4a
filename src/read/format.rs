//! Which format a file has, by its name, and which it seems to have, by its first bytes.

use std::path::Path;

use crate::error::InputError;

/// The formats that can be read, told apart by the extension of the file in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FileFormat {
    /// `.npy`: a NumPy array, rows x dim.
    Npy,
    /// `.fvecs`: float32 rows, each after its width.
    Fvecs,
    /// `.bvecs`: uint8 rows, each after its width.
    Bvecs,
    /// `.fbin`: float32 rows after the number of rows and the width.
    Fbin,
    /// `.u8bin`: uint8 rows after the number of rows and the width.
    U8bin,
    /// `.i8bin`: int8 rows after the number of rows and the width.
    I8bin,
}

impl FileFormat {
    const ALL: [FileFormat; 6] = [
        FileFormat::Npy,
        FileFormat::Fvecs,
        FileFormat::Bvecs,
        FileFormat::Fbin,
        FileFormat::U8bin,
        FileFormat::I8bin,
    ];

    /// The extension, without its dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            FileFormat::Npy => "npy",
            FileFormat::Fvecs => "fvecs",
            FileFormat::Bvecs => "bvecs",
            FileFormat::Fbin => "fbin",
            FileFormat::U8bin => "u8bin",
            FileFormat::I8bin => "i8bin",
        }
    }

    /// The format that the extension of `path` names.
    pub(super) fn of(path: &Path) -> Result<Self, InputError> {
        let extension = path.extension().unwrap_or_default();
        FileFormat::ALL.into_iter().find(|format| extension.eq_ignore_ascii_case(format.extension())).ok_or_else(
            || {
                let known = FileFormat::ALL.map(|format| format!(".{format}")).join(", ");
                let what = if extension.is_empty() {
                    "the file name has no extension".to_owned()
                } else {
                    format!("the extension .{} is not known", extension.display())
                };
                InputError::new(Some(path), format!("{what}; give a file in one of the formats {known}"))
            },
        )
    }
}

/// The extension, without its dot.
impl std::fmt::Display for FileFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.extension())
    }
}

/// What a file seems to be by its first bytes when it is not of its `format`, and how to get at the vectors.
pub(super) fn looks_like(bytes: &[u8], format: FileFormat) -> Option<&'static str> {
    let start = &bytes[..bytes.len().min(64)];
    match start {
        _ if start.starts_with(b"\x93NUMPY") => {
            (format != FileFormat::Npy).then_some("a .npy file: rename it to .npy")
        }
        [0x89, b'H', b'D', b'F', ..] => Some("an HDF5 file: read it with h5py and save the array with np.save"),
        [b'P', b'K', 3, 4, ..] => Some("a zip archive (.npz or PyTorch): load it and save the array with np.save"),
        [0x1f, 0x8b, 8, ..] => Some("a gzip file: decompress it first"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("a zstd file: decompress it first"),
        [b'P', b'A', b'R', b'1', ..] => Some("a Parquet file: read it with pandas and save the array with np.save"),
        // The third byte tells it from an .fvecs file of 1,152 columns.
        [0x80, 2..=5, third, ..] if *third != 0 => Some("a Python pickle: load it and save the array with np.save"),
        _ if start.starts_with(b"version https://git-lfs") => Some("a Git LFS pointer: run git lfs pull"),
        _ if start.len() > 8 && start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            Some("a text file: read it with np.loadtxt and save the array with np.save")
        }
        _ => None,
    }
}
