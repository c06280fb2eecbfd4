//! The files of a crate, and the names that they import from each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use syn::{
    Attribute, Expr, ExprLit, Ident, Item, Lit, Meta, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::common::read;

/// For each file, the files it imports from, with the imported names.
pub(crate) type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// A path from the crate root, such as `["optimizer", "Scale"]`.
type Names = Vec<String>;

/// The module tree of a crate.
#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Names, Module>,
    /// The paths into the crate that occur in the code, each with its file.
    paths: Vec<(PathBuf, Names)>,
}

/// A module, in its own file or inline.
struct Module {
    file: PathBuf,
    /// Re-exported names with the paths they stand for.
    reexports: BTreeMap<String, Names>,
}

impl Crate {
    /// Reads a crate from its `lib.rs` or `main.rs`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut read = Self::default();
        read.read_file(root, root.parent().context("the source file is in no folder")?, Vec::new())?;
        Ok(read)
    }

    /// Reads the module in a file. Its child modules are in `folder`.
    fn read_file(&mut self, file: &Path, folder: &Path, module: Names) -> anyhow::Result<()> {
        let parsed = syn::parse_file(&read(file)?);
        self.read_items(
            &parsed.with_context(|| format!("cannot parse {}", file.display()))?.items,
            file,
            folder,
            module,
        )
    }

    fn read_items(
        &mut self,
        items: &[Item],
        file: &Path,
        folder: &Path,
        module: Names,
    ) -> anyhow::Result<()> {
        let items: Vec<&Item> = items.iter().filter(|item| !is_test(attributes(item))).collect();
        let children = items.iter().filter_map(|item| match item {
            Item::Mod(child) => Some(child),
            _ => None,
        });
        let names = children.clone().map(|child| child.ident.to_string()).collect();
        let mut paths =
            Paths { module: &module, children: names, reexports: BTreeMap::new(), found: Vec::new() };
        for item in &items {
            let Item::Use(item) = item else { continue };
            if matches!(item.vis, Visibility::Inherited) {
                continue;
            }
            for (name, target) in flatten(&item.tree) {
                let Some(target) = paths.absolute(&target) else { continue };
                let Some(name) = name else {
                    bail!("{}: a re-export has to list its names instead of `*`", file.display())
                };
                paths.reexports.insert(name, target);
            }
        }
        for item in &items {
            match item {
                Item::Use(item) if !matches!(item.vis, Visibility::Inherited) => {}
                Item::Mod(_) => {}
                item => paths.visit_item(item),
            }
        }
        let Paths { reexports, found, .. } = paths;
        self.paths.extend(found.into_iter().map(|path| (file.to_owned(), path)));
        self.modules.entry(module.clone()).or_insert(Module { file: file.to_owned(), reexports });
        for child in children {
            let name = child.ident.to_string();
            let module = [module.as_slice(), std::slice::from_ref(&name)].concat();
            let (beside, below) = (folder.join(format!("{name}.rs")), folder.join(&name));
            match (&child.content, path_attribute(&child.attrs)) {
                (Some((_, items)), _) => self.read_items(items, file, &below, module)?,
                (None, Some(named)) => self.read_file(&file.with_file_name(named), folder, module)?,
                (None, None) if beside.is_file() => self.read_file(&beside, &below, module)?,
                (None, None) => self.read_file(&below.join("mod.rs"), &below, module)?,
            }
        }
        Ok(())
    }

    /// The files of all modules, except `#[cfg(test)]` ones.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        self.modules.values().map(|module| module.file.clone()).collect()
    }

    /// The imports between the files.
    pub(crate) fn imports(&self) -> Imports {
        let mut imports: Imports =
            self.modules.values().map(|module| (module.file.clone(), BTreeMap::new())).collect();
        for (file, path) in &self.paths {
            if let Some((target, name)) = self.resolve(path).filter(|(target, _)| target != file) {
                let of_file = imports.entry(file.clone()).or_default();
                of_file.entry(target.to_owned()).or_default().insert(name);
            }
        }
        imports
    }

    /// The file that defines the name of a path, and the name. `None` if re-exports form a loop.
    fn resolve(&self, path: &[String]) -> Option<(&Path, String)> {
        let mut path = path.to_vec();
        for _ in 0..20 {
            let n_modules = (0..=path.len()).rev().find(|&n| self.modules.contains_key(&path[..n]))?;
            let (module, rest) = (&self.modules[&path[..n_modules]], &path[n_modules..]);
            match rest.first().and_then(|name| module.reexports.get(name)) {
                Some(target) => path = [target, &rest[1..]].concat(),
                None => {
                    return Some((
                        &module.file,
                        rest.first().or(path.last()).map_or("*".to_owned(), String::clone),
                    ));
                }
            }
        }
        None
    }
}

/// Collects the paths in a module's code that lead into the crate.
struct Paths<'a> {
    module: &'a [String],
    children: BTreeSet<String>,
    reexports: BTreeMap<String, Names>,
    found: Vec<Names>,
}

impl Paths<'_> {
    /// The path from the crate root. `None` for other crates and local names.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let first = path.first()?.as_str();
        match first {
            "crate" => Some(path[1..].to_vec()),
            "self" => Some([self.module, &path[1..]].concat()),
            "super" => {
                let n_up = path.iter().take_while(|name| *name == "super").count();
                Some([&self.module[..self.module.len().checked_sub(n_up)?], &path[n_up..]].concat())
            }
            name if self.reexports.contains_key(name) => Some([&self.reexports[name], &path[1..]].concat()),
            name if self.children.contains(name) => Some([self.module, path].concat()),
            _ => None,
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_test(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        for (_, path) in flatten(&item.tree) {
            self.found.extend(self.absolute(&path));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.found.extend(self.absolute(&names));
        visit::visit_path(self, path);
    }

    /// `pub(crate)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

/// The paths of a `use` tree, each with the name that it binds; `None` stands for `*`.
fn flatten(tree: &UseTree) -> Vec<(Option<String>, Names)> {
    fn add(tree: &UseTree, before: &[String], paths: &mut Vec<(Option<String>, Names)>) {
        let with = |name: &Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => add(&path.tree, &with(&path.ident), paths),
            UseTree::Name(name) if name.ident == "self" => {
                paths.push((before.last().cloned(), before.to_vec()))
            }
            UseTree::Name(name) => paths.push((Some(name.ident.to_string()), with(&name.ident))),
            UseTree::Rename(name) => paths.push((Some(name.rename.to_string()), with(&name.ident))),
            UseTree::Glob(_) => paths.push((None, before.to_vec())),
            UseTree::Group(group) => group.items.iter().for_each(|tree| add(tree, before, paths)),
        }
    }
    let mut paths = Vec::new();
    add(tree, &[], &mut paths);
    paths
}

/// Whether an item is `cfg(test)` or `cfg(all(test, ...))`.
pub(crate) fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        let condition: String = list.tokens.to_string().split_whitespace().collect();
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

/// The file name in a `#[path]` attribute.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
        _ => None,
    }
}

/// The attributes of an item of a kind that may be `#[cfg(test)]`.
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
