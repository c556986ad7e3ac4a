//! Arguments about what a store is made of: its model, its ids, the embedding model of its rows.

use std::path::{Path, PathBuf};

use clap::builder::NonEmptyStringValueParser;
use roaring::{RoaringBitmap, RoaringTreemap};
use vlc::{
    Embedding, Filter, IdKind, Ids, Index, Info, InputError, MappedFile, RowFilter, Store,
    read::{read_ids, read_text_ids},
};

use crate::{
    error::CliError,
    output::{Output, count, shown},
    outputs::input,
};

/// The model of a file that names it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ModelArg {
    /// The file with the model, where INDEX names one that is not beside it
    #[arg(long, value_name = "M.vlc", value_parser = input())]
    model: Option<PathBuf>,
}

impl ModelArg {
    /// The file, where one was named.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.model.as_deref()
    }

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
    /// no row has are passed over, with a word where that is all of them
    #[arg(long, value_name = "FILE", conflicts_with = "deny", value_parser = input())]
    allow: Option<PathBuf>,
    /// Return no rows with these ids
    #[arg(long, value_name = "FILE", value_parser = input())]
    deny: Option<PathBuf>,
}

impl FilterArg {
    /// The list, if one was named.
    pub(crate) fn path(&self) -> Option<&Path> {
        self.allow.as_deref().or(self.deny.as_deref())
    }

    /// The filter for an index, if one was asked for. A list that names no row at all is told.
    pub(crate) fn ready<D: AsRef<[u8]>>(
        &self,
        index: &Index<D>,
        out: &Output,
    ) -> Result<Option<RowFilter>, CliError> {
        let Some(path) = self.path() else { return Ok(None) };
        let named = if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("roaring")) {
            Named::Bitmap(Bitmap::read(path)?)
        } else {
            Named::List(ids_for(path, &index.info())?)
        };
        let allow = self.allow.is_some();
        let filter = match &named {
            Named::Bitmap(bitmap) => index.filter_by(|id| bitmap.contains(id) == allow)?,
            Named::List(ids) if allow => index.filter(Filter::Allow(ids))?,
            Named::List(ids) => index.filter(Filter::Deny(ids))?,
        };
        let found = if allow { filter.len() } else { index.len() as u64 - filter.len() };
        if found == 0 && !index.is_empty() {
            let first = named.first().map(|id| format!(" (the first is {id})")).unwrap_or_default();
            out.note(&format!(
                "vlc: warning: {}: of its {} ids{first} none is in the store, {}",
                shown(path),
                count(named.len()),
                if allow { "so nothing can be found" } else { "so nothing is left out" }
            ));
        }
        Ok(Some(filter))
    }
}

/// The ids that a filter names.
enum Named {
    List(Ids),
    Bitmap(Bitmap),
}

impl Named {
    fn len(&self) -> u64 {
        match self {
            Named::List(ids) => ids.len() as u64,
            Named::Bitmap(Bitmap::Short(ids)) => ids.len(),
            Named::Bitmap(Bitmap::Long(ids)) => ids.len(),
        }
    }

    fn first(&self) -> Option<String> {
        match self {
            Named::List(Ids::Numbers(ids)) => ids.first().map(u64::to_string),
            // In quotes: a blank at the end of each, as of a column cut out of a table, is easily overlooked.
            Named::List(Ids::Text(ids)) => ids.first().map(|id| format!("{id:?}")),
            Named::Bitmap(Bitmap::Short(ids)) => ids.min().map(|id| id.to_string()),
            Named::Bitmap(Bitmap::Long(ids)) => ids.min().map(|id| id.to_string()),
        }
    }
}

/// The numbers in a roaring bitmap, of 32 or of 64 bits.
enum Bitmap {
    Short(RoaringBitmap),
    Long(RoaringTreemap),
}

impl Bitmap {
    fn read(path: &Path) -> Result<Bitmap, CliError> {
        let bytes = std::fs::read(path).map_err(|source| vlc::Error::Io { path: path.to_owned(), source })?;
        // One of 32 bits starts with a cookie that would be an absurd count in one of 64.
        if let Ok(bitmap) = RoaringBitmap::deserialize_from(bytes.as_slice()) {
            return Ok(Bitmap::Short(bitmap));
        }
        let wrong = |error| input_error(path, format!("not a roaring bitmap in the portable format: {error}"));
        RoaringTreemap::deserialize_from(bytes.as_slice()).map(Bitmap::Long).map_err(wrong)
    }

    fn contains(&self, id: u64) -> bool {
        match self {
            Bitmap::Short(ids) => u32::try_from(id).is_ok_and(|id| ids.contains(id)),
            Bitmap::Long(ids) => ids.contains(id),
        }
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
    let Ids::Text(text) = &ids else { return Ok(ids) };
    // A store without rows has no kind yet.
    if info.ids == IdKind::Text || info.segments_of_rows == 0 {
        return Ok(ids);
    }
    // As they would be printed: an array of strings may hold numbers.
    let number = |id: &String| id.parse::<u64>().ok().filter(|number| number.to_string() == *id);
    match text.iter().position(|id| number(id).is_none()) {
        None => Ok(text.iter().filter_map(number).collect()),
        Some(row) => {
            let npy = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("npy"));
            let place = if npy { format!("row {row}") } else { format!("line {}", row + 1) };
            let id = &text[row];
            Err(input_error(path, format!("{place}: the ids of the store are numbers, and {id:?} is none")))
        }
    }
}

fn input_error(path: &Path, message: String) -> CliError {
    vlc::Error::Input(InputError::new(Some(path), message)).into()
}

/// The hash of a model as it is printed.
pub(crate) fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}
