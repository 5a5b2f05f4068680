//! Rank selection by difficulty, on two tasks from the same real pictures.

use burn::tensor::Device;
use fmlora_learner::format::decode_base;
use fmlora_learner::{Complexity, RankSelector};
use fmlora_models::{Backbone, Preprocess};
use fmlora_tests::data_dir;
use image::RgbImage;

/// Length of a record of CIFAR-100: coarse label, fine label, three planes of 32 x 32 pixels.
const RECORD: usize = 2 + 3 * 32 * 32;

/// Shots of each class.
const SHOTS: usize = 30;

/// Apple, bicycle, castle, cloud, keyboard, lion, plain, skyscraper, sunflower, tractor.
const EASY: [u8; 10] = [0, 8, 17, 23, 39, 43, 60, 76, 82, 89];
/// Beaver, hamster, mouse, otter, possum, rabbit, raccoon, seal, shrew, squirrel.
const HARD: [u8; 10] = [4, 36, 50, 55, 64, 65, 66, 72, 74, 80];

fn embedded_base() -> Backbone {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/base/vit_small6_patch14_140.fmlb");
    let file = std::fs::read(path).expect("the base");
    let (base, _) = decode_base(&file).expect("a sound base");
    Backbone::new(&base.weights, base.backbone, &Device::flex()).expect("a sound base")
}

fn pixels(record: &[u8], preprocess: &Preprocess) -> Vec<f32> {
    let planes = &record[2..];
    let picture = RgbImage::from_fn(32, 32, |x, y| {
        let at = (32 * y + x) as usize;
        image::Rgb([planes[at], planes[1024 + at], planes[2048 + at]])
    });
    preprocess.apply(&picture)
}

/// Returns the shots of each class as features.
fn shots(backbone: &Backbone, records: &[u8], classes: &[u8]) -> Vec<Vec<Vec<f32>>> {
    let of_class = |&class: &u8| {
        let records = records.chunks_exact(RECORD).filter(|record| record[1] == class);
        let preprocess = &backbone.config().preprocess;
        let batch: Vec<f32> = records.take(SHOTS).flat_map(|r| pixels(r, preprocess)).collect();
        backbone.features(batch).expect("the CPU works")
    };
    classes.iter().map(of_class).collect()
}

fn complexity(task: &[Vec<Vec<f32>>]) -> Complexity {
    Complexity::of(&task.iter().map(Vec::as_slice).collect::<Vec<_>>(), &[])
}

#[test]
fn a_hard_task_gets_a_higher_rank_than_an_easy_one_from_the_same_pictures() {
    let Some(data) = data_dir() else { return };
    let records = std::fs::read(data.join("cifar-100-binary/train.bin")).expect("the pictures");
    let backbone = embedded_base();
    let [easy, hard] =
        [EASY, HARD].map(|classes| complexity(&shots(&backbone, &records, &classes)));
    let rank = |complexity: &Complexity| RankSelector::new(16, complexity).prior_rank();
    eprintln!(
        "easy: H {:.2}, rank {}; hard: H {:.2}, rank {}",
        easy.h(),
        rank(&easy),
        hard.h(),
        rank(&hard)
    );
    assert!(easy.difficulty + 0.2 < hard.difficulty, "{easy:?} {hard:?}");
    assert!(rank(&easy) < rank(&hard), "{easy:?} {hard:?}");
}
