//! Tests by handshakes in memory, with certificates generated for them.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConnection, ServerConfig, ServerConnection};
use tempfile::TempDir;

use super::*;

/// A certificate and its key.
struct Identity {
    certificate: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

/// Years in which the certificates of the tests are valid.
const YEARS: (i32, i32) = (2020, 4000);

/// Parameters of a certificate for a name, valid between two years.
fn params(name: &str, (from, to): (i32, i32)) -> CertificateParams {
    let names = if name.is_empty() { vec![] } else { vec![name.to_owned()] };
    let mut params = CertificateParams::new(names).expect("a name");
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

fn self_signed(params: &CertificateParams) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let made = params.self_signed(&key).expect("a certificate");
    Identity { certificate: made.der().clone(), pem: made.pem(), key }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params("", YEARS);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let key = KeyPair::generate().expect("a key");
    CertifiedIssuer::self_signed(params, key).expect("a certificate")
}

fn signed(params: &CertificateParams, by: &CertifiedIssuer<'static, KeyPair>) -> Identity {
    let key = KeyPair::generate().expect("a key");
    let made = params.signed_by(&key, by).expect("a certificate");
    Identity { certificate: made.der().clone(), pem: made.pem(), key }
}

/// Connects a client that trusts `authorities` to a server with the name `box.example`.
fn greet(authorities: &Authorities, server: &Identity) -> Result<(), String> {
    let config = authorities.client_config().map_err(|error| error.to_string())?;
    let name = ServerName::try_from("box.example").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let key = PrivateKeyDer::try_from(server.key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth();
    let config = config.with_single_cert(vec![server.certificate.clone()], key);
    let config = Arc::new(config.expect("a certificate with its key"));
    let mut wire = Wire { server: ServerConnection::new(config).expect("a server") };
    match client.complete_io(&mut wire) {
        Ok(_) => Ok(()),
        Err(error) => Err(distrust(&ureq::Error::Io(error), "box.authority").expect("a reason")),
    }
}

/// The server's end of a connection, seen from the client.
struct Wire {
    server: ServerConnection,
}

impl Read for Wire {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut to = to;
        self.server.write_tls(&mut to)
    }
}

impl Write for Wire {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let mut rest = from;
        while !rest.is_empty() {
            self.server.read_tls(&mut rest)?;
            // A client that refuses the certificate sends an alert, which is an error here.
            let _ = self.server.process_new_packets();
        }
        Ok(from.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a PEM file with these certificates.
fn file(folder: &TempDir, pems: &[&str]) -> Authorities {
    let path = folder.path().join("trusted.pem");
    std::fs::write(&path, pems.concat()).expect("a file");
    Authorities::File(path)
}

#[test]
fn a_certificate_of_a_named_authority_is_trusted_and_others_are_refused_with_the_reason() {
    let folder = TempDir::new().expect("a folder");
    let authority = authority();
    let trusted = file(&folder, &[&authority.pem()]);
    let good = signed(&params("box.example", YEARS), &authority);
    assert_eq!(greet(&trusted, &good), Ok(()));
    let mut as_authority = params("box.example", YEARS);
    as_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let refused = [
        (self_signed(&params("box.example", YEARS)), vec!["unknown issuer", "\"system\""]),
        (self_signed(&as_authority), vec!["unknown issuer", "\"system\""]),
        (signed(&params("box.example", (2020, 2021)), &authority), vec!["expired on 2021-01-01"]),
        (signed(&params("box.example", (3990, 4000)), &authority), vec!["valid from 3990-01-01"]),
        (
            signed(&params("other.example", YEARS), &authority),
            vec!["other.example", "not the name box.example"],
        ),
    ];
    for (server, expected) in refused {
        let why = greet(&trusted, &server).expect_err(expected[0]);
        for text in [&expected[..], &["box.authority"]].concat() {
            assert!(why.contains(text), "{text:?} is not in {why:?}");
        }
    }
    // An authority with the old name and a new key.
    let anew = file(&folder, &[&self::authority().pem()]);
    let why = greet(&anew, &good).expect_err("another key");
    assert!(why.contains("another key"), "{why}");
    let web = greet(&Authorities::WebRoots, &good).expect_err("no authority of the web");
    assert!(web.contains("unknown issuer"), "{web}");
}

/// Self-signed certificates of cameras: without a name, with a wrong one, long expired, or marked
/// as an authority.
#[test]
fn a_certificate_in_the_file_is_trusted_as_it_is() {
    let folder = TempDir::new().expect("a folder");
    let mut as_authority = params("box.example", YEARS);
    as_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let odd = [
        params("", YEARS),
        params("other.example", YEARS),
        params("box.example", (1999, 2001)),
        as_authority,
    ];
    for params in odd {
        let server = self_signed(&params);
        let other = self_signed(&params);
        let trusted = file(&folder, &["a note\n", &other.pem, &server.pem]);
        assert_eq!(greet(&trusted, &server), Ok(()), "{params:?}");
        let without = file(&folder, &[&other.pem]);
        assert!(greet(&without, &server).is_err(), "{params:?}");
    }
}

#[test]
fn a_file_without_certificates_is_refused_with_its_name() {
    let folder = TempDir::new().expect("a folder");
    let key = KeyPair::generate().expect("a key").serialize_pem();
    let broken = "-----BEGIN CERTIFICATE-----\nno base64\n-----END CERTIFICATE-----\n";
    for pems in [&[][..], &["no PEM"], &[&key], &[broken]] {
        let why = file(&folder, pems).client_config().expect_err("no certificate").to_string();
        assert!(why.contains("trusted.pem"), "{why}");
    }
    let missing = Authorities::from_value(Some(&folder.path().join("missing.pem")));
    let why = missing.client_config().expect_err("no file").to_string();
    assert!(why.contains("missing.pem"), "{why}");
}

#[test]
fn a_value_of_a_configuration_names_one_of_three() {
    assert_eq!(Authorities::from_value(None), Authorities::WebRoots);
    assert_eq!(Authorities::from_value(Some(Path::new("system"))), Authorities::System);
    let file = Path::new("./system");
    assert_eq!(Authorities::from_value(Some(file)), Authorities::File(file.to_owned()));
}
