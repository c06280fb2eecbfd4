//! Public items of a library crate that have no doc comment.
//!
//! The lint `missing_docs` of rustc would ask for fields and variants too.

use std::path::{Path, PathBuf};

use anyhow::Context;
use proc_macro2::Ident;
use syn::{Attribute, ImplItem, Item, ItemImpl, Visibility};

use super::rules::Finding;
use crate::{common::read, cycles::imports::is_test};

/// The undocumented items of the file at `path`, reported under the name `file`.
pub(crate) fn check(file: &str, path: &Path, text: &str) -> anyhow::Result<Vec<Finding>> {
    let parsed = syn::parse_file(text).with_context(|| format!("cannot parse {file}"))?;
    let mut missing = Vec::new();
    for_items(&parsed.items, path, &mut missing)?;
    let finding = |(name, line): (String, usize)| Finding {
        file: file.to_owned(),
        line,
        text: name,
        instead: "add a doc comment".to_owned(),
        allowed_by: None,
    };
    Ok(missing.into_iter().map(finding).collect())
}

/// Collects the names and lines of undocumented items.
fn for_items(items: &[Item], path: &Path, missing: &mut Vec<(String, usize)>) -> anyhow::Result<()> {
    for item in items {
        let (kind, attributes, visibility, name) = match item {
            Item::Const(item) => ("const", &item.attrs, &item.vis, &item.ident),
            Item::Enum(item) => ("enum", &item.attrs, &item.vis, &item.ident),
            Item::Fn(item) => ("fn", &item.attrs, &item.vis, &item.sig.ident),
            Item::Mod(item) => ("mod", &item.attrs, &item.vis, &item.ident),
            Item::Static(item) => ("static", &item.attrs, &item.vis, &item.ident),
            Item::Struct(item) => ("struct", &item.attrs, &item.vis, &item.ident),
            Item::Trait(item) => ("trait", &item.attrs, &item.vis, &item.ident),
            Item::Type(item) => ("type", &item.attrs, &item.vis, &item.ident),
            Item::Union(item) => ("union", &item.attrs, &item.vis, &item.ident),
            Item::Impl(item) if !is_test(&item.attrs) => {
                missing.extend(undocumented_methods(item));
                continue;
            }
            Item::Macro(item) => {
                let is_exported =
                    item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export"));
                if let Some(name) = item.ident.as_ref().filter(|_| is_exported && !is_documented(&item.attrs))
                {
                    missing.push(place("macro", name));
                }
                continue;
            }
            _ => continue,
        };
        if is_test(attributes) {
            continue;
        }
        let mut documented = is_documented(attributes) || !matches!(visibility, Visibility::Public(_));
        if let Item::Mod(module) = item {
            match &module.content {
                Some((_, items)) => for_items(items, path, missing)?,
                None if !documented => documented = has_own_docs(&child(path, &module.ident))?,
                None => {}
            }
        }
        if !documented {
            missing.push(place(kind, name));
        }
    }
    Ok(())
}

/// The undocumented public functions and constants of an inherent impl.
fn undocumented_methods(item: &ItemImpl) -> Vec<(String, usize)> {
    let of = |item: &ImplItem| {
        let (kind, attributes, visibility, name) = match item {
            ImplItem::Fn(item) => ("fn", &item.attrs, &item.vis, &item.sig.ident),
            ImplItem::Const(item) => ("const", &item.attrs, &item.vis, &item.ident),
            _ => return None,
        };
        let is_public = matches!(visibility, Visibility::Public(_));
        (is_public && !is_test(attributes) && !is_documented(attributes)).then(|| place(kind, name))
    };
    item.items.iter().filter_map(of).collect()
}

/// Whether an item has a doc comment or is hidden from the documentation.
fn is_documented(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("doc"))
}

/// Whether a file begins with `//!`.
fn has_own_docs(path: &Path) -> anyhow::Result<bool> {
    let parsed = syn::parse_file(&read(path)?);
    Ok(is_documented(&parsed.with_context(|| format!("cannot parse {}", path.display()))?.attrs))
}

/// The file of the module `name` that the file `parent` declares.
fn child(parent: &Path, name: &Ident) -> PathBuf {
    let is_root = ["lib.rs", "main.rs", "mod.rs"].iter().any(|root| parent.ends_with(root));
    let folder = if is_root { parent.with_file_name("") } else { parent.with_extension("") };
    let file = folder.join(format!("{name}.rs"));
    if file.is_file() { file } else { folder.join(name.to_string()).join("mod.rs") }
}

fn place(kind: &str, name: &Ident) -> (String, usize) {
    (format!("pub {kind} {name}"), name.span().start().line)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn missing(source: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lib.rs");
        fs::write(folder.path().join("documented.rs"), "//! Docs.\n").unwrap();
        fs::write(folder.path().join("undocumented.rs"), "fn f() {}\n").unwrap();
        let findings = check("lib.rs", &path, source).unwrap();
        findings.iter().map(|finding| format!("{} {}", finding.line, finding.text)).collect()
    }

    #[test]
    fn each_kind_of_public_item_needs_a_doc_comment() {
        let source = "pub fn f() {}\npub struct S;\npub enum E {}\npub trait T {}\npub type A = u8;\n\
            pub const C: u8 = 1;\npub static D: u8 = 1;\npub mod m {\n    pub fn g() {}\n}\n\
            #[macro_export]\nmacro_rules! x { () => {} }\nimpl S {\n    pub fn h(&self) {}\n    pub const I: u8 = 1;\n}\n";
        let expected = [
            "1 pub fn f",
            "2 pub struct S",
            "3 pub enum E",
            "4 pub trait T",
            "5 pub type A",
            "6 pub const C",
            "7 pub static D",
            "9 pub fn g",
            "8 pub mod m",
            "12 pub macro x",
            "14 pub fn h",
            "15 pub const I",
        ];
        assert_eq!(missing(source), expected);
        let documented = source
            .replace("pub ", "/// Docs.\npub ")
            .replace("#[macro_export]", "/// Docs.\n#[macro_export]");
        assert_eq!(missing(&documented), [""; 0]);
    }

    #[test]
    fn private_items_fields_variants_traits_and_tests_need_none() {
        let source = "fn f() {}\npub(crate) struct S;\n/// Docs.\npub struct P { pub x: u8 }\n/// Docs.\n\
            pub enum E { A }\n/// Docs.\npub trait T { fn t(&self); }\nimpl T for P { fn t(&self) {} }\n\
            pub use std::fs;\nmacro_rules! x { () => {} }\n#[cfg(test)]\npub mod tests { pub fn g() {} }\n";
        assert_eq!(missing(source), [""; 0]);
    }

    #[test]
    fn the_docs_of_a_file_are_those_of_its_module() {
        assert_eq!(missing("pub mod documented;\nmod undocumented;\n"), [""; 0]);
        assert_eq!(missing("pub mod documented;\npub mod undocumented;\n"), ["2 pub mod undocumented"]);
        assert_eq!(missing("/// Docs.\npub mod undocumented;\n"), [""; 0]);
    }
}
