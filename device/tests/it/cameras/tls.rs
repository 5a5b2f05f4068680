//! Cameras with self-signed certificates.

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;

use fmlora_device::Thing;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::box_camera::{read_head, snapshot};
use super::check;
use crate::served::jpegs;
use crate::setting::{Setting, text};
use crate::tls::certificate;

/// Answers each request with a picture over TLS, with the certificate of the setting. Returns the
/// port.
fn serve(setting: &Setting, certificate: CertificateDer<'static>) -> u16 {
    let key = PrivateKeyDer::from_pem_file(setting.path("key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let anonymous = builder.expect("versions").with_no_client_auth();
    let config = Arc::new(anonymous.with_single_cert(vec![certificate], key).expect("a pair"));
    let answer = snapshot(&jpegs(Thing::ALL[0], 1, 1)[0]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let server = ServerConnection::new(config.clone()).expect("a server");
            let mut stream = StreamOwned::new(server, stream);
            // A client that does not trust the certificate disconnects.
            if !read_head(&mut stream).is_empty() {
                let _ = stream.write_all(&answer);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    port
}

#[test]
fn a_certificate_of_its_own_is_trusted_where_the_configuration_names_it() {
    let setting = Setting::new();
    let port = serve(&setting, certificate(&setting));
    let named = |file: &str| format!("authority = \"{}\"\n", text(&setting.path(file)));
    let url = format!("https://localhost:{port}/");
    for (authority, expected) in [
        (String::new(), "unknown issuer"),
        ("authority = \"system\"\n".to_owned(), "camera.authority"),
        (named("key.pem"), "holds no certificate"),
    ] {
        let (code, said) = check(&setting, &url, &authority);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(expected) && said.contains("camera.authority"), "{said}");
    }
    // The certificate is not for the second name, and is trusted as it is.
    for host in ["localhost", "127.0.0.1"] {
        let url = format!("https://{host}:{port}/");
        let (code, said) = check(&setting, &url, &named("certificate.pem"));
        assert_eq!(code, 0, "{host}: {said}");
    }
}
