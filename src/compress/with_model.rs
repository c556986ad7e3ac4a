//! Model files, and files made with them.

use std::{collections::BTreeMap, path::Path};

use super::{
    drift::{has_drifted, trained_lengths, unlike_lengths},
    fit::fit,
    rows::{Encoding, encode_all},
};
use crate::{
    backend::{Backend, Compute},
    config::{Config, Decoder},
    embedding::Embedding,
    encode::Encoder,
    error::{Error, InputError},
    file::{
        head,
        lengths::Lengths,
        publish::{Tell, publish_at},
        segments::{NewSegment, Part, Source},
    },
    format::{
        history::{Written as Appended, bytes as history_bytes},
        model_ref::{ModelRef, hash_of as model_hash},
        write::metadata_bytes,
    },
    ids::Ids,
    index::Index,
    learned::synthesis::Synthesizer,
    ops::{
        run,
        seam::{Ops, WithOps},
    },
    platform::Stopwatch,
    read::source::RowSource,
    refine::encode::RefineEncoder,
    report::{Event, ProgressFn, Stage, stage_report, teller},
};

#[cfg(doc)]
use super::drift::AppendReport;

/// What a file made of others, or with a model, is.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BuildReport {
    /// Rows; 0 for a model file.
    pub n: u64,
    /// Dimensions.
    pub dim: u32,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Mean squared L2 error of the rows encoded, as unit vectors, what their lengths are off by counted as a share of them; for a model
    /// file that of the training rows.
    pub energy: f64,
    /// That of the training rows.
    pub trained_energy: f64,
    /// Whether the model does not fit the rows, as [`AppendReport::drifted`].
    pub drifted: bool,
    /// The least and the greatest length above 0 of the rows encoded, as [`AppendReport::lengths`]; `None` also for files that are put
    /// together.
    pub lengths: Option<(f32, f32)>,
    /// The same of the rows the model was made of, as [`AppendReport::trained_lengths`].
    pub trained_lengths: Option<(f32, f32)>,
    /// What the model is known by.
    pub model_hash: u128,
    /// All of it.
    pub seconds: f64,
    /// Where the arithmetic ran.
    pub backend: Backend,
}

impl BuildReport {
    /// Whether rows are longer or shorter than any that the model was made of, as [`AppendReport::unlike_lengths`].
    #[must_use]
    pub fn unlike_lengths(&self) -> bool {
        unlike_lengths(self.lengths, self.trained_lengths)
    }
}

/// Trains a model on `rows` and writes it to a file without rows, for [`compress_with_model`]. Its sizes are those that meet the budget for
/// `config.expected_rows` rows, and for those given where that is `None`.
///
/// # Errors
/// As [`compress_to`](crate::compress::compress_to).
pub fn train_to(rows: &dyn RowSource, path: impl AsRef<Path>, config: &Config<'_>) -> Result<BuildReport, Error> {
    struct Job<'a>(&'a dyn RowSource, &'a Path, &'a Config<'a>);
    impl WithOps for Job<'_> {
        type Output = BuildReport;
        fn run<O: Ops>(self, ops: O) -> Result<BuildReport, Error> {
            train_on(&ops, self.0, self.1, self.2)
        }
    }
    let job = Job(rows, path.as_ref(), config);
    run(&config.compute, job)
}

fn train_on<O: Ops>(ops: &O, rows: &dyn RowSource, path: &Path, config: &Config<'_>) -> Result<BuildReport, Error> {
    let watch = Stopwatch::start();
    if config.ids.is_some() {
        return Err(Error::Config("a model has no rows, and takes no ids".into()));
    }
    // A network does little for rows that it was not trained on.
    let config = &match config.decoder {
        Decoder::Auto => Config { decoder: Decoder::Off, ..config.clone() },
        _ => config.clone(),
    };
    let fitted = fit(ops, rows, config, &watch)?;
    let meta = fitted.meta();
    let head = fitted.shape(&meta).head;
    let model_hash = model_hash(&head);
    let file_bytes = write_whole(path, &head, &[], &teller(config.progress), &|| Ok(()))?;
    Ok(BuildReport {
        n: 0,
        dim: meta.dim,
        file_bytes,
        energy: meta.energy,
        trained_energy: meta.energy,
        drifted: false,
        lengths: None,
        trained_lengths: trained_lengths(&fitted.trained.model),
        model_hash,
        seconds: watch.seconds(),
        backend: ops.backend(),
    })
}

/// Encodes `rows` with the model of the file `model` (a model file, or any other) into the file `path`. The same rows give the same
/// bytes, whatever the number of threads; and files of consecutive parts of the rows, [merged](crate::store::merge::merge), are the file of them all (with the metrics dot and l2
/// where the model has seen rows as long and as short; else they hold the same rows, each as its part has it).
///
/// With `refer` the new file does not hold the model, but names its file, which must stay in the same folder, or be named by whoever
/// opens the new one: for many small stores, of which the model would be the larger part.
///
/// # Errors
/// As [`compress_to`](crate::compress::compress_to).
pub fn compress_with_model(
    rows: &dyn RowSource,
    model: impl AsRef<Path>,
    path: impl AsRef<Path>,
    refer: bool,
    metadata: &BTreeMap<String, String>,
    options: &EncodeOptions<'_>,
) -> Result<BuildReport, Error> {
    struct Job<'a> {
        rows: &'a dyn RowSource,
        model: &'a Path,
        path: &'a Path,
        refer: bool,
        metadata: &'a BTreeMap<String, String>,
        options: &'a EncodeOptions<'a>,
    }
    impl WithOps for Job<'_> {
        type Output = BuildReport;
        fn run<O: Ops>(self, ops: O) -> Result<BuildReport, Error> {
            encode_on(&ops, self.rows, self.model, self.path, self.refer, self.metadata, self.options)
        }
    }
    let job = Job { rows, model: model.as_ref(), path: path.as_ref(), refer, metadata, options };
    run(&options.compute, job)
}

fn encode_on<O: Ops>(
    ops: &O,
    rows: &dyn RowSource,
    model_path: &Path,
    path: &Path,
    refer: bool,
    metadata: &BTreeMap<String, String>,
    options: &EncodeOptions<'_>,
) -> Result<BuildReport, Error> {
    let watch = Stopwatch::start();
    crate::config::check_keys(metadata)?;
    if let Some(ids) = options.ids {
        ids.check(rows.rows())?;
    }
    let index = Index::open(model_path)?;
    let parsed = index.parsed();
    let encoded = encode(ops, &index, rows, path, options)?;

    let mut head = head_with(&index, model_path, refer, metadata, options)?;
    let n = rows.rows() as u64;
    let written = Appended { first: 0, rows: n, error: encoded.error };
    head::set(&mut head, *b"HIST", history_bytes(&[written]));

    let anchors = parsed.model.anchors();
    let source = Source::fresh(&encoded.labels, anchors, encoded.spool.bytes(), &encoded.lengths, 0);
    let new = NewSegment::of(parsed, 0, 0, n);
    let whole = || {
        index.check_whole()?;
        encoded.spool.whole().map_err(|error| Error::io(path, error))
    };
    let tell = teller(options.progress);
    let part = Part { new, sources: &[source], ids: options.ids };
    let file_bytes = write_whole(path, &head, &[part], &tell, &whole)?;
    Ok(BuildReport {
        n,
        dim: parsed.meta.dim,
        file_bytes,
        energy: written.energy(),
        trained_energy: parsed.meta.energy,
        drifted: has_drifted(parsed, written.energy()),
        lengths: Lengths::of(&encoded.lengths).range(),
        trained_lengths: trained_lengths(&parsed.model),
        model_hash: parsed.model_hash,
        seconds: watch.seconds(),
        backend: ops.backend(),
    })
}

/// The head of the model's file, for other rows.
fn head_with<D: AsRef<[u8]>>(
    index: &Index<D>,
    model_path: &Path,
    refer: bool,
    metadata: &BTreeMap<String, String>,
    options: &EncodeOptions<'_>,
) -> Result<head::Head, Error> {
    let parsed = index.parsed();
    let mut head = head::of(parsed, index.bytes());
    if refer && parsed.model_ref.is_none() {
        let name = model_path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| Error::Config("the model's file name is not UTF-8; rename it".into()))?;
        let model = [*b"MEAN", *b"CHRT", *b"ANCH", *b"SIDE", *b"SCOR", *b"RFNM", *b"DECO"];
        head.retain(|(kind, _)| !model.contains(kind));
        let model_ref = ModelRef { hash: parsed.model_hash, name: name.to_owned() };
        head::set(&mut head, *b"MREF", model_ref.to_bytes());
    } else if !refer && parsed.model_ref.is_some() {
        return Err(Error::Config(
            "the model is not in this file, which names another; give that as the model".into(),
        ));
    }
    let mut all = parsed.metadata.clone();
    all.extend(metadata.clone());
    if let Some(embedding) = &options.embedding {
        embedding.put(&mut all);
    }
    head::set(&mut head, *b"KEYV", metadata_bytes(&all));
    Ok(head)
}

/// Writes a whole file. Gives its bytes and what its model is known by.
pub(crate) fn write_whole(
    path: &Path,
    head: &head::Head,
    parts: &[Part<'_>],
    tell: &Tell<'_>,
    whole: &dyn Fn() -> Result<(), Error>,
) -> Result<u64, Error> {
    let io = |error| Error::io(path, error);
    let report = |done: usize, total: usize| {
        whole()?;
        tell(&Event::Progress { stage: Stage::Write, done: done as u64, total: total as u64 })
    };
    publish_at(path, tell, |file| {
        let len = head::write_file(file, 1, head, parts, &io, &report)?;
        whole().map(|()| len)
    })
}

/// How rows are encoded with a model that is there.
#[derive(Clone, Default)]
pub struct EncodeOptions<'a> {
    /// Ids of the rows; without them a row's number is its id.
    pub ids: Option<&'a Ids>,
    /// The embedding model that the rows are from: refused where the file is of another.
    pub embedding: Option<Embedding>,
    /// Where the arithmetic runs.
    pub compute: Compute,
    /// Receives progress and may cancel.
    pub progress: Option<&'a ProgressFn<'a>>,
}

/// Encodes rows with the model of an index.
pub(crate) fn encode<O: Ops, D: AsRef<[u8]>>(
    ops: &O,
    index: &Index<D>,
    rows: &dyn RowSource,
    output: &Path,
    options: &EncodeOptions<'_>,
) -> Result<crate::compress::rows::EncodedRows, Error> {
    let (model, meta) = (&*index.parsed().model, &index.parsed().meta);
    if rows.dim() != model.dim {
        let message = format!("the rows have {} dimensions, the file has {}", rows.dim(), model.dim);
        return Err(InputError::new(rows.path(), message).into());
    }
    if rows.rows() == 0 {
        return Err(InputError::new(rows.path(), "there are no rows; give at least one").into());
    }
    if let (Some(own), Some(given)) = (index.embedding(), &options.embedding) {
        own.check(given)?;
    }
    let report = stage_report(options.progress);
    let begun = || report(Stage::Encode, 0, rows.rows());
    let encoder = Encoder::of(model, &begun)?;
    let layer = index.parsed().refine.as_ref();
    let layer_encoder = layer.map(|layer| RefineEncoder::of(layer, &begun)).transpose()?;
    let learned = index.parsed().learned.as_ref();
    let synthesizer = learned.map(|learned| Synthesizer::new(model, &encoder, learned.unit));
    let encoding = Encoding {
        rows,
        model,
        encoder: &encoder,
        refine: layer.zip(layer_encoder.as_ref()),
        learned: learned.zip(synthesizer.as_ref()),
        alpha: meta.alpha,
        output,
        errors: true,
    };
    let encoded = encode_all(ops, &encoding, None, &report)?;
    index.check_whole()?;
    Ok(encoded)
}
