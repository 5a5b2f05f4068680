//! Data set specifications: `cifar100:DIR`, `folder:DIR` or `domains:DIR`, with
//! `?train=N&test=N&occasion=N&classes=A..B`.

mod cifar;
mod domains;
mod image_folder;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, ensure};
use fmlora_models::LeftOut;
use image::RgbImage;
use thiserror::Error;

/// Source of pictures, and limits on the number per class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataSpec {
    kind: Kind,
    dir: PathBuf,
    train: Option<usize>,
    test: Option<usize>,
    /// Pictures per occasion, in file order.
    occasion: Option<usize>,
    /// Range of classes to use, by index in the data's own order.
    classes: Option<(usize, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Cifar100,
    Folder,
    Domains,
}

/// An error of parsing a data specification.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum SpecError {
    /// The kind is unknown or missing.
    #[error("{0:?}: expected cifar100:DIR, folder:DIR or domains:DIR")]
    Kind(String),
    /// A limit cannot be parsed.
    #[error(
        "{0:?}: expected train=N, test=N, occasion=N (so many pictures in file order are of one occasion) or classes=A..B (from A to B - 1, counted from 0), joined by &"
    )]
    Limit(String),
}

/// Pictures with their class and domain, as indices into lists of names.
#[derive(Debug, Default)]
pub(crate) struct Pictures {
    pub(crate) labels: Vec<usize>,
    /// Domain of each picture; empty if the data have no domains.
    pub(crate) domains: Vec<usize>,
    /// Occasion of each picture within its class; empty if each class has a single occasion.
    pub(crate) occasions: Vec<usize>,
    pub(crate) items: Vec<Picture>,
}

/// A picture in memory or on disk.
#[derive(Debug)]
pub(crate) enum Picture {
    Pixels(RgbImage),
    File(PathBuf),
}

/// A data set: training and test pictures of the same classes.
#[derive(Debug, Default)]
pub(crate) struct Dataset {
    pub(crate) names: Vec<String>,
    /// Names of the domains, in order; empty if there are none.
    pub(crate) domains: Vec<String>,
    pub(crate) train: Pictures,
    pub(crate) test: Pictures,
    /// Files that were left out, each with the reason.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Number of left-out files that are reported by name.
const NAMED: usize = 20;

impl DataSpec {
    /// Loads the lists of pictures, and the pixels where they are small. Reports left-out files on
    /// standard error.
    pub(crate) fn load(&self) -> Result<Dataset> {
        let mut data = match self.kind {
            Kind::Cifar100 => cifar::load(&self.dir, self.train, self.test)?,
            Kind::Folder => image_folder::load(&self.dir, self.train, self.test)?,
            Kind::Domains => domains::load(&self.dir, self.train, self.test)?,
        };
        for file in data.left_out.iter().take(NAMED) {
            eprintln!("left out {}: {}", file.path.display(), file.reason);
        }
        if data.left_out.len() > NAMED {
            eprintln!("left out {} more files", data.left_out.len() - NAMED);
        }
        if let Some((first, end)) = self.classes {
            let n = data.names.len();
            ensure!(end <= n, "{self}: the data have {n} classes");
            data.names = data.names.drain(first..end).collect();
            data.train.keep_classes(first, end);
            data.test.keep_classes(first, end);
        }
        if let Some(n) = self.occasion {
            data.train.occasions_of(n);
        }
        Ok(data)
    }
}

impl Pictures {
    /// Keeps the classes `first` to `end - 1`, and renumbers them from 0.
    fn keep_classes(&mut self, first: usize, end: usize) {
        let kept: Vec<bool> =
            self.labels.iter().map(|label| (first..end).contains(label)).collect();
        let mut keep = kept.iter();
        self.items.retain(|_| *keep.next().unwrap_or(&false));
        let mut keep = kept.iter();
        self.domains.retain(|_| *keep.next().unwrap_or(&false));
        let mut keep = kept.iter();
        self.occasions.retain(|_| *keep.next().unwrap_or(&false));
        self.labels.retain(|label| (first..end).contains(label));
        self.labels.iter_mut().for_each(|label| *label -= first);
    }

    /// Groups every `n` pictures of a class, in file order, into an occasion.
    fn occasions_of(&mut self, n: usize) {
        let mut seen = vec![0; self.labels.iter().max().map_or(0, |last| last + 1)];
        let occasion = |&label: &usize| {
            seen[label] += 1;
            (seen[label] - 1) / n
        };
        self.occasions = self.labels.iter().map(occasion).collect();
    }

    /// Returns the occasion of a picture within its class.
    pub(crate) fn occasion(&self, row: usize) -> usize {
        self.occasions.get(row).copied().unwrap_or(0)
    }

    /// Returns the rows of the pictures of a domain.
    pub(crate) fn rows_of_domain(&self, domain: usize) -> Vec<usize> {
        (0..self.domains.len()).filter(|&row| self.domains[row] == domain).collect()
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Cifar100 => "cifar100",
            Kind::Folder => "folder",
            Kind::Domains => "domains",
        };
        // The last part of the path: results must not depend on where the data lie.
        let dir = self.dir.file_name().unwrap_or(self.dir.as_os_str());
        write!(f, "{kind}:{}", dir.to_string_lossy())?;
        let numbers = [("train", self.train), ("test", self.test), ("occasion", self.occasion)];
        let limits = numbers.iter().filter_map(|(k, n)| n.map(|n| format!("{k}={n}")));
        let classes = self.classes.map(|(first, end)| format!("classes={first}..{end}"));
        let limits: Vec<String> = limits.chain(classes).collect();
        if limits.is_empty() { Ok(()) } else { write!(f, "?{}", limits.join("&")) }
    }
}

impl FromStr for DataSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let unknown = || SpecError::Kind(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        let kind = match kind {
            "cifar100" => Kind::Cifar100,
            "folder" => Kind::Folder,
            "domains" => Kind::Domains,
            _ => return Err(unknown()),
        };
        let (dir, limits) = rest.split_once('?').unwrap_or((rest, ""));
        if dir.is_empty() {
            return Err(unknown());
        }
        let dir = dir.into();
        let mut spec = Self { kind, dir, train: None, test: None, occasion: None, classes: None };
        for limit in limits.split('&').filter(|l| !l.is_empty()) {
            let wrong = || SpecError::Limit(limit.to_owned());
            let (key, value) = limit.split_once('=').ok_or_else(wrong)?;
            if key == "classes" {
                let (first, end) = value.split_once("..").ok_or_else(wrong)?;
                let range = first.parse().ok().zip(end.parse().ok());
                spec.classes = Some(range.filter(|(first, end)| first < end).ok_or_else(wrong)?);
                continue;
            }
            let value = value.parse().ok().filter(|&n: &usize| n > 0).ok_or_else(wrong)?;
            match key {
                "train" => spec.train = Some(value),
                "test" => spec.test = Some(value),
                "occasion" => spec.occasion = Some(value),
                _ => return Err(wrong()),
            }
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_or_refused() {
        let spec: DataSpec = "cifar100:/d?train=200&test=50".parse().expect("a sound text");
        assert_eq!((spec.kind, spec.train, spec.test), (Kind::Cifar100, Some(200), Some(50)));
        let part: DataSpec = "cifar100:/d?classes=50..100".parse().expect("a sound text");
        assert_eq!(part.classes, Some((50, 100)));
        assert_eq!(part.to_string(), "cifar100:d?classes=50..100");
        for wrong in [
            "cifar10:/d",
            "/d",
            "folder:",
            "folder:/d?train=0",
            "folder:/d?shots=3",
            "folder:/d?classes=5",
            "folder:/d?classes=5..5",
        ] {
            assert!(wrong.parse::<DataSpec>().is_err(), "{wrong} was accepted");
        }
    }

    #[test]
    fn a_range_of_classes_leaves_the_others_out() {
        let item = || Picture::File(PathBuf::new());
        let mut pictures = Pictures {
            labels: vec![0, 2, 1, 3, 2],
            domains: vec![0, 1, 2, 3, 4],
            occasions: vec![5, 6, 7, 8, 9],
            items: (0..5).map(|_| item()).collect(),
        };
        pictures.keep_classes(1, 3);
        assert_eq!((pictures.labels, pictures.domains), (vec![1, 0, 1], vec![1, 2, 4]));
        assert_eq!(pictures.occasions, [6, 7, 9]);
        assert_eq!(pictures.items.len(), 3);
    }

    #[test]
    fn pictures_in_file_order_make_occasions_class_by_class() {
        let item = || Picture::File(PathBuf::new());
        let mut pictures = Pictures {
            labels: vec![0, 0, 0, 1, 1, 0],
            items: (0..6).map(|_| item()).collect(),
            ..Pictures::default()
        };
        assert_eq!(pictures.occasion(5), 0);
        pictures.occasions_of(2);
        assert_eq!(pictures.occasions, [0, 0, 1, 0, 0, 1]);
    }
}
