//! Arguments about what a store is made of: its model, its ids, the embedding model of its rows.

use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use vlc::{
    Embedding, IdKind, Ids, Index, Info, InputError, MappedFile, Store,
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
