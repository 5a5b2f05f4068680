//! Finds the pictures of a directory, and detects new ones.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use fmlora_models::has_picture_name;
use walkdir::{DirEntry, WalkDir};

use crate::daemon::source::content::{HEAD, is_picture};

/// Shortest interval between two scans.
const LOOK: Duration = Duration::from_secs(1);

/// Interval between two scans as a multiple of the duration of one: scanning a large directory on a
/// network share is expensive.
const REST: u32 = 20;

/// Time for which an unreadable file must stay unchanged before it counts as bad: an upload may be
/// slow.
const SETTLED: Duration = Duration::from_secs(3);

/// Age of a file, by the clocks of both machines, from which it counts as complete.
const OLD: Duration = Duration::from_mins(1);

/// Extensions that programs give to incomplete files.
const UNFINISHED: [&str; 10] = [
    "part",
    "partial",
    "filepart",
    "tmp",
    "temp",
    "crdownload",
    "download",
    "upload",
    "incomplete",
    "lock",
];

/// Largest depth of nested directories.
const DEPTH: usize = 16;

/// The pictures of a directory, as of the last scan.
pub(super) struct Pictures {
    folder: PathBuf,
    depth: usize,
    known: BTreeMap<PathBuf, Known>,
    due: Instant,
}

/// State of a file that a scan has found.
struct Known {
    version: Version,
    /// Time at which this version was first seen.
    since: Instant,
    reading: Reading,
}

/// Result of reading a picture.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    /// It was read, or was not tried yet.
    Well,
    /// It is unreadable; the next scan returns it as new.
    Again,
    /// It is unreadable; only a new version is tried.
    Bad,
    /// It is no picture, by name and content.
    Other,
}

/// Attributes that change when a file is written.
#[derive(Clone, Copy, PartialEq)]
struct Version {
    bytes: u64,
    changed: Option<SystemTime>,
}

impl Pictures {
    /// Creates an empty list; the first scan is due at once.
    pub(super) fn of(folder: &Path, subfolders: bool) -> Self {
        let depth = if subfolders { DEPTH } else { 1 };
        Self { folder: folder.to_owned(), depth, known: BTreeMap::new(), due: Instant::now() }
    }

    /// Returns true if the next scan is due.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Scans the directory and returns, sorted by name, the pictures that are new, have changed, or
    /// are to be retried. A file without the extension of a picture is checked by its content.
    /// Hidden files and directories are skipped: programs use such names for incomplete files.
    ///
    /// # Errors
    ///
    /// A message, if the directory itself cannot be read. An unreadable subdirectory has no
    /// pictures.
    pub(super) fn look(&mut self) -> Result<Vec<PathBuf>, String> {
        let started = Instant::now();
        self.find_folder()?;
        let mut before = std::mem::take(&mut self.known);
        let mut found = Vec::new();
        let walk =
            WalkDir::new(&self.folder).min_depth(1).max_depth(self.depth).follow_root_links(true);
        for entry in walk.into_iter().filter_entry(|entry| !is_hidden(entry)) {
            let entry = match entry {
                Err(error) if error.depth() == 0 => {
                    let why = error.io_error().map_or_else(String::new, ToString::to_string);
                    return Err(format!("{}: cannot be read: {why}", self.folder.display()));
                }
                Err(_) => continue,
                Ok(entry) => entry,
            };
            if entry.file_type().is_dir() || is_unfinished(entry.path()) {
                continue;
            }
            // Metadata of the target of a link, and of files only: reading a pipe would never end.
            let about = std::fs::metadata(entry.path()).ok().filter(std::fs::Metadata::is_file);
            let Some(about) = about else { continue };
            let version = Version { bytes: about.len(), changed: about.modified().ok() };
            let path = entry.into_path();
            let known = match before.remove(&path).filter(|known| known.version == version) {
                Some(known) if known.reading == Reading::Again => {
                    found.push(path.clone());
                    Known { reading: Reading::Well, ..known }
                }
                Some(known) => known,
                None => {
                    let is_picture = has_picture_name(&path) || holds_picture(&path);
                    if is_picture {
                        found.push(path.clone());
                    }
                    let reading = if is_picture { Reading::Well } else { Reading::Other };
                    Known { version, since: started, reading }
                }
            };
            self.known.insert(path, known);
        }
        self.due = Instant::now() + LOOK.max(started.elapsed() * REST);
        found.sort();
        Ok(found)
    }

    /// Returns an error if the directory is missing, unreadable or a file.
    fn find_folder(&self) -> Result<(), String> {
        let folder = self.folder.display();
        match std::fs::metadata(&self.folder) {
            Ok(about) if about.is_dir() => Ok(()),
            Ok(_) => Err(format!("{folder}: is a file, expected a folder of pictures")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(format!("{folder}: no such folder"))
            }
            Err(error) => Err(format!("{folder}: cannot be read: {error}")),
        }
    }

    /// Returns all pictures without a read error so far, sorted by name.
    pub(super) fn all(&self) -> VecDeque<PathBuf> {
        let well = self.known.iter().filter(|(_, known)| known.reading == Reading::Well);
        well.map(|(path, _)| path.clone()).collect()
    }

    /// Returns true if a file is known to be unreadable or no picture.
    pub(super) fn is_bad(&self, path: &Path) -> bool {
        self.known
            .get(path)
            .is_none_or(|known| matches!(known.reading, Reading::Bad | Reading::Other))
    }

    /// Returns true if a file has been unchanged for so long that it counts as complete.
    pub(super) fn is_settled(&self, path: &Path) -> bool {
        self.known.get(path).is_none_or(|known| {
            let age = known.version.changed.and_then(|changed| changed.elapsed().ok());
            known.since.elapsed() >= SETTLED || age.is_some_and(|age| age >= OLD)
        })
    }

    /// Makes the next scan return the picture as new.
    pub(super) fn look_again(&mut self, path: &Path) {
        self.set(path, Reading::Again);
    }

    /// Skips a picture until it changes.
    pub(super) fn set_bad(&mut self, path: &Path) {
        self.set(path, Reading::Bad);
    }

    fn set(&mut self, path: &Path, reading: Reading) {
        if let Some(known) = self.known.get_mut(path) {
            known.reading = reading;
        }
    }

    /// Explains why there is no picture to show.
    pub(super) fn why_none(&self) -> String {
        let folder = self.folder.display();
        match self.known.values().filter(|known| known.reading != Reading::Other).count() {
            0 => format!("{folder}: holds no pictures yet"),
            n => format!("{folder}: none of its {n} pictures can be read"),
        }
    }
}

/// Returns true if the name of a file is that of an incomplete one.
fn is_unfinished(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ending.ends_with('~') || UNFINISHED.contains(&ending.as_str()))
}

/// Returns true if the content of a file is a picture. An unreadable file is no picture until it
/// changes.
fn holds_picture(path: &Path) -> bool {
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    read.is_ok_and(|_| is_picture(&head))
}

/// Returns true for a hidden name, or for a directory in which a file server keeps its own data.
fn is_hidden(entry: &DirEntry) -> bool {
    let name = entry.file_name().as_encoded_bytes();
    entry.depth() > 0 && (name.starts_with(b".") || name.starts_with(b"@"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn names(folder: &TempDir, found: &[PathBuf]) -> Vec<String> {
        let name =
            |path: &PathBuf| path.strip_prefix(folder.path()).map(|p| p.display().to_string());
        found.iter().map(|path| name(path).expect("within the folder")).collect()
    }

    #[test]
    fn a_look_gives_what_is_new_or_changed_or_to_be_tried_again() {
        let folder = TempDir::new().expect("a folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        };
        for name in ["2.jpg", "1.PNG", "note.txt", "day/3.jpg", ".hidden/4.jpg", "day/.5.jpg"] {
            write(name, "a");
        }
        std::fs::create_dir(folder.path().join("folder.jpg")).expect("a folder");
        let mut pictures = Pictures::of(folder.path(), true);
        let look = |pictures: &mut Pictures| {
            let found = pictures.look().expect("a folder");
            names(&folder, &found)
        };
        assert_eq!(look(&mut pictures), ["1.PNG", "2.jpg", "day/3.jpg"]);
        assert_eq!(look(&mut Pictures::of(folder.path(), false)), ["1.PNG", "2.jpg"]);
        assert!(look(&mut pictures).is_empty());
        write("2.jpg", "longer");
        write("day/6.jpg", "b");
        assert_eq!(look(&mut pictures), ["2.jpg", "day/6.jpg"]);

        let again = folder.path().join("1.PNG");
        let bad = folder.path().join("2.jpg");
        pictures.look_again(&again);
        pictures.set_bad(&bad);
        assert!(pictures.is_bad(&bad) && !pictures.is_bad(&again));
        assert_eq!(names(&folder, &Vec::from(pictures.all())), ["day/3.jpg", "day/6.jpg"]);
        assert_eq!(look(&mut pictures), ["1.PNG"]);
        assert!(pictures.is_bad(&bad));
        write("2.jpg", "longer still");
        assert_eq!(look(&mut pictures), ["2.jpg"]);
        assert!(!pictures.is_bad(&bad));

        std::fs::remove_file(&again).expect("a file");
        assert!(look(&mut pictures).is_empty());
        assert!(pictures.is_bad(&again), "what is gone is not read");
        let path = folder.path().to_owned();
        drop(folder);
        let why = pictures.look().expect_err("it is gone");
        assert_eq!(why, format!("{}: no such folder", path.display()));
        std::fs::write(&path, "a file").expect("a file");
        let why = pictures.look().expect_err("it is a file");
        assert!(why.contains("expected a folder"), "{why}");
        std::fs::remove_file(&path).expect("a file");
    }

    #[test]
    fn a_picture_is_known_by_its_content_too() {
        let folder = TempDir::new().expect("a folder");
        let files: [(&str, &[u8]); 7] = [
            ("a", b"\xff\xd8\xff\xe0"),
            ("b.dat", b"\xff\xd8\xff\xe0"),
            ("c.heic", b"\0\0\0\x18ftypheic"),
            ("d.avif", b"\0\0\0\x1cftypavif"),
            ("e.part", b"\xff\xd8\xff\xe0"),
            ("f.txt", b"text"),
            ("g.mp4", b"\0\0\0\x18ftypisom"),
        ];
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).expect("a file");
        }
        let mut pictures = Pictures::of(folder.path(), true);
        let found = pictures.look().expect("a folder");
        assert_eq!(names(&folder, &found), ["a", "b.dat", "c.heic", "d.avif"]);
        assert!(pictures.is_bad(&folder.path().join("f.txt")));
        assert!(pictures.why_none().contains("none of its 4 pictures"), "{}", pictures.why_none());
        assert!(pictures.look().expect("a folder").is_empty());
        std::fs::write(folder.path().join("f.txt"), b"\xff\xd8\xff\xe0 longer").expect("a file");
        assert_eq!(names(&folder, &pictures.look().expect("a folder")), ["f.txt"]);
    }

    #[test]
    fn a_fresh_file_is_not_settled_and_an_old_one_is() {
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("1.jpg");
        let file = std::fs::File::create(&path).expect("a file");
        let mut pictures = Pictures::of(folder.path(), true);
        pictures.look().expect("a folder");
        assert!(!pictures.is_settled(&path));
        file.set_modified(SystemTime::now() - 2 * OLD).expect("a time");
        pictures.look().expect("a folder");
        assert!(pictures.is_settled(&path));
    }
}
