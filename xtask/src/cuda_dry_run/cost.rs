//! A lower bound of the time of a launch.

use super::{
    arch::Arch,
    log::{Parameter, Shape, integers},
    program::Program,
};

/// Seconds from one launch to the next, even if a kernel does nothing.
pub(crate) const LAUNCH: f64 = 2.5e-6;

/// The work of a launch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cost {
    /// Each tensor once.
    pub(crate) bytes: f64,
    /// Operations of matrix products. Other kernels are limited by memory.
    pub(crate) flops: f64,
    /// Bits of an element of the left factor.
    factor_bits: u64,
}

impl Cost {
    pub(crate) fn of(shape: &Shape, program: &Program, kernel: &str) -> Self {
        let tensors = tensors(shape, program);
        let bytes = tensors.iter().map(Tensor::bytes).sum();
        if !kernel.contains("matmul") {
            return Self { bytes, ..Self::default() };
        }
        if let Some(sizes) = ProductSizes::of(shape, program) {
            return sizes.cost(&tensors);
        }
        let (flops, factor_bits) = product(&tensors).unwrap_or_default();
        Self { bytes, flops, factor_bits }
    }

    /// Seconds that the launch takes at least.
    pub(crate) fn seconds(self, arch: Arch) -> f64 {
        LAUNCH + (self.flops / arch.product_peak(self.factor_bits)).max(self.bytes / arch.bandwidth())
    }
}

/// The sizes of B products `[M, K]` · `[K, N]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ProductSizes {
    batches: u64,
    m: u64,
    n: u64,
    k: u64,
}

impl ProductSizes {
    /// From the scalars of CubeK's products, if they are not in a fused kernel: the sizes of left factor, right factor and
    /// output, each after the divisions of a batch index if there is more than one axis of batches, and near the end the
    /// number of batches.
    fn of(shape: &Shape, program: &Program) -> Option<Self> {
        let info = shape.parameters.iter().find_map(|parameter| match parameter {
            Parameter::Info(bytes) => Some(bytes),
            _ => None,
        })?;
        let start = program.scalar_bytes.checked_sub(4 * program.n_u32)?;
        let scalars = integers(info.get(start..program.scalar_bytes)?, 4);
        let [.., batches, _] = scalars[..] else { return None };
        let at = |idx: [usize; 6]| {
            let [m, k, also_k, n, also_m, also_n] = idx.map(|idx| scalars.get(idx).copied().unwrap_or(0));
            let fits = (m, k, n) == (also_m, also_k, also_n) && m * k * n > 0;
            fits.then_some(Self { batches, m, n, k })
        };
        match scalars.len() {
            10 => at([0, 1, 2, 3, 4, 5]),
            28 => at([6, 7, 14, 15, 16, 17]),
            _ => None,
        }
    }

    fn cost(self, tensors: &[Tensor]) -> Cost {
        let Self { batches, m, n, k } = self;
        let bits = |idx: usize| tensors.get(idx).map_or(0, |tensor| tensor.element_bits);
        let bytes = batches * (m * k * bits(0) + k * n * bits(1) + m * n * bits(2)) / 8;
        Cost { bytes: bytes as f64, flops: 2.0 * (batches * m * n) as f64 * k as f64, factor_bits: bits(0) }
    }
}

/// A tensor in the arguments of a launch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tensor {
    /// From its start to the end of its buffer, or fewer if the shape is known.
    n_elements: u64,
    element_bits: u64,
    /// Empty if CubeCL does not pass it.
    sizes: Vec<u64>,
}

impl Tensor {
    fn new(n_in_buffer: u64, element_bits: u64, sizes: Vec<u64>) -> Self {
        // A broadcast tensor has more elements than its buffer, and a part of a tensor fewer.
        let n_elements = if sizes.is_empty() { n_in_buffer } else { n_in_buffer.min(sizes.iter().product()) };
        Self { n_elements, element_bits, sizes }
    }

    fn bytes(&self) -> f64 {
        self.n_elements as f64 * self.element_bits as f64 / 8.0
    }
}

/// The tensors of a launch: lengths and shapes from CubeCL's arguments, types from the source.
fn tensors(shape: &Shape, program: &Program) -> Vec<Tensor> {
    let width = if program.length_bits == 64 { 8 } else { 4 };
    let (mut lengths, mut metadata) = (Vec::new(), Vec::new());
    for parameter in &shape.parameters {
        match parameter {
            Parameter::Info(bytes) => {
                lengths = integers(bytes.get(program.scalar_bytes..).unwrap_or_default(), width);
            }
            Parameter::Metadata(bytes) => metadata = integers(bytes, width),
            Parameter::Buffer | Parameter::TensorMap { .. } => {}
        }
    }
    let is_tensor =
        |parameter: &&Parameter| matches!(parameter, Parameter::Buffer | Parameter::TensorMap { .. });
    let tensors: Vec<_> = shape.parameters.iter().filter(is_tensor).collect();
    let sizes = sizes(&lengths, tensors.len(), &metadata);
    let mut elements = program.elements.iter().copied();
    let of_parameter = |(idx, parameter): (usize, &&Parameter)| match parameter {
        Parameter::TensorMap { element_bits, sizes } => {
            Tensor::new(sizes.iter().product(), *element_bits, sizes.iter().rev().copied().collect())
        }
        _ => {
            let element = elements.next().unwrap_or_default();
            let n_in_buffer = lengths.get(idx).copied().unwrap_or(0) * element.width;
            Tensor::new(n_in_buffer, element.bits, sizes.get(idx).cloned().unwrap_or_default())
        }
    };
    tensors.iter().enumerate().map(of_parameter).collect()
}

/// The shapes of the tensors; empty if a buffer has no shape. CubeCL passes the length of each buffer, and then the offsets
/// of shapes and strides in `metadata`.
fn sizes(lengths: &[u64], n_tensors: usize, metadata: &[u64]) -> Vec<Vec<u64>> {
    let Some(offsets) = lengths.get(n_tensors..3 * n_tensors) else { return Vec::new() };
    let (starts, strides) = offsets.split_at(n_tensors);
    let Some(&end) = strides.first() else { return Vec::new() };
    let ends = starts.iter().skip(1).chain([&end]);
    let range = |(&start, &end): (&u64, &u64)| {
        metadata.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?).map(<[u64]>::to_vec)
    };
    starts.iter().zip(ends).map(range).collect::<Option<_>>().unwrap_or_default()
}

/// The operations of a matrix product, and the bits of an element of its left factor. Its output is the last tensor, and its
/// factors are the first two that fit: `[B, M, K]` and `[B, K, N]`, or `[K, N]`, in any order of axes.
fn product(tensors: &[Tensor]) -> Option<(f64, u64)> {
    let (output, inputs) = tensors.split_last()?;
    let [batches @ .., m, n] = &output.sizes[..] else { return None };
    let batch: u64 = batches.iter().product();
    for (idx, left) in inputs.iter().enumerate() {
        for right in &inputs[idx + 1..] {
            let depth = |tensor: &Tensor, by: u64| {
                (by > 0 && tensor.n_elements.is_multiple_of(by)).then(|| tensor.n_elements / by)
            };
            let k = depth(left, batch * m)?;
            if k > 0 && [depth(right, batch * n), depth(right, *n)].contains(&Some(k)) {
                return Some((2.0 * (batch * m * n) as f64 * k as f64, left.element_bits));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{super::program::tests::program, *};

    fn bytes(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn tensor(sizes: &[u64]) -> Tensor {
        Tensor::new(sizes.iter().product(), 16, sizes.to_vec())
    }

    #[test]
    fn bytes_are_those_of_the_tensors() {
        // Four scalars, two lengths, the offsets of two shapes and of their strides.
        let info = bytes(&[0, 0, 0, 0, 10, 1000, 0, 2, 4, 6]);
        let metadata = bytes(&[8, 5, 8, 6, 5, 1, 6, 1, 77]);
        let mut shape = Shape {
            kernel: 0,
            grid: [1; 3],
            block: [1; 3],
            shared_bytes: 0,
            parameters: vec![
                Parameter::Buffer,
                Parameter::Buffer,
                Parameter::Metadata(metadata),
                Parameter::Info(info.clone()),
            ],
        };
        // A vector of four f32, ten times; 48 bf16 of a longer buffer.
        assert_eq!(Cost::of(&shape, &program(), "fill"), Cost { bytes: 160.0 + 96.0, ..Cost::default() });

        // Without shapes, whole buffers.
        shape.parameters.remove(2);
        shape.parameters[2] = Parameter::Info(info[..24].to_vec());
        assert_eq!(Cost::of(&shape, &program(), "fill").bytes, 160.0 + 2000.0);

        shape.parameters[0] = Parameter::TensorMap { element_bits: 16, sizes: vec![64, 32] };
        shape.parameters.truncate(1);
        assert_eq!(Cost::of(&shape, &program(), "fill").bytes, 4096.0);
    }

    #[test]
    fn products_are_found_in_any_layout() {
        let (batch, m, n, k) = (3, 8, 5, 7);
        let flops = Some((2.0 * (batch * m * n * k) as f64, 16));
        let output = tensor(&[batch, m, n]);
        for right in [tensor(&[batch, k, n]), tensor(&[n, k])] {
            assert_eq!(product(&[tensor(&[batch, k, m]), right, output.clone()]), flops);
        }
        let residual = tensor(&[batch, m, n]);
        let factors = [tensor(&[batch, m, k]), tensor(&[batch, k, n])];
        assert_eq!(product(&[factors[0].clone(), factors[1].clone(), residual, output.clone()]), flops);
        assert_eq!(product(&[factors[0].clone(), output]), None);
    }

    #[test]
    fn the_slower_of_products_and_memory_limits_a_launch() {
        let cost = Cost { bytes: 3.35e6, flops: 0.0, factor_bits: 16 };
        assert!((cost.seconds(Arch::Sm90) - (1e-6 + LAUNCH)).abs() < 1e-12);
        let cost = Cost { flops: 989e7, ..cost };
        assert!((cost.seconds(Arch::Sm90) - (1e-5 + LAUNCH)).abs() < 1e-12);
        let in_f32 = Cost { factor_bits: 32, ..cost };
        assert!((in_f32.seconds(Arch::Sm90) - (2e-5 + LAUNCH)).abs() < 1e-12);
    }

    #[test]
    fn sizes_of_products_are_scalars() {
        let launch = |scalars: &[u32]| {
            let info = [scalars, &[0; 4]].concat();
            let parameters = vec![Parameter::Info(bytes(&info))];
            let shape = Shape { kernel: 0, grid: [1; 3], block: [1; 3], shared_bytes: 0, parameters };
            let n_u32 = scalars.len();
            ProductSizes::of(&shape, &Program { scalar_bytes: 4 * n_u32, n_u32, ..program() })
        };
        let one = launch(&[512, 48, 48, 96, 512, 96, 4, 3, 1, 0]).unwrap();
        assert_eq!(one, ProductSizes { batches: 1, m: 512, n: 96, k: 48 });
        let division = [64, 1, 6, 6, 99, 3];
        let sizes = [&division[..], &[256, 32], &division, &[32, 128, 256, 128], &division, &[2, 2, 384, 0]];
        let many = launch(&sizes.concat()).unwrap();
        assert_eq!(many, ProductSizes { batches: 384, m: 256, n: 128, k: 32 });
        assert_eq!(launch(&[512, 48, 47, 96, 512, 96, 4, 3, 1, 0]), None);

        let operand = tensor(&[1]);
        let cost = one.cost(&[operand.clone(), operand.clone(), operand]);
        assert_eq!(cost.flops, 2.0 * 512.0 * 48.0 * 96.0);
        assert_eq!(cost.bytes, 2.0 * (512.0 * 48.0 + 48.0 * 96.0 + 512.0 * 96.0));
    }
}
