//! The log of the stand-in driver.

use std::collections::HashMap;

use anyhow::{Context, bail};

/// A call of the driver, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A launch of [`Log::shapes`] at this index.
    Launch(usize),
    /// Bytes from the host to the device.
    Upload(u64),
    /// Bytes from the device to the host.
    Download(u64),
    /// Bytes copied or set on the device, without a kernel.
    Copy(u64),
    /// The host waits for the device.
    Sync,
}

/// A kernel that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The number of its program, which names the files of its source and of the messages of `ptxas`.
    pub(crate) program: usize,
    pub(crate) name: String,
}

/// A program that a compiler refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) program: usize,
    /// `nvrtc` or `ptxas`; its messages are in the file with this extension.
    pub(crate) stage: String,
}

/// The arguments of a launch. Launches with the same arguments share one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Index into [`Log::kernels`].
    pub(crate) kernel: usize,
    pub(crate) grid: [u64; 3],
    pub(crate) block: [u64; 3],
    pub(crate) shared_bytes: u64,
    pub(crate) parameters: Vec<Parameter>,
}

/// A parameter of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parameter {
    Buffer,
    /// The shapes and strides of CubeCL's tensors: the bytes from their start, and unrelated ones after their end.
    Metadata(Vec<u8>),
    /// A description of a tensor for the tensor memory accelerator: the bits of an element, and the sizes.
    TensorMap {
        element_bits: u64,
        sizes: Vec<u64>,
    },
    /// CubeCL's scalars, and the lengths of the buffers.
    Info(Vec<u8>),
}

/// The parsed log.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) failures: Vec<Failure>,
    /// Launches, settings and allocations that the GPU would refuse: the kernel, if any, and the reason.
    pub(crate) refused: Vec<(Option<usize>, String)>,
    pub(crate) shapes: Vec<Shape>,
    pub(crate) events: Vec<Event>,
    /// The most device memory in use at any time.
    pub(crate) peak_bytes: u64,
}

impl Log {
    /// Parses the log.
    ///
    /// # Errors
    ///
    /// If a line is not one that `driver.c` writes.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let mut log = Self::default();
        for line in text.lines() {
            log.add(line).with_context(|| format!("invalid line in the driver's log: `{line}`"))?;
        }
        Ok(log)
    }

    fn add(&mut self, line: &str) -> anyhow::Result<()> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "kernel" => {
                let [id, program, name] = words(rest)?;
                expect_next(self.kernels.len(), id)?;
                self.kernels.push(Kernel { program: program.parse()?, name: name.to_owned() });
            }
            "failed" => {
                let [program, stage] = words(rest)?;
                self.failures.push(Failure { program: program.parse()?, stage: stage.to_owned() });
            }
            "refused" => {
                let (kernel, reason) = rest.split_once(' ').context("no reason")?;
                self.refused.push((kernel.parse().ok(), reason.to_owned()));
            }
            "shape" => {
                let (id, rest) = rest.split_once(' ').context("no shape")?;
                expect_next(self.shapes.len(), id)?;
                self.shapes.push(Shape::parse(rest)?);
            }
            "launch" => {
                let shape = rest.parse()?;
                if shape >= self.shapes.len() {
                    bail!("shape {shape} is not defined");
                }
                self.events.push(Event::Launch(shape));
            }
            "upload" => self.events.push(Event::Upload(rest.parse()?)),
            "download" => self.events.push(Event::Download(rest.parse()?)),
            "copy" => self.events.push(Event::Copy(rest.parse()?)),
            "sync" => self.events.push(Event::Sync),
            "live" => self.peak_bytes = self.peak_bytes.max(rest.parse()?),
            _ => bail!("unknown entry"),
        }
        Ok(())
    }

    /// The number of launches of each shape among some events.
    pub(crate) fn launches(events: &[Event]) -> HashMap<usize, usize> {
        let mut counts = HashMap::new();
        for event in events {
            if let Event::Launch(shape) = event {
                *counts.entry(*shape).or_default() += 1;
            }
        }
        counts
    }
}

impl Shape {
    /// Parses `KERNEL X,Y,Z X,Y,Z SHARED PARAMETER..`.
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut words = text.split(' ');
        let mut next = || words.next().context("too few values");
        Ok(Self {
            kernel: next()?.parse()?,
            grid: sides(next()?)?,
            block: sides(next()?)?,
            shared_bytes: next()?.parse()?,
            parameters: words.map(Parameter::parse).collect::<anyhow::Result<_>>()?,
        })
    }
}

impl Parameter {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let (kind, value) = text.split_at_checked(1).context("no parameter")?;
        Ok(match (kind, value.split_once('=')) {
            ("p", None) => Self::Buffer,
            ("p", Some((_, bytes))) => Self::Metadata(from_hexadecimal(bytes)?),
            ("i", _) => Self::Info(from_hexadecimal(value)?),
            ("t", _) => {
                let bytes = from_hexadecimal(value)?;
                let values: Vec<u64> = integers(&bytes, 8);
                let [kind, rank] = values[..2] else { bail!("a tensor map is too short") };
                let sizes = values[2..].iter().copied().take(usize::try_from(rank)?).collect();
                Self::TensorMap { element_bits: element_bits(kind)?, sizes }
            }
            _ => bail!("unknown parameter"),
        })
    }
}

/// The bits of an element of a tensor map, by `CUtensorMapDataType`.
fn element_bits(kind: u64) -> anyhow::Result<u64> {
    Ok(match kind {
        0 => 8,
        1 | 6 | 9 => 16,
        2 | 3 | 7 | 10..=12 => 32,
        4 | 5 | 8 => 64,
        13..=15 => 4,
        _ => bail!("unknown element type {kind}"),
    })
}

/// Little-endian integers of `width` bytes, 4 or 8.
pub(crate) fn integers(bytes: &[u8], width: usize) -> Vec<u64> {
    let value = |bytes: &[u8]| bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
    bytes.chunks_exact(width).map(value).collect()
}

fn words<const N: usize>(text: &str) -> anyhow::Result<[&str; N]> {
    let words: Vec<_> = text.split(' ').collect();
    words.try_into().ok().with_context(|| format!("expected {N} values"))
}

fn sides(text: &str) -> anyhow::Result<[u64; 3]> {
    let sides: Vec<u64> = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
    sides.try_into().ok().context("expected three sides")
}

fn expect_next(n: usize, id: &str) -> anyhow::Result<()> {
    if id.parse() != Ok(n) {
        bail!("expected number {n}");
    }
    Ok(())
}

fn from_hexadecimal(text: &str) -> anyhow::Result<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).context("not hexadecimal");
    let byte = |pair: &[u8; 2]| Ok(u8::try_from(16 * digit(pair[0])? + digit(pair[1])?)?);
    let (pairs, rest) = text.as_bytes().as_chunks();
    if !rest.is_empty() {
        bail!("half a byte");
    }
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
live 4096
kernel 0 3 fill
shape 0 0 2,1,1 256,1,1 0 p p=0400000008000000 i0100000002000000
launch 0
failed 4 nvrtc
refused -1 memory of 10 bytes
upload 8
live 8192
launch 0
live 4096
sync
download 24";

    #[test]
    fn the_calls_of_a_log_are_parsed() {
        let log = Log::parse(LOG).unwrap();
        assert_eq!(log.kernels, [Kernel { program: 3, name: "fill".to_owned() }]);
        assert_eq!(log.failures, [Failure { program: 4, stage: "nvrtc".to_owned() }]);
        assert_eq!(log.refused, [(None, "memory of 10 bytes".to_owned())]);
        let launch = Event::Launch(0);
        assert_eq!(log.events, [launch, Event::Upload(8), launch, Event::Sync, Event::Download(24)]);
        assert_eq!(Log::launches(&log.events), HashMap::from([(0, 2)]));
        assert_eq!(log.peak_bytes, 8192);

        let Shape { grid, block, parameters, .. } = &log.shapes[0];
        assert_eq!((grid, block), (&[2, 1, 1], &[256, 1, 1]));
        let [Parameter::Buffer, Parameter::Metadata(shapes), Parameter::Info(info)] = &parameters[..] else {
            panic!("{parameters:?}")
        };
        assert_eq!((integers(shapes, 4), integers(info, 4)), (vec![4, 8], vec![1, 2]));
    }

    #[test]
    fn tensor_maps_have_sizes() {
        let values = [9_u64, 2, 64, 128, 0, 0, 0];
        let text: String = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .fold("t".to_owned(), |text, byte| format!("{text}{byte:02x}"));
        let map = Parameter::parse(&text).unwrap();
        assert_eq!(map, Parameter::TensorMap { element_bits: 16, sizes: vec![64, 128] });
    }

    #[test]
    fn invalid_lines_are_named() {
        for line in ["kernel 1 0 fill", "launch 0", "launch", "shape 0 0 1,1 1,1,1 0", "whatever 3"] {
            let error = format!("{:#}", Log::parse(line).unwrap_err());
            assert!(error.contains(line), "{error}");
        }
    }
}
