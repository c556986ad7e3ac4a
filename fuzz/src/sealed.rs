//! Stores taken apart, changed as an input says, and put together again with every hash right (docs/format.md, sections 1 and 2): what a
//! reader believes because a hash says so.

use xxhash_rust::xxh3::xxh3_64;

use crate::{BASES, input::Input};

const MAGIC: [u8; 8] = *b"\x89VLC\r\n\x1a\n";
const ENTRY: usize = 32;
const SLOTS_END: usize = 192;
/// What a section may grow to.
const MOST: usize = 1 << 16;

/// One section and what its entry says about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Section {
    pub kind: [u8; 4],
    pub flags: u16,
    pub segment: u16,
    pub bytes: Vec<u8>,
}

/// A store of one commit in its parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Parts {
    pub version: u32,
    pub generation: u64,
    pub sections: Vec<Section>,
}

fn u16_at(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(b[at..at + 2].try_into().unwrap())
}

fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(b[at..at + 4].try_into().unwrap())
}

fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(b[at..at + 8].try_into().unwrap())
}

/// The fields of a slot: generation, where the table is, its entries, its hash, and the features.
pub type Fields = (u64, u64, u32, u64, u64);

/// The bytes of a slot with its own hash right.
pub fn slot(version: u32, (generation, table, entries, hash, features): Fields) -> [u8; 64] {
    let mut fields = [generation.to_le_bytes(), table.to_le_bytes()].concat();
    fields.extend(entries.to_le_bytes());
    fields.extend(hash.to_le_bytes());
    if version > 2 {
        fields.extend(features.to_le_bytes());
    }
    let own = xxh3_64(&fields) as u32;
    fields.extend(own.to_le_bytes());
    let mut out = [0u8; 64];
    for bit in 0..8 * fields.len() {
        out[bit / 7] |= (fields[bit / 8] >> (bit % 8) & 1) << (bit % 7);
    }
    out.iter_mut().for_each(|byte| *byte |= (byte.count_ones() as u8 & 1) << 7);
    out
}

/// The fields of a slot that is sound.
pub fn fields(version: u32, slot: &[u8]) -> Fields {
    let mut fields = vec![0u8; if version > 2 { 40 } else { 32 }];
    for bit in 0..8 * fields.len() {
        fields[bit / 8] |= (slot[bit / 7] >> (bit % 7) & 1) << (bit % 8);
    }
    let features = if version > 2 { u64_at(&fields, 28) } else { 0 };
    (u64_at(&fields, 0), u64_at(&fields, 8), u32_at(&fields, 16), u64_at(&fields, 20), features)
}

/// Takes a sound store apart.
pub fn take_apart(file: &[u8]) -> Parts {
    let version = u32_at(file, 8);
    let (generation, table, entries) = if version == 1 {
        (0, 64, u32_at(file, 12))
    } else {
        let last = [64, 128].map(|at| fields(version, &file[at..at + 64])).into_iter().max().unwrap();
        (last.0, last.1 as usize, last.2)
    };
    let of = |e: &[u8]| Section {
        kind: e[..4].try_into().unwrap(),
        flags: u16_at(e, 4),
        segment: u16_at(e, 6),
        bytes: file[u64_at(e, 8) as usize..][..u64_at(e, 16) as usize].to_vec(),
    };
    let table = &file[table..][..ENTRY * entries as usize];
    Parts { version, generation, sections: table.chunks_exact(ENTRY).map(of).collect() }
}

/// Puts a store together. `table` may change what the entries say before they are hashed, `slots` the fields of the slots before they are.
pub fn assemble(
    parts: &Parts,
    table: impl FnOnce(&mut [u8]),
    slots: impl FnOnce(&mut [Option<Fields>; 2]),
) -> Vec<u8> {
    let first = parts.version == 1;
    let mut file = vec![0; if first { 64 + ENTRY * parts.sections.len() } else { SLOTS_END }];
    let mut entries = Vec::new();
    for Section { kind, flags, segment, bytes } in &parts.sections {
        file.resize(file.len().next_multiple_of(64), 0);
        entries.extend(kind);
        entries.extend(flags.to_le_bytes());
        entries.extend(segment.to_le_bytes());
        entries.extend((file.len() as u64).to_le_bytes());
        entries.extend((bytes.len() as u64).to_le_bytes());
        entries.extend(xxh3_64(bytes).to_le_bytes());
        file.extend(bytes);
    }
    table(&mut entries);
    let count = parts.sections.len() as u32;
    file[..8].copy_from_slice(&MAGIC);
    file[8..12].copy_from_slice(&parts.version.to_le_bytes());
    if first {
        file[64..64 + entries.len()].copy_from_slice(&entries);
        file[12..16].copy_from_slice(&count.to_le_bytes());
        let len = file.len() as u64;
        file[16..24].copy_from_slice(&len.to_le_bytes());
        file[24..32].copy_from_slice(&xxh3_64(&entries).to_le_bytes());
    } else {
        file.resize(file.len().next_multiple_of(64), 0);
        let features = u64::from(parts.sections.iter().any(|s| s.kind == *b"GAIN"));
        let commit = (parts.generation, file.len() as u64, count, xxh3_64(&entries), features);
        file.extend(entries);
        let own = (parts.generation % 2) as usize;
        let mut both = [None; 2];
        both[own] = Some(commit);
        if parts.generation > 1 {
            both[1 - own] = Some(commit);
        }
        slots(&mut both);
        for (i, fields) in both.into_iter().enumerate() {
            if let Some(fields) = fields {
                file[64 + 64 * i..128 + 64 * i].copy_from_slice(&slot(parts.version, fields));
            }
        }
    }
    let hash = xxh3_64(&file[..56]);
    file[56..64].copy_from_slice(&hash.to_le_bytes());
    file
}

/// The store that an input describes: which base, and what is changed about it.
pub fn build(input: &mut Input<'_>) -> Vec<u8> {
    let mut parts = take_apart(BASES[input.below(BASES.len())]);
    let changes = input.u8();
    for _ in 0..changes % 16 {
        if !input.is_empty() {
            change(&mut parts, input);
        }
    }
    let header = changes / 16;
    let mut late = Input(input.0);
    let mut file = assemble(
        &parts,
        |table| {
            if header & 1 != 0 {
                overwrite(table, input);
            }
        },
        |slots| {
            if header & 2 != 0 {
                change_slot(slots, &mut late);
            }
        },
    );
    if header & 4 != 0 {
        let end = late.below(1 + file.len());
        if late.u8() & 1 == 0 {
            file.truncate(end);
        } else {
            file.resize(file.len() + end % 200, late.u8());
        }
    }
    if header & 8 != 0 {
        // Without any hash being made right: mostly the slots and what is behind the commit.
        let most = file.len().min(SLOTS_END);
        overwrite(&mut file[..most], &mut late);
    }
    file
}

fn change_slot(slots: &mut [Option<Fields>; 2], input: &mut Input<'_>) {
    let (i, what, value) = (input.below(2), input.u8(), input.nasty());
    let Some(mut fields) = slots[i].or(slots[1 - i]) else { return };
    match what % 7 {
        6 => fields.4 = value,
        0 => fields.0 = value,
        1 => fields.1 = value,
        2 => fields.2 = value as u32,
        3 => fields.3 = value,
        4 => fields.0 = fields.0.wrapping_add(1),
        _ => return slots[i] = None,
    }
    slots[i] = Some(fields);
}

/// Writes a number somewhere.
fn overwrite(bytes: &mut [u8], input: &mut Input<'_>) {
    let width = [1, 2, 4, 8][input.below(4)];
    let at = input.below(bytes.len()) / width * width;
    let value = match input.u8() % 5 {
        // Near what is there, or what is there elsewhere: lengths that still fit.
        0 => u64::from(bytes.get(at).copied().unwrap_or(0)).wrapping_add(1),
        1 => u64::from(bytes.get(at).copied().unwrap_or(0)).wrapping_sub(1),
        2 => u64::from(bytes.get(at).copied().unwrap_or(0)) ^ 1 << input.below(8),
        3 => u64::from(
            f32::from_bits([0x7fc0_0000, 0x7f80_0000, 0x7f7f_ffff, 0xff7f_ffff, 1][input.below(5)]).to_bits(),
        ),
        _ => input.nasty(),
    };
    bytes.iter_mut().skip(at).zip(&value.to_le_bytes()[..width]).for_each(|(to, from)| *to = *from);
}

const KINDS: [&[u8; 4]; 21] = [
    b"META", b"MEAN", b"CHRT", b"ANCH", b"SIDE", b"MREF", b"KEYV", b"HIST", b"SEGM", b"CELL", b"TOMB", b"ROWS",
    b"CODE", b"IDSU", b"IDSS", b"DEAD", b"DECO", b"XTRA", b"FEAT", b"SUMS", b"GAIN",
];

fn change(parts: &mut Parts, input: &mut Input<'_>) {
    let (what, n) = (input.u8(), parts.sections.len());
    let s = input.below(n);
    if n == 0 {
        parts.sections.push(Section { kind: *b"META", flags: 0, segment: 0, bytes: input.bytes(128).to_vec() });
        return;
    }
    match what % 16 {
        0..=3 => overwrite(&mut parts.sections[s].bytes, input),
        4 => {
            let len = input.below(1 + parts.sections[s].bytes.len());
            parts.sections[s].bytes.truncate(len);
        }
        5 => {
            let (more, fill) = (input.nasty() as usize % 300, input.u8());
            let bytes = &mut parts.sections[s].bytes;
            bytes.resize((bytes.len() + more).min(MOST), fill);
        }
        6 => {
            let at = input.below(n + 1);
            let copy = parts.sections[s].clone();
            parts.sections.insert(at, copy);
        }
        7 => parts.sections[s].segment = if input.u8() & 1 == 0 { input.u16() % 4 } else { input.u16() },
        8 => parts.sections[s].kind = *KINDS[input.below(KINDS.len())],
        9 => parts.sections[s].flags = input.u16(),
        10 => drop(parts.sections.remove(s)),
        11 => parts.sections.swap(s, input.below(n)),
        12 => {
            let count = usize::from(input.u8());
            parts.sections[s].bytes = input.bytes(count).to_vec();
        }
        13 => {
            // Another segment like one that is there, which goes on from the last or does not.
            let (from, to) = (parts.sections[s].segment, input.u16() % 6);
            let mut copies: Vec<Section> = parts.sections.iter().filter(|s| s.segment == from).cloned().collect();
            copies
                .retain(|s| [*b"SEGM", *b"CELL", *b"ROWS", *b"CODE", *b"TOMB", *b"IDSU", *b"IDSS"].contains(&s.kind));
            let first = u64::from(input.u8());
            for copy in &mut copies {
                copy.segment = to;
                if copy.kind == *b"SEGM" && copy.bytes.len() >= 16 {
                    copy.bytes[8..16].copy_from_slice(&first.to_le_bytes());
                }
            }
            // Again and again that would double the file.
            if n < 64 {
                parts.sections.extend(copies);
            }
        }
        14 => resize_rows(parts, s, input),
        _ => {
            if input.u8() & 1 == 0 {
                parts.version = u32::from(input.u8() % 5);
            } else {
                parts.generation = input.nasty();
            }
        }
    }
}

/// Gives a segment other numbers of rows and sizes that suit them, as far as that is easy: what such lies lead to lies deeper.
fn resize_rows(parts: &mut Parts, s: usize, input: &mut Input<'_>) {
    let segment = parts.sections[s].segment;
    let (n, span) = (input.nasty(), input.nasty());
    let keep = input.u8();
    for section in parts.sections.iter_mut().filter(|s| s.segment == segment) {
        let bytes = &mut section.bytes;
        match &section.kind {
            b"SEGM" if bytes.len() >= 24 => {
                if keep & 1 == 0 {
                    bytes[..8].copy_from_slice(&n.to_le_bytes());
                }
                if keep & 2 == 0 {
                    bytes[16..24].copy_from_slice(&span.to_le_bytes());
                }
            }
            b"CELL" if bytes.len() >= 16 && keep & 1 == 0 => {
                let cells = bytes.len() / 8;
                for i in 1..cells {
                    bytes[8 * i..8 * i + 8].copy_from_slice(&n.to_le_bytes());
                }
            }
            b"ROWS" if keep & 4 == 0 => bytes.resize(usize::from(input.u8()), keep),
            b"CODE" if keep & 8 == 0 => bytes.resize(usize::from(input.u16()).min(MOST), 0),
            b"TOMB" if bytes.len() >= 8 && keep & 16 == 0 => {
                bytes.truncate(8);
                bytes.copy_from_slice(&n.to_le_bytes());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_taken_apart_and_put_together() {
        for base in BASES {
            let parts = take_apart(base);
            let file = assemble(&parts, |_| {}, |_| {});
            assert_eq!(take_apart(&file), parts);
            vlc::Index::from_bytes(&file).unwrap().verify().unwrap();
            assert!(parts.version > 1 || file == base);
        }
    }

    #[test]
    fn no_choices_change_nothing() {
        for base in 0..BASES.len() as u8 {
            let file = build(&mut Input(&[base]));
            vlc::Index::from_bytes(&file).unwrap().verify().unwrap();
        }
    }
}
