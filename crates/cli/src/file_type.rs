//! The type of a GGUF file as an argument.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use families::gguf::FileType;

/// A clap value parser for the type of a GGUF file.
pub(crate) fn file_type() -> impl TypedValueParser<Value = FileType> {
    let value = |ty: FileType| PossibleValue::new(ty.name()).help(description(ty));
    PossibleValuesParser::new(FileType::ALL.map(value))
        .map(|name| FileType::named(&name).expect("it is a possible value"))
}

/// Bits per weight and accuracy, for `--help`.
fn description(ty: FileType) -> &'static str {
    match ty {
        FileType::F32 => "32 bits, as trained",
        FileType::F16 => "16 bits",
        FileType::BF16 => "16 bits, with the range of f32",
        FileType::Q8_0 => "8.5 bits per weight; hardly differs from f32",
        FileType::Q6K => "6.6 bits",
        FileType::Q5KM => "5.5 bits, more for the matrices that need them",
        FileType::Q5KS => "5.5 bits",
        FileType::Q5_1 => "6 bits, of an older kind",
        FileType::Q5_0 => "5.5 bits, of an older kind",
        FileType::Q4KM => "4.5 bits, more for the matrices that need them; the usual choice",
        FileType::Q4KS => "4.5 bits",
        FileType::Q4_1 => "5 bits, of an older kind",
        FileType::Q4_0 => "4.5 bits, of an older kind",
    }
}
