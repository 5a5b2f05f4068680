//! A signing key and its file: PKCS#8 in PEM, encrypted by a passphrase (PBES2), readable by
//! openssl.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::signature::Ed25519KeyPair;
use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::pbes2;
use pkcs8::{EncryptedPrivateKeyInfo, LineEnding, PrivateKeyInfo, SecretDocument};
use tough::key_source::KeySource;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::Key;
use tough::sign::{Sign, parse_keypair};
use zeroize::Zeroizing;

use crate::hex::hex;

/// Rounds of PBKDF2 with HMAC-SHA-256 over a passphrase, as OWASP recommends.
const ROUNDS: u32 = 600_000;

/// A private key in memory, overwritten when it is dropped.
#[derive(Clone)]
pub(super) struct SigningKey {
    document: Arc<SecretDocument>,
    public: Key,
    id: Decoded<Hex>,
    encrypted: bool,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.short_id())
    }
}

impl SigningKey {
    /// Generates an Ed25519 key.
    pub(super) fn generate() -> Result<Self> {
        let pair = Ed25519KeyPair::generate().map_err(|_| anyhow!("no key could be made"))?;
        // Version 1 of PKCS#8: older releases of openssl support no other version.
        let document = pair.to_pkcs8v1().map_err(|_| anyhow!("a new key cannot be written"))?;
        Self::new(SecretDocument::try_from(document.as_ref())?, false)
    }

    /// Reads a key file, plain or encrypted. For an encrypted key, each passphrase is tried.
    pub(super) fn read(path: &Path, passphrases: &[Zeroizing<String>]) -> Result<Self> {
        let read = || -> Result<Self> {
            let text = Zeroizing::new(std::fs::read_to_string(path)?);
            let (label, document) = SecretDocument::from_pem(&text)
                .map_err(|e| anyhow!("no key in PEM (PKCS#8 is expected): {e}"))?;
            match label {
                PrivateKeyInfo::PEM_LABEL => Self::new(document, false),
                EncryptedPrivateKeyInfo::PEM_LABEL => {
                    Self::new(decrypted(&document, passphrases)?, true)
                }
                other => bail!(
                    "{other:?} where PRIVATE KEY or ENCRYPTED PRIVATE KEY (PKCS#8) is expected; \
                     openssl pkcs8 -topk8 converts others"
                ),
            }
        };
        read().with_context(|| path.display().to_string())
    }

    fn new(document: SecretDocument, encrypted: bool) -> Result<Self> {
        let public = pair(&document)?.tuf_key();
        let id = public.key_id().context("the key has no id")?;
        Ok(Self { document: Arc::new(document), public, id, encrypted })
    }

    /// Encodes the key as PEM, encrypted if a passphrase is given.
    pub(super) fn to_pem(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>> {
        let Some(passphrase) = passphrase else {
            return Ok(self.document.to_pem(PrivateKeyInfo::PEM_LABEL, LineEnding::LF)?);
        };
        let salt: [u8; 16] = random()?;
        let iv: [u8; 16] = random()?;
        let scheme = pbes2::Parameters::pbkdf2_sha256_aes256cbc(ROUNDS, &salt, &iv)
            .map_err(|e| anyhow!("encrypting a key failed: {e}"))?;
        let info = PrivateKeyInfo::try_from(self.document.as_bytes())
            .map_err(|e| anyhow!("encrypting a key failed: {e}"))?;
        let sealed = info
            .encrypt_with_params(scheme, passphrase)
            .map_err(|e| anyhow!("encrypting a key failed: {e}"))?;
        Ok(sealed.to_pem(EncryptedPrivateKeyInfo::PEM_LABEL, LineEnding::LF)?)
    }

    /// Returns the public key.
    pub(super) fn public(&self) -> &Key {
        &self.public
    }

    /// Returns the key id, as used in metadata.
    pub(super) fn id(&self) -> &Decoded<Hex> {
        &self.id
    }

    /// Returns true if the key was read from an encrypted file.
    pub(super) fn is_encrypted(&self) -> bool {
        self.encrypted
    }

    /// Returns the beginning of the id, as used in file names.
    pub(super) fn short_id(&self) -> String {
        short(&self.id)
    }
}

/// Returns the first four bytes of an id, in hex.
pub(super) fn short(id: &Decoded<Hex>) -> String {
    hex(&id[..id.len().min(4)])
}

/// Returns `N` random bytes.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("no random numbers"))?;
    Ok(bytes)
}

fn decrypted(
    document: &SecretDocument,
    passphrases: &[Zeroizing<String>],
) -> Result<SecretDocument> {
    ensure!(
        !passphrases.is_empty(),
        "the key is encrypted: give the passphrase by FMLORA_KEY_PASSPHRASE or --passphrase-file"
    );
    let info = EncryptedPrivateKeyInfo::try_from(document.as_bytes())
        .map_err(|e| anyhow!("no encrypted key that can be read: {e}"))?;
    let opened = passphrases.iter().find_map(|passphrase| info.decrypt(passphrase.as_str()).ok());
    opened.context("no passphrase that was given opens this key")
}

/// Parses a key for signing by tough: Ed25519, ECDSA on P-256, or RSA.
fn pair(document: &SecretDocument) -> Result<Box<dyn Sign>> {
    if let Ok(pair) = parse_keypair(document.as_bytes()) {
        return Ok(Box::new(pair));
    }
    // tough takes RSA keys in PEM only.
    let pem = document.to_pem(PrivateKeyInfo::PEM_LABEL, LineEnding::LF)?;
    let pair = parse_keypair(pem.as_bytes());
    Ok(Box::new(pair.context("neither an Ed25519 nor an ECDSA (P-256) nor an RSA key")?))
}

type KeyError = Box<dyn Error + Send + Sync + 'static>;

#[tough::async_trait]
impl KeySource for SigningKey {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, KeyError> {
        pair(&self.document).map_err(Into::into)
    }

    async fn write(&self, _value: &str, _key_id_hex: &str) -> Result<(), KeyError> {
        Err("keys are written by publish itself".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl genpkey -algorithm ed25519 -aes-256-cbc -pass pass:open` (OpenSSL 3.0).
    const OF_OPENSSL: &str = include_str!("key/openssl.pem");

    fn passphrases(words: &[&str]) -> Vec<Zeroizing<String>> {
        words.iter().map(|word| Zeroizing::new((*word).to_owned())).collect()
    }

    #[test]
    fn a_key_is_decrypted_by_its_passphrase_only() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key.pem");
        let key = SigningKey::generate().expect("a key");
        let sealed = key.to_pem(Some("right")).expect("a file");
        assert!(sealed.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        std::fs::write(&path, sealed.as_bytes()).expect("written");
        let read = SigningKey::read(&path, &passphrases(&["other", "right"])).expect("opened");
        assert_eq!(read.id(), key.id());
        assert!(read.is_encrypted());
        for (words, says) in
            [(&["wrong"][..], "no passphrase that was given"), (&[], "give the passphrase")]
        {
            let error = SigningKey::read(&path, &passphrases(words)).expect_err("closed");
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
        std::fs::write(&path, key.to_pem(None).expect("a file").as_bytes()).expect("written");
        let read = SigningKey::read(&path, &[]).expect("plain");
        assert_eq!(read.id(), key.id());
        assert!(!read.is_encrypted());
    }

    #[test]
    fn keys_of_openssl_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key.pem");
        std::fs::write(&path, OF_OPENSSL).expect("written");
        let key = SigningKey::read(&path, &passphrases(&["open"])).expect("opened");
        assert!(matches!(key.public(), Key::Ed25519 { .. }));
    }

    #[test]
    fn a_file_without_a_key_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("key.pem");
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&path, text).expect("written");
            let error = format!("{:#}", SigningKey::read(&path, &[]).expect_err("no key"));
            assert!(error.contains("key.pem") && error.contains("PKCS#8"), "{error}");
        }
    }
}
