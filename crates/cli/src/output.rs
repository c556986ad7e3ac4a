//! What a verb prints: data on stdout, as text or as one JSON object; messages on stderr.

use std::{
    io::{self, Write},
    path::Path,
};

use serde::Serialize;
use serde_json::ser::Formatter;
use vlc::text::{is_unprintable, printable};

use crate::{args::Common, error::CliError, progress::BARS};

/// Where and how a verb prints.
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
}

impl Output {
    pub(crate) fn new(common: Common) -> Self {
        Output { json: common.json, quiet: common.quiet }
    }

    /// Prints a result on stdout: the object with `--json`, else the text.
    pub(crate) fn result(&self, object: &impl Serialize, text: impl FnOnce() -> String) -> Result<(), CliError> {
        self.text(&if self.json { json_line(object)? } else { lines(&text()) })
    }

    /// Prints text on stdout as it is.
    pub(crate) fn text(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(CliError::of_stdout)
    }

    /// A remark on stderr, unless `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }
}

/// A line on stderr, clear of the progress bars. There is nobody to tell when that fails.
pub(crate) fn say(text: &str) {
    BARS.suspend(|| {
        let _ = writeln!(io::stderr(), "{}", lines(text));
    });
}

/// Text of several lines and columns. Names in it are escaped where they are put in; this is for those that were forgotten.
fn lines(text: &str) -> String {
    let odd = |c: char| is_unprintable(c) && c != '\n' && c != '\t';
    match text.contains(odd) {
        true => text.chars().map(|c| if odd(c) { printable(c).to_string() } else { c.into() }).collect(),
        false => text.to_owned(),
    }
}

/// A path in a message.
pub(crate) fn shown(path: &Path) -> String {
    printable(path.display()).to_string()
}

/// An object on a line. What does not print is escaped, and read back by any parser as it was.
pub(crate) fn json_line(object: &impl Serialize) -> Result<String, CliError> {
    let failed = |e: serde_json::Error| CliError::Stdout(io::Error::other(e));
    let mut line = Vec::new();
    object.serialize(&mut serde_json::Serializer::with_formatter(&mut line, Escaping)).map_err(failed)?;
    line.push(b'\n');
    String::from_utf8(line).map_err(|e| CliError::Stdout(io::Error::other(e)))
}

/// JSON without spaces, all of whose characters print.
struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(is_unprintable) {
            let (before, from) = rest.split_at(at);
            writer.write_all(before.as_bytes())?;
            let mut chars = from.chars();
            let mut units = [0; 2];
            for unit in chars.next().map(|c| c.encode_utf16(&mut units)).into_iter().flatten() {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }
}

/// The share of true neighbours found that the index itself states.
#[derive(Serialize)]
pub(crate) struct Recall {
    pub(crate) k: u32,
    pub(crate) recall: f64,
    pub(crate) queries: u32,
    pub(crate) source: String,
}

impl Recall {
    pub(crate) fn new(k: u32, recall: f32, queries: u32, source: impl std::fmt::Debug) -> Self {
        // Through the shortest decimal, so that 0.9f32 prints as 0.9.
        let recall = recall.to_string().parse().unwrap_or(f64::NAN);
        Recall { k, recall, queries, source: format!("{source:?}").to_lowercase() }
    }
}

impl std::fmt::Display for Recall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "recall@{} {:.3} ", self.k, self.recall)?;
        match self.source.as_str() {
            "sample" => write!(f, "({} sample queries held out)", self.queries),
            _ => write!(f, "({} rows stood in for queries; of true queries it is often lower)", self.queries),
        }
    }
}

/// A label and a value a line.
pub(crate) fn pairs(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(label, value)| format!("{label:<width$}  {value}\n")).collect()
}

/// Cells in columns: numbers to the right, the rest to the left.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&h| h.to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let numeric =
        |cell: &str| cell == "-" || cell.trim_start_matches(['+', '-']).starts_with(|c: char| c.is_ascii_digit());
    let mut text = String::new();
    let shape: Vec<(usize, bool)> = (0..header.len())
        .map(|c| {
            let cell = |l: &&Vec<String>| l.get(c).cloned().unwrap_or_default();
            let width = lines.iter().map(|l| cell(l).chars().count()).max().unwrap_or(0);
            let right = rows.iter().all(|l| l.get(c).is_none_or(|s| numeric(s)));
            (width, right)
        })
        .collect();
    for line in lines {
        let mut row = String::new();
        for (cell, &(width, right)) in line.iter().zip(&shape) {
            let gap = if row.is_empty() { "" } else { "  " };
            if right {
                row.push_str(&format!("{gap}{cell:>width$}"));
            } else {
                row.push_str(&format!("{gap}{cell:<width$}"));
            }
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// `512x1@2`: width, layers and bits.
pub(crate) fn decoder(shape: vlc::DecoderShape) -> String {
    format!("{}x{}@{}", shape.width, shape.layers, shape.bits)
}

/// `12,345,678`.
pub(crate) fn count(n: impl std::fmt::Display) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `4.59 MB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1e3;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0_u64, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [size(999), size(1000), size(4_589_123), size(153_600_000)],
            ["999 B", "1.00 kB", "4.59 MB", "154 MB"]
        );
        assert_eq!([size(999_400), size(999_600), size(u64::MAX)], ["999 kB", "1.00 MB", "18446744 TB"]);
    }

    /// Characters of each kind, and others that stay, one of them beyond 16 bits.
    #[test]
    fn json_prints_and_keeps_its_values() -> Result<(), CliError> {
        let odd = "a\u{1b}\"\\\n\u{7f}\u{9b}\u{202e}\u{2066}\u{200b}\u{feff}\u{2028}\u{e0041}é東🙂";
        let object = serde_json::json!({ odd: [odd, 1.5, null] });
        let line = json_line(&object)?;
        assert!(!line.trim_end().contains(is_unprintable) && line.ends_with("]}\n"), "{line:?}");
        assert!(line.contains("\\u202e") && line.contains("\\udb40\\udc41") && line.contains("é東🙂"), "{line}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).ok(), Some(object));
        Ok(())
    }

    #[test]
    fn lines_keep_their_shape() {
        assert_eq!(lines("a\tb\n"), "a\tb\n");
        assert_eq!(lines("a\t\u{1b}[1m\u{202e}\r\n"), "a\t\\u{1b}[1m\\u{202e}\\r\n");
        assert_eq!(shown(Path::new("a\nb")), "a\\nb");
    }

    #[test]
    fn tables_align() {
        let rows =
            [vec!["cpu".into(), "1.5".into()], vec!["wgpu".into(), "-".into()], vec!["cuda".into(), "10.5".into()]];
        assert_eq!(table(&["on", "s"], &rows), "on       s\ncpu    1.5\nwgpu     -\ncuda  10.5\n");
        assert_eq!(pairs(&[("a", "1".into()), ("long", "x y".into())]), "a     1\nlong  x y\n");
    }
}
