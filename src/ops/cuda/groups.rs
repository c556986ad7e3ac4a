//! Which groups of the codes a search looks at: all, or those with a row that may be found.

use super::{buffer::Buffer, codes::Codes, device::Device};
use crate::{error::Error, format::rows::BLOCK, ops::types::ScoreTables};

pub(super) struct Groups {
    pub(super) count: usize,
    chosen: Option<Chosen>,
}

/// Groups by number, each with a bit for every row that may be found; all have such rows.
struct Chosen {
    host: Vec<[u32; 2]>,
    list: Buffer<[u32; 2]>,
}

impl Groups {
    pub(super) fn new(device: &Device, codes: &Codes<'_>, queries: &ScoreTables) -> Result<Groups, Error> {
        let Some(allowed) = &queries.allowed else {
            return Ok(Groups { count: codes.groups(), chosen: None });
        };
        let host = allowed.chosen(0..codes.groups());
        let list = device.upload(&host)?;
        Ok(Groups { count: host.len(), chosen: Some(Chosen { host, list }) })
    }

    /// Rows of the groups looked at, also those that may not be found.
    pub(super) fn rows(&self, codes: &Codes<'_>) -> usize {
        if self.chosen.is_some() { self.count * BLOCK } else { codes.n }
    }

    /// Where the list of groups is on the device; 0 where all are looked at.
    pub(super) fn pointer(&self) -> u64 {
        self.chosen.as_ref().map_or(0, |chosen| chosen.list.pointer())
    }

    /// The position of a row that is at `place` among those of the groups looked at.
    pub(super) fn position(&self, place: usize) -> usize {
        match &self.chosen {
            Some(chosen) => chosen.host[place / BLOCK][0] as usize * BLOCK + place % BLOCK,
            None => place,
        }
    }
}
