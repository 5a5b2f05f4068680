//! Finds the pictures in a folder.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::format::{HEAD_BYTES, format_of};

/// The files of a folder and of the folders below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PictureFolder {
    /// Files that contain pictures, by their content; sorted by name, folder by folder.
    pub pictures: Vec<PathBuf>,
    /// Files that do not contain a readable picture.
    pub left_out: Vec<LeftOut>,
}

/// A file that was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// Reason for the skip.
    pub reason: String,
}

/// Returns the number of the folder that contains each file, from 0 in the order in which the
/// folders appear.
pub fn folder_numbers(files: &[PathBuf]) -> Vec<usize> {
    let mut folders: Vec<Option<&Path>> = Vec::new();
    let mut numbers = Vec::with_capacity(files.len());
    for file in files {
        let folder = file.parent();
        let known = folders.iter().position(|other| *other == folder);
        numbers.push(known.unwrap_or(folders.len()));
        if known.is_none() {
            folders.push(folder);
        }
    }
    numbers
}

impl PictureFolder {
    /// Searches a folder and all folders below it. Hidden files and files of operating systems
    /// (`.DS_Store`, `._0.jpg`, `Thumbs.db`) are ignored and not listed.
    ///
    /// # Errors
    ///
    /// [`io::Error`] if the folder itself cannot be read. Unreadable entries below it are listed in
    /// `left_out`.
    pub fn read(folder: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        // Sorted, so that the result depends on the files alone.
        let walk = WalkDir::new(folder).follow_links(true).sort_by_file_name();
        for entry in walk.into_iter().filter_entry(|entry| entry.depth() == 0 || !is_hidden(entry))
        {
            match entry {
                Ok(entry) if entry.file_type().is_dir() => {}
                Ok(entry) => found.add(entry.into_path()),
                Err(error) if error.depth() == 0 => return Err(error.into()),
                Err(error) => {
                    let path = error.path().unwrap_or(folder).to_owned();
                    let reason = io::Error::from(error).to_string();
                    found.left_out.push(LeftOut { path, reason });
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, path: PathBuf) {
        match reason_against(&path) {
            None => self.pictures.push(path),
            Some(reason) => self.left_out.push(LeftOut { path, reason }),
        }
    }
}

/// Returns true for hidden files and folders, and for those of operating systems.
pub fn is_hidden_name(name: &str) -> bool {
    const FOR_SYSTEMS: [&str; 10] = [
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "__macosx",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "@eadir",
        "#recycle",
        "#snapshot",
    ];
    name.starts_with('.') || FOR_SYSTEMS.contains(&name.to_lowercase().as_str())
}

fn is_hidden(entry: &DirEntry) -> bool {
    is_hidden_name(&entry.file_name().to_string_lossy())
}

/// Returns the reason why a file is not a readable picture. `None` if its first bytes are those of
/// a picture.
fn reason_against(path: &Path) -> Option<String> {
    let head = || -> io::Result<Option<Vec<u8>>> {
        // Checked before the file is opened: opening a pipe blocks until another program writes.
        if !std::fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        let mut head = Vec::with_capacity(HEAD_BYTES);
        File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
        Ok(Some(head))
    };
    match head() {
        Ok(Some(head)) => format_of(&head).err().map(|error| error.to_string()),
        Ok(None) => Some("not a file".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    }
}
