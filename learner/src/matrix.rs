//! Small dense matrices, converted between tensors, files and linear algebra.

use burn::tensor::{Device, Tensor, TensorData};
use faer::Mat;
use fmlora_models::{HalfTensor, HalfTensorError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A row-major f32 matrix, stored as f16 in files.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    n_rows: usize,
    n_columns: usize,
    values: Vec<f32>,
}

impl Matrix {
    /// Creates a matrix from its numbers, row by row. `None` if they do not fill the shape.
    pub fn new(n_rows: usize, n_columns: usize, values: Vec<f32>) -> Option<Self> {
        let fits = n_rows.checked_mul(n_columns) == Some(values.len());
        fits.then_some(Self { n_rows, n_columns, values })
    }

    /// Computes each number from its row and column.
    pub fn from_fn(n_rows: usize, n_columns: usize, number: impl Fn(usize, usize) -> f32) -> Self {
        let places = (0..n_rows).flat_map(|i| (0..n_columns).map(move |j| (i, j)));
        Self { n_rows, n_columns, values: places.map(|(i, j)| number(i, j)).collect() }
    }

    /// Returns a matrix of zeros.
    pub fn zeros(n_rows: usize, n_columns: usize) -> Self {
        Self { n_rows, n_columns, values: vec![0.0; n_rows * n_columns] }
    }

    /// Returns an identity matrix.
    pub fn identity(n: usize) -> Self {
        Self::from_fn(n, n, |i, j| f32::from(u8::from(i == j)))
    }

    /// Number of rows and of columns.
    pub fn shape(&self) -> [usize; 2] {
        [self.n_rows, self.n_columns]
    }

    /// The numbers, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Returns one number.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.n_columns + column]
    }

    /// Returns `self + scale * other`. Both must have the same shape.
    #[must_use]
    pub fn plus(&self, scale: f32, other: &Self) -> Self {
        let sums = self.values.iter().zip(&other.values).map(|(a, b)| a + scale * b);
        Self { values: sums.collect(), ..*self }
    }

    /// Returns `self * other^T`.
    #[must_use]
    pub fn times_transposed(&self, other: &Self) -> Self {
        let product =
            |i: usize, j: usize| (0..self.n_columns).map(|k| self.at(i, k) * other.at(j, k)).sum();
        Self::from_fn(self.n_rows, other.n_rows, product)
    }

    /// Returns the transposed matrix.
    #[must_use]
    pub fn transposed(&self) -> Self {
        Self::from_fn(self.n_columns, self.n_rows, |i, j| self.at(j, i))
    }

    /// Returns the first `n` columns.
    #[must_use]
    pub fn leading_columns(&self, n: usize) -> Self {
        Self::from_fn(self.n_rows, n.min(self.n_columns), |i, j| self.at(i, j))
    }

    /// Returns the matrix with every number rounded to f16, as files store it.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError`] for a number that f16 cannot hold.
    pub fn rounded(&self) -> Result<Self, HalfTensorError> {
        let half = HalfTensor::from_f32(&self.shape(), &self.values)?;
        Ok(Self { values: half.to_f32(), ..*self })
    }

    pub(crate) fn to_tensor(&self, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(self.values.clone(), self.shape()), device)
    }

    pub(crate) fn from_tensor(tensor: Tensor<2>) -> Result<Self, String> {
        let [n_rows, n_columns] = tensor.dims();
        let data = tensor.try_into_data().map_err(|e| e.to_string())?;
        let values = data.try_into_vec::<f32>().map_err(|e| e.to_string())?;
        Ok(Self { n_rows, n_columns, values })
    }

    pub(crate) fn to_faer(&self) -> Mat<f64> {
        Mat::from_fn(self.n_rows, self.n_columns, |i, j| f64::from(self.at(i, j)))
    }

    pub(crate) fn from_faer(matrix: faer::MatRef<'_, f64>) -> Self {
        Self::from_fn(matrix.nrows(), matrix.ncols(), |i, j| matrix[(i, j)] as f32)
    }
}

impl Serialize for Matrix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let half = HalfTensor::from_f32(&self.shape(), &self.values);
        half.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Matrix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let half = HalfTensor::owned(deserializer)?;
        half.check().map_err(D::Error::custom)?;
        let shape = half.shape();
        let values = half.to_f32();
        if shape.len() != 2 || !half.is_finite() {
            return Err(D::Error::custom("expected a matrix of finite numbers"));
        }
        Ok(Self { n_rows: shape[0], n_columns: shape[1], values })
    }
}
