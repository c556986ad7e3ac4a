//! New files out of old ones: what all rows share is copied as it stands, the rows follow.

use std::io::{BufWriter, Write};

use super::{
    disk::{DiskFile, Sink},
    segments::{Part, write_segment},
};
use crate::{
    error::Error,
    format::{parse::Parsed, write::Writer},
};

/// Sections that all rows of a file share, in the order they are written in.
const KINDS: [[u8; 4]; 11] =
    [*b"META", *b"MREF", *b"MEAN", *b"CHRT", *b"ANCH", *b"SIDE", *b"SCOR", *b"RFNM", *b"DECO", *b"KEYV", *b"HIST"];

/// Kind and bytes of what all rows of a file share.
pub(crate) type Head = Vec<([u8; 4], Vec<u8>)>;

/// That of a file of any version, as the newest has it.
pub(crate) fn of(parsed: &Parsed, bytes: &[u8]) -> Head {
    let mut head = Head::new();
    for kind in KINDS {
        let found = parsed.entries().iter().find(|e| e.kind == kind && e.segment == 0);
        match found {
            // The number of rows, which stands there in version 1.
            Some(_) if kind == *b"META" => head.push((kind, parsed.meta.to_bytes())),
            Some(entry) => head.push((kind, bytes[entry.range()].to_vec())),
            None => {}
        }
    }
    head
}

/// Replaces a section, or puts it where it belongs.
pub(crate) fn set(head: &mut Head, kind: [u8; 4], bytes: Vec<u8>) {
    let place = |kind: [u8; 4]| KINDS.iter().position(|k| *k == kind);
    match head.iter_mut().find(|(k, _)| *k == kind) {
        Some((_, old)) => *old = bytes,
        None => {
            let at = head.iter().take_while(|(k, _)| place(*k) < place(kind)).count();
            head.insert(at, (kind, bytes));
        }
    }
}

/// Writes a whole file, as this generation.
pub(crate) fn write_file<F: DiskFile>(
    file: &mut F,
    generation: u64,
    head: &Head,
    parts: &[Part<'_>],
    io: &dyn Fn(std::io::Error) -> Error,
    report: &dyn Fn(usize, usize) -> Result<(), Error>,
) -> Result<u64, Error> {
    let sink = BufWriter::with_capacity(1 << 20, Sink { file: &mut *file, at: 0 });
    let mut writer = Writer::create(sink).map_err(io)?;
    head.iter().try_for_each(|(kind, bytes)| writer.section(*kind, 0, bytes)).map_err(io)?;
    for part in parts {
        write_segment(&mut writer, part.new, part.sources, part.ids, io, report)?;
    }
    let mut written = writer.finish(generation).map_err(io)?;
    written.sink.flush().map_err(io)?;
    let (header, len) = (written.header(), written.len());
    drop(written);
    file.write_at(0, &header).map_err(io)?;
    Ok(len)
}
