//! A retrieval store, start to end: compress embeddings in memory, write one file, open it and ask it.
//!
//!     cargo run --release --example compress -- [DIR]
//!
//! DIR holds base.i8.npy, queries-train.i8.npy and queries.i8.npy; by default the 5,000 passages in this repository.

use std::{collections::BTreeMap, error::Error, path::PathBuf};

use vlc::{
    Budget, Config, Index,
    read::{RowSource, VectorFile, read_all},
    write_index,
};

fn main() -> Result<(), Box<dyn Error>> {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/docs-minilm-384-5k");
    let dir = PathBuf::from(std::env::args_os().nth(1).unwrap_or(bundled.into()));

    // What an embedding model would have returned: one row a passage, `MatRef::new(&values, rows, dim)` in a real store.
    let passages = read_all(&VectorFile::open(dir.join("base.i8.npy"))?)?;
    // Queries like those to come. They teach the codec which errors matter; without them recall is lower.
    let sample = read_all(&VectorFile::open(dir.join("queries-train.i8.npy"))?)?;

    let config = Config {
        // The whole file, model included. So small a store needs more than the 3 % that serves a large one.
        budget: Budget::Ratio(0.0833),
        queries: Some(sample.view()),
        // Kept in the file: whoever opens it can see which model must embed the queries.
        metadata: BTreeMap::from([("model".into(), "all-MiniLM-L6-v2".into())]),
        ..Config::default()
    };
    let index = vlc::compress(passages.view(), &config)?;
    let info = index.info();
    println!("{} x {} in {} bytes, {:.2} % of float32", info.n, info.dim, info.file_bytes, 100.0 * info.ratio);
    if let Some(held_out) = info.recall {
        println!("recall@{} on {} held-out queries: {:.3}", held_out.k, held_out.queries, held_out.recall);
    }

    // One file, complete or absent.
    let scratch = tempfile::tempdir()?;
    let path = scratch.path().join("passages.vlc");
    write_index(&index, &path)?;

    // Another process, another day: the embeddings are gone, the file is mapped and shared.
    let store = Index::open(&path)?;
    println!("embedded with {}", store.info().metadata["model"]);
    let questions = VectorFile::open(dir.join("queries.i8.npy"))?;
    let mut question = vec![0.0; questions.dim()];
    questions.read(7, &mut question)?;
    let hits = store.query(&question, 5)?;
    // What the file still knows of these vectors: their directions, as unit vectors. By id, which is not a place among the rows that are
    // left once some are deleted.
    let decoded = store.vectors(&hits.iter().map(|hit| hit.id).collect())?;
    for (i, hit) in hits.iter().enumerate() {
        println!(
            "passage {:>4}  score {:.3}  cosine with the original {:.3}",
            hit.id,
            hit.score,
            cosine(decoded.row(i), passages.row(hit.id as usize))
        );
    }
    Ok(())
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
