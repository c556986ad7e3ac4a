//! Arguments about what a store is made of: its model, its ids, the embedding model of its rows.

use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use roaring::{RoaringBitmap, RoaringTreemap};
use vlc::{
    Embedding, Filter, IdKind, Ids, Index, Info, InputError, MappedFile, RowFilter, Store,
    read::{read_ids, read_text_ids},
};

use crate::{error::CliError, output::Output};

/// The model of a file that names it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArg {
    /// The file with the model, where INDEX names one that is not beside it
    #[arg(long, value_name = "M.vlc")]
    model: Option<PathBuf>,
}

impl ModelArg {
    pub(crate) fn open(&self, index: &Path) -> Result<Index<MappedFile>, CliError> {
        Ok(match &self.model {
            Some(model) => Index::open_with_model(index, model)?,
            None => Index::open(index)?,
        })
    }

    pub(crate) fn read(&self, index: &Path) -> Result<Index<Vec<u8>>, CliError> {
        Ok(match &self.model {
            Some(model) => Index::read_with_model(index, model)?,
            None => Index::read(index)?,
        })
    }

    pub(crate) fn store(&self, index: &Path) -> Result<Store, CliError> {
        Ok(match &self.model {
            Some(model) => Store::open_with_model(index, model)?,
            None => Store::open(index)?,
        })
    }
}

/// The embedding model of vectors.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct EmbeddingArg {
    /// The embedding model that the vectors are from, such as sentence-transformers/all-MiniLM-L6-v2
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    embedding_model: Option<String>,
    /// A hash of its weights, where the name alone does not say which they are
    #[arg(long, value_name = "HASH", requires = "embedding_model", value_parser = NonEmptyStringValueParser::new())]
    embedding_hash: Option<String>,
}

impl EmbeddingArg {
    pub(crate) fn get(&self) -> Option<Embedding> {
        let name = self.embedding_model.clone()?;
        Some(Embedding { name, hash: self.embedding_hash.clone() })
    }
}

/// The embedding model of vectors that meet those of a store.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CheckedEmbedding {
    #[command(flatten)]
    embedding: EmbeddingArg,
    /// Go on where that is not the embedding model of the rows of INDEX (otherwise exit 2)
    #[arg(long, requires = "embedding_model")]
    force: bool,
}

impl CheckedEmbedding {
    /// Refuses another embedding model than that of the rows, or says that it is another.
    pub(crate) fn check<D: AsRef<[u8]>>(&self, index: &Index<D>, out: &Output) -> Result<(), CliError> {
        match self.embedding.get().map_or(Ok(()), |embedding| index.check_embedding(&embedding)) {
            Err(error) if self.force => out.note(&format!("vlc: warning: {error}")),
            checked => checked?,
        }
        Ok(())
    }
}

/// Which rows a search may return.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct FilterArg {
    /// Return only rows with these ids: .npy or text as for compress, or a .roaring bitmap (portable format, 32 or 64 bits). Ids that
    /// no row has are passed over
    #[arg(long, value_name = "FILE", conflicts_with = "deny")]
    allow: Option<PathBuf>,
    /// Return no rows with these ids
    #[arg(long, value_name = "FILE")]
    deny: Option<PathBuf>,
}

impl FilterArg {
    /// The filter for an index, if one was asked for.
    pub(crate) fn ready<D: AsRef<[u8]>>(&self, index: &Index<D>) -> Result<Option<RowFilter>, CliError> {
        let Some(path) = self.allow.as_ref().or(self.deny.as_ref()) else { return Ok(None) };
        let ids = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("roaring")) {
            read_bitmap(path)?
        } else {
            ids_for(path, &index.info())?
        };
        let filter = if self.allow.is_some() { Filter::Allow(&ids) } else { Filter::Deny(&ids) };
        Ok(Some(index.filter(filter)?))
    }
}

/// Most ids a bitmap may have: a few bytes of it can stand for any number of them.
const MOST_IDS: u64 = 1 << 28;

/// The numbers in a roaring bitmap.
fn read_bitmap(path: &Path) -> Result<Ids, CliError> {
    let bytes = std::fs::read(path).map_err(|source| vlc::Error::Io { path: path.to_owned(), source })?;
    let too_many = |count: u64| input_error(path, format!("{count} ids; at most {MOST_IDS} fit into a filter"));
    // One of 32 bits starts with a cookie that would be an absurd count in one of 64.
    if let Ok(bitmap) = RoaringBitmap::deserialize_from(bytes.as_slice()) {
        return if bitmap.len() > MOST_IDS {
            Err(too_many(bitmap.len()))
        } else {
            Ok(bitmap.iter().map(u64::from).collect())
        };
    }
    match RoaringTreemap::deserialize_from(bytes.as_slice()) {
        Ok(bitmap) if bitmap.len() > MOST_IDS => Err(too_many(bitmap.len())),
        Ok(bitmap) => Ok(bitmap.iter().collect()),
        Err(error) => Err(input_error(path, format!("not a roaring bitmap in the portable format: {error}"))),
    }
}

/// The ids in a file for as many rows.
pub(crate) fn ids_of_rows(path: &Path, ids: Ids, rows: usize) -> Result<Ids, CliError> {
    if ids.len() == rows {
        return Ok(ids);
    }
    let message = format!("there are {} ids for {rows} rows; give one for each row", ids.len());
    Err(input_error(path, message))
}

/// The ids in a file, of the kind that a store has: where that is text, numbers are text too.
pub(crate) fn ids_for(path: &Path, info: &Info) -> Result<Ids, CliError> {
    let ids = if info.ids == IdKind::Text { read_text_ids(path)? } else { read_ids(path)? };
    match &ids {
        // A store without rows has no kind yet.
        Ids::Text(text) if info.ids != IdKind::Text && info.segments_of_rows > 0 => {
            let odd = text.iter().position(|id| id.parse::<u64>().is_err() || id.starts_with(['0', '+']));
            let line = odd.unwrap_or_default();
            let message =
                format!("line {}: the ids of the store are numbers, and {:?} is none", line + 1, text[line]);
            Err(input_error(path, message))
        }
        _ => Ok(ids),
    }
}

fn input_error(path: &Path, message: String) -> CliError {
    vlc::Error::Input(InputError::new(Some(path), message)).into()
}

/// The hash of a model as it is printed.
pub(crate) fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}
