//! Folders of pictures: one folder per class, or `train` and `test` above them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fmlora_models::{LeftOut, PictureFolder, folder_numbers, is_hidden_name};

use super::{Dataset, Picture, Pictures};

/// Lists the files. Without `train` and `test` above the classes, the last fifth of each class in
/// the order of names is for tests.
pub(super) fn load(dir: &Path, train: Option<usize>, test: Option<usize>) -> Result<Dataset> {
    let split = dir.join("train").is_dir() && dir.join("test").is_dir();
    let mut set = Dataset::default();
    let classes = set.folders_in(&if split { dir.join("train") } else { dir.to_owned() })?;
    ensure!(!classes.is_empty(), "{}: no class folders", dir.display());
    set.names = classes.iter().map(|class| name(class)).collect();
    for (label, class) in classes.iter().enumerate() {
        let files = set.pictures_in(class)?;
        let (for_train, for_test) = if split {
            (files, set.pictures_in(&dir.join("test").join(&set.names[label]))?)
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
    /// Adds pictures of a class. Pictures of the same folder have the same occasion.
    pub(super) fn add(&mut self, label: usize, files: Vec<PathBuf>, limit: Option<usize>) {
        let files: Vec<PathBuf> = files.into_iter().take(limit.unwrap_or(usize::MAX)).collect();
        self.occasions.extend(folder_numbers(&files));
        for file in files {
            self.labels.push(label);
            self.items.push(Picture::File(file));
        }
    }
}

impl Dataset {
    /// Lists the pictures of a folder and its subfolders, in the order of names. Other files are
    /// left out.
    pub(super) fn pictures_in(&mut self, dir: &Path) -> Result<Vec<PathBuf>> {
        let found = PictureFolder::read(dir)
            .with_context(|| format!("{}: cannot be read", dir.display()))?;
        self.left_out.extend(found.left_out);
        Ok(found.pictures)
    }

    /// Lists the subfolders of a folder, in the order of names. Files beside them are left out;
    /// hidden entries are skipped without a report.
    pub(super) fn folders_in(&mut self, dir: &Path) -> Result<Vec<PathBuf>> {
        let read = || -> std::io::Result<Vec<PathBuf>> {
            std::fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect()
        };
        let mut paths = read().with_context(|| format!("{}: cannot be read", dir.display()))?;
        paths.retain(|path| !is_hidden_name(&name(path)));
        paths.sort();
        let (folders, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|p| p.is_dir());
        let reason = "it is in no class folder".to_owned();
        let loose = files.into_iter().map(|path| LeftOut { path, reason: reason.clone() });
        self.left_out.extend(loose);
        Ok(folders)
    }
}

/// Returns the last part of a path.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
