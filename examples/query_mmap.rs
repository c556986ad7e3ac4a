//! Opens a .vlc file by mapping it, checks every byte and asks it one query.
//!
//!     cargo run --release --bin vlc -- compress BASE -o base.vlc
//!     cargo run --release --example query_mmap -- base.vlc QUERIES ROW
//!
//! QUERIES is any vector file, ROW the query in it (default 0). Without arguments the 5,000 passages in this repository are
//! compressed into a temporary file first.

use std::{error::Error, path::Path, time::Instant};

use vlc::{
    Budget, Config, Index,
    read::{RowSource, VectorFile},
};

const K: usize = 10;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [index, queries, rest @ ..] = args.as_slice() {
        let row = rest.first().map_or(Ok(0), |row| row.parse())?;
        return ask(Path::new(index), Path::new(queries), row);
    }
    if !args.is_empty() {
        return Err("usage: query_mmap [INDEX.vlc QUERIES [ROW]]".into());
    }
    let dir = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/docs-minilm-384-5k"));
    let scratch = tempfile::tempdir()?;
    let index = scratch.path().join("base.vlc");
    // Rows are streamed from the mapped input; the output appears under its name when it is complete.
    let config = Config { budget: Budget::Ratio(0.0833), ..Config::default() };
    vlc::compress_to(&VectorFile::open(dir.join("base.i8.npy"))?, &index, &config)?;
    ask(&index, &dir.join("queries.i8.npy"), 0)
}

fn ask(path: &Path, queries: &Path, row: usize) -> Result<(), Box<dyn Error>> {
    // Opening reads the model, not the rows: it takes the same time for a thousand rows and a hundred million.
    let start = Instant::now();
    let index = Index::open(path)?;
    println!("opened {} rows x {} in {:.1} ms", index.len(), index.dim(), milliseconds(start));

    // Optional: what opening did not look at is read once and compared with its checksums.
    let start = Instant::now();
    index.verify()?;
    println!("verified {} bytes in {:.1} ms", index.bytes().len(), milliseconds(start));

    let queries = VectorFile::open(queries)?;
    let mut query = vec![0.0; queries.dim()];
    queries.read(row, &mut query)?;
    let start = Instant::now();
    let hits = index.query(&query, K)?;
    println!("searched all rows in {:.2} ms", milliseconds(start));
    for (rank, hit) in hits.iter().enumerate() {
        println!("{:>3}. row {:>6}  score {:.4}", rank + 1, hit.id, hit.score);
    }
    Ok(())
}

fn milliseconds(start: Instant) -> f64 {
    1e3 * start.elapsed().as_secs_f64()
}
