//! What shaders and the host must lay out alike: the parameters of every kernel, each as the structure of the same name in
//! shaders/ (a test compares them).

use bytemuck::{NoUninit, Zeroable};

// assign

/// Of the search for the nearest anchors.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct AssignParams {
    pub(super) row0: u32,
    pub(super) rows: u32,
    pub(super) first: u32,
    pub(super) d: u32,
    pub(super) anchors: u32,
    pub(super) each: u32,
    pub(super) all_rows: u32,
    pub(super) split0: u32,
    pub(super) anchor0: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
    pub(super) _pad2: u32,
}

/// Of what goes before and after that search.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct SettleParams {
    pub(super) row0: u32,
    pub(super) rows: u32,
    pub(super) first: u32,
    pub(super) d: u32,
    pub(super) splits: u32,
    pub(super) all_rows: u32,
    pub(super) candidate: u32,
    pub(super) candidates: u32,
    pub(super) anchor0: u32,
    pub(super) anchors: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

// project

/// Of products of rows with a transform.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct ProjectParams {
    pub(super) row0: u32,
    pub(super) rows: u32,
    pub(super) d: u32,
    pub(super) a: u32,
    pub(super) out0: u32,
    pub(super) offset: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}

/// Of copies of rows.
#[repr(C)]
#[derive(Debug, Clone, Copy, NoUninit, Zeroable)]
pub(super) struct SelectParams {
    pub(super) count: u32,
    pub(super) d: u32,
    pub(super) _pad0: u32,
    pub(super) _pad1: u32,
}
