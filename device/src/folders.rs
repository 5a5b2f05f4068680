//! Files and class folders named by the paths of a command.

use std::path::{Path, PathBuf};

use fmlora_learner::ClassName;
use fmlora_models::{LeftOut, PictureFolder, folder_numbers, is_hidden_name};

use crate::EdgeError;

/// Folder names of the parts of a data set. These are not classes.
const PARTS: [&str; 5] = ["train", "test", "val", "valid", "validation"];

/// A folder of pictures that show one class.
#[derive(Debug)]
pub(crate) struct ClassFolder {
    pub(crate) name: ClassName,
    pub(crate) pictures: Vec<PathBuf>,
    /// Occasion of each picture. Pictures of one folder were taken together.
    pub(crate) occasions: Vec<usize>,
}

/// The class folders of a directory, and its files that are not pictures of a class.
#[derive(Debug, Default)]
pub(crate) struct ClassFolders {
    pub(crate) classes: Vec<ClassFolder>,
    pub(crate) left_out: Vec<LeftOut>,
}

/// Expands paths: a file stands for itself, a folder for the pictures in it and in the folders
/// below it.
pub(crate) fn expand(paths: &[PathBuf]) -> Result<PictureFolder, EdgeError> {
    let mut all = PictureFolder::default();
    for path in paths {
        if path.is_dir() {
            let inside = pictures_in(path, "this folder")?;
            all.pictures.extend(inside.pictures);
            all.left_out.extend(inside.left_out);
        } else {
            all.pictures.push(path.clone());
        }
    }
    Ok(all)
}

/// Returns the class folders of `dir`, by name. Pictures in folders below a class folder belong to
/// the class, each folder an occasion.
pub(crate) fn class_folders(dir: &Path) -> Result<ClassFolders, EdgeError> {
    let mut found = ClassFolders::default();
    for path in entries(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_hidden_name(&name) {
            continue;
        }
        if !path.is_dir() {
            let reason = "it is in no class folder".to_owned();
            found.left_out.push(LeftOut { path, reason });
            continue;
        }
        let inside = match pictures_in(&path, &format!("class {name}")) {
            Err(EdgeError::EmptyFolder { path, expected }) => {
                found.left_out.push(LeftOut { path, reason: expected.to_owned() });
                continue;
            }
            inside => inside?,
        };
        found.left_out.extend(inside.left_out);
        let occasions = folder_numbers(&inside.pictures);
        let pictures = inside.pictures;
        found.classes.push(ClassFolder { name: ClassName::new(&name)?, pictures, occasions });
    }
    let empty = |expected| Err(EdgeError::EmptyFolder { path: dir.to_owned(), expected });
    if found.classes.is_empty() {
        return empty("no class in this folder, expected one folder of pictures per class");
    }
    if found.classes.iter().all(|class| PARTS.contains(&class.name.key().as_str())) {
        return empty("these are the parts of a data set, not classes: name one of them");
    }
    Ok(found)
}

/// Returns the pictures in a folder, at least one. `what` names the folder in messages.
fn pictures_in(path: &Path, what: &str) -> Result<PictureFolder, EdgeError> {
    let inside = PictureFolder::read(path).map_err(|source| unreadable(path, source))?;
    if !inside.pictures.is_empty() {
        return Ok(inside);
    }
    let Some(first) = inside.left_out.first() else {
        let expected = "no picture in this folder (JPEG, PNG, WebP, BMP, TIFF or GIF)";
        return Err(EdgeError::EmptyFolder { path: path.to_owned(), expected });
    };
    let first = format!("{}: {}", first.path.display(), first.reason);
    Err(EdgeError::NoPictures { what: what.to_owned(), count: inside.left_out.len(), first })
}

/// Returns the entries of a folder in sorted order, so that the result is deterministic.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, EdgeError> {
    let fail = |source| unreadable(dir, source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(fail)? {
        paths.push(entry.map_err(fail)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn unreadable(path: &Path, source: std::io::Error) -> EdgeError {
    EdgeError::File { path: path.to_owned(), what: "read the folder", source }
}
