//! CIFAR-100 (Krizhevsky 2009) in its official binary files.
//!
//! A record is a coarse label, a fine label, and 32 x 32 pixels: all red, all green, all blue
//! bytes.

use std::path::Path;

use anyhow::{Result, ensure};
use image::{Rgb, RgbImage};

use super::{Dataset, Picture, Pictures};
use crate::files;

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const RECORD: usize = 2 + 3 * PLANE;
const CLASSES: usize = 100;

/// Reads the first records of each class from `train.bin` and `test.bin`.
pub(super) fn load(dir: &Path, train: Option<usize>, test: Option<usize>) -> Result<Dataset> {
    let class_names = String::from_utf8(files::read(&dir.join("fine_label_names.txt"))?)?;
    let names: Vec<String> = class_names.lines().map(str::to_owned).collect();
    let found = names.len();
    ensure!(found == CLASSES, "{}: {found} class names, expected {CLASSES}", dir.display());
    let train = records(&dir.join("train.bin"), train)?;
    let test = records(&dir.join("test.bin"), test)?;
    Ok(Dataset { names, domains: Vec::new(), train, test, left_out: Vec::new() })
}

fn records(path: &Path, limit: Option<usize>) -> Result<Pictures> {
    let bytes = files::read(path)?;
    let name = path.display();
    ensure!(
        !bytes.is_empty() && bytes.len() % RECORD == 0,
        "{name}: {} bytes, expected a multiple of {RECORD}",
        bytes.len()
    );
    let mut pictures = Pictures::default();
    let mut taken = [0; CLASSES];
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        let label = usize::from(record[1]);
        ensure!(label < CLASSES, "{name}: record {i} has label {label}, expected 0 to 99");
        if limit.is_some_and(|n| taken[label] >= n) {
            continue;
        }
        taken[label] += 1;
        let picture = RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
            let at = 2 + y as usize * SIDE + x as usize;
            Rgb([record[at], record[at + PLANE], record[at + 2 * PLANE]])
        });
        pictures.labels.push(label);
        pictures.items.push(Picture::Pixels(picture));
    }
    Ok(pictures)
}
