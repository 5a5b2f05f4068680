//! Signed files with invalid content: a mistake of the publisher, or all of the publisher's keys
//! stolen.

use fmlora_device::Thing;
use fmlora_learner::format::AdapterFile;
use fmlora_learner::{KnownAnswer, Matrix};

use crate::update::scene::{Attack, Scene, applied, repelled};
use crate::update::site::Listed;
use crate::update::workshop::{BROUGHT, Workshop, content, sealed};

/// Two numbers with four bytes in f16 that occur nowhere else: 1 + 333 / 1024 and 1 + 777 / 1024.
const MARKS: [f32; 2] = [1.325_195_3, 1.758_789_1];
const MARKED: [u8; 4] = [0x4d, 0x3d, 0x09, 0x3f];

/// The largest varint, as the claim of a length.
const HUGE: [u8; 10] = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];

fn rank_0(scene: &Scene) -> AdapterFile {
    scene.workshop.rank_0("box", 2, &[("box", Thing::Box)])
}

fn moving(scene: &Scene) -> AdapterFile {
    scene.workshop.moving("box", 2, &[("box", Thing::Box)], 0.0)
}

fn offer_file(scene: &mut Scene, adapter: &AdapterFile, file: Vec<u8>) {
    let listed = Listed::with_file(&adapter.facts, file);
    scene.site.publish_wrong(|next| next.listed.push(listed));
}

/// Offers an adapter in the encoding of a careless program.
fn offer_unchecked(scene: &mut Scene, adapter: &AdapterFile) {
    let content = postcard::to_stdvec(adapter).expect("postcard encodes everything");
    offer_file(scene, adapter, sealed(&content));
}

/// Offers the adapter with these bytes in place of the content that follows the facts.
fn offer_after_facts(scene: &mut Scene, adapter: &AdapterFile, rest: &[u8]) {
    let facts = postcard::to_stdvec(&adapter.facts).expect("encoded");
    offer_file(scene, adapter, sealed(&[&facts, rest].concat()));
}

fn change_factors(adapter: &mut AdapterFile, number: impl Fn(usize, usize) -> f32) {
    let task = adapter.task.as_mut().expect("a task");
    for factors in task.update.factors.values_mut() {
        let [rows, columns] = factors.m.shape();
        factors.m = Matrix::from_fn(rows, columns, &number);
        factors.n = Matrix::from_fn(rows, columns, &number);
    }
}

#[test]
fn a_file_that_is_none_is_refused() {
    repelled(&[
        Attack {
            name: "text",
            says: "not an adapter",
            make: |scene| offer_file(scene, &rank_0(scene), b"hello, world".to_vec()),
        },
        Attack {
            name: "a newer format",
            says: "format version 9, but this program reads versions up to",
            make: |scene| {
                let adapter = rank_0(scene);
                let mut file = sealed(&content(&adapter));
                file[4] = 9;
                offer_file(scene, &adapter, file);
            },
        },
        Attack {
            name: "cut off before it was signed",
            says: "cut off",
            make: |scene| {
                let adapter = rank_0(scene);
                let file = sealed(&content(&adapter));
                offer_file(scene, &adapter, file[..file.len() / 2].to_vec());
            },
        },
        Attack {
            name: "a bit changed before it was signed",
            says: "the checksum does not match",
            make: |scene| {
                let adapter = rank_0(scene);
                let mut file = sealed(&content(&adapter));
                file[100] ^= 4;
                offer_file(scene, &adapter, file);
            },
        },
        Attack {
            name: "a name of 2^64 bytes",
            says: "the content of the adapter cannot be decoded",
            make: |scene| offer_file(scene, &rank_0(scene), sealed(&HUGE)),
        },
        Attack {
            name: "2^64 classes",
            says: "the content of the adapter cannot be decoded",
            make: |scene| {
                offer_after_facts(scene, &rank_0(scene), &[&[0, 0][..], &HUGE].concat());
            },
        },
        Attack {
            name: "2^64 rows of a scatter",
            says: "the content of the adapter cannot be decoded",
            make: |scene| {
                let adapter = rank_0(scene);
                let classes = postcard::to_stdvec(&adapter.summary.classes).expect("encoded");
                let rest = [&[0, 0][..], &classes, &[24], &HUGE].concat();
                offer_after_facts(scene, &adapter, &rest);
            },
        },
        Attack {
            name: "a task of 2^64 layers",
            says: "the content of the adapter cannot be decoded",
            make: |scene| {
                offer_after_facts(scene, &moving(scene), &[&[1, 2][..], &HUGE].concat());
            },
        },
    ]);
}

#[test]
fn numbers_that_are_none_are_refused() {
    repelled(&[
        Attack {
            name: "NaN among the weights",
            says: "the content of the adapter cannot be decoded",
            make: |scene| {
                let mut adapter = moving(scene);
                change_factors(&mut adapter, |i, j| if i == 0 { MARKS[j % 2] } else { 0.1 });
                let mut content = content(&adapter);
                let at: Vec<usize> =
                    (0..content.len()).filter(|&at| content[at..].starts_with(&MARKED)).collect();
                assert!(!at.is_empty(), "the marks are in the file");
                content[at[0]..at[0] + 2].copy_from_slice(&0x7e00_u16.to_le_bytes());
                offer_file(scene, &adapter, sealed(&content));
            },
        },
        Attack {
            name: "an infinite energy",
            says: "the energy of a class is inf",
            make: |scene| {
                let mut adapter = rank_0(scene);
                adapter.summary.classes[0].energy = f32::INFINITY;
                offer_unchecked(scene, &adapter);
            },
        },
        Attack {
            name: "a class without a shot",
            says: "the number of shots of a class is 0",
            make: |scene| {
                let mut adapter = rank_0(scene);
                adapter.summary.classes[0].count = 0;
                offer_unchecked(scene, &adapter);
            },
        },
        Attack {
            name: "weights whose sums burst",
            says: "f16",
            make: |scene| {
                let mut adapter = moving(scene);
                change_factors(&mut adapter, |_, _| 60_000.0);
                offer_unchecked(scene, &adapter);
            },
        },
    ]);
}

#[test]
fn a_network_that_is_not_the_published_one_is_refused() {
    repelled(&[
        Attack {
            name: "another answer to the known question",
            says: "answers the known question otherwise than was published",
            make: |scene| {
                let mut adapter = rank_0(scene);
                let d = adapter.d_feature();
                adapter.known_answer = KnownAnswer::of(&vec![0.5; d]).expect("finite numbers");
                offer_unchecked(scene, &adapter);
            },
        },
        Attack {
            name: "a network that leads to other features than it says",
            says: "the adapter leads to features",
            make: |scene| {
                let mut adapter = moving(scene);
                adapter.task.as_mut().expect("a task").weight = 0.25;
                offer_unchecked(scene, &adapter);
            },
        },
        Attack {
            name: "features that change without a task",
            says: "the change of the network is missing",
            make: |scene| {
                let mut adapter = moving(scene);
                adapter.task = None;
                adapter.drift = None;
                adapter.rank = 0;
                offer_unchecked(scene, &adapter);
            },
        },
        Attack {
            name: "matrices of another base",
            says: "expected [4, 2]",
            make: |scene| {
                let mut adapter = moving(scene);
                let task = adapter.task.as_mut().expect("a task");
                for factors in task.update.factors.values_mut() {
                    factors.m = Matrix::zeros(3, 2);
                    factors.n = Matrix::zeros(3, 2);
                }
                task.grams.values_mut().for_each(|gram| *gram = Matrix::identity(3));
                offer_unchecked(scene, &adapter);
            },
        },
        Attack {
            name: "classes that hide those known before",
            says: "of the classes known before",
            make: |scene| {
                let lessons =
                    [("p", Thing::Ball), ("q", Thing::Ball), ("r", Thing::Mug), ("s", Thing::Mug)];
                let mut adapter = scene.workshop.rank_0("box", 2, &lessons);
                adapter.summary.classes.iter_mut().for_each(|class| class.count = 40 * BROUGHT);
                offer_unchecked(scene, &adapter);
            },
        },
        Attack {
            name: "a change of features without a drift map",
            says: "would be lost; to lose them, say --lose-classes",
            make: |scene| {
                let mut adapter = moving(scene);
                adapter.drift = None;
                offer_unchecked(scene, &adapter);
            },
        },
    ]);
}

/// A file that was found to be invalid is not downloaded a second time.
#[test]
fn a_file_in_quarantine_is_not_tried_again() {
    let mut scene = Scene::updated(Workshop::toy());
    let mut adapter = rank_0(&scene);
    adapter.summary.classes[0].count = 0;
    offer_unchecked(&mut scene, &adapter);
    let first = scene.update();
    assert!(first.code == 1 && first.stderr.contains("is not tried again"), "{}", first.stderr);
    scene.server.asked();
    let second = scene.update();
    assert_eq!((second.code, applied(&second)), (0, String::new()), "{}", second.stderr);
    let says = "tried before and rolled back: the number of shots of a class is 0";
    assert!(second.stdout.contains(says), "{}", second.stdout);
    assert!(scene.server.asked().iter().all(|asked| asked.path.starts_with("metadata/")));
    scene.offer(3);
    scene.taken("garden-3.fmla");
}
