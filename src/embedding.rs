//! Which embedding model vectors are from: those of two models must not be compared.

use std::collections::BTreeMap;

use crate::{error::Error, escape::printable};

const NAME: &str = "vlc.embedding.name";
const HASH: &str = "vlc.embedding.hash";

/// An embedding model: its name, and a hash of its weights where the name alone does not say which they are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Embedding {
    /// Such as `sentence-transformers/all-MiniLM-L6-v2`; compared letter by letter.
    pub name: String,
    /// Compared where both sides have one.
    pub hash: Option<String>,
}

impl Embedding {
    /// The one named in a file's metadata.
    pub(crate) fn of(metadata: &BTreeMap<String, String>) -> Option<Embedding> {
        Some(Embedding { name: metadata.get(NAME)?.clone(), hash: metadata.get(HASH).cloned() })
    }

    /// Puts it into a file's metadata.
    pub(crate) fn put(&self, metadata: &mut BTreeMap<String, String>) {
        metadata.insert(NAME.to_owned(), self.name.clone());
        match &self.hash {
            Some(hash) => metadata.insert(HASH.to_owned(), hash.clone()),
            None => metadata.remove(HASH),
        };
    }

    /// Refuses vectors of `other` for a file of this model.
    pub(crate) fn check(&self, other: &Embedding) -> Result<(), Error> {
        let differ = |a: &str, b: &str| a != b;
        let hashes = self.hash.as_deref().zip(other.hash.as_deref());
        if differ(&self.name, &other.name) || hashes.is_some_and(|(a, b)| differ(a, b)) {
            let (own, given) = (self.to_string(), other.to_string());
            return Err(Error::Config(format!(
                "the file is of embedding model {own}, the vectors of {given}: their distances mean nothing; embed with \
                 {own}, or force it"
            )));
        }
        Ok(())
    }
}

/// The name, and the hash where there is one, [escaped](printable).
impl std::fmt::Display for Embedding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.hash {
            Some(hash) => write!(f, "{} ({})", printable(&self.name), printable(hash)),
            None => printable(&self.name).fmt(f),
        }
    }
}
