//! `cargo xtask cycles`: no two files of a crate may import each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::bail;

pub(crate) mod imports;

use crate::common::{root, say};
use imports::{Crate, Imports};

/// Known cycles, each as its sorted files relative to `crates`. The list may only shrink.
const KNOWN: [&str; 0] = [];

/// Find import cycles between the files of a crate.
///
/// Every path in the code counts as an import, except in tests. An import of a re-exported name counts for the file that
/// defines it, so a module that only declares and re-exports its children is not part of a cycle.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    let root = root()?;
    let (mut n_files, mut found) = (0, BTreeMap::new());
    for source in sources(root)? {
        let imports = Crate::read(&source)?.imports();
        n_files += imports.len();
        for cycle in cycles(&imports) {
            found.insert(shown(&cycle, root), details(&cycle, &imports, root));
        }
    }
    let new: Vec<&str> = found
        .iter()
        .filter(|(files, _)| !KNOWN.contains(&files.as_str()))
        .map(|(_, text)| text.as_str())
        .collect();
    let stale: Vec<&str> = KNOWN.into_iter().filter(|known| !found.contains_key(*known)).collect();
    if !new.is_empty() {
        bail!("{} cycles of imports:\n{}", new.len(), new.join("\n"));
    }
    if !stale.is_empty() {
        bail!("these cycles are gone; remove them from KNOWN in xtask/src/cycles.rs:\n{}", stale.join("\n"));
    }
    say(&format!("{n_files} files, no new import cycle"));
    Ok(())
}

/// The `lib.rs` and `main.rs` files of all crates, and of xtask.
pub(crate) fn sources(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut sources = vec![root.join("xtask/src/main.rs")];
    for entry in fs::read_dir(root.join("crates"))? {
        let source = entry?.path().join("src");
        sources.extend(
            ["lib.rs", "main.rs"].map(|name| source.join(name)).into_iter().filter(|path| path.is_file()),
        );
    }
    Ok(sources)
}

/// The strongly connected components with more than one file.
fn cycles(imports: &Imports) -> BTreeSet<BTreeSet<PathBuf>> {
    let reached = |from: &Path| {
        let mut reached = BTreeSet::new();
        let mut waiting = vec![from.to_owned()];
        while let Some(file) = waiting.pop() {
            for next in imports.get(&file).into_iter().flat_map(BTreeMap::keys) {
                if reached.insert(next.clone()) {
                    waiting.push(next.clone());
                }
            }
        }
        reached
    };
    let reached: BTreeMap<_, _> = imports.keys().map(|file| (file.clone(), reached(file))).collect();
    let cycle = |file: &PathBuf| -> BTreeSet<PathBuf> {
        reached[file].iter().filter(|other| reached[*other].contains(file)).cloned().collect()
    };
    imports.keys().map(cycle).filter(|cycle| cycle.len() > 1).collect()
}

/// The files of a cycle, in the format of [`KNOWN`].
fn shown(cycle: &BTreeSet<PathBuf>, root: &Path) -> String {
    let short = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
    cycle.iter().map(short).collect::<Vec<_>>().join(" ").replace("crates/", "")
}

/// The files of a cycle, with the names that they import from each other.
fn details(cycle: &BTreeSet<PathBuf>, imports: &Imports, root: &Path) -> String {
    let mut text = shown(cycle, root);
    for (file, of) in imports.iter().filter(|(file, _)| cycle.contains(*file)) {
        for (other, names) in of.iter().filter(|(other, _)| cycle.contains(*other)) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let [file, other] = [file, other].map(|path| path.strip_prefix(root).unwrap_or(path).display());
            text += &format!("\n  {file} imports {} from {other}", names.join(", "));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cycles of a crate with these files, each as its file names.
    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let imports = Crate::read(&folder.path().join("lib.rs")).unwrap().imports();
        cycles(&imports).iter().map(|cycle| shown(cycle, folder.path())).collect()
    }

    #[test]
    fn cycles_are_found_in_every_form_of_import() {
        let lib = ("lib.rs", "mod a; mod b; mod c;");
        let c = ("c.rs", "use crate::a; pub fn c() { a::a() }");
        assert_eq!(
            found(&[lib, ("a.rs", "use crate::b::{self, B};"), ("b.rs", "fn f() { super::a::a() }"), c]),
            ["a.rs b.rs"]
        );
        let of_three = [lib, ("a.rs", "use super::b::*;"), ("b.rs", "pub(crate) struct B(crate::c::C);"), c];
        assert_eq!(found(&of_three), ["a.rs b.rs c.rs"]);
        let child = [
            ("lib.rs", "mod a;"),
            ("a.rs", "mod b; use b::B; pub struct A(B);"),
            ("a/b.rs", "use super::A; pub struct B;"),
        ];
        assert_eq!(found(&child), ["a/b.rs a.rs"]);
        let reexported = [
            ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
            ("a.rs", "use crate::B; pub struct A;"),
            ("b.rs", "use crate::A; pub struct B;"),
        ];
        assert_eq!(found(&reexported), ["a.rs b.rs"]);
    }

    #[test]
    fn modules_that_only_reexport_and_tests_form_no_cycle() {
        let lib = ("lib.rs", "mod a; mod b; pub use a::A; pub use b::B;");
        assert_eq!(
            found(&[lib, ("a.rs", "pub struct A;"), ("b.rs", "use crate::A; pub struct B(A);")]),
            [""; 0]
        );
        let b = ("b.rs", "pub struct B; #[cfg(test)] mod tests { use crate::A; }");
        assert_eq!(found(&[lib, ("a.rs", "use crate::b::B; pub struct A(B);"), b]), [""; 0]);
    }
}
