//! What a verb prints: data on stdout, as text or as one JSON object; messages on stderr.

use std::io::{self, Write};

use serde::Serialize;

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
        if !self.json {
            return self.text(&text());
        }
        let mut line = serde_json::to_string(object).map_err(|e| CliError::Stdout(io::Error::other(e)))?;
        line.push('\n');
        self.text(&line)
    }

    /// Prints text on stdout as it is.
    pub(crate) fn text(&self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|e| {
            if e.kind() == io::ErrorKind::BrokenPipe { CliError::StdoutClosed } else { CliError::Stdout(e) }
        })
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
        let _ = writeln!(io::stderr(), "{text}");
    });
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

/// Text from a file or a caller: its control characters must not reach a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
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

    #[test]
    fn tables_align() {
        let rows =
            [vec!["cpu".into(), "1.5".into()], vec!["wgpu".into(), "-".into()], vec!["cuda".into(), "10.5".into()]];
        assert_eq!(table(&["on", "s"], &rows), "on       s\ncpu    1.5\nwgpu     -\ncuda  10.5\n");
        assert_eq!(pairs(&[("a", "1".into()), ("long", "x y".into())]), "a     1\nlong  x y\n");
    }
}
