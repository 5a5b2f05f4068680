//! Trusted certificates of servers: those of the web's authorities, of the system's store, or of a
//! file.
//!
//! A file holds certificates of authorities or of servers. Cameras and small servers often have a
//! self-signed certificate without a name, with the wrong name, or long expired. A certificate in
//! the file itself is therefore trusted regardless of its names and dates: the handshake proves
//! that the server has its key.

mod connector;
mod distrust;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use thiserror::Error;

pub(crate) use connector::TlsConnector;
pub(crate) use distrust::distrust;

/// Word of a configuration for [`Authorities::System`].
const SYSTEM: &str = "system";

/// Source of the trusted certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Authorities {
    /// The authorities of the web, as Mozilla lists them; built into the program.
    #[default]
    WebRoots,
    /// The store of this system, including certificates that its administrator added.
    System,
    /// A PEM file of authorities' or servers' certificates, and nothing else.
    File(PathBuf),
}

/// An error of loading the trusted certificates.
#[derive(Debug, Error)]
pub(crate) enum AuthorityError {
    /// The file cannot be read, or is not PEM.
    #[error("{} cannot be read as PEM", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: pem::Error,
    },
    /// The file is PEM or text without a certificate.
    #[error("{}: holds no certificate, expected PEM with -----BEGIN CERTIFICATE-----", .0.display())]
    NoCertificate(PathBuf),
    /// A certificate of the file cannot be parsed.
    #[error("{}: certificate {number} is broken", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Number of the certificate in the file, from 1.
        number: usize,
    },
    /// The system has no store of certificates.
    #[error("the system's certificates cannot be read: {0}")]
    System(String),
}

impl Authorities {
    /// Reads a value of a configuration: nothing, `system`, or the path of a PEM file.
    pub(crate) fn from_value(value: Option<&Path>) -> Self {
        match value {
            None => Self::WebRoots,
            Some(word) if word.as_os_str() == SYSTEM => Self::System,
            Some(path) => Self::File(path.to_owned()),
        }
    }

    /// Returns a rustls configuration that trusts these certificates and has no client certificate.
    ///
    /// # Errors
    ///
    /// [`AuthorityError`] if the file or the system's store cannot be read or holds no certificate.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, AuthorityError> {
        let mut roots = RootCertStore::empty();
        let mut exact = Vec::new();
        match self {
            Self::WebRoots => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                let (usable, _) = roots.add_parsable_certificates(found.certs);
                if usable == 0 {
                    let first = found.errors.first().map(ToString::to_string);
                    let why = first.unwrap_or_else(|| "it has none".to_owned());
                    return Err(AuthorityError::System(why));
                }
            }
            Self::File(path) => {
                exact = certificates(path)?;
                for (n, certificate) in exact.iter().enumerate() {
                    let authority = roots.add(certificate.clone()).is_ok();
                    if !authority && ParsedCertificate::try_from(certificate).is_err() {
                        return Err(AuthorityError::Broken { path: path.clone(), number: n + 1 });
                    }
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = Verifier::new(exact, roots, &provider);
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has what TLS 1.2 and 1.3 need");
        let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        Ok(config.with_no_client_auth())
    }
}

/// Reads all certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, AuthorityError> {
    let fail = |source| AuthorityError::Read { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(fail)?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(fail)?;
    if found.is_empty() {
        return Err(AuthorityError::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

/// Checks a server's certificate.
#[derive(Debug)]
struct Verifier {
    /// Certificates that are trusted as they are.
    exact: Vec<CertificateDer<'static>>,
    /// Checks against authorities; `None` if no certificate can be an authority.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(
        exact: Vec<CertificateDer<'static>>,
        roots: RootCertStore,
        provider: &Arc<CryptoProvider>,
    ) -> Self {
        let roots = Arc::new(roots);
        let builder = WebPkiServerVerifier::builder_with_provider(roots, provider.clone());
        // It fails only without roots.
        let authorities = builder.build().ok();
        Self { exact, authorities, algorithms: provider.signature_verification_algorithms }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.exact.iter().any(|trusted| trusted == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.authorities {
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
