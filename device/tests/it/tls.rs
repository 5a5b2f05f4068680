//! TLS: the protocol, the certificate, and a new certificate without a restart.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::served::{Daemon, PATIENCE, until};
use crate::setting::{Setting, text};

/// Writes a new certificate for localhost and its key as files, and returns the certificate.
pub(crate) fn certificate(setting: &Setting) -> CertificateDer<'static> {
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.pem();
    let key = made.signing_key.serialize_pem();
    std::fs::write(setting.path("certificate.pem"), certificate).expect("a file");
    std::fs::write(setting.path("key.pem"), key).expect("a file");
    made.cert.der().clone()
}

/// Sends a request over TLS, and returns the protocol and the answer; `None` if the certificate is
/// not trusted.
fn ask(daemon: &Daemon, trusted: &CertificateDer<'static>, request: &str) -> Option<Asked> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let trusting = builder.expect("versions").with_root_certificates(roots);
    let mut config = trusting.with_no_client_auth();
    // The protocols that browsers and curl offer.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let stream = TcpStream::connect(daemon.address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut stream = StreamOwned::new(client, stream);
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A server may close the connection without a TLS message.
    let _ = stream.read_to_end(&mut answer);
    let protocol = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
    Some(Asked { protocol, answer: String::from_utf8_lossy(&answer).into_owned() })
}

struct Asked {
    protocol: Option<Vec<u8>>,
    answer: String,
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn a_certificate_is_enough_for_tls_and_can_be_changed() {
    let setting = Setting::new();
    let first = certificate(&setting);
    let chain = setting.path("certificate.pem");
    let key = setting.path("key.pem");
    let tls = format!("[http]\ncertificate = \"{}\"\nkey = \"{}\"\n", text(&chain), text(&key));
    let mut daemon = Daemon::start(&setting, &tls);
    assert!(daemon.url.starts_with("https://"), "{}", daemon.url);

    let asked = ask(&daemon, &first, HEALTH).expect("a connection");
    assert_eq!(asked.protocol.as_deref(), Some(&b"http/1.1"[..]), "nothing else is spoken");
    assert!(asked.answer.starts_with("HTTP/1.1 200"), "{}", asked.answer);

    let login = daemon.line("login").to_string();
    let head = "POST /api/v1/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{login}", login.len());
    let answer = ask(&daemon, &first, &request).expect("a connection").answer;
    let cookie = answer.lines().find(|line| line.to_lowercase().starts_with("set-cookie"));
    assert!(cookie.is_some_and(|cookie| cookie.contains("; Secure")), "{answer}");

    // A client without TLS, or with another trusted certificate, gets no answer and does no harm.
    let mut plain = daemon.write(HEALTH);
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    let second = certificate(&setting);
    assert!(ask(&daemon, &second, HEALTH).is_none(), "the new one is not in use yet");
    daemon.signal("HUP");
    until("the new certificate", || ask(&daemon, &second, HEALTH).is_some());
    assert!(ask(&daemon, &first, HEALTH).is_none(), "the old one is not in use any more");

    // An invalid certificate changes nothing.
    std::fs::write(&chain, "no certificate").expect("a file");
    daemon.signal("HUP");
    let log = || std::fs::read_to_string(setting.path("log")).expect("a log");
    until("a word about it", || log().contains("the configuration stays as it was"));
    assert!(ask(&daemon, &second, HEALTH).is_some());
}
