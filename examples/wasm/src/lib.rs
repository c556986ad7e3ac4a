//! A WebAssembly module that holds one index and answers queries. Numbers come and go through its own buffers, so that
//! nothing here needs `unsafe`: JavaScript asks for a buffer, fills it and calls. `search.mjs` shows how.

use std::cell::RefCell;

use vlc::{Budget, Config, Error, Index, Mat, MatRef, Neighbors, SearchOptions, compress};

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

#[derive(Default)]
struct State {
    /// Of a file, to be opened.
    bytes: Vec<u8>,
    /// Of rows or queries.
    values: Vec<f32>,
    index: Option<Index<Vec<u8>>>,
    found: Option<Neighbors>,
    error: String,
}

/// Runs `work`; how many of something it gave, or 0 and the error is kept.
fn attempt(work: impl FnOnce(&mut State) -> Result<usize, Error>) -> usize {
    STATE.with_borrow_mut(|state| {
        work(state).unwrap_or_else(|error| {
            state.error = error.to_string();
            0
        })
    })
}

/// Room for the bytes of a file. A buffer moves when any function here allocates.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_bytes(len: usize) -> *mut u8 {
    STATE.with_borrow_mut(|state| {
        state.bytes = vec![0; len];
        state.bytes.as_mut_ptr()
    })
}

/// Room for the values of rows or queries, one after the other.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_values(len: usize) -> *mut f32 {
    STATE.with_borrow_mut(|state| {
        state.values = vec![0.0; len];
        state.values.as_mut_ptr()
    })
}

/// Opens the file whose bytes are there, and checks all of it; its number of rows.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_open() -> usize {
    attempt(|state| {
        let index = Index::from_bytes(std::mem::take(&mut state.bytes))?;
        index.verify()?;
        Ok(state.index.insert(index).len())
    })
}

/// Compresses the values, taken as rows of `dim`, to a share of their float32 bytes; the number of bytes.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_compress(dim: usize, ratio: f64) -> usize {
    attempt(|state| {
        let rows = state.values.len().checked_div(dim).unwrap_or(0);
        let rows = Mat::new(std::mem::take(&mut state.values), rows, dim)?;
        let index = compress(rows.view(), &Config { budget: Budget::Ratio(ratio), ..Config::default() })?;
        Ok(state.index.insert(index).bytes().len())
    })
}

/// Finds the `k` rows nearest to each of so many queries, which are the values; how many it found for each.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_search(queries: usize, k: usize) -> usize {
    attempt(|state| {
        let index = state.index.as_ref().ok_or_else(|| Error::Config("no file is open".into()))?;
        let found = index.search(MatRef::new(&state.values, queries, index.dim())?, &SearchOptions::new(k))?;
        Ok(state.found.insert(found).ids.dim())
    })
}

/// The rows found, those of a query together and the nearest first.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_ids() -> *const u64 {
    STATE.with_borrow(|state| state.found.as_ref().map_or(std::ptr::null(), |found| found.ids.as_slice().as_ptr()))
}

/// Their scores.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_scores() -> *const f32 {
    STATE.with_borrow(|state| state.found.as_ref().map_or(std::ptr::null(), |found| found.scores.as_slice().as_ptr()))
}

/// Decodes so many rows from `first` on, in place of the values; how many values they have.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_decode(first: usize, count: usize) -> usize {
    attempt(|state| {
        let index = state.index.as_ref().ok_or_else(|| Error::Config("no file is open".into()))?;
        state.values = index.decode(first..first.saturating_add(count))?.into_vec();
        Ok(state.values.len())
    })
}

/// Where the values are.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_decoded() -> *const f32 {
    STATE.with_borrow(|state| state.values.as_ptr())
}

/// What went wrong last, in UTF-8.
#[unsafe(no_mangle)]
pub extern "C" fn vlc_error() -> *const u8 {
    STATE.with_borrow(|state| state.error.as_ptr())
}

/// Bytes of [`vlc_error`].
#[unsafe(no_mangle)]
pub extern "C" fn vlc_error_len() -> usize {
    STATE.with_borrow(|state| state.error.len())
}
