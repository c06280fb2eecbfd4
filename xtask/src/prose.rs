//! `cargo xtask prose`: finds unclear wording, and public items without documentation.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use xshell::{Shell, cmd};

mod missing_docs;
mod passages;
mod rules;

use crate::{
    common::{read, root, say},
    cycles::{imports::Crate, sources},
};
use rules::{Finding, Rules};

/// Check the wording of documents, help, messages and doc comments, and that public items have documentation.
///
/// The patterns and their exceptions are in xtask/prose.toml. Code, tests and fenced blocks are not checked. A public item
/// of a library crate needs a doc comment; fields, variants, trait items and re-exports do not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> anyhow::Result<()> {
    let root = root()?;
    let rules = Rules::parse(&read(&root.join("xtask/prose.toml"))?).context("invalid xtask/prose.toml")?;
    let mut findings: Vec<Finding> = Vec::new();
    let documents = documents()?;
    for document in &documents {
        findings.extend(rules.check(document, &passages::markdown(&read(&root.join(document))?)));
    }
    let mut n_files = documents.len();
    for source in sources(root)? {
        let is_library = source.ends_with("lib.rs");
        for path in Crate::read(&source)?.files() {
            let file = path.strip_prefix(root).unwrap_or(&path).display().to_string();
            let text = read(&path)?;
            let passages = passages::rust(&text).with_context(|| format!("cannot parse {file}"))?;
            findings.extend(rules.check(&file, &passages));
            if is_library {
                findings.extend(missing_docs::check(&file, &path, &text)?);
            }
            n_files += 1;
        }
    }

    let used: BTreeSet<_> = findings.iter().filter_map(|finding| finding.allowed_by).collect();
    findings.retain(|finding| finding.allowed_by.is_none());
    findings.iter().for_each(|finding| say(&finding.to_string()));
    let stale = rules.unused(&used);
    stale.iter().for_each(|entry| say(&format!("xtask/prose.toml: this exception matches nothing: {entry}")));
    if !findings.is_empty() || !stale.is_empty() {
        bail!(
            "{} passages to reword or document, {} exceptions to remove; \
             xtask/prose.toml has the patterns, and an `allow` entry there excepts a passage",
            findings.len(),
            stale.len()
        );
    }
    say(&format!("{n_files} files, no pattern of xtask/prose.toml and no public item without documentation"));
    Ok(())
}

/// The Markdown documents of the checkout that git does not ignore, relative to its root.
fn documents() -> anyhow::Result<Vec<String>> {
    let shell = Shell::new()?;
    shell.change_dir(root()?);
    // Containers may mount a checkout of another user, which git refuses without `safe.directory`.
    let listed = cmd!(shell, "git -c safe.directory=* ls-files --cached --others --exclude-standard *.md")
        .quiet()
        .read()
        .context("git cannot list the documents; this check needs a git checkout")?;
    let exists = |path: &&str| shell.path_exists(*path);
    Ok(listed.lines().filter(exists).map(str::to_owned).collect())
}
