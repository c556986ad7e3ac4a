//! Files of ids: an `.npy` file of whole numbers, or text with an id a line.

use std::path::Path;

use super::{
    npy::{self, Element},
    sink::Sink,
};
use crate::{
    error::{Error, InputError},
    ids::Ids,
};

/// What some editors put at the start of a text: no part of it.
const MARK: &str = "\u{FEFF}";

/// Reads ids, one for each row.
///
/// A name that ends in `.npy` is an array, n or n x 1, of whole numbers of 8 to 64 bits, signed or not, or of strings (`<U`, and `S` in
/// UTF-8), which are text whatever is in them. Anything else is UTF-8 text with an id a line, ended by LF or CRLF; numbers where every
/// line is one below 2^64 as it would be printed (so not `007`), else text. Memory for the file and a small multiple of it.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Input`] naming the row or line when it is no such file.
pub fn read_ids(path: impl AsRef<Path>) -> Result<Ids, Error> {
    read(path.as_ref(), false)
}

/// As [`read_ids`], with numbers taken as text too.
///
/// # Errors
/// As [`read_ids`].
pub fn read_text_ids(path: impl AsRef<Path>) -> Result<Ids, Error> {
    read(path.as_ref(), true)
}

/// Writes ids for [`read_ids`], whole or not at all: int64 where the name ends in `.npy`, else a line each.
///
/// # Errors
/// As [`Sink::create`] and [`Sink::ids`].
pub fn write_ids(path: impl AsRef<Path>, ids: &Ids) -> Result<(), Error> {
    let mut sink = Sink::create(path)?;
    sink.ids(ids)?;
    sink.finish()
}

impl Sink {
    /// Writes ids for [`read_ids`]: int64 where the name of the sink ends in `.npy`, else a line each.
    ///
    /// # Errors
    /// [`Error::Config`] for ids that such a file cannot hold: text in `.npy`, numbers of 2^63 and more there, text that is empty or has
    /// line breaks in lines. [`Error::Io`] when it cannot be written.
    pub fn ids(&mut self, ids: &Ids) -> Result<(), Error> {
        match ids {
            Ids::Numbers(ids) if is_npy(self.name()) => self.npy_column(ids),
            Ids::Text(_) if is_npy(self.name()) => {
                let name = self.name().display();
                Err(Error::Config(format!("{name}: ids that are text do not go into .npy; name a .txt file")))
            }
            Ids::Numbers(ids) => self.lines(ids.iter().map(u64::to_string)),
            Ids::Text(ids) => match ids.iter().position(String::is_empty) {
                Some(row) => Err(Error::Config(format!("the id of row {row} is empty, which no line can be"))),
                None => {
                    // A mark at the start would be taken for the file's: it gets one of its own.
                    let first = ids.first().filter(|id| id.starts_with(MARK)).map(|id| format!("{MARK}{id}"));
                    let others = &ids[usize::from(first.is_some())..];
                    self.lines(first.iter().chain(others))
                }
            },
        }
    }
}

fn is_npy(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npy"))
}

fn read(path: &Path, text: bool) -> Result<Ids, Error> {
    let io = |error| Error::io(path, error);
    // A pipe or device may have no end.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(InputError::new(Some(path), "not a regular file; write the ids to a file first").into());
    }
    let bytes = std::fs::read(path).map_err(io)?;
    let ids = if is_npy(path) { array(&bytes) } else { lines(&bytes, text) };
    let ids = ids.map_err(|error| InputError { file: Some(path.to_owned()), ..error })?;
    Ok(match ids {
        Ids::Numbers(ids) if text => Ids::Text(ids.iter().map(u64::to_string).collect()),
        ids => ids,
    })
}

/// The ids of an `.npy` file.
fn array(bytes: &[u8]) -> Result<Ids, InputError> {
    let (element, data) = npy::column(bytes)?;
    let signed = |value: i64| u64::try_from(value).ok();
    let ids = match element {
        Element::Int(1) => values(data, |b| signed(i8::from_le_bytes(b).into())),
        Element::Int(2) => values(data, |b| signed(i16::from_le_bytes(b).into())),
        Element::Int(4) => values(data, |b| signed(i32::from_le_bytes(b).into())),
        Element::Int(_) => values(data, |b| signed(i64::from_le_bytes(b))),
        Element::Uint(1) => values(data, |[b]| Some(b.into())),
        Element::Uint(2) => values(data, |b| Some(u16::from_le_bytes(b).into())),
        Element::Uint(4) => values(data, |b| Some(u32::from_le_bytes(b).into())),
        Element::Uint(_) => values(data, |b| Some(u64::from_le_bytes(b))),
        Element::Unicode(size) => return strings(data, size as usize, unicode),
        Element::Bytes(size) => return strings(data, size as usize, |id| String::from_utf8(id.to_vec()).ok()),
    };
    ids.map(Ids::Numbers)
}

fn values<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> Option<u64>) -> Result<Vec<u64>, InputError> {
    let (values, _) = data.as_chunks::<N>();
    let negative = |row| InputError::new(None, "the id is negative; give numbers from 0, or text").at_row(row);
    values.iter().enumerate().map(|(row, &b)| value(b).ok_or_else(|| negative(row))).collect()
}

/// Strings of `size` bytes each, of which zeros at the end are no part.
fn strings(data: &[u8], size: usize, text: impl Fn(&[u8]) -> Option<String>) -> Result<Ids, InputError> {
    let each = |(row, id): (usize, &[u8])| {
        let bad = |what: &str| InputError::new(None, format!("the id {what}")).at_row(row);
        match text(id).map(|id| id.trim_end_matches('\0').to_owned()) {
            Some(id) if id.is_empty() => Err(bad("is empty; give each row an id")),
            Some(id) => Ok(id),
            None => Err(bad("is no text in Unicode; save strings of Python (str)")),
        }
    };
    // No size means no strings, which a chunk cannot have.
    data.chunks_exact(size.max(1)).enumerate().map(each).collect::<Result<Vec<_>, _>>().map(Ids::Text)
}

/// Text in UTF-32.
fn unicode(id: &[u8]) -> Option<String> {
    id.as_chunks().0.iter().map(|&c| char::from_u32(u32::from_le_bytes(c))).collect()
}

/// The ids of a text file, all of one kind.
fn lines(bytes: &[u8], text: bool) -> Result<Ids, InputError> {
    let bytes = bytes.strip_prefix(MARK.as_bytes()).unwrap_or(bytes);
    let each = |at: usize, line: &[u8]| -> Result<(), InputError> {
        let bad = |what: &str| InputError::new(None, format!("line {}: {what}", at + 1));
        match std::str::from_utf8(line) {
            Ok("") => Err(bad("it is empty; give an id a line")),
            Ok(_) => Ok(()),
            Err(_) if bytes.starts_with(npy::MAGIC) => {
                Err(bad("this looks like a .npy file; name it so that it ends in .npy"))
            }
            Err(_) => Err(bad("it is not UTF-8; give an id a line")),
        }
    };
    let mut numbers = if text { None } else { Some(Vec::new()) };
    for (at, line) in split(bytes).enumerate() {
        each(at, line)?;
        match (&mut numbers, decimal(line)) {
            (Some(numbers), Some(number)) => numbers.push(number),
            _ => numbers = None,
        }
    }
    // Every line was found to be UTF-8.
    let all = || split(bytes).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    Ok(numbers.map_or_else(|| Ids::Text(all()), Ids::Numbers))
}

/// The lines of a text, whose last one need not have an end.
fn split(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text.strip_suffix(b"\n").unwrap_or(text).split(|&b| b == b'\n');
    lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(move |_| !text.is_empty())
}

/// A number as it would be printed: leading zeros, which may mean something, make it text.
fn decimal(line: &[u8]) -> Option<u64> {
    if !line.iter().all(u8::is_ascii_digit) || (line.len() > 1 && line[0] == b'0') {
        return None;
    }
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(name: &str, bytes: &[u8]) -> Result<Ids, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        read_ids(&path)
    }

    fn text_of(ids: &[&str]) -> Ids {
        Ids::Text(ids.iter().map(|&id| id.to_owned()).collect())
    }

    /// An .npy file with a header that may lie.
    fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        [&b"\x93NUMPY\x01\x00\x76\x00"[..], format!("{dict:<117}\n").as_bytes(), data].concat()
    }

    #[track_caller]
    fn refused(name: &str, bytes: &[u8], says: &str) {
        match read_as(name, bytes) {
            Err(Error::Input(error)) => assert!(error.to_string().contains(says), "{error}"),
            other => panic!("{other:?}"),
        }
    }

    /// Found by fuzzing: the id was taken for the mark of the file.
    #[test]
    fn an_id_may_begin_with_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for first in ["\u{FEFF}", "\u{FEFF}a", "a"] {
            let ids = text_of(&[first, "\u{FEFF}b"]);
            write_ids(&path, &ids).unwrap();
            assert_eq!(read_ids(&path).unwrap(), ids);
        }
    }

    #[test]
    fn lines_are_numbers_or_text() {
        let most = u64::MAX.to_string();
        assert_eq!(
            read_as("a.txt", format!("7\n0\n{most}\n").as_bytes()).unwrap(),
            Ids::Numbers(vec![7, 0, u64::MAX])
        );
        assert_eq!(read_as("a.txt", b"7\r\n8").unwrap(), Ids::Numbers(vec![7, 8]));
        assert_eq!(read_as("a", b"\xEF\xBB\xBF7\n").unwrap(), Ids::Numbers(vec![7]));
        assert_eq!(read_as("a", b"").unwrap(), Ids::Numbers(vec![]));
        // One that is none makes all of them text: a number above 2^64, one with zeros in front, one with a sign.
        for odd in ["x", "18446744073709551616", "007", "+1", "-1", "1 ", "1.0"] {
            assert_eq!(
                read_as("a.txt", format!("7\n{odd}\n8").as_bytes()).unwrap(),
                text_of(&["7", odd, "8"]),
                "{odd}"
            );
        }
        assert_eq!(read_as("a.txt", "a b\tc\r\nüñ\r\n".as_bytes()).unwrap(), text_of(&["a b\tc", "üñ"]));
    }

    #[test]
    fn numbers_are_text_on_demand() {
        let dir = tempfile::tempdir().unwrap();
        let (lines, array) = (dir.path().join("a.txt"), dir.path().join("a.npy"));
        std::fs::write(&lines, "7\n08\n").unwrap();
        std::fs::write(&array, npy("<u4", "(2,)", &[7, 0, 0, 0, 8, 0, 0, 0])).unwrap();
        assert_eq!(read_text_ids(lines).unwrap(), text_of(&["7", "08"]));
        assert_eq!(read_text_ids(array).unwrap(), text_of(&["7", "8"]));
    }

    #[test]
    fn odd_lines_are_named() {
        refused("a.txt", b"1\n\n2\n", "a.txt: line 2: it is empty");
        refused("a.txt", b"\n", "line 1: it is empty");
        refused("a.txt", b"x\r\n\r\n", "line 2: it is empty");
        refused("a.txt", b"x\n\xff\n", "line 2: it is not UTF-8");
        refused("a.ids", &npy("<i8", "(1,)", &[0; 8]), "ends in .npy");
    }

    #[test]
    fn arrays_are_read_whole() {
        let bytes = |values: &[i64]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
        assert_eq!(read_as("a.npy", &npy("<i8", "(2,)", &bytes(&[5, 6]))).unwrap(), Ids::Numbers(vec![5, 6]));
        assert_eq!(read_as("a.NPY", &npy("<i8", "(2, 1)", &bytes(&[5, 6]))).unwrap(), Ids::Numbers(vec![5, 6]));
        assert_eq!(read_as("a.npy", &npy("<u8", "(1,)", &[255; 8])).unwrap(), Ids::Numbers(vec![u64::MAX]));
        assert_eq!(
            read_as("a.npy", &npy("<u4", "(1,)", &[255; 4])).unwrap(),
            Ids::Numbers(vec![u64::from(u32::MAX)])
        );
        assert_eq!(read_as("a.npy", &npy("<i4", "(0,)", &[])).unwrap(), Ids::Numbers(vec![]));
        refused("a.npy", &npy("<i8", "(2,)", &bytes(&[5, -6])), "row 1: the id is negative");
        refused("a.npy", &npy("<i4", "(1,)", &[255; 4]), "row 0: the id is negative");
    }

    #[test]
    fn whole_numbers_of_all_sizes_are_read() {
        for (descr, bytes) in [
            ("|i1", &[5, 127][..]),
            ("|u1", &[5, 127]),
            ("<i2", &[5, 0, 127, 0]),
            ("<u2", &[5, 0, 127, 0]),
            ("<u8", &[5, 0, 0, 0, 0, 0, 0, 0, 127, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(read_as("a.npy", &npy(descr, "(2,)", bytes)).unwrap(), Ids::Numbers(vec![5, 127]), "{descr}");
        }
        assert_eq!(read_as("a.npy", &npy("<u2", "(1,)", &[255; 2])).unwrap(), Ids::Numbers(vec![65535]));
        refused("a.npy", &npy("|i1", "(1,)", &[255]), "row 0: the id is negative");
        refused("a.npy", &npy("<i2", "(1,)", &[255; 2]), "row 0: the id is negative");
    }

    /// As `np.save` has them: of one width, with zeros behind those that are shorter.
    #[test]
    fn strings_of_numpy_are_text() {
        let wide = |text: &str| -> Vec<u8> { text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect() };
        let ids = wide("doc-17\0\0ü\0b 🙂\0\0\0");
        assert_eq!(read_as("a.npy", &npy("<U8", "(2,)", &ids)).unwrap(), text_of(&["doc-17", "ü\0b 🙂"]));
        assert_eq!(read_as("a.npy", &npy("<U8", "(2, 1)", &ids)).unwrap(), text_of(&["doc-17", "ü\0b 🙂"]));
        // Strings are text whatever is in them.
        assert_eq!(read_as("a.npy", &npy("|S3", "(2,)", b"17\x00018")).unwrap(), text_of(&["17", "018"]));
        assert_eq!(read_as("a.npy", &npy("|S2", "(1,)", "ü".as_bytes())).unwrap(), text_of(&["ü"]));
        assert_eq!(read_as("a.npy", &npy("<U0", "(0,)", b"")).unwrap(), text_of(&[]));

        refused("a.npy", &npy("<U1", "(2,)", &wide("a\0")), "row 1: the id is empty");
        refused("a.npy", &npy("<U1", "(1,)", &0xD800_u32.to_le_bytes()), "row 0: the id is no text");
        refused("a.npy", &npy("|S1", "(1,)", b"\xff"), "row 0: the id is no text");
        refused("a.npy", &npy("<U2", "(2,)", &wide("abc")), "12 bytes follow");
        // Nothing is made for strings that take no bytes.
        refused("a.npy", &npy("<U0", "(1000000000000000,)", b""), "0 bytes");
        refused("a.npy", &npy("|S0", "(1,)", b""), "0 bytes");
        refused("a.npy", &npy("<U4611686018427387904", "(4,)", b""), "bytes follow");
    }

    /// `astype(np.int64)` raises for strings, objects and raw bytes.
    #[test]
    fn advice_does_not_raise() {
        for (descr, advice) in [
            ("<f4", "save a.astype(np.int64)"),
            ("|b1", "save a.astype(np.int64)"),
            (">i8", "save a.astype('<i8')"),
            (">U4", "save a.astype('<U4')"),
            ("|O", "save a.astype(str)"),
            ("<M8[s]", "save a.astype(str)"),
            ("<V2", "save whole numbers or strings"),
            ("<i3", "save whole numbers or strings"),
            ("", "save whole numbers or strings"),
            ("<U\u{1b}", "\"<U\\u{1b}\" is no type of ids"),
        ] {
            refused("a.npy", &npy(descr, "(0,)", b""), advice);
        }
    }

    #[test]
    fn lying_headers_are_refused() {
        refused("a.npy", b"1\n2\n", "not a .npy file");
        refused("a.npy", b"", "truncated");
        refused("a.npy", &npy("<f4", "(1,)", &[0; 4]), "int64");
        refused("a.npy", &npy(">i8", "(1,)", &[0; 8]), "int64");
        refused("a.npy", &npy("<i8", "(2, 2)", &[0; 32]), "one column");
        refused("a.npy", &npy("<i8", "()", &[0; 8]), "one column");
        refused("a.npy", &npy("<i8", "(3,)", &[0; 16]), "16");
        refused("a.npy", &npy("<i8", "(1,)", &[0; 9]), "9");
        refused("a.npy", &npy("<i8", "(18446744073709551615,)", &[0; 8]), "8");
        refused("a.npy", &npy("<i8", "(99999999999999999999,)", &[0; 8]), "malformed");
        let whole = npy("<i8", "(1,)", &[0; 8]);
        for len in 0..whole.len() {
            assert!(read_as("a.npy", &whole[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (numbers, text) = (Ids::Numbers(vec![3, u64::MAX >> 1, 0]), text_of(&["a b", "7", "ü"]));
        for (name, ids) in [("n.npy", &numbers), ("n.txt", &numbers), ("t.txt", &text)] {
            write_ids(at(name), ids).unwrap();
            assert_eq!(&read_ids(at(name)).unwrap(), ids, "{name}");
        }
        let refused = |name: &str, ids: &Ids, says: &str| {
            let error = write_ids(at(name), ids).unwrap_err().to_string();
            assert!(error.contains(says) && !at(name).exists(), "{error}");
        };
        refused("x.npy", &text, ".txt");
        refused("x.npy", &Ids::Numbers(vec![1 << 63]), "int64");
        refused("x.txt", &text_of(&["a", ""]), "row 1");
        refused("x.txt", &text_of(&["a\nb"]), "line break");
        assert!(matches!(read_ids(dir.path()), Err(Error::Input(_))));
        assert!(matches!(read_ids(at("none")), Err(Error::Io { .. })));
    }
}
