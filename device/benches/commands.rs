//! Commands as a user runs them, process and all, against the forward passes alone.
//!
//! `cargo bench --workspace --bench commands`

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use fmlora_device::{Engine, SyntheticCamera, Thing};
use fmlora_learner::format::decode_base;
use fmlora_models::{DeviceSpec, decode_picture};
use image::imageops::FilterType;

/// That of the program, so that the forward passes alone have no other one.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const FOLDER: usize = 1000;
const CLASSES: usize = 10;
const SHOTS: usize = 20;

/// `n` JPEGs of 640 x 480 that show one thing.
fn pictures(dir: &Path, n: usize, seed: u64) {
    std::fs::create_dir_all(dir).expect("a folder for pictures");
    let mut camera = SyntheticCamera::new(seed);
    let thing = Thing::ALL[seed as usize % Thing::ALL.len()];
    for i in 0..n {
        let frame = camera.frame(thing);
        let frame = image::imageops::resize(&frame, 640, 480, FilterType::Triangle);
        frame.save(dir.join(format!("{i:04}.jpg"))).expect("room for a picture");
    }
}

fn engine() -> Engine {
    let path = "../models/base/vit_small6_patch14_140.fmlb";
    let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the base");
    let (base, _) = decode_base(Vec::leak(file)).expect("a sound base");
    Engine::new(Arc::new(base), None, &DeviceSpec::Cpu).expect("a sound base")
}

/// What the network takes of all pictures below a folder.
fn pixels(engine: &Engine, dir: &Path) -> Vec<Vec<f32>> {
    let files = std::fs::read_dir(dir).expect("the folder");
    let mut found = Vec::new();
    for file in files {
        let path = file.expect("an entry").path();
        if path.is_dir() {
            found.extend(pixels(engine, &path));
        } else {
            let picture = std::fs::read(&path).expect("the picture");
            found.push(engine.preprocess().apply(&decode_picture(&picture).expect("a JPEG")));
        }
    }
    found
}

fn edge(state: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fmlora-edge"));
    command.arg("--json").arg("--state").arg(state).args(arguments).stdout(Stdio::null());
    assert!(command.status().expect("the program starts").success(), "{arguments:?} failed");
}

fn folder(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (folder, state) = (dir.path().join("pictures"), dir.path().join("state"));
    pictures(&folder, FOLDER, 1);
    let folder = folder.display().to_string();
    edge(&state, &["teach", "--class", "thing", &folder]);
    let mut engine = engine();
    let pixels = pixels(&engine, Path::new(&folder));
    let mut group = criterion.benchmark_group("folder");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(FOLDER as u64));
    group.bench_function("forward passes alone", |bencher| {
        bencher.iter(|| engine.features(&pixels).expect("the CPU works"));
    });
    group.bench_function("classify 1000 JPEGs", |bencher| {
        bencher.iter(|| edge(&state, &["classify", &folder]));
    });
    group.finish();
}

fn learn(criterion: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let task = dir.path().join("task");
    for class in 0..CLASSES {
        pictures(&task.join(format!("class {class}")), SHOTS, class as u64);
    }
    let mut engine = engine();
    let pixels = pixels(&engine, &task);
    let task = task.display().to_string();
    let mut group = criterion.benchmark_group("learn");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements((CLASSES * SHOTS) as u64));
    group.bench_function("forward passes alone", |bencher| {
        bencher.iter(|| engine.features(&pixels).expect("the CPU works"));
    });
    group.bench_function("learn 10 x 20 shots", |bencher| {
        let fresh = || tempfile::tempdir().expect("a temporary folder");
        let learn = |state: tempfile::TempDir| {
            edge(state.path(), &["learn", &task]);
            state
        };
        bencher.iter_batched(fresh, learn, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, folder, learn);
criterion_main!(benches);
