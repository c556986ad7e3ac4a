//! Files taken apart, changed, and put together again with every hash right.

use vlc_reference::container;
use xxhash_rust::xxh3::xxh3_64;

use super::Random;

pub type Section = ([u8; 4], u32, Vec<u8>);

pub fn sections(file: &[u8]) -> Vec<Section> {
    container::sections(file).unwrap().iter().map(|s| (s.kind, s.flags, s.bytes.to_vec())).collect()
}

/// A file of these sections with every hash right.
pub fn assemble(sections: &[Section]) -> Vec<u8> {
    let mut table = Vec::new();
    let mut body = vec![0; 64 + 32 * sections.len()];
    for (kind, flags, bytes) in sections {
        body.resize(body.len().next_multiple_of(64), 0);
        table.extend(kind);
        table.extend(flags.to_le_bytes());
        table.extend((body.len() as u64).to_le_bytes());
        table.extend((bytes.len() as u64).to_le_bytes());
        table.extend(xxh3_64(bytes).to_le_bytes());
        body.extend(bytes);
    }
    body[64..64 + table.len()].copy_from_slice(&table);
    body[..8].copy_from_slice(&container::MAGIC);
    body[8..12].copy_from_slice(&1u32.to_le_bytes());
    body[12..16].copy_from_slice(&(sections.len() as u32).to_le_bytes());
    let length = body.len() as u64;
    body[16..24].copy_from_slice(&length.to_le_bytes());
    seal(&mut body);
    body
}

/// Makes the hashes of header and table right; everything else stays as it is.
pub fn seal(file: &mut [u8]) {
    let count = u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize;
    let end = count.saturating_mul(32).saturating_add(64).min(file.len());
    let hash = xxh3_64(&file[64..end]);
    file[24..32].copy_from_slice(&hash.to_le_bytes());
    let hash = xxh3_64(&file[..56]);
    file[56..64].copy_from_slice(&hash.to_le_bytes());
}

/// Small numbers, powers of two and the ends of ranges: what counts and lengths go wrong with.
pub fn nasty(random: &mut Random) -> u64 {
    match random.below(6) {
        0 => random.below(4) as u64,
        1 => 1 << random.below(64),
        2 => (1u64 << random.below(64)).wrapping_sub(1),
        3 => u64::MAX - random.below(3) as u64,
        4 => random.below(70_000) as u64,
        _ => random.next(),
    }
}

pub fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..1 + random.below(3) {
        if bytes.is_empty() {
            bytes.push(random.next() as u8);
            continue;
        }
        // Fields stand at the front more often than not.
        let most = if random.below(2) == 0 { bytes.len() } else { bytes.len().min(64) };
        let at = random.below(most);
        match random.below(7) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = nasty(random) as u8,
            2 | 3 => {
                let width = [2, 4, 8][random.below(3)];
                let at = at / width * width;
                let value = nasty(random).to_le_bytes();
                bytes.iter_mut().skip(at).zip(&value[..width]).for_each(|(b, v)| *b = *v);
            }
            4 => bytes.truncate(at),
            5 => bytes.resize(bytes.len() + 1 + random.below(70), random.next() as u8),
            _ => {
                let value = [f32::NAN, f32::INFINITY, f32::MAX, -f32::MAX, 1e-45, 0.0][random.below(6)].to_le_bytes();
                bytes.iter_mut().skip(at / 4 * 4).zip(value).for_each(|(b, v)| *b = v);
            }
        }
    }
}
