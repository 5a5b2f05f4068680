//! Folders of domains, each with one folder a class.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::image_folder::{folders, pictures};
use super::{Dataset, Pictures};

/// The order of the domains of PACS in the literature; others come by name.
const PACS: [&str; 4] = ["photo", "art_painting", "cartoon", "sketch"];

/// Of how many pictures of a class and domain one is for tests.
const TEST_SHARE: usize = 5;

/// Seed of the split.
const SEED: u64 = 1993;

/// Reads the lists of files. A fifth of each class in each domain, drawn by a fixed seed, is for tests.
pub(super) fn load(dir: &Path, train: Option<usize>, test: Option<usize>) -> Result<Dataset> {
    let mut domains = folders(dir)?;
    ensure!(domains.len() > 1, "{}: expected a folder for each of several domains", dir.display());
    let place = |p: &PathBuf| PACS.iter().position(|n| *n == name(p)).unwrap_or(PACS.len());
    domains.sort_by_key(|path| (place(path), name(path)));
    let mut names: Vec<String> = Vec::new();
    for domain in &domains {
        names.extend(folders(domain)?.iter().map(|class| name(class)));
    }
    names.sort();
    names.dedup();
    let mut set = Dataset {
        names,
        domains: domains.iter().map(|path| name(path)).collect(),
        train: Pictures::default(),
        test: Pictures::default(),
    };
    let mut rng = StdRng::seed_from_u64(SEED);
    for (index, domain) in domains.iter().enumerate() {
        for label in 0..set.names.len() {
            let folder = domain.join(&set.names[label]);
            if !folder.is_dir() {
                continue;
            }
            let mut files = pictures(&folder)?;
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

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
