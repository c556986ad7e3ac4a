//! Text that comes from a file or a caller, made fit to be printed.

use std::fmt::{Display, Formatter, Result, Write};

/// Whether a character could change what a reader takes the text around it for: control characters, those that turn the direction of
/// writing or end a line, and those without a width.
#[must_use]
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Soft hyphen, Arabic letter mark, Mongolian vowel separator.
            '\u{AD}' | '\u{61C}' | '\u{180E}'
            // Widths of zero, marks and turns of direction.
            | '\u{200B}'..='\u{200F}'
            // Ends of lines and paragraphs, embeddings and overrides.
            | '\u{2028}'..='\u{202E}'
            // Joiners and operators without a width, isolates.
            | '\u{2060}'..='\u{206F}'
            // The byte order mark, interlinear notes, tags.
            | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}')
}

/// Text that is escaped as it is displayed; see [`printable`].
#[derive(Debug, Clone, Copy)]
pub struct Printable<T>(T);

/// Shows `text` on one line with its [unprintable](is_unprintable) characters escaped, as `\n` or `\u{202e}`. Every message of this library
/// shows names so; the text itself is to be used for anything but reading.
pub fn printable<T: Display>(text: T) -> Printable<T> {
    Printable(text)
}

impl<T: Display> Display for Printable<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unprintable) {
            let (before, from) = rest.split_at(at);
            self.0.write_str(before)?;
            let mut chars = from.chars();
            chars.next().map_or(Ok(()), |c| write!(self.0, "{}", c.escape_default()))?;
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::{
        embedding::Embedding,
        error::{Error, InputError, ParseError},
    };

    /// One of each kind: C0, DEL, C1, bidi, zero-width, end of line.
    const ODD: &str =
        "a\u{1b}[2J\n\u{7f}\u{9b}\u{202e}\u{2067}\u{200f}\u{61c}\u{200b}\u{2060}\u{feff}\u{2028}\u{2029}z";

    #[track_caller]
    fn is_clean(text: impl Display) {
        let text = text.to_string();
        assert!(!text.contains(is_unprintable), "{text:?}");
        assert!(text.contains("\\u{1b}") && text.contains("\\u{202e}") && text.contains('z'), "{text}");
    }

    #[test]
    fn odd_characters_are_escaped_and_others_kept() {
        is_clean(printable(ODD));
        let plain = "Zürich, 東京, שלום, नमस्ते, 🙂 \\ \"q\"";
        assert_eq!(printable(plain).to_string(), plain);
        assert_eq!(printable("a\tb\r\n").to_string(), "a\\tb\\r\\n");
        for range in [0x202A..=0x202E, 0x2066..=0x2069, 0x200B..=0x200F, 0x80..=0x9F, 0..=0x1F, 0x7F..=0x7F] {
            assert!(range.filter_map(char::from_u32).all(is_unprintable));
        }
    }

    #[test]
    fn no_error_prints_a_name_as_it_is() {
        let path = PathBuf::from(ODD);
        is_clean(Error::Config(ODD.into()));
        is_clean(Error::Io { path: path.clone(), source: std::io::Error::other(ODD) });
        is_clean(Error::Uncertain { path: path.clone(), source: std::io::Error::other(ODD) });
        is_clean(ParseError::Feature { bit: 1, name: ODD.into() });
        is_clean(Error::Locked { path: path.clone(), pid: None });
        is_clean(Error::Unavailable { backend: crate::backend::Backend::Cuda, reason: ODD.into() });
        is_clean(Error::Device { backend: crate::backend::Backend::Cuda, source: ODD.into() });
        is_clean(InputError::new(Some(Path::new(ODD)), "bad").at_row(1));
        is_clean(Error::from(InputError::new(None, ODD)));
        for source in [
            ParseError::Model { name: ODD.into(), hash: 1 },
            ParseError::Unknown(ODD.into()),
            ParseError::Checksum { part: ODD.into() },
            ParseError::Invalid { part: "header", message: ODD.into() },
        ] {
            is_clean(&source);
            is_clean(Error::Format { path: path.clone(), source });
        }
        is_clean(Embedding { name: ODD.into(), hash: None });
        is_clean(Embedding { name: "a".into(), hash: Some(ODD.into()) });
        is_clean(crate::ids::Ids::Text(vec![ODD.into()]).name(0));
        is_clean(crate::ids::Ids::Text(vec![ODD.into(), ODD.into()]).check(2).unwrap_err());
    }
}
