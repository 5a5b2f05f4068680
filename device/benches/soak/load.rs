//! Clients that post pictures at a steady rate, and one that has a class learned now and then.

use std::io::Cursor;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use fmlora_device::{SyntheticCamera, Thing};
use serde_json::Value;
use ureq::Agent;

use crate::daemon::Daemon;

/// Clients that post pictures, and how often each does.
const CLIENTS: u32 = 4;
const PERIOD: Duration = Duration::from_millis(200);

/// Pictures of a class, and how often one is learned.
const SHOTS: usize = 10;
const LEARN_PERIOD: Duration = Duration::from_secs(30);

/// After two operations everything has been in use once. Memory is looked at in the last two thirds of a period,
/// when what an operation needed for itself has been given back.
const WARM: Duration = Duration::from_secs(40);

/// What came of the load.
pub(crate) struct Load {
    pub(crate) seconds: f64,
    /// When a picture was to be posted, and how long after that its answer was there.
    pub(crate) classified: Vec<(Instant, Duration)>,
    /// When a class was learned.
    pub(crate) learned: Vec<(Instant, Instant)>,
    pub(crate) failures: Vec<String>,
    /// Shots that were acknowledged and are not there.
    pub(crate) lost: u64,
    /// When, since the start, and how many KiB were resident.
    pub(crate) resident: Vec<(Duration, u64)>,
}

/// What the daemon holds, in KiB.
pub(crate) struct Resident {
    /// Median after each operation, the first when everything has been in use once.
    pub(crate) settled: Vec<u64>,
    pub(crate) most: u64,
}

impl Load {
    pub(crate) fn resident(&self) -> Resident {
        let settling = WARM.saturating_sub(LEARN_PERIOD);
        let settled = (1..).map_while(|n| {
            let seen = n * LEARN_PERIOD + settling..(n + 1) * LEARN_PERIOD;
            let seen = self.resident.iter().filter(|(at, _)| seen.contains(at));
            let mut seen: Vec<u64> = seen.map(|(_, kib)| *kib).collect();
            seen.sort_unstable();
            seen.get(seen.len() / 2).copied()
        });
        let most = self.resident.iter().map(|(_, kib)| *kib).max().unwrap_or(0);
        Resident { settled: settled.collect(), most }
    }

    pub(crate) fn run(daemon: &Daemon, time: Duration) -> Self {
        let agent: Agent =
            Agent::config_builder().timeout_global(Some(Duration::from_mins(1))).build().into();
        let (started, over) = (Instant::now(), AtomicBool::new(false));
        let until = started + time;
        let mut load = scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|i| {
                    let (agent, url) = (agent.clone(), &daemon.url);
                    let first = started + i * PERIOD / CLIENTS;
                    scope.spawn(move || classify(&agent, url, first, until, i))
                })
                .collect();
            let learning = scope.spawn(|| learn(&agent, &daemon.url, started, until));
            let memory = scope.spawn(|| watch(daemon, started, &over));
            let (mut classified, mut failures) = (Vec::new(), Vec::new());
            for client in clients {
                let (times, wrong) = client.join().expect("a client");
                classified.extend(times);
                failures.extend(wrong);
            }
            let (learned, wrong) = learning.join().expect("a client");
            failures.extend(wrong);
            over.store(true, Ordering::Relaxed);
            let resident = memory.join().expect("memory");
            let seconds = started.elapsed().as_secs_f64();
            Self { seconds, classified, learned, failures, lost: 0, resident }
        });
        load.lost = lost(&agent, &daemon.url, load.learned.len());
        load
    }
}

/// Posts a picture every [`PERIOD`], however long answers take.
fn classify(
    agent: &Agent,
    url: &str,
    first: Instant,
    until: Instant,
    client: u32,
) -> (Vec<(Instant, Duration)>, Vec<String>) {
    let pictures = pictures(Thing::ALL[client as usize], u64::from(client), 20);
    let (mut times, mut failures, mut next) = (Vec::new(), Vec::new(), first);
    for picture in pictures.iter().cycle() {
        if next >= until {
            break;
        }
        sleep(next.saturating_duration_since(Instant::now()));
        let request = agent.post(format!("{url}/api/v1/classify"));
        let answer = request.header("content-type", "image/jpeg").send(&picture[..]);
        match answer.and_then(|mut answer| answer.body_mut().read_to_string()) {
            Ok(_) => times.push((next, next.elapsed())),
            Err(error) => failures.push(format!("classify: {error}")),
        }
        next += PERIOD;
    }
    (times, failures)
}

/// Has a class learned every [`LEARN_PERIOD`].
fn learn(
    agent: &Agent,
    url: &str,
    started: Instant,
    until: Instant,
) -> (Vec<(Instant, Instant)>, Vec<String>) {
    let (mut learned, mut failures) = (Vec::new(), Vec::new());
    for n in 0.. {
        let next = started + n * LEARN_PERIOD;
        if next >= until {
            break;
        }
        sleep(next.saturating_duration_since(Instant::now()));
        let n = n as usize;
        let pictures = pictures(Thing::ALL[n % Thing::ALL.len()], n as u64, SHOTS);
        let boundary = "between-two-pictures";
        let mut body = Vec::new();
        for picture in pictures {
            let head = format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{}\"; filename=\"x.jpg\"\r\n\r\n",
                class(n)
            );
            body.extend([head.as_bytes(), &picture, b"\r\n"].concat());
        }
        body.extend(format!("--{boundary}--\r\n").as_bytes());
        let begun = Instant::now();
        let request = agent.post(format!("{url}/api/v1/learn"));
        let kind = format!("multipart/form-data; boundary={boundary}");
        match request.header("content-type", kind).send(&body[..]) {
            Ok(_) => learned.push((begun, Instant::now())),
            Err(error) => failures.push(format!("learn: {error}")),
        }
    }
    (learned, failures)
}

fn class(n: usize) -> String {
    format!("thing {n}")
}

/// Frames of a thing as JPEG files. Each class has a hue of its own.
fn pictures(thing: Thing, seed: u64, n: usize) -> Vec<Vec<u8>> {
    let mut camera = SyntheticCamera::new(seed);
    let one = |_| {
        let frame = image::imageops::huerotate(&camera.frame(thing), 47 * seed as i32 % 360);
        let mut bytes = Cursor::new(Vec::new());
        frame.write_to(&mut bytes, image::ImageFormat::Jpeg).expect("a JPEG");
        bytes.into_inner()
    };
    (0..n).map(one).collect()
}

/// What the daemon holds, every 250 ms.
fn watch(daemon: &Daemon, started: Instant, over: &AtomicBool) -> Vec<(Duration, u64)> {
    let mut seen = Vec::new();
    while !over.load(Ordering::Relaxed) {
        seen.push((started.elapsed(), daemon.resident()));
        sleep(Duration::from_millis(250));
    }
    seen
}

/// Shots that were acknowledged and are not there.
fn lost(agent: &Agent, url: &str, learned: usize) -> u64 {
    let answer = agent.get(format!("{url}/api/v1/classes")).call();
    let known = answer.and_then(|mut answer| answer.body_mut().read_to_string());
    let known: Value = serde_json::from_str(&known.expect("a list")).expect("JSON");
    let classes = known["classes"].as_array().expect("a list");
    let shots = |n: usize| {
        let class = classes.iter().find(|known| known["name"] == class(n));
        class.and_then(|class| class["shots"].as_u64()).unwrap_or(0)
    };
    (0..learned).map(|n| (SHOTS as u64).saturating_sub(shots(n))).sum()
}
