//! Tests of damaged states, states of former formats, and failing disks.

use std::path::PathBuf;

use fmlora_learner::{ClassName, HeadChoice, Operation, fit_head};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tempfile::TempDir;

use super::*;

/// Length of a feature vector.
const D: usize = 16;

/// Key of a value in the table `meta`.
const ACCOUNTS: &str = "accounts";

/// A state in a folder of its own.
struct Scene {
    folder: TempDir,
}

/// Content of a state.
#[derive(Debug, PartialEq)]
struct Content {
    learner: Learner,
    journal: Vec<String>,
    accounts: Option<String>,
}

impl Scene {
    fn new() -> Self {
        Self { folder: TempDir::new().expect("a folder") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join(FILE)
    }

    fn open(&self, access: Access) -> Result<Store, StoreError> {
        Store::open(self.folder.path(), BaseId::new([7; 32]), access)
    }

    /// Makes a state with two classes and accounts.
    fn taught() -> Self {
        let scene = Self::new();
        let mut store = scene.open(Access::Write).expect("a new state");
        let mut learner = Learner::new(D);
        for (seed, name) in ["cup", "plant"].into_iter().enumerate() {
            teach(&mut store, &mut learner, name, seed).expect("taught");
        }
        store.record(ACCOUNTS).expect("a state to write").save(&"admin").expect("written");
        scene
    }

    /// Reads the content of the state.
    fn content(&self, access: Access) -> Result<Content, StoreError> {
        let store = self.open(access)?;
        let rows = |transaction: &ReadTransaction| match META.read(transaction)? {
            Some(rows) => rows.get(ACCOUNTS),
            None => Ok(None),
        };
        let accounts = store.storage.read(rows)?;
        Ok(Content { learner: store.load(D)?, journal: store.journal()?, accounts })
    }
}

fn teach(
    store: &mut Store,
    learner: &mut Learner,
    name: &str,
    seed: usize,
) -> Result<(), StoreError> {
    let shot = |n: usize| (0..D).map(|i| ((i * 7 + n * 3 + seed * 5) % 11) as f32).collect();
    let shots: Vec<Vec<f32>> = (0..6).map(shot).collect();
    let name = ClassName::new(name).expect("a name");
    let operation: Operation =
        learner.teach(OperationKind::Teach, &[(name, shots.into())]).expect("sound shots");
    let mut next = learner.clone();
    next.apply(&operation);
    let classes: Vec<Arc<Class>> = next.classes().cloned().collect();
    let head = fit_head(&classes, D, None, HeadChoice::Auto, &[]).expect("a head");
    store.commit(&operation, &head.predictor)?;
    *learner = next;
    Ok(())
}

/// Generator of pseudorandom numbers that are the same on every machine.
fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    }
}

#[test]
fn a_flipped_bit_is_found_or_changes_nothing() {
    let scene = Scene::taught();
    let sound = std::fs::read(scene.file()).expect("the state");
    let expected = scene.content(Access::Read).expect("a sound state");
    let mut next = numbers(3);
    let mut found = 0;
    let mut named = 0;
    let used = sound.iter().rposition(|&byte| byte != 0).expect("a file that is not empty") + 1;
    for _ in 0..300 {
        let mut bytes = sound.clone();
        let place = next(used);
        let bit = next(8);
        bytes[place] ^= 1 << bit;
        for access in [Access::Read, Access::Write] {
            std::fs::write(scene.file(), &bytes).expect("written");
            match scene.content(access) {
                Ok(content) => assert_eq!(content, expected, "bit {bit} of byte {place}"),
                Err(error) => {
                    let text = error.to_string();
                    let damaged = matches!(error, StoreError::Damaged { .. });
                    assert!(damaged, "bit {bit} of byte {place}: {text}");
                    found += 1;
                    named += usize::from(text.contains("class \"") || text.contains("operation "));
                }
            }
        }
    }
    // Most pages of a small state are in redb's own use.
    assert!(found > 50 && named > 0, "{found} found, {named} named");
}

#[test]
fn a_value_is_checked_when_it_is_read() {
    let scene = Scene::taught();
    let bytes = std::fs::read(scene.file()).expect("the state");
    // Simulates damage that redb does not see: a bit flips in a value, and redb's own checksum
    // matches.
    let database = Database::open(scene.file()).expect("a database");
    let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("classes");
    let write = database.begin_write().expect("a transaction");
    {
        let mut rows = write.open_table(table).expect("a table");
        let mut value = rows.get("cup").expect("read").expect("a class").value().to_vec();
        value[20] ^= 4;
        rows.insert("cup", value.as_slice()).expect("written");
    }
    write.commit().expect("written");
    drop(database);
    let error = scene.content(Access::Read).expect_err("a damaged class").to_string();
    assert!(error.contains("class \"cup\" is damaged: its checksum does not match"), "{error}");
    assert!(error.contains("restore a backup"), "{error}");
    std::fs::write(scene.file(), bytes).expect("written");
    scene.content(Access::Write).expect("the backup is sound");
}

#[test]
fn files_that_are_no_state_are_told_and_left_alone() {
    let scene = Scene::taught();
    let sound = std::fs::read(scene.file()).expect("the state");
    let zeros = vec![0; sound.len()];
    let mut headless = sound.clone();
    headless[..512].fill(0);
    let cases: [(&str, &[u8], &str); 6] = [
        ("empty", b"", "it is empty"),
        ("one byte", b"r", "damaged"),
        ("text", b"not a database, but longer than the magic of one", "damaged"),
        ("zeros", &zeros, "damaged"),
        ("without its head", &headless, "damaged"),
        ("cut off", &sound[..sound.len() / 2], "damaged"),
    ];
    for (case, bytes, expected) in cases {
        for access in [Access::Read, Access::Write] {
            std::fs::write(scene.file(), bytes).expect("written");
            let refused = scene.open(access).err().map(|error| error.to_string());
            let error = refused.unwrap_or_else(|| panic!("{case}: it was opened"));
            assert!(error.contains(expected), "{case}: {error}");
            assert!(error.contains("restore a backup"), "{case}: {error}");
            assert_eq!(std::fs::read(scene.file()).expect("the file"), bytes, "{case}");
        }
    }
}

/// Removes the checksums of all values, and sets the number of the former format.
fn as_format_2(scene: &Scene) {
    let database = Database::open(scene.file()).expect("a database");
    let write = database.begin_write().expect("a transaction");
    for name in ["meta", "classes", "head"] {
        strip(&write, TableDefinition::<&str, &[u8]>::new(name));
    }
    for name in ["journal", "adapters"] {
        strip(&write, TableDefinition::<u64, &[u8]>::new(name));
    }
    {
        let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
        let mut meta = write.open_table(table).expect("a table");
        let mut about = meta.get("about").expect("read").expect("a description").value().to_vec();
        assert_eq!(u16::from(about[0]), FORMAT, "the format stands first");
        about[0] = 2;
        meta.insert("about", about.as_slice()).expect("written");
    }
    write.commit().expect("written");
}

fn strip<K: redb::Key + 'static>(
    write: &WriteTransaction,
    definition: TableDefinition<'_, K, &'static [u8]>,
) {
    let mut table = write.open_table(definition).expect("a table");
    let rows = table.iter().expect("rows");
    let rows: Vec<(Vec<u8>, Vec<u8>)> = rows
        .map(|row| row.expect("a row"))
        .map(|(key, value)| (K::as_bytes(&key.value()).as_ref().to_vec(), value.value().to_vec()))
        .collect();
    for (key, value) in rows {
        let value = &value[..value.len() - 32];
        table.insert(K::from_bytes(&key), value).expect("written");
    }
}

#[test]
fn a_state_of_the_former_format_is_brought_to_this_one() {
    let scene = Scene::taught();
    let expected = scene.content(Access::Read).expect("a sound state");
    as_format_2(&scene);
    let before = std::fs::read(scene.file()).expect("the state");
    assert_eq!(scene.content(Access::Read).expect("an old state"), expected);
    assert_eq!(std::fs::read(scene.file()).expect("the state"), before, "looking changes nothing");
    assert_eq!(scene.content(Access::Write).expect("an old state"), expected);
    let database = Database::open(scene.file()).expect("a database");
    let read = database.begin_read().expect("a transaction");
    META.read(&read).expect("a table").expect("a table").verify().expect("checksums");
    drop((read, database));
    assert_eq!(scene.content(Access::Write).expect("an upgraded state"), expected);
}

/// Format 3 has no occasions. Only the format number differs.
#[test]
fn a_state_without_occasions_is_read_as_it_is() {
    let scene = Scene::taught();
    let expected = scene.content(Access::Read).expect("a sound state");
    let store = scene.open(Access::Write).expect("a state");
    let about = About { format: 3, ..store.about.clone() };
    let write = |transaction: &WriteTransaction| {
        META.write(transaction)?.insert("about", &about)?;
        Ok(((), End::Commit))
    };
    store.storage.write(write).expect("written");
    drop(store);
    for access in [Access::Read, Access::Write] {
        assert_eq!(scene.content(access).expect("a former state"), expected);
    }
    let store = scene.open(Access::Read).expect("a state");
    assert_eq!(store.about.format, FORMAT);
}

#[test]
fn accounts_of_the_former_format_are_kept_where_nothing_was_taught_yet() {
    let scene = Scene::new();
    let value = postcard::to_stdvec("admin").expect("a value");
    let database = Database::create(scene.file()).expect("a database");
    let write = database.begin_write().expect("a transaction");
    {
        let table: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
        let mut meta = write.open_table(table).expect("a table");
        meta.insert(ACCOUNTS, value.as_slice()).expect("written");
    }
    write.commit().expect("written");
    drop(database);
    let content = scene.content(Access::Write).expect("an old state");
    assert_eq!(content.accounts.as_deref(), Some("admin"));
    assert_eq!(content.learner.classes().len(), 0);
}

#[test]
fn a_state_of_a_later_format_is_left_alone() {
    let scene = Scene::taught();
    let store = scene.open(Access::Write).expect("a state");
    let about = About { format: FORMAT + 1, ..store.about.clone() };
    let write = |transaction: &WriteTransaction| {
        META.write(transaction)?.insert("about", &about)?;
        Ok(((), End::Commit))
    };
    store.storage.write(write).expect("written");
    drop(store);
    for access in [Access::Read, Access::Write] {
        let error = scene.open(access).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("format 5, but this program reads formats up to 4"), "{error}");
    }
}

#[test]
fn when_the_disk_has_room_again_the_state_is_written_again() {
    let _scenario = fail::FailScenario::setup();
    let scene = Scene::taught();
    let mut store = scene.open(Access::Write).expect("a state");
    let mut learner = store.load(D).expect("classes");
    let accounts = store.record(ACCOUNTS).expect("a state to write");
    fail::cfg("storage-full", "return").expect("a fail point");
    for _ in 0..2 {
        teach(&mut store, &mut learner, "late", 3).expect_err("no room");
        accounts.save(&"root").expect_err("no room");
        assert!(store.storage.trouble().is_some_and(|why| why.contains("cannot be written")));
        // Reading still works.
        assert_eq!(store.load(D).expect("classes"), learner);
        assert_eq!(accounts.load::<String>().expect("accounts").as_deref(), Some("admin"));
        store.storage.look_after();
        assert!(store.storage.trouble().is_some(), "there is still no room");
    }
    let second = scene.open(Access::Write);
    assert!(matches!(second, Err(StoreError::InUse { .. })), "the file stays locked");
    fail::remove("storage-full");
    teach(&mut store, &mut learner, "late", 3).expect("there is room");
    assert_eq!(store.storage.trouble(), None);
    accounts.save(&"root").expect("there is room");
    drop((store, accounts));
    let content = scene.content(Access::Read).expect("a sound state");
    assert_eq!(content.learner, learner);
    assert_eq!(content.accounts.as_deref(), Some("root"));
}

#[test]
fn room_is_noticed_without_an_operation() {
    let _scenario = fail::FailScenario::setup();
    let scene = Scene::taught();
    let store = scene.open(Access::Write).expect("a state");
    let accounts = store.record(ACCOUNTS).expect("a state to write");
    fail::cfg("storage-full", "return").expect("a fail point");
    accounts.save(&"root").expect_err("no room");
    fail::remove("storage-full");
    store.storage.look_after();
    assert_eq!(store.storage.trouble(), None);
    assert_eq!(accounts.load::<String>().expect("accounts").as_deref(), Some("admin"));
}

#[test]
#[cfg(unix)]
fn nothing_is_written_to_a_file_that_was_taken_away() {
    let scene = Scene::taught();
    let mut store = scene.open(Access::Write).expect("a state");
    let mut learner = store.load(D).expect("classes");
    std::fs::rename(scene.file(), scene.folder.path().join("elsewhere")).expect("renamed");
    let gone = teach(&mut store, &mut learner, "late", 3);
    assert!(matches!(gone, Err(StoreError::Replaced { .. })));
    store.storage.look_after();
    assert!(store.storage.trouble().is_some());
    std::fs::rename(scene.folder.path().join("elsewhere"), scene.file()).expect("renamed");
    teach(&mut store, &mut learner, "late", 3).expect("it is back");
    assert_eq!(store.storage.trouble(), None);
}
