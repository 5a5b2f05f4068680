//! Linear layers with packed weights, and products of plain slices.

use std::fmt;
use std::sync::{Arc, OnceLock};

use burn::backend::Flex;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor, TensorData};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_tensor::NdTensorView;

/// `y = x W + b`.
#[derive(Clone)]
pub(super) struct PackedLinear {
    /// `[d_in, d_out]`; shared with the layer, so that a copy is made only if it changes.
    weight: Tensor<2>,
    bias: Arc<Vec<f32>>,
    d_in: usize,
    d_out: usize,
    packed: Arc<PackedBMatrix<f32>>,
    /// The transpose, for the backward pass; packed at its first use.
    packed_back: Arc<OnceLock<PackedBMatrix<f32>>>,
    /// True if `weight` is newer than the packed matrices.
    stale: bool,
}

/// A matrix in a slice: element `(i, j)` is at index `i * strides[0] + j * strides[1]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) strides: [usize; 2],
}

impl<'a> View<'a> {
    /// A matrix in row-major order.
    pub(super) fn new(data: &'a [f32], columns: usize) -> Self {
        Self { data, rows: data.len() / columns.max(1), columns, strides: [columns, 1] }
    }

    /// `columns` columns from `first` on, of a matrix with rows of `width` numbers.
    pub(super) fn part(data: &'a [f32], width: usize, first: usize, columns: usize) -> Self {
        Self { data: &data[first..], rows: data.len() / width.max(1), columns, strides: [width, 1] }
    }

    pub(super) fn transposed(self) -> Self {
        let [down, right] = self.strides;
        Self { rows: self.columns, columns: self.rows, strides: [right, down], ..self }
    }

    fn tensor(self) -> NdTensorView<'a, f32, 2> {
        let shape = [self.rows, self.columns];
        NdTensorView::from_slice_with_strides(shape, self.data, self.strides)
            .expect("a view is made of a slice that holds it")
    }
}

/// Returns the fastest matrix product for this processor. It cannot move between threads and costs
/// nothing to create.
fn gemm() -> GemmExecutor {
    GemmExecutor::default()
}

/// Returns the numbers of a tensor on the CPU.
pub(super) fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().expect("weights on the CPU are f32")
}

/// Packs a weight, `[d_in, d_out]`, or its transpose, without an intermediate copy.
fn pack(weight: &Tensor<2>, transposed: bool) -> PackedBMatrix<f32> {
    let d_out = weight.dims()[1];
    let primitive = weight.clone().try_into_primitive::<Flex>();
    let weight = primitive.expect("weights that are packed are on the CPU").to_contiguous();
    let view = View::new(weight.as_slice().expect("weights on the CPU are f32"), d_out);
    gemm().prepack_b(if transposed { view.transposed() } else { view }.tensor())
}

/// Computes `output = alpha a b` and resizes `output` to fit.
pub(super) fn product(a: View<'_>, b: View<'_>, alpha: f32, output: &mut Vec<f32>) {
    output.resize(a.rows * b.columns, 0.0);
    let options = GemmOptions { alpha, ..GemmOptions::default() };
    let a = GemmInputA::Unpacked(a.tensor());
    let b = GemmInputB::Unpacked(b.tensor());
    gemm().gemm(output, a, b, options).expect("the inner sizes agree");
}

/// Computes `output = input weight + beta output`.
fn times(input: View<'_>, weight: &PackedBMatrix<f32>, beta: f32, output: &mut [f32]) {
    let options = GemmOptions { beta, ..GemmOptions::default() };
    let a = GemmInputA::Unpacked(input.tensor());
    let b = GemmInputB::Packed(weight);
    gemm().gemm(output, a, b, options).expect("the layer fits its input");
}

impl PackedLinear {
    pub(super) fn new(layer: &Linear) -> Self {
        let [d_in, d_out] = layer.weight.dims();
        let bias = layer.bias.as_ref().map_or_else(|| vec![0.0; d_out], |b| numbers(b.val()));
        let weight = layer.weight.val();
        let packed = pack(&weight, false);
        Self {
            weight,
            bias: Arc::new(bias),
            d_in,
            d_out,
            packed: Arc::new(packed),
            packed_back: Arc::default(),
            stale: false,
        }
    }

    pub(super) fn d_in(&self) -> usize {
        self.d_in
    }

    /// Computes `output = input W + b` and resizes `output` to fit.
    pub(super) fn apply(&self, input: &[f32], output: &mut Vec<f32>) {
        debug_assert!(!self.stale, "weights were changed and not packed");
        let input = View::new(input, self.d_in);
        output.resize(input.rows * self.d_out, 0.0);
        // The product is added to the bias, which is faster than adding the bias afterwards.
        output.chunks_exact_mut(self.d_out).for_each(|row| row.copy_from_slice(&self.bias));
        times(input, &self.packed, 1.0, output);
    }

    /// Computes `output = gradient W^T` and resizes `output` to fit.
    pub(super) fn apply_back(&self, gradient: &[f32], output: &mut Vec<f32>) {
        let packed = self.packed_back.get_or_init(|| pack(&self.weight, true));
        let gradient = View::new(gradient, self.d_out);
        output.resize(gradient.rows * self.d_in, 0.0);
        times(gradient, packed, 0.0, output);
    }

    /// Adds `left right` to the columns from `column` on. It takes effect with
    /// [`PackedLinear::pack`].
    pub(super) fn add_product(
        &mut self,
        column: usize,
        d_in: usize,
        left: View<'_>,
        right: View<'_>,
    ) {
        let mut delta = Vec::new();
        product(left, right, 1.0, &mut delta);
        let columns = right.columns;
        let mut weight = numbers(self.weight.clone());
        for (row, delta) in (0..d_in).zip(delta.chunks_exact(columns)) {
            let target = &mut weight[row * self.d_out + column..][..columns];
            target.iter_mut().zip(delta).for_each(|(w, d)| *w += d);
        }
        let data = TensorData::new(weight, [self.d_in, self.d_out]);
        self.weight = Tensor::from_data(data, &Device::flex());
        self.stale = true;
    }

    /// Packs the weights if they have changed.
    pub(super) fn pack(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.packed = Arc::new(pack(&self.weight, false));
            self.packed_back = Arc::default();
        }
    }
}

impl fmt::Debug for PackedLinear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PackedLinear({} to {})", self.d_in, self.d_out)
    }
}
