//! Which file a name is defined in, through re-exports, and which files use it. Code of tests does not count.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, ImplItem, Item, TraitItem, UseTree};

/// A file that uses a name that another defines.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) line: usize,
    pub(crate) name: String,
}

/// The files below `src/`, by their paths there, and the arrows between them, the first of each pair and name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) files: BTreeSet<String>,
    pub(crate) arrows: Vec<Arrow>,
}

type Names = Vec<String>;

/// What a module has.
#[derive(Debug, Default)]
struct Module {
    file: String,
    items: BTreeSet<String>,
    modules: BTreeSet<String>,
    /// Names bound by `use`, to paths as they are written.
    bound: BTreeMap<String, (Names, usize)>,
    globs: Vec<(Names, usize)>,
    /// Paths in the code, with their lines.
    paths: Vec<(Names, usize)>,
}

#[derive(Debug, Default)]
struct House {
    modules: BTreeMap<Names, Module>,
}

/// Reads a crate from its `lib.rs`. That file is the face of the crate and may use all of it.
pub(crate) fn arrows(src: &Path) -> Result<Found, String> {
    let mut house = House::default();
    house.read(&src.join("lib.rs"), src, &[])?;
    let mut seen = BTreeSet::new();
    let mut arrows = Vec::new();
    for (at, module) in &house.modules {
        if module.file == "lib.rs" {
            continue;
        }
        for (path, line) in module.bound.values().chain(&module.globs).chain(&module.paths) {
            let (path, line) = (path, *line);
            let Some(found) = house.absolute(at, path).and_then(|path| house.define(&path, 0)) else { continue };
            let Some(to) = house.file_of(&found) else { continue };
            let name = found.last().cloned().unwrap_or_default();
            if to != module.file && to != "lib.rs" && seen.insert((module.file.clone(), to.clone(), name.clone())) {
                arrows.push(Arrow { from: module.file.clone(), to, line, name });
            }
        }
    }
    let files = house.modules.values().map(|module| module.file.clone()).filter(|file| file != "lib.rs").collect();
    arrows.sort();
    Ok(Found { files, arrows })
}

impl House {
    fn read(&mut self, path: &Path, src: &Path, at: &[String]) -> Result<(), String> {
        let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = syn::parse_file(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let name = path.strip_prefix(src).unwrap_or(path).to_string_lossy().replace('\\', "/");
        self.module(file.items, &name, src, at)
    }

    fn module(&mut self, items: Vec<Item>, file: &str, src: &Path, at: &[String]) -> Result<(), String> {
        let mut module = Module { file: file.to_owned(), ..Module::default() };
        for item in items {
            if is_test(attributes(&item)) {
                continue;
            }
            match item {
                Item::Mod(inner) => {
                    let name = inner.ident.to_string();
                    module.modules.insert(name.clone());
                    let below = [at, std::slice::from_ref(&name)].concat();
                    match inner.content {
                        Some((_, items)) => self.module(items, file, src, &below)?,
                        None => self.read(&file_of_module(src, &below)?, src, &below)?,
                    }
                }
                Item::Use(item) => bind(&item.tree, &mut Vec::new(), &mut module),
                mut item => {
                    without_tests(&mut item);
                    module.items.extend(name_of(&item));
                    paths(item.to_token_stream(), &[], &mut module.paths);
                }
            }
        }
        self.modules.insert(at.to_vec(), module);
        Ok(())
    }

    /// A path as it is written in the module `at`, from the root of the crate; `None` for what is of another crate.
    fn absolute(&self, at: &[String], path: &[String]) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([at, rest].concat()),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                Some([&at[..at.len().checked_sub(ups)?], &path[ups..]].concat())
            }
            name => {
                let module = self.modules.get(at)?;
                if module.modules.contains(name) || module.items.contains(name) {
                    return Some([at, path].concat());
                }
                // A name that this module binds, such as an imported module.
                let (bound, _) = module.bound.get(name).filter(|(bound, _)| bound[0] != *name)?;
                Some([self.absolute(at, bound)?, rest.to_vec()].concat())
            }
        }
    }

    /// Where a name is defined: the path of the module that does, and the name.
    fn define(&self, path: &[String], depth: usize) -> Option<Names> {
        if depth > 16 {
            return None;
        }
        for (i, name) in path.iter().enumerate() {
            let module = self.modules.get(&path[..i])?;
            if name == "*" {
                return Some(path[..i].to_vec());
            }
            let rest = &path[i + 1..];
            if module.modules.contains(name) && !(rest.is_empty() && module.items.contains(name)) {
                continue;
            }
            if module.items.contains(name) {
                return Some(path[..=i].to_vec());
            }
            let handed_on = match module.bound.get(name) {
                Some((bound, _)) => self.absolute(&path[..i], bound),
                None => {
                    let open = |(glob, _): &(Names, usize)| self.absolute(&path[..i], &glob[..glob.len() - 1]);
                    let globs = module.globs.iter().filter_map(open);
                    let mut found =
                        globs.filter_map(|glob| self.define(&[&glob[..], &path[i..]].concat(), depth + 1));
                    return found.next();
                }
            };
            return self.define(&[handed_on?, rest.to_vec()].concat(), depth + 1);
        }
        Some(path.to_vec())
    }

    /// The file of a module, or of the module that defines an item.
    fn file_of(&self, path: &[String]) -> Option<String> {
        let module = self.modules.get(path).or_else(|| self.modules.get(path.split_last()?.1))?;
        Some(module.file.clone())
    }
}

fn file_of_module(src: &Path, at: &[String]) -> Result<PathBuf, String> {
    let base: PathBuf = src.iter().map(std::ffi::OsStr::to_owned).chain(at.iter().map(Into::into)).collect();
    let files = [base.with_extension("rs"), base.join("mod.rs")];
    files.into_iter().find(|file| file.is_file()).ok_or(format!("there is no file of the module {}", at.join("::")))
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(i) => &i.attrs,
        Item::Enum(i) => &i.attrs,
        Item::Fn(i) => &i.attrs,
        Item::Impl(i) => &i.attrs,
        Item::Macro(i) => &i.attrs,
        Item::Mod(i) => &i.attrs,
        Item::Static(i) => &i.attrs,
        Item::Struct(i) => &i.attrs,
        Item::Trait(i) => &i.attrs,
        Item::Type(i) => &i.attrs,
        Item::Union(i) => &i.attrs,
        Item::Use(i) => &i.attrs,
        _ => &[],
    }
}

/// Whether something is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    let text = |a: &Attribute| a.to_token_stream().to_string().replace(' ', "");
    attributes.iter().map(text).any(|a| {
        ["#[cfg(test)]", "#[test]", "#[cfg(doctest)]"].contains(&a.as_str()) || a.starts_with("#[cfg(all(test,")
    })
}

fn without_tests(item: &mut Item) {
    match item {
        Item::Impl(item) => item.items.retain(|item| match item {
            ImplItem::Fn(item) => !is_test(&item.attrs),
            ImplItem::Const(item) => !is_test(&item.attrs),
            _ => true,
        }),
        Item::Trait(item) => item.items.retain(|item| match item {
            TraitItem::Fn(item) => !is_test(&item.attrs),
            _ => true,
        }),
        _ => {}
    }
}

fn name_of(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(i) => &i.ident,
        Item::Enum(i) => &i.ident,
        Item::Fn(i) => &i.sig.ident,
        Item::Macro(i) => i.ident.as_ref()?,
        Item::Static(i) => &i.ident,
        Item::Struct(i) => &i.ident,
        Item::Trait(i) => &i.ident,
        Item::Type(i) => &i.ident,
        Item::Union(i) => &i.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Takes in the names that a `use` binds.
fn bind(tree: &UseTree, before: &mut Names, module: &mut Module) {
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            bind(&path.tree, before, module);
            before.pop();
        }
        UseTree::Group(group) => group.items.iter().for_each(|tree| bind(tree, before, module)),
        UseTree::Glob(glob) => {
            let line = glob.star_token.span.start().line;
            module.globs.push(([&before[..], &["*".to_owned()]].concat(), line));
        }
        UseTree::Name(name) if name.ident == "self" => {
            if let Some(last) = before.last() {
                module.bound.insert(last.clone(), (before.clone(), name.ident.span().start().line));
            }
        }
        UseTree::Name(name) => {
            let line = name.ident.span().start().line;
            let name = name.ident.to_string();
            module.bound.insert(name.clone(), ([&before[..], &[name]].concat(), line));
        }
        UseTree::Rename(name) => {
            let mut path = before.clone();
            if name.ident != "self" {
                path.push(name.ident.to_string());
            }
            module.bound.insert(name.rename.to_string(), (path, name.rename.span().start().line));
        }
    }
}

/// Adds the paths of two names and more in some code, those in macros among them.
fn paths(code: TokenStream, before: &[String], found: &mut Vec<(Names, usize)>) {
    let mut path: Names = before.to_vec();
    let mut line = 0;
    let (mut colons, mut joined) = (0, !before.is_empty());
    let mut end = |path: &mut Names, line: usize| {
        if path.len() > 1 {
            found.push((std::mem::take(path), line));
        }
        path.clear();
    };
    let mut inner = Vec::new();
    for token in code {
        match token {
            TokenTree::Ident(ident) => {
                if !joined {
                    end(&mut path, line);
                }
                if path.is_empty() || path.len() == before.len() {
                    line = ident.span().start().line;
                }
                path.push(ident.to_string());
                (joined, colons) = (false, 0);
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => {
                colons += 1;
                joined = colons == 2;
            }
            // `pub(in path)`.
            TokenTree::Group(group) if group.stream().to_string().starts_with("in crate") => {}
            TokenTree::Group(group) => {
                // `use a::{b, c}` inside a function.
                let prefix = if joined && group.delimiter() == Delimiter::Brace { path.clone() } else { Vec::new() };
                end(&mut path, line);
                inner.push((group.stream(), prefix));
                (joined, colons) = (false, 0);
            }
            _ => {
                end(&mut path, line);
                path = before.to_vec();
                (joined, colons) = (!before.is_empty(), 0);
            }
        }
    }
    end(&mut path, line);
    for (code, prefix) in inner {
        paths(code, &prefix, found);
    }
}
