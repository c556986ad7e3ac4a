//! Commits behind what a file holds, and what an interrupted one needs (docs/format.md, section 1).

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use xxhash_rust::xxh3::xxh3_64;

use crate::{
    error::Error,
    file::{
        disk::{DiskFile, Sink},
        publish::Tell,
    },
    format::{
        header::{DEAD, Layout, MAX_SECTIONS, SectionEntry},
        write::Writer,
    },
    report::Event,
};

/// Dead sections that lie side by side become one up to these bytes, which are hashed anew.
const JOINED: u64 = 4 << 20;
/// Bytes written at a time.
const BUFFER: usize = 1 << 20;

/// Mends what a writer left that did not finish. The file is as committed afterwards, and ends there.
pub(crate) fn mend<F: DiskFile>(file: &mut F, layout: &Layout) -> std::io::Result<()> {
    let other = layout.commit.other_slot_at();
    if layout.torn {
        // The torn slot first: without anything behind the commit it would count as damage.
        file.write_at(other, &layout.commit.to_slot())?;
        file.sync()?;
    }
    if file.len()? > layout.end {
        file.set_len(layout.end)?;
        file.sync()?;
    }
    Ok(())
}

/// Sections that a commit adds at most: those of a segment, and of the file.
const ADDED: usize = 16;

/// Commits what `write` writes. Sections for which `replaced` says so are dead from then on. `bytes` are those of the file, which has
/// been mended. Gives the length of the committed file.
///
/// On an error the file holds the old commit, but for [`Error::Uncertain`], where it holds the old one or the new one.
#[allow(clippy::too_many_arguments, reason = "what a commit consists of")]
pub(crate) fn commit<F: DiskFile>(
    file: &mut F,
    path: &Path,
    bytes: &[u8],
    layout: &Layout,
    replaced: impl Fn(&SectionEntry) -> bool,
    tell: &Tell<'_>,
    write: impl FnOnce(&mut Writer<BufWriter<Sink<'_, F>>>) -> Result<(), Error>,
) -> Result<u64, Error> {
    let io = |error| Error::io(path, error);
    let mut entries = layout.entries.clone();
    for entry in entries.iter_mut().filter(|entry| replaced(entry)) {
        (entry.kind, entry.segment, entry.flags) = (DEAD, 0, 0);
    }
    let commit = layout.commit;
    let (offset, len) = (commit.table, commit.table_len());
    entries.push(SectionEntry { kind: DEAD, flags: 0, segment: 0, offset, len, hash: commit.table_hash });
    let entries = join(entries, bytes);
    if entries.len() + ADDED > MAX_SECTIONS[1] as usize {
        let message = format!("{} has too many parts for another change; compact it first", path.display());
        return Err(Error::Config(message));
    }

    let written = (|| {
        let sink = BufWriter::with_capacity(BUFFER, Sink { file: &mut *file, at: layout.end });
        let mut writer = Writer::resume(sink, layout.end, entries);
        write(&mut writer)?;
        let mut written = writer.finish(commit.generation + 1).map_err(io)?;
        written.sink.flush().map_err(io)?;
        let next = written.commit;
        drop(written);
        file.sync().map_err(io)?;
        tell(&Event::Committing)?;
        Ok(next)
    })();
    let next = match written {
        Ok(next) => next,
        Err(error) => {
            // The file is sound with what stands behind the commit; the next writer would cut it off.
            let _ = file.set_len(layout.end);
            return Err(error);
        }
    };
    // From the first byte of the slot on a reader may find the new commit.
    let last = file.write_at(next.slot_at(), &next.to_slot()).and_then(|()| file.sync());
    last.map(|()| next.end()).map_err(|source| Error::uncertain(path, source))
}

/// Makes neighbouring dead sections one.
fn join(entries: Vec<SectionEntry>, bytes: &[u8]) -> Vec<SectionEntry> {
    let mut out: Vec<SectionEntry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(last) = out.last_mut().filter(|last| last.kind == DEAD && entry.kind == DEAD) {
            let len = entry.offset + entry.len - last.offset;
            if len <= JOINED {
                last.len = len;
                last.hash = xxh3_64(&bytes[last.range()]);
                continue;
            }
        }
        out.push(entry);
    }
    out
}
