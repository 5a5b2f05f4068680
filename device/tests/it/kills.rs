//! Power cuts at any moment: acknowledged data survives.
//!
//! `FMLORA_TEST_KILLS=50` sets the number of kills.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use fmlora_device::Thing;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::served::{Daemon, OPEN, form, jpegs};
use crate::setting::Setting;

/// Default number of kills.
const KILLS: usize = 8;

/// Longest time before a kill; on a slow machine, the time of [`SHOTS`] shots.
const LONGEST: Duration = Duration::from_millis(2500);
/// Number of shots in the longest time on a slow machine.
const SHOTS: u32 = 4;

/// Number of acknowledged shots and tasks. The last request may have been done without being
/// acknowledged.
#[derive(Default)]
struct Acknowledged {
    ball: u64,
    tasks: u64,
}

fn shots(known: &Value, class: &str) -> u64 {
    let classes = known["classes"].as_array().expect("a list of classes");
    let class = classes.iter().find(|known| known["name"] == class);
    class.map_or(0, |class| class["shots"].as_u64().expect("a number"))
}

/// Teaches and learns until the daemon is killed.
fn work(daemon: &Daemon, pictures: &[Vec<u8>], from: &Acknowledged) -> Acknowledged {
    let mut done = Acknowledged { ball: from.ball, tasks: from.tasks };
    for round in 0.. {
        let picture = &pictures[round % pictures.len()];
        let answer = if round % 3 == 2 {
            let task = format!("task {}", done.tasks);
            let (kind, body) = form(&[(&task, picture), (&task, &pictures[0])]);
            daemon.request("POST", "/api/v1/learn", &kind, &body)
        } else {
            daemon.request("POST", "/api/v1/classes/ball/shots", "image/jpeg", picture)
        };
        match answer {
            Ok((200, ..)) => done.tasks += 1,
            Ok((201, ..)) => done.ball += 1,
            Ok((status, problem, _)) => panic!("{status}: {problem}"),
            // The daemon was killed.
            Err(_) => return done,
        }
    }
    done
}

#[test]
#[allow(clippy::print_stdout, reason = "figures for who asked for many kills")]
fn acknowledged_data_survives_every_kill() {
    let setting = Setting::new();
    let asked = std::env::var("FMLORA_TEST_KILLS").ok().and_then(|n| n.parse().ok());
    let kills = asked.unwrap_or(KILLS);
    let pictures = jpegs(Thing::Ball, 8, 1);
    let mut rng = StdRng::seed_from_u64(1);
    let mut done = Acknowledged::default();
    let mut lost = 0;
    let mut longest = LONGEST;
    for kill in 0..=kills {
        let mut daemon =
            Daemon::start(&setting, &format!("{OPEN}[http]\nrequests_per_second = 1000\n"));
        let (status, known) = daemon.get("/api/v1/classes");
        assert_eq!(status, 200, "the state opens");
        let ball = shots(&known, "ball");
        assert!(
            (done.ball..=done.ball + 1).contains(&ball),
            "kill {kill}: {ball} of {}",
            done.ball
        );
        for task in 0..done.tasks {
            assert_eq!(shots(&known, &format!("task {task}")), 2, "kill {kill}, task {task}");
        }
        // A task is complete or absent.
        let begun = shots(&known, &format!("task {}", done.tasks));
        assert!([0, 2].contains(&begun), "kill {kill}: {begun}");
        lost += (ball - done.ball) + begun / 2;
        done = Acknowledged { ball, tasks: done.tasks + begun / 2 };
        if kill == kills {
            break;
        }
        if kill == 0 {
            let started = Instant::now();
            let answer = daemon.post_picture("/api/v1/classes/ball/shots", &pictures[0]);
            assert_eq!(answer.0, 201, "{}", answer.1);
            done.ball += 1;
            longest = longest.max(SHOTS * started.elapsed());
        }
        let wait = rng.random_range(Duration::ZERO..longest);
        let (go, wait_for) = mpsc::channel::<()>();
        done = std::thread::scope(|scope| {
            let working = scope.spawn(|| {
                let _ = go.send(());
                work(&daemon, &pictures, &done)
            });
            wait_for.recv().expect("it works");
            std::thread::sleep(wait);
            daemon.signal("KILL");
            working.join().expect("it ends")
        });
        daemon.wait();
    }
    assert!(done.ball + done.tasks > 1, "work was done between kills");
    println!(
        "{kills} kills, {} shots and {} tasks acknowledged or found whole, {lost} of them done without a word",
        done.ball, done.tasks
    );
}
