//! Folders of domains, each with one folder per class.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::Dataset;
use super::image_folder::name;

/// Order of the domains of PACS in the literature. Other domains are sorted by name.
const PACS: [&str; 4] = ["photo", "art_painting", "cartoon", "sketch"];

/// One of this many pictures of a class and domain is a test picture.
const TEST_SHARE: usize = 5;

/// Seed of the split.
const SEED: u64 = 1993;

/// Lists the files. A fifth of each class in each domain, drawn by a fixed seed, is for tests.
pub(super) fn load(dir: &Path, train: Option<usize>, test: Option<usize>) -> Result<Dataset> {
    let mut set = Dataset::default();
    let mut domains = set.folders_in(dir)?;
    ensure!(domains.len() > 1, "{}: expected a folder for each of several domains", dir.display());
    let place = |p: &PathBuf| PACS.iter().position(|n| *n == name(p)).unwrap_or(PACS.len());
    domains.sort_by_key(|path| (place(path), name(path)));
    for domain in &domains {
        let classes = set.folders_in(domain)?;
        set.names.extend(classes.iter().map(|class| name(class)));
    }
    set.names.sort();
    set.names.dedup();
    set.domains = domains.iter().map(|path| name(path)).collect();
    let mut rng = StdRng::seed_from_u64(SEED);
    for (index, domain) in domains.iter().enumerate() {
        for label in 0..set.names.len() {
            let folder = domain.join(&set.names[label]);
            if !folder.is_dir() {
                continue;
            }
            let mut files = set.pictures_in(&folder)?;
            files.shuffle(&mut rng);
            let for_test = files.split_off(files.len() - files.len() / TEST_SHARE);
            set.train.add(label, files, train);
            set.test.add(label, for_test, test);
            set.train.domains.resize(set.train.labels.len(), index);
            set.test.domains.resize(set.test.labels.len(), index);
        }
    }
    Ok(set)
}
