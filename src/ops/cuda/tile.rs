//! How products of panels run on a device (cuda/tile.cuh).

use super::{
    device::Device,
    rows::{LEFT, PANEL_ROW, RIGHT},
};

/// What the tensor cores of a device are driven by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tier {
    /// There are none: everything is in fp32.
    Fp32,
    /// mma.sync and cp.async.
    Mma,
    /// wgmma and the bulk copy engine.
    Wgmma,
}

impl Tier {
    pub(super) fn of(device: &Device) -> Tier {
        match (device.specific(), device.arch()) {
            (true, _) => Tier::Wgmma,
            (false, (8.., _)) => Tier::Mma,
            _ => Tier::Fp32,
        }
    }
}

/// How a kernel that multiplies panels is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TileShape {
    /// Whether the left panels stay in shared memory.
    pub(super) resident: bool,
    /// Of the ring that panels come through.
    pub(super) stages: usize,
    pub(super) threads: u32,
    /// Parts that a tile of the right operand is divided into among warps, each of which finds something else.
    pub(super) parts: usize,
    pub(super) shared_bytes: u32,
}

/// Bytes that a block's own variables take at most, and stages the kernels have barriers for.
const STATIC: usize = 2048;
const STAGES: usize = 8;
/// Threads of a block, and parts of a tile.
const WGMMA: (u32, usize) = (384, 1);
const MMA: (u32, usize) = (256, 2);
/// Stages that hide the way to memory when both operands come through the ring.
const STREAMED: usize = 4;

impl TileShape {
    /// For rows of so many panels, where the tensor cores can take them.
    pub(super) fn new(tier: Tier, shared_limit: usize, panels: usize) -> Option<TileShape> {
        let (left, right) = (LEFT * PANEL_ROW, RIGHT * PANEL_ROW);
        let room = shared_limit.saturating_sub(STATIC);
        let shape = |resident, stages: usize, stage: usize, (threads, parts)| TileShape {
            resident,
            stages,
            threads,
            parts,
            shared_bytes: (stages * stage + if resident { panels * left } else { 0 }) as u32,
        };
        match tier {
            Tier::Fp32 => None,
            Tier::Wgmma => {
                let beside = room.saturating_sub(panels * left) / right;
                let streamed = (room / (left + right)).min(STREAMED);
                if beside >= 2 {
                    Some(shape(true, beside.min(STAGES), right, WGMMA))
                } else {
                    (streamed >= 2).then(|| shape(false, streamed, left + right, WGMMA))
                }
            }
            // Half a left panel at a time.
            Tier::Mma => {
                let stages = (room / (left / 2 + right)).min(3);
                (stages >= 2).then(|| shape(false, stages, left / 2 + right, MMA))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_h200_keeps_rows_of_384_columns() {
        let shape = TileShape::new(Tier::Wgmma, 232_448, 6).unwrap();
        assert_eq!((shape.resident, shape.stages), (true, 2));
        assert!(shape.shared_bytes as usize + STATIC <= 232_448);
        let wide = TileShape::new(Tier::Wgmma, 232_448, 24).unwrap();
        assert_eq!((wide.resident, wide.stages), (false, 4));
        assert_eq!(TileShape::new(Tier::Wgmma, 232_448, 2).unwrap().stages, 8);
    }

    #[test]
    fn smaller_devices_have_fewer_stages() {
        assert_eq!(TileShape::new(Tier::Mma, 101_376, 6).unwrap().stages, 3);
        assert_eq!(TileShape::new(Tier::Mma, 49_152, 6), None);
        assert_eq!(TileShape::new(Tier::Fp32, 49_152, 6), None);
    }
}
