//! Golden cases: inputs and outputs of PyTorch in safetensors.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

/// The tensors of one file: shape and numbers by name.
#[derive(Debug)]
pub struct Golden {
    tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Golden {
    /// Reads a safetensors file of f32 tensors.
    ///
    /// # Panics
    ///
    /// If the file is missing or has another content: a golden case is part of the project.
    pub fn load(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).expect("a golden file is a safetensors file");
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let four = view.data().chunks_exact(4);
            let values = four.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (name, (view.shape().to_vec(), values))
        });
        Self { tensors: tensors.collect() }
    }

    /// Returns shape and numbers of one tensor.
    ///
    /// # Panics
    ///
    /// If the case has no such tensor.
    pub fn tensor(&self, name: &str) -> (&[usize], &[f32]) {
        let (shape, values) = &self.tensors[name];
        (shape, values)
    }

    /// Returns the names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

/// Returns the folder of the golden cases, which are part of the project.
pub fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// Returns the folder with CIFAR-100 and PACS: `FMLORA_DATA`, else `shared/data` beside the
/// project. `None`, with a line on stderr, if it is absent.
pub fn data_dir() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("FMLORA_DATA").map_or_else(beside, PathBuf::from);
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no data at {} (set FMLORA_DATA)", dir.display());
    None
}

/// Returns the largest absolute difference of two lists of equal length.
///
/// # Panics
///
/// If the lengths differ.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f32::max)
}

/// Returns the largest difference as a share of the largest number of `expected`.
pub fn relative_difference(found: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    largest_difference(found, expected) / largest
}
