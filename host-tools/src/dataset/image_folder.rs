//! Folders of pictures: one folder a class, or `train` and `test` above them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fmlora_models::has_picture_name;

use super::{Dataset, Picture, Pictures};

/// Reads the lists of files. Without `train` and `test` above the classes, the last fifth of each class in
/// the order of names is for tests.
pub(super) fn load(dir: &Path, train: Option<usize>, test: Option<usize>) -> Result<Dataset> {
    let split = dir.join("train").is_dir() && dir.join("test").is_dir();
    let classes = folders(&if split { dir.join("train") } else { dir.to_owned() })?;
    ensure!(!classes.is_empty(), "{}: no class folders", dir.display());
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let names: Vec<String> = classes.iter().map(name).collect();
    let mut set = Dataset {
        names,
        domains: Vec::new(),
        train: Pictures::default(),
        test: Pictures::default(),
    };
    for (label, class) in classes.iter().enumerate() {
        let files = pictures(class)?;
        let (for_train, for_test) = if split {
            (files, pictures(&dir.join("test").join(&set.names[label]))?)
        } else {
            let cut = files.len() - files.len() / 5;
            let (a, b) = files.split_at(cut);
            (a.to_vec(), b.to_vec())
        };
        set.train.add(label, for_train, train);
        set.test.add(label, for_test, test);
    }
    Ok(set)
}

impl Pictures {
    pub(super) fn add(&mut self, label: usize, files: Vec<PathBuf>, limit: Option<usize>) {
        for file in files.into_iter().take(limit.unwrap_or(usize::MAX)) {
            self.labels.push(label);
            self.items.push(Picture::File(file));
        }
    }
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = || -> std::io::Result<Vec<PathBuf>> {
        std::fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect()
    };
    let mut paths = read().with_context(|| format!("{}: cannot be read", dir.display()))?;
    paths.sort();
    Ok(paths)
}

pub(super) fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(dir)?.into_iter().filter(|p| p.is_dir()).collect())
}

pub(super) fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    Ok(entries(dir)?.into_iter().filter(|p| has_picture_name(p)).collect())
}
