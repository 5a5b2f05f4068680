#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "scratch"
)]
use burn::tensor::Device;
use fmlora_learner::format::decode_base;
use fmlora_learner::*;
use fmlora_models::*;
use std::sync::Arc;

fn features() -> (Vec<Vec<Vec<f32>>>, Vec<Vec<Vec<f32>>>) {
    let path = "/tmp/host/features.bin";
    let (n_train, n_test) = (100usize, 50usize);
    if !std::path::Path::new(path).exists() {
        let file = std::fs::read("/tmp/host/main/models/base/vit_small6_patch14_112.fmlb").unwrap();
        let (base, _) = decode_base(&file).unwrap();
        let plain = Backbone::new(&base.weights, base.backbone.clone(), &Device::flex()).unwrap();
        let adapter = base.adapter.clone().unwrap();
        let b = plain.folded(&adapter.side_branches(plain.device()));
        let mut out: Vec<u8> = Vec::new();
        for (name, n) in [("train", n_train), ("test", n_test)] {
            let bytes =
                std::fs::read(format!("/work/shared/data/cifar-100-binary/{name}.bin")).unwrap();
            let mut by: Vec<Vec<Vec<f32>>> = vec![Vec::new(); 100];
            for r in bytes.chunks_exact(3074) {
                let l = r[1] as usize;
                if l < 50 || by[l].len() >= n {
                    continue;
                }
                let img = image::RgbImage::from_fn(32, 32, |x, y| {
                    let at = 2 + y as usize * 32 + x as usize;
                    image::Rgb([r[at], r[at + 1024], r[at + 2048]])
                });
                by[l].push(b.config().preprocess.apply(&img));
            }
            for l in 50..100 {
                eprintln!("{name} {l} {}", by[l].len());
                assert_eq!(by[l].len(), n);
                for batch in by[l].chunks(25) {
                    for f in b.features(batch.concat()).unwrap() {
                        for v in f {
                            out.extend(v.to_le_bytes());
                        }
                    }
                }
            }
        }
        std::fs::write(path, out).unwrap();
    }
    let bytes = std::fs::read(path).unwrap();
    let all: Vec<Vec<f32>> = bytes
        .chunks_exact(4 * 1536)
        .map(|r| r.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
        .collect();
    let (a, b) = all.split_at(50 * n_train);
    (a.chunks(n_train).map(<[_]>::to_vec).collect(), b.chunks(n_test).map(<[_]>::to_vec).collect())
}

fn class(l: usize, shots: &[Vec<f32>]) -> Arc<Class> {
    Arc::new(Class::from_shots(ClassName::new(&format!("c{l:02}")).unwrap(), shots).unwrap())
}

fn acc(
    classes: &[Arc<Class>],
    tests: &[(usize, &Vec<Vec<f32>>)],
    choice: HeadChoice,
) -> (f64, f32, f64) {
    let h = fit_head(classes, 1536, choice, &[]).unwrap();
    let (mut r, mut n) = (0, 0);
    for (l, t) in tests {
        for f in *t {
            n += 1;
            r += usize::from(h.predictor.predict(f, 1).top[0].class.as_str() == format!("c{l:02}"));
        }
    }
    (r as f64 / n as f64, h.predictor.shrinkage(), h.estimate.map_or(0.0, |e| e.accuracy))
}

fn main() {
    let (train, test) = features();
    for n in [100usize, 20] {
        for own_shots in [20usize, 5, 0] {
            let mut sums: Vec<(String, f64, f64, Vec<f32>, f64)> = Vec::new();
            let mut add = |i: usize, name: &str, a: f64, s: f32, e: f64| {
                if sums.len() <= i {
                    sums.push((name.to_owned(), 0.0, 0.0, vec![], 0.0));
                }
                sums[i].1 += a / 2.0;
                sums[i].3.push(s);
                sums[i].4 += e / 2.0;
            };
            for rep in 0..2 {
                let new: Vec<usize> = (0..10).map(|i| (rep * 17 + i * 3) % 50).collect();
                let own: Vec<usize> =
                    (0..50).filter(|l| !new.contains(l)).skip(rep * 7).take(10).collect();
                let full: Vec<Arc<Class>> = new.iter().map(|&l| class(l, &train[l][..n])).collect();
                let local: Vec<Arc<Class>> = if own_shots > 0 {
                    own.iter().map(|&l| class(l, &train[l][..own_shots])).collect()
                } else {
                    vec![]
                };
                let mut tests: Vec<(usize, &Vec<Vec<f32>>)> =
                    new.iter().map(|&l| (l, &test[l])).collect();
                if own_shots > 0 {
                    tests.extend(own.iter().map(|&l| (l, &test[l])));
                }
                let with = |c: &[Arc<Class>]| -> Vec<Arc<Class>> {
                    c.iter().chain(&local).cloned().collect()
                };
                let s = fit_head(&full, 1536, HeadChoice::SharedCovariance, &[])
                    .unwrap()
                    .predictor
                    .shrinkage() as f64;
                let mut i = 0;
                for (name, c, choice) in [
                    ("full auto", full.clone(), HeadChoice::Auto),
                    ("full lda", full.clone(), HeadChoice::SharedCovariance),
                ] {
                    let (a, sh, e) = acc(&with(&c), &tests, choice);
                    add(i, name, a, sh, e);
                    i += 1;
                }
                for (k, noise) in [
                    (0usize, Some(1.0)),
                    (0, None),
                    (3, None),
                    (6, Some(1.0)),
                    (6, Some(1.7)),
                    (6, None),
                    (12, Some(1.0)),
                    (12, None),
                    (24, None),
                ] {
                    let t = TaskSummary::with_noise(&full, k, noise).unwrap();
                    let mut c = t.to_classes().unwrap();
                    if k == 0 && noise.is_some() {
                        let m = TaskSummary {
                            scatter: ByteRows::new(1536, std::iter::empty()),
                            floor: 0.0,
                            ..t
                        };
                        c = m.to_classes().unwrap();
                    }
                    let (a, sh, e) = acc(&with(&c), &tests, HeadChoice::Auto);
                    add(i, &format!("rest={k} noise={noise:?}"), a, sh, e);
                    i += 1;
                    if false {
                        let (a, sh, e) = acc(&with(&c), &tests, HeadChoice::SharedCovariance);
                        add(i, "  same, shared covariance", a, sh, e);
                        i += 1;
                    }
                }
            }
            println!("== {n} shots a new class, own classes of {own_shots} shots");
            for (name, a, _, s, e) in &sums {
                println!("{name:45} {a:.4} expected {e:.4} shrink {s:?}");
            }
        }
    }
}
