//! Which files of a folder are pictures, and which folders are classes.

use std::path::{Path, PathBuf};

use fmlora_learner::ClassName;
use fmlora_models::has_picture_name;

use crate::EdgeError;

/// A folder of pictures that show one class.
#[derive(Debug)]
pub(crate) struct ClassFolder {
    pub(crate) name: ClassName,
    pub(crate) pictures: Vec<PathBuf>,
}

/// Files stand for themselves, folders for the pictures in them.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, EdgeError> {
    let mut pictures = Vec::new();
    for path in paths {
        if path.is_dir() {
            let inside = pictures_in(path)?;
            if inside.is_empty() {
                let expected = "no picture in this folder (jpg, jpeg, png, webp, bmp)";
                return Err(EdgeError::EmptyFolder { path: path.clone(), expected });
            }
            pictures.extend(inside);
        } else {
            pictures.push(path.clone());
        }
    }
    Ok(pictures)
}

/// The class folders of `dir`, by name.
pub(crate) fn class_folders(dir: &Path) -> Result<Vec<ClassFolder>, EdgeError> {
    let mut folders = Vec::new();
    for path in entries(dir)? {
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden || !path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let pictures = pictures_in(&path)?;
        if pictures.is_empty() {
            let expected = "no picture in this class folder (jpg, jpeg, png, webp, bmp)";
            return Err(EdgeError::EmptyFolder { path, expected });
        }
        folders.push(ClassFolder { name: ClassName::new(&name)?, pictures });
    }
    if folders.is_empty() {
        let expected = "no class in this folder, expected one folder of pictures per class";
        return Err(EdgeError::EmptyFolder { path: dir.to_owned(), expected });
    }
    Ok(folders)
}

fn pictures_in(dir: &Path) -> Result<Vec<PathBuf>, EdgeError> {
    Ok(entries(dir)?.into_iter().filter(|p| has_picture_name(p)).collect())
}

/// What a folder holds, sorted, so that the same folder always means the same.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, EdgeError> {
    let fail = |source| EdgeError::File { path: dir.to_owned(), what: "read the folder", source };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        paths.push(entry.map_err(fail)?.path());
    }
    paths.sort();
    Ok(paths)
}
