//! Metadata with wrong signatures, in an otherwise sound repository.

use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;

use aws_lc_rs::rand::SystemRandom;
use pkcs8::SecretDocument;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use tough::editor::signed::SignedRole;
use tough::key_source::KeySource;
use tough::schema::{
    Hashes, KeyHolder, Metafile, Role, RoleType, Root, Signed, Snapshot, Targets, Timestamp,
};
use tough::sign::{Sign, parse_keypair};

use super::site::{Site, block_on};

/// A file with an unencrypted key.
#[derive(Debug)]
struct KeyFile(PathBuf);

type KeyError = Box<dyn Error + Send + Sync + 'static>;

#[tough::async_trait]
impl KeySource for KeyFile {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, KeyError> {
        let text = std::fs::read_to_string(&self.0)?;
        let (_, document) = SecretDocument::from_pem(&text).map_err(|e| e.to_string())?;
        Ok(Box::new(parse_keypair(document.as_bytes())?))
    }

    async fn write(&self, _value: &str, _key_id_hex: &str) -> Result<(), KeyError> {
        Err("nothing is written".into())
    }
}

/// Signs a role's metadata as the root of this version asks, or leaves it unsigned for `None`. All
/// metadata that names it is signed as the newest root asks, so that only these signatures are
/// wrong.
pub(crate) fn sign_as(site: &Site, role: RoleType, root: Option<u64>) {
    let [newest, targets, snapshot, _] = site.versions();
    let judge = |of: RoleType| {
        let version = if of == role { root } else { Some(newest) };
        version.map(|version| read::<Root>(site, &format!("{version}.root.json")).signed)
    };
    let list: Signed<Targets> = read(site, &format!("{targets}.targets.json"));
    let list = signed(site, list.signed, judge(RoleType::Targets));
    write(site, &format!("{targets}.targets.json"), &list);
    let mut middle: Signed<Snapshot> = read(site, &format!("{snapshot}.snapshot.json"));
    name(&mut middle.signed.meta, "targets.json", &list);
    let middle = signed(site, middle.signed, judge(RoleType::Snapshot));
    write(site, &format!("{snapshot}.snapshot.json"), &middle);
    let mut top: Signed<Timestamp> = read(site, "timestamp.json");
    name(&mut top.signed.meta, "snapshot.json", &middle);
    write(site, "timestamp.json", &signed(site, top.signed, judge(RoleType::Timestamp)));
}

fn read<T: DeserializeOwned>(site: &Site, file: &str) -> Signed<T> {
    serde_json::from_slice(&site.read(&format!("site/metadata/{file}"))).expect("metadata")
}

fn write(site: &Site, file: &str, bytes: &[u8]) {
    std::fs::write(site.path(&format!("site/metadata/{file}")), bytes).expect("written");
}

fn signed<T: Role + Serialize + Clone>(site: &Site, role: T, root: Option<Root>) -> Vec<u8> {
    let Some(root) = root else {
        let unsigned = Signed { signed: role, signatures: Vec::new() };
        return serde_json::to_vec_pretty(&unsigned).expect("JSON");
    };
    let keys = std::fs::read_dir(site.path("keys")).expect("keys").flatten();
    let keys: Vec<Box<dyn KeySource>> =
        keys.map(|key| Box::new(KeyFile(key.path())) as Box<dyn KeySource>).collect();
    let holder = KeyHolder::Root(root);
    let random = SystemRandom::new();
    let sealed = block_on(SignedRole::new(role, &holder, &keys, &random));
    sealed.expect("all keys are there").buffer().clone()
}

/// Updates the length and the hash of a file, and keeps its version.
fn name(meta: &mut HashMap<String, Metafile>, file: &str, bytes: &[u8]) {
    let about = meta.get_mut(file).expect("it is named");
    about.length = Some(bytes.len() as u64);
    let sha256 = Sha256::digest(bytes).to_vec().into();
    about.hashes = Some(Hashes { sha256, _extra: HashMap::new() });
}
