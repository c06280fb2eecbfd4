//! A compiled program: the parameters of its kernel, and the resources that it takes.

use std::path::Path;

use anyhow::{Context, bail};
use regex::Regex;

use crate::common::read;

/// A kernel by its source and its compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The elements of each buffer, in the order of the parameters.
    pub(crate) elements: Vec<Element>,
    /// The bits of CubeCL's lengths, 32 or 64.
    pub(crate) length_bits: u64,
    /// Bytes of the scalars before the lengths.
    pub(crate) scalar_bytes: usize,
    /// The last of these are scalars of 32 bits without sign.
    pub(crate) n_u32: usize,
    pub(crate) has_tensor_cores: bool,
    pub(crate) resources: Resources,
}

/// The element type of a buffer: a vector of scalars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Element {
    /// Bits of a scalar.
    pub(crate) bits: u64,
    pub(crate) width: u64,
}

/// Resources by `ptxas`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    /// Registers of a thread.
    pub(crate) registers: u64,
    /// Bytes of a thread that are stored to memory for want of registers.
    pub(crate) spilled_bytes: u64,
}

impl Program {
    /// Reads the files that the stand-in driver has kept.
    ///
    /// # Errors
    ///
    /// If a file is missing, or has another form.
    pub(crate) fn read(folder: &Path, program: usize, kernel: &str) -> anyhow::Result<Self> {
        let file = |extension: &str| read(&folder.join(format!("{program:05}.{extension}")));
        let (source, ptx, messages) = (file("cu")?, file("ptx")?, file("ptxas")?);
        let place = || format!("cannot understand the kernel {kernel} of program {program:05}");
        Self::parse(&source, &ptx, &messages, kernel).with_context(place)
    }

    fn parse(source: &str, ptx: &str, messages: &str, kernel: &str) -> anyhow::Result<Self> {
        let (_, rest) = source.split_once(&format!(" {kernel}(")).context("its source has no such kernel")?;
        let (parameters, _) = rest.split_once(") {").context("its parameters do not end")?;
        let pointers = parameters.split(", ").filter(|parameter| parameter.contains('*'));
        let elements = pointers
            .filter(|parameter| !parameter.contains(" dynamic_meta"))
            .map(|parameter| element(parameter.split(['*', ' ']).next().unwrap_or_default()))
            .collect::<anyhow::Result<_>>()?;
        let info = source.split_once("struct info_st {").and_then(|(_, rest)| rest.split_once("};"));
        let (scalar_bytes, n_u32, length_bits) =
            info.map_or(Ok((0, 0, 32)), |(fields, _)| info_layout(fields))?;
        let has_tensor_cores =
            ["mma.sync", "wmma.mma", "wgmma.mma", "tcgen05.mma"].iter().any(|op| ptx.contains(op));
        let resources = Resources::parse(messages)?;
        Ok(Self { elements, length_bits, scalar_bytes, n_u32, has_tensor_cores, resources })
    }
}

/// The bytes of the scalars, the number of unsigned ones at their end, and the bits of the lengths after them.
fn info_layout(fields: &str) -> anyhow::Result<(usize, usize, u64)> {
    let field = Regex::new(r"(\w+) (\w+)\[(\d+)\];").expect("a regular expression");
    let (mut bytes, mut n_u32, mut length_bits) = (0, 0, 32);
    for found in field.captures_iter(fields) {
        let (kind, name) = (&found[1], &found[2]);
        if name == "static_meta" {
            length_bits = element(kind)?.bits;
        } else {
            let n = found[3].parse::<usize>()?;
            bytes += usize::try_from(element(kind)?.bits / 8)? * n;
            n_u32 = if name == "scalars_u32" { n } else { 0 };
        }
    }
    Ok((bytes, n_u32, length_bits))
}

/// Parses a C++ type, such as `float_4` for a vector.
fn element(kind: &str) -> anyhow::Result<Element> {
    let (scalar, width) = match kind.rsplit_once('_').map(|(scalar, width)| (scalar, width.parse())) {
        Some((scalar, Ok(width))) => (scalar, width),
        _ => (kind, 1),
    };
    let (bits, packed) = match scalar {
        "double" | "int64_t" | "uint64_t" => (64, 1),
        "float" | "int32_t" | "uint32_t" | "int" | "uint" => (32, 1),
        "__nv_bfloat162" | "__half2" => (16, 2),
        "__nv_bfloat16" | "__half" | "int16_t" | "uint16_t" => (16, 1),
        "int8_t" | "uint8_t" | "bool" => (8, 1),
        _ => bail!("unknown type `{kind}`"),
    };
    Ok(Element { bits, width: width * packed })
}

impl Resources {
    fn parse(messages: &str) -> anyhow::Result<Self> {
        let number = |pattern: &str| {
            let found = Regex::new(pattern).expect("a regular expression").captures(messages);
            found.and_then(|found| found[1].parse().ok())
        };
        Ok(Self {
            registers: number(r"Used (\d+) registers").context("ptxas does not report registers")?,
            spilled_bytes: number(r"(\d+) bytes spill stores").unwrap_or(0),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SOURCE: &str = "\
struct info_st {
    float scalars_f32[2];
uint32_t scalars_u32[2];uint32_t static_meta[6];
};
extern \"C\" __global__ void __launch_bounds__(256) fill(float_4* const __restrict__ buffer_0, __nv_bfloat16 const* const \
__restrict__ buffer_1, uint32_t const* const __restrict__ dynamic_meta_v9, __grid_constant__ info_st const info_v8) {
}";

    const MESSAGES: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Function properties for fill
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 8 bytes cumulative stack size";

    pub(crate) fn program() -> Program {
        Program::parse(SOURCE, "mma.sync.aligned", MESSAGES, "fill").unwrap()
    }

    #[test]
    fn parameters_and_resources_are_parsed() {
        assert_eq!(
            program(),
            Program {
                elements: vec![Element { bits: 32, width: 4 }, Element { bits: 16, width: 1 }],
                length_bits: 32,
                scalar_bytes: 16,
                n_u32: 2,
                has_tensor_cores: true,
                resources: Resources { registers: 40, spilled_bytes: 12 },
            }
        );
        let error = Program::parse(SOURCE, "", MESSAGES, "other").unwrap_err().to_string();
        assert_eq!(error, "its source has no such kernel");
    }
}
