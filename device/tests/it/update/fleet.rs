//! A fleet of devices on one repository: their requests to the server, and each adapter for the
//! right devices, once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use fmlora_device::Thing;

use super::server::{Fault, Server};
use super::site::{Listed, Site};
use super::workshop::Workshop;
use crate::setting::{Setting, text};

/// Number of devices, unless `FMLORA_TEST_BOXES` sets another. docs/fleet.md has the figures of
/// 1,000.
const BOXES: usize = 20;

/// Devices that trust one repository, with a state each, in this process.
struct Fleet {
    setting: Setting,
    site: Site,
    server: Server,
    boxes: Vec<PathBuf>,
}

/// Number of requests in one round and bytes of the response bodies, by the kind of file.
type Asked = BTreeMap<&'static str, (usize, usize)>;

impl Fleet {
    fn new(workshop: &Workshop, n: usize) -> Self {
        let setting = Setting::new();
        let site = Site::new();
        std::fs::write(setting.path("base.fmlb"), workshop.file.expect("a base")).expect("a file");
        std::fs::copy(site.first_root(), setting.path("root.json")).expect("a copy");
        let mut fleet =
            Self { server: Server::start(site.folder()), setting, site, boxes: Vec::new() };
        fleet.boxes = (0..n).map(|i| fleet.setting.path(&format!("boxes/{i}"))).collect();
        let empty = fleet.site.next();
        fleet.site.write(&empty);
        fleet
    }

    /// Lets every device look once.
    fn look(&self, round: &str) -> Asked {
        self.look_once(round, ExitCode::SUCCESS)
    }

    /// Lets every device look once, with this exit code.
    fn look_once(&self, round: &str, end: ExitCode) -> Asked {
        let base = self.setting.path("base.fmlb");
        let root = self.setting.path("root.json");
        let url = self.server.url();
        for state in &self.boxes {
            let arguments = ["fmlora-edge", "--json", "--device", "cpu", "--base", text(&base)];
            let update = ["--state", text(state), "update", "--from", &url, "--root", text(&root)];
            let code = fmlora_device::run(arguments.iter().chain(&update).map(Into::into));
            assert_eq!(code, end, "{round}: {}", state.display());
        }
        let mut found = Asked::new();
        for asked in self.server.asked() {
            let body = std::fs::read(self.site.folder().join(&asked.path));
            let (requests, bytes) = found.entry(kind(&asked.path)).or_default();
            *requests += 1;
            *bytes += body.map_or(0, |body| body.len());
        }
        for (kind, (requests, bytes)) in &found {
            let a_box = |n: usize| n as f64 / self.boxes.len() as f64;
            eprintln!(
                "{round}, {kind}: {:.3} requests, {:.1} bytes a box",
                a_box(*requests),
                a_box(*bytes)
            );
        }
        found
    }
}

fn kind(path: &str) -> &'static str {
    let kinds = ["root.json", "timestamp.json", "snapshot.json", "targets.json", ".fmla"];
    kinds.into_iter().find(|end| path.ends_with(end)).expect("a file of a repository")
}

fn requests(asked: &Asked) -> Vec<(&'static str, usize)> {
    asked.iter().map(|(kind, (requests, _))| (*kind, *requests)).collect()
}

#[test]
fn a_fleet_asks_for_little_and_each_box_takes_an_adapter_once() {
    let n = std::env::var("FMLORA_TEST_BOXES").ok().and_then(|n| n.parse().ok()).unwrap_or(BOXES);
    let workshop = Workshop::toy();
    let mut fleet = Fleet::new(workshop, n);
    let metadata =
        [("root.json", n), ("snapshot.json", n), ("targets.json", n), ("timestamp.json", n)];
    assert_eq!(requests(&fleet.look("the first look")), metadata);
    let idle = [("root.json", n), ("timestamp.json", n)];
    assert_eq!(requests(&fleet.look("nothing new")), idle);
    // A look that fails for another reason costs no requests later.
    fleet.server.fail("metadata/timestamp.json", Fault::Status(500));
    assert_eq!(requests(&fleet.look_once("a server that fails", ExitCode::FAILURE)), idle);
    fleet.server.heal();
    assert_eq!(requests(&fleet.look("a server that is well again")), idle);

    // A few devices get it first, then all.
    let mut garden = Listed::of(&workshop.rank_0("garden", 1, &[("tree", Thing::Tree)]));
    garden.custom["rollout"]["percent"] = 10.into();
    fleet.site.publish(garden);
    let first = fleet.look("a release for 10 %");
    let takers = first.get(".fmla").map_or(0, |(requests, _)| *requests);
    // Half of 20 devices would be among the first tenth once in a hundred thousand times.
    assert!(takers < n / 2, "{takers} of {n}");
    fleet.site.listed[0].custom["rollout"]["percent"] = 100.into();
    let promoted = fleet.site.next();
    fleet.site.write(&promoted);
    let second = fleet.look("a release for all");
    assert_eq!(second.get(".fmla").map(|(requests, _)| *requests), Some(n - takers));
    assert_eq!(requests(&fleet.look("nothing new again")), idle);
}
