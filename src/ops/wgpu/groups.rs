//! Which groups of the codes a search looks at: all, or those with a row that may be found.

use super::{buffer::Buffer, codes::Codes, device::Device};
use crate::{error::Error, format::rows::BLOCK, ops::types::ScoreTables};

/// The groups of every part of the codes.
pub(super) struct Groups {
    /// Rows that may be found.
    pub(super) rows: usize,
    /// Of all parts.
    pub(super) count: usize,
    pub(super) parts: Vec<PartGroups>,
}

/// The groups of a part.
pub(super) struct PartGroups {
    pub(super) count: usize,
    pub(super) chosen: Option<Chosen>,
}

/// Groups by number, each with a bit for every row that may be found; all have such rows.
pub(super) struct Chosen {
    host: Vec<[u32; 2]>,
    pub(super) list: Buffer<u32>,
}

impl Groups {
    pub(super) fn new(device: &Device, codes: &Codes<'_>, queries: &ScoreTables) -> Result<Groups, Error> {
        let of_part = |part: &super::codes::Part| -> Result<PartGroups, Error> {
            let Some(allowed) = &queries.allowed else {
                return Ok(PartGroups { count: part.groups, chosen: None });
            };
            let host = allowed.chosen(part.first_group..part.first_group + part.groups);
            let list = device.upload(host.as_flattened())?;
            Ok(PartGroups { count: host.len(), chosen: Some(Chosen { host, list }) })
        };
        let parts: Vec<PartGroups> = codes.parts.iter().map(of_part).collect::<Result<_, _>>()?;
        let rows = queries.rows(codes.n as u64) as usize;
        Ok(Groups { rows, count: parts.iter().map(|part| part.count).sum(), parts })
    }

    /// Groups of the largest part.
    pub(super) fn most(&self) -> usize {
        self.parts.iter().map(|part| part.count).max().unwrap_or(0)
    }
}

impl PartGroups {
    /// The position, from the first of the part on, of a row that is at `place` among those of the groups looked at.
    pub(super) fn position(&self, place: usize) -> usize {
        match &self.chosen {
            Some(chosen) => chosen.host[place / BLOCK][0] as usize * BLOCK + place % BLOCK,
            None => place,
        }
    }
}
