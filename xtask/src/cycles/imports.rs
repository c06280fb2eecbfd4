//! The files of a crate, and the names that each imports of the others.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use syn::{
    Attribute, Expr, ExprLit, Ident, Item, Lit, UseTree, Visibility,
    visit::{self, Visit},
};

use crate::common::read;

/// For each file, the files that it imports of, and the names.
pub(crate) type Imports = BTreeMap<PathBuf, BTreeMap<PathBuf, BTreeSet<String>>>;

/// Names from the root of a crate, such as `["optimizer", "Scale"]`.
type Names = Vec<String>;

/// A crate as its module tree.
#[derive(Default)]
pub(crate) struct Crate {
    modules: BTreeMap<Names, Module>,
    /// Every path of the crate in the code of a file.
    paths: Vec<(PathBuf, Names)>,
}

/// One module, in a file of its own or in its parent's.
struct Module {
    file: PathBuf,
    /// Names that it re-exports, each with the path that it comes from.
    reexports: BTreeMap<String, Names>,
}

impl Crate {
    /// Reads a crate from its `lib.rs` or `main.rs`.
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let mut read = Self::default();
        read.read_file(root, root.parent().context("a file is in a folder")?, Vec::new())?;
        Ok(read)
    }

    /// Reads the module of a file, whose children are in `folder`.
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
            for (name, target) in flat(&item.tree) {
                let Some(target) = paths.absolute(&target) else { continue };
                let Some(name) = name else { bail!("{}: name what is re-exported, not `*`", file.display()) };
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
                (None, Some(named)) => self.read_file(&folder.join(named), folder, module)?,
                (None, None) if beside.is_file() => self.read_file(&beside, &below, module)?,
                (None, None) => self.read_file(&below.join("mod.rs"), &below, module)?,
            }
        }
        Ok(())
    }

    /// Which file imports which names of which others.
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

    /// The file that has the name of a path, and the name. None if it re-exports itself.
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

/// Collects the paths of a module's code that are paths of the crate.
struct Paths<'a> {
    module: &'a [String],
    children: BTreeSet<String>,
    reexports: BTreeMap<String, Names>,
    found: Vec<Names>,
}

impl Paths<'_> {
    /// A path from the root of the crate. None if it is one of another crate, or a local name.
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
        for (_, path) in flat(&item.tree) {
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

/// The paths of a tree of imports, each with the name that it gets; None stands for all names.
fn flat(tree: &UseTree) -> Vec<(Option<String>, Names)> {
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

fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let condition = attribute.path().is_ident("cfg").then(|| attribute.parse_args::<syn::Path>().ok());
        condition.flatten().is_some_and(|condition| condition.is_ident("test"))
    })
}

/// The file that `#[path]` names.
fn path_attribute(attributes: &[Attribute]) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.path().is_ident("path"))?;
    match &attribute.meta.require_name_value().ok()?.value {
        Expr::Lit(ExprLit { lit: Lit::Str(path), .. }) => Some(path.value()),
        _ => None,
    }
}

/// The attributes of an item that may be there for tests alone.
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
