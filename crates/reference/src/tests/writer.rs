//! A naive writer of `.vlc` files, as close to `docs/format.md` as the parser is.

use xxhash_rust::xxh3::xxh3_64;

use crate::{packed::pack, rows::cell_bytes};

/// One chart as the file holds it.
pub(super) struct RawChart {
    pub(super) widths: Vec<u16>,
    pub(super) column_scale: Vec<f32>,
    pub(super) column_bits: Vec<u8>,
    /// a x d
    pub(super) columns: Vec<Vec<u32>>,
    pub(super) table_scale: Vec<f32>,
    /// a x S
    pub(super) tables: Vec<Vec<i8>>,
    pub(super) anchor_offset: Vec<f32>,
    pub(super) anchor_scale: Vec<f32>,
    pub(super) anchor_bits: Vec<u8>,
    /// a x |A_g|
    pub(super) anchors: Vec<Vec<u32>>,
}

/// What goes into a file; per-row parts are in row order here.
pub(super) struct Raw {
    pub(super) d: u32,
    pub(super) metric: u8,
    pub(super) kind: u8,
    pub(super) lags: u8,
    pub(super) center: Vec<f32>,
    pub(super) mean: Vec<f32>,
    pub(super) charts: Vec<RawChart>,
    pub(super) chart_of: Vec<u8>,
    pub(super) factor_levels: Vec<f32>,
    pub(super) gain_nibbles: u8,
    pub(super) gain_range: Vec<f32>,
    pub(super) labels: Vec<u32>,
    pub(super) symbols: Vec<Vec<u8>>,
    pub(super) factor_codes: Vec<u8>,
    pub(super) gain_codes: Vec<u16>,
    pub(super) key_values: Vec<(&'static str, &'static str)>,
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn pad(bytes: &mut Vec<u8>, unit: usize) {
    bytes.resize(bytes.len().next_multiple_of(unit), 0);
}

fn nibble_plane(values: &[u8; 32]) -> Vec<u8> {
    (0..16).map(|i| values[i] | values[16 + i] << 4).collect()
}

/// Header, table and sections from the sections' contents.
pub(super) fn container(contents: &[(&[u8; 4], u32, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![0; 64 + 32 * contents.len()];
    let mut table = Vec::new();
    for (kind, flags, bytes) in contents {
        pad(&mut body, 64);
        table.extend(*kind);
        table.extend(flags.to_le_bytes());
        table.extend((body.len() as u64).to_le_bytes());
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(xxh3_64(bytes).to_le_bytes());
        body.extend(bytes);
    }
    body[64..64 + table.len()].copy_from_slice(&table);
    seal(&mut body, contents.len());
    body
}

/// Writes the header, reserved bytes as they are, for a file with a table of `count` entries.
pub(super) fn seal(file: &mut [u8], count: usize) {
    let length = file.len() as u64;
    let table_hash = xxh3_64(&file[64..64 + 32 * count]);
    file[..8].copy_from_slice(b"\x89VLC\r\n\x1a\n");
    file[8..12].copy_from_slice(&1_u32.to_le_bytes());
    file[12..16].copy_from_slice(&(count as u32).to_le_bytes());
    file[16..24].copy_from_slice(&length.to_le_bytes());
    file[24..32].copy_from_slice(&table_hash.to_le_bytes());
    let header_hash = xxh3_64(&file[..56]);
    file[56..64].copy_from_slice(&header_hash.to_le_bytes());
}

impl Raw {
    fn meta(&self) -> Vec<u8> {
        let anchors = self.chart_of.len() as u32;
        let mut bytes = (self.labels.len() as u64).to_le_bytes().to_vec();
        bytes.extend(self.d.to_le_bytes());
        bytes.extend([self.metric, self.kind, self.lags, 0]);
        bytes.extend(anchors.to_le_bytes());
        bytes.extend((self.charts.len() as u32).to_le_bytes());
        bytes.extend((self.symbols[0].len() as u32).to_le_bytes());
        bytes.extend([u8::from(!self.factor_levels.is_empty()), self.gain_nibbles, 0, 0]);
        bytes.extend(0.25_f64.to_le_bytes());
        bytes.extend(0.5_f64.to_le_bytes());
        bytes.extend(f32::NAN.to_le_bytes());
        bytes.resize(64, 0);
        bytes.extend(7_u64.to_le_bytes());
        bytes.extend(30_u64.to_le_bytes());
        bytes.extend(0.65_f32.to_le_bytes());
        bytes.resize(128, 0);
        bytes
    }

    fn charts(&self) -> Vec<u8> {
        let mut section = Vec::new();
        for chart in &self.charts {
            let mut bytes = (chart.columns.len() as u32).to_le_bytes().to_vec();
            bytes.extend([0; 4]);
            bytes.extend(chart.widths.iter().flat_map(|w| w.to_le_bytes()));
            bytes.extend(f32s(&chart.column_scale));
            bytes.extend(&chart.column_bits);
            for (j, column) in chart.columns.iter().enumerate() {
                bytes.extend(pack(column, chart.column_bits[j].into()));
            }
            bytes.extend(f32s(&chart.table_scale));
            bytes.extend(chart.tables.iter().flatten().map(|&q| q as u8));
            pad(&mut bytes, 4);
            let length = bytes.len() as u32;
            bytes[4..8].copy_from_slice(&length.to_le_bytes());
            section.extend(bytes);
        }
        section
    }

    fn anchors(&self) -> Vec<u8> {
        let mut bytes = self.chart_of.clone();
        pad(&mut bytes, 4);
        for chart in &self.charts {
            bytes.extend(f32s(&chart.anchor_offset));
            bytes.extend(f32s(&chart.anchor_scale));
            bytes.extend(&chart.anchor_bits);
            for (j, values) in chart.anchors.iter().enumerate() {
                bytes.extend(pack(values, chart.anchor_bits[j].into()));
            }
            pad(&mut bytes, 4);
        }
        bytes
    }

    /// CELL, ROWS and CODE.
    fn rows(&self) -> [Vec<u8>; 3] {
        let (mut cell, mut packed, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for k in 0..self.chart_of.len() {
            cell.extend((order.len() as u64).to_le_bytes());
            let rows: Vec<usize> = (0..self.labels.len()).filter(|&i| self.labels[i] as usize == k).collect();
            packed.extend(cell_bytes(self.labels.len(), &rows));
            order.extend(rows);
        }
        cell.extend((order.len() as u64).to_le_bytes());
        let mut code = Vec::new();
        for block in order.chunks(32) {
            let mut plane = |value: &dyn Fn(usize) -> u8, nibbles: bool| {
                let mut values = [0; 32];
                for (i, &row) in block.iter().enumerate() {
                    values[i] = value(row);
                }
                if nibbles {
                    code.extend(nibble_plane(&values));
                } else {
                    code.extend(values);
                }
            };
            for t in 0..self.symbols[0].len() {
                plane(&|row| self.symbols[row][t], self.kind == 0);
            }
            if !self.factor_levels.is_empty() {
                plane(&|row| self.factor_codes[row], true);
            }
            for nibble in 0..self.gain_nibbles {
                plane(&|row| (self.gain_codes[row] >> (4 * nibble) & 15) as u8, true);
            }
        }
        [cell, packed, code]
    }

    fn key_values(&self) -> Vec<u8> {
        let mut bytes = (self.key_values.len() as u32).to_le_bytes().to_vec();
        for (key, value) in &self.key_values {
            bytes.extend((key.len() as u32).to_le_bytes());
            bytes.extend((value.len() as u32).to_le_bytes());
            bytes.extend(key.as_bytes());
            bytes.extend(value.as_bytes());
        }
        bytes
    }

    /// The sections of the file, in an order of the writer's choice.
    pub(super) fn sections(&self) -> Vec<(&'static [u8; 4], u32, Vec<u8>)> {
        let [cell, rows, code] = self.rows();
        let center = if self.metric == 2 { f32s(&self.center) } else { Vec::new() };
        vec![
            (b"META", 1, self.meta()),
            (b"MEAN", 1, [center, f32s(&self.mean)].concat()),
            (b"CHRT", 1, self.charts()),
            (b"ANCH", 1, self.anchors()),
            (b"SIDE", 1, [f32s(&self.factor_levels), f32s(&self.gain_range)].concat()),
            (b"CELL", 1, cell),
            (b"KEYV", 0, self.key_values()),
            (b"XTRA", 0, b"unknown and harmless".to_vec()),
            (b"ROWS", 1, rows),
            (b"CODE", 1, code),
        ]
    }

    pub(super) fn write(&self) -> Vec<u8> {
        container(&self.sections())
    }
}
