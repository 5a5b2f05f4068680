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
use std::ops::ControlFlow;
use std::sync::Arc;

fn main() {
    let file = std::fs::read("/tmp/host/main/models/base/vit_small6_patch14_112.fmlb").unwrap();
    let (base, _) = decode_base(&file).unwrap();
    let b = Backbone::new(&base.weights, base.backbone.clone(), &Device::flex()).unwrap();
    let adapter = base.adapter.clone().unwrap();
    let load = |name: &str, from: usize, to: usize, n: usize| {
        let bytes =
            std::fs::read(format!("/work/shared/data/cifar-100-binary/{name}.bin")).unwrap();
        let mut cache = TokenCache::new(b.vit_config().n_tokens(), b.vit_config().d_model);
        let mut labels = vec![];
        let mut taken = vec![0; 100];
        let mut px: Vec<f32> = vec![];
        let mut c = 0;
        let mut flush = |px: &mut Vec<f32>, cache: &mut TokenCache| {
            if !px.is_empty() {
                let t = b.tokens(std::mem::take(px));
                cache.push(&t.try_into_data().unwrap().try_into_vec::<f32>().unwrap()).unwrap();
            }
        };
        for r in bytes.chunks_exact(3074) {
            let l = r[1] as usize;
            if l < from || l >= to || taken[l] >= n {
                continue;
            }
            taken[l] += 1;
            labels.push(l);
            let img = image::RgbImage::from_fn(32, 32, |x, y| {
                let at = 2 + y as usize * 32 + x as usize;
                image::Rgb([r[at], r[at + 1024], r[at + 2048]])
            });
            px.extend(b.config().preprocess.apply(&img));
            c += 1;
            if c % 32 == 0 {
                flush(&mut px, &mut cache);
            }
        }
        flush(&mut px, &mut cache);
        (cache, labels)
    };
    let (n, n_test) = (100, 50);
    let (old_tokens, old_labels) = load("train", 50, 60, n);
    let (new_tokens, new_labels) = load("train", 60, 70, n);
    let (test_tokens, test_labels) = load("test", 50, 70, n_test);
    let task_classes = |labels: &[usize]| -> Vec<TaskClass> {
        let mut ls: Vec<usize> = labels.to_vec();
        ls.sort();
        ls.dedup();
        ls.iter()
            .map(|&l| TaskClass {
                name: ClassName::new(&format!("c{l:02}")).unwrap(),
                rows: (0..labels.len()).filter(|&i| labels[i] == l).collect(),
            })
            .collect()
    };
    let old_f = adapted_features(&b, &adapter, &old_tokens).unwrap();
    let new_f = adapted_features(&b, &adapter, &new_tokens).unwrap();
    let test_f = adapted_features(&b, &adapter, &test_tokens).unwrap();
    let known = with_task(&[], &task_classes(&old_labels), &old_f, |_| true).unwrap();
    let classes = task_classes(&new_labels);
    let acc = |classes: &[Arc<Class>], f: &[Vec<f32>]| {
        let h = fit_head(classes, 1536, HeadChoice::Auto, &[]).unwrap().predictor;
        let mut r = [0usize; 2];
        let mut m = [0usize; 2];
        for (x, &l) in f.iter().zip(&test_labels) {
            let p = usize::from(l >= 60);
            m[p] += 1;
            r[p] += usize::from(h.predict(x, 1).top[0].class.as_str() == format!("c{l:02}"));
        }
        format!(
            "old {:.3} new {:.3} all {:.4}",
            r[0] as f64 / m[0] as f64,
            r[1] as f64 / m[1] as f64,
            (r[0] + r[1]) as f64 / f.len() as f64
        )
    };
    println!(
        "before, all statistics: {}",
        acc(&with_task(&known, &classes, &new_f, |_| true).unwrap(), &test_f)
    );
    for (rank, epochs) in [(4, 4), (16, 6)] {
        let mut config = AdaptationConfig {
            fixed_rank: Some(rank),
            margin: f64::NEG_INFINITY,
            merge_weights: vec![1.0],
            ..AdaptationConfig::default()
        };
        config.task.training.epochs = epochs;
        let task = Task { classes: &classes, tokens: &new_tokens, features: &new_f };
        let t0 = std::time::Instant::now();
        let out =
            adapt(&b, &adapter, &known, task, &config, &mut |_| ControlFlow::Continue(())).unwrap();
        let kept = out.kept.unwrap();
        println!(
            "== rank {rank} epochs {epochs} ({:.0?}), judgement {:?}",
            t0.elapsed(),
            out.judgements
        );
        let after_test = adapted_features(&b, &kept.adapter, &test_tokens).unwrap();
        let after_old = adapted_features(&b, &kept.adapter, &old_tokens).unwrap();
        let with_new =
            |old: &[Arc<Class>]| with_task(old, &classes, &kept.features, |_| true).unwrap();
        let truth = with_task(&[], &task_classes(&old_labels), &after_old, |_| true).unwrap();
        println!("true statistics      {}", acc(&with_new(&truth), &after_test));
        println!("not moved            {}", acc(&with_new(&known), &after_test));
        let full = DriftMap::fit(&new_f, &kept.features, 0.1).unwrap();
        let miss = |go: &dyn Fn(&[f32]) -> Vec<f32>| {
            let mut a = 0.0;
            let mut t = 0.0;
            for (x, y) in old_f.iter().zip(&after_old) {
                for ((p, q), r) in go(x).iter().zip(y).zip(x) {
                    a += f64::from(p - q).powi(2);
                    t += f64::from(q - r).powi(2);
                }
            }
            a / t
        };
        let moved = |go: &dyn Fn(&ClassStatistics) -> ClassStatistics| -> Vec<Arc<Class>> {
            known
                .iter()
                .map(|c| {
                    Arc::new(Class {
                        name: c.name.clone(),
                        modes: c.modes.iter().map(|m| go(m)).collect(),
                    })
                })
                .collect()
        };
        println!(
            "full map (4.7 MB f16) {} miss on old pictures {:.3}",
            acc(&with_new(&moved(&|m| full.transport(m).unwrap())), &after_test),
            miss(&|x| full.apply(x))
        );
        for k in [0, 1, 2, 4, 6, 8, 16, 64] {
            let low = full.low_rank(&new_f, k).unwrap();
            println!(
                "{k:3} columns {:6} B  {} miss {:.3}",
                low.n_bytes(),
                acc(&with_new(&moved(&|m| low.transport(m).unwrap())), &after_test),
                miss(&|x| low.apply(x))
            );
        }
    }
}
