//! `--json-schema`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use engine::Model;
use grammar::{Grammar, Vocabulary};
use sampler::Constraint;

use crate::usage::{ResultExt, bail_usage};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct GrammarArgs {
    /// Generate only JSON that is valid by the JSON schema in this file; `-` reads standard input.
    #[arg(long, value_name = "FILE", conflicts_with = "interactive")]
    json_schema: Option<PathBuf>,
}

impl GrammarArgs {
    /// Reads and checks the schema. `prompt_file` can't be standard input too.
    pub(crate) fn read(&self, prompt_file: Option<&Path>) -> anyhow::Result<Option<Grammar>> {
        let Some(path) = &self.json_schema else { return Ok(None) };
        if path.as_os_str() == "-" && prompt_file == Some(path) {
            bail_usage!("--json-schema and --prompt-file can't both read standard input");
        }
        let text = dataset::read_text(path)?;
        let schema = serde_json::from_str(&text);
        let schema =
            schema.with_context(|| format!("--json-schema: {} is not JSON", path.display())).usage()?;
        let grammar = Grammar::json_schema(&schema);
        grammar.check().context("--json-schema").usage()?;
        Ok(Some(grammar))
    }
}

/// The constraint of a grammar for the samples of a model. `eos` are the tokens that may end a sample.
pub(crate) fn constraint(
    grammar: &Grammar,
    model: &Model,
    eos: &[u32],
) -> anyhow::Result<Box<dyn Constraint>> {
    Ok(grammar.constraint(&Vocabulary::new(&model.tokenizer, eos)?)?)
}
