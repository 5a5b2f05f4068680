//! Tensors in files: f16, little endian, with a shape, borrowed from the file if possible.

use std::borrow::Cow;

use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A tensor as stored in files: f16, little endian, row-major.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfTensor<'a> {
    shape: Vec<u32>,
    #[serde(borrow, with = "serde_bytes")]
    bytes: Cow<'a, [u8]>,
}

/// Reason why numbers or bytes are not a valid [`HalfTensor`].
#[derive(Debug, Clone, PartialEq, Error)]
pub enum HalfTensorError {
    /// A number does not fit into f16.
    #[error("number {index} is {value}, which f16 cannot hold")]
    OutOfRange {
        /// Position in row-major order.
        index: usize,
        /// The number.
        value: f32,
    },
    /// The shape and the number of bytes do not match.
    #[error("shape {shape:?} and {bytes} bytes do not fit together, expected 2 bytes a number")]
    WrongLength {
        /// The shape.
        shape: Vec<u32>,
        /// Number of bytes found.
        bytes: usize,
    },
}

impl HalfTensor<'static> {
    /// Rounds numbers to f16.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError::OutOfRange`] for NaN, infinities and numbers beyond ±65504;
    /// [`HalfTensorError::WrongLength`] if `values` does not fill `shape`.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Result<Self, HalfTensorError> {
        let mut bytes = Vec::with_capacity(values.len() * 2);
        for (index, &value) in values.iter().enumerate() {
            let rounded = f16::from_f32(value);
            if !rounded.is_finite() {
                return Err(HalfTensorError::OutOfRange { index, value });
            }
            bytes.extend_from_slice(&rounded.to_le_bytes());
        }
        let shape = shape.iter().map(|&n| n as u32).collect();
        let tensor = Self { shape, bytes: Cow::Owned(bytes) };
        tensor.check()?;
        Ok(tensor)
    }
}

impl HalfTensor<'_> {
    /// Returns the sizes of the axes.
    pub fn shape(&self) -> Vec<usize> {
        self.shape.iter().map(|&n| n as usize).collect()
    }

    /// Size of the numbers in bytes.
    pub fn n_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Checks that the bytes fill the shape. Call it on every decoded tensor.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError::WrongLength`].
    pub fn check(&self) -> Result<(), HalfTensorError> {
        let numbers = self.shape.iter().try_fold(1u64, |n, &s| n.checked_mul(u64::from(s)));
        if numbers.and_then(|n| n.checked_mul(2)) != Some(self.bytes.len() as u64) {
            let shape = self.shape.clone();
            let bytes = self.bytes.len();
            return Err(HalfTensorError::WrongLength { shape, bytes });
        }
        Ok(())
    }

    /// Returns true if all numbers are finite.
    pub fn is_finite(&self) -> bool {
        const EXPONENT: u16 = 0x7c00;
        // No early exit, so that the loop is vectorised.
        let odd = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]) & EXPONENT == EXPONENT;
        !self.bytes.chunks_exact(2).fold(false, |found, b| found | odd(b))
    }

    /// Returns the numbers in f32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        self.leading(self.bytes.len() / 2)
    }

    /// Returns the first `n` numbers in f32, row-major.
    pub fn leading(&self, n: usize) -> Vec<f32> {
        let mut values = vec![0.0; n.min(self.bytes.len() / 2)];
        self.widen_from(0, &mut values);
        values
    }

    /// Writes the numbers from index `first` on into `values` in f32, row-major, until `values` is
    /// full.
    pub(crate) fn widen_from(&self, first: usize, values: &mut [f32]) {
        // Converts through a buffer: the conversion takes slices of f16, and the bytes of a file
        // may be unaligned.
        let mut halves = [f16::ZERO; 1024];
        let bytes = self.bytes[2 * first..].chunks(2 * halves.len());
        for (values, bytes) in values.chunks_mut(halves.len()).zip(bytes) {
            let halves = &mut halves[..values.len()];
            for (half, b) in halves.iter_mut().zip(bytes.chunks_exact(2)) {
                *half = f16::from_le_bytes([b[0], b[1]]);
            }
            halves.convert_to_f32_slice(values);
        }
    }

    /// Deserialises without borrowing from the input:
    /// `#[serde(deserialize_with = "HalfTensor::owned")]`.
    ///
    /// # Errors
    ///
    /// The errors of the deserialiser.
    pub fn owned<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<HalfTensor<'static>, D::Error> {
        HalfTensor::deserialize(deserializer).map(HalfTensor::into_owned)
    }

    /// Returns the same numbers in another shape.
    ///
    /// # Errors
    ///
    /// [`HalfTensorError::WrongLength`] if the numbers do not fill the shape.
    pub fn reshaped(&self, shape: &[usize]) -> Result<Self, HalfTensorError> {
        let shape = shape.iter().map(|&n| n as u32).collect();
        let tensor = Self { shape, bytes: self.bytes.clone() };
        tensor.check()?;
        Ok(tensor)
    }

    /// Returns a copy that borrows nothing.
    pub fn into_owned(self) -> HalfTensor<'static> {
        HalfTensor { shape: self.shape, bytes: Cow::Owned(self.bytes.into_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_within_half_precision() {
        let values = [0.0, -1.5, 65504.0, 1e-4, 0.333_333_34];
        let tensor = HalfTensor::from_f32(&[5], &values).expect("all fit");
        for (a, b) in values.iter().zip(tensor.to_f32()) {
            // f16 has 11 significant bits.
            assert!((a - b).abs() <= a.abs() / 2048.0, "{a} became {b}");
        }
    }

    #[test]
    fn nan_and_infinities_are_found_at_every_index() {
        let tensor = |halves: &[f16]| HalfTensor {
            shape: vec![halves.len() as u32],
            bytes: halves.iter().flat_map(|h| h.to_le_bytes()).collect(),
        };
        let sound = [f16::MAX, f16::MIN, f16::ZERO, f16::MIN_POSITIVE_SUBNORMAL];
        assert!(tensor(&sound).is_finite());
        for odd in [f16::NAN, f16::INFINITY, f16::NEG_INFINITY] {
            for place in 0..sound.len() {
                let mut halves = sound;
                halves[place] = odd;
                assert!(!tensor(&halves).is_finite(), "{odd} at {place}");
            }
        }
    }

    #[test]
    fn numbers_and_shapes_that_do_not_fit_are_rejected() {
        assert_eq!(
            HalfTensor::from_f32(&[2], &[1.0, 1e6]),
            Err(HalfTensorError::OutOfRange { index: 1, value: 1e6 })
        );
        assert!(HalfTensor::from_f32(&[1], &[f32::NAN]).is_err());
        assert!(HalfTensor::from_f32(&[3], &[1.0]).is_err());
    }
}
