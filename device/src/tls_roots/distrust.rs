//! Explains why a server's certificate was refused, and how to mend it.

use std::error::Error;
use std::io;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

/// Explains why a certificate was refused, and how the configuration key `key`, which names the
/// authorities, mends it. `None` if the failure has another cause.
pub(crate) fn distrust(failure: &(dyn Error + 'static), key: &str) -> Option<String> {
    use CertificateError as Refused;
    let rustls::Error::InvalidCertificate(refused) = tls_error(failure)? else { return None };
    let itself = format!("or put the server's own certificate into the PEM file of {key}");
    Some(match refused {
        Refused::UnknownIssuer => unknown_issuer(key),
        // An unrelated authority has another issuer name. Here the name matches, so the authority
        // was renewed with another key.
        Refused::BadSignature => format!(
            "its certificate is signed by another key than that of the issuer of this name in {key}: give the issuer's new \
             certificate, {itself}"
        ),
        Refused::Expired => format!("its certificate has expired: renew it, {itself}"),
        Refused::ExpiredContext { time, not_after } => format!(
            "its certificate expired on {}, and the clock here says {}: renew it, {itself}",
            day(*not_after),
            day(*time)
        ),
        Refused::NotValidYet => {
            format!("its certificate is not valid yet: set the clock here, {itself}")
        }
        Refused::NotValidYetContext { time, not_before } => format!(
            "its certificate is valid from {} on, and the clock here says {}: set the clock, {itself}",
            day(*not_before),
            day(*time)
        ),
        Refused::NotValidForName => {
            format!("its certificate is for another name: use that name, {itself}")
        }
        Refused::NotValidForNameContext { expected, presented } => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names =
                if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            let expected = expected.to_str();
            format!(
                "its certificate is for {names}, which is not the name {expected}: use a name that it is for, {itself}"
            )
        }
        Refused::Other(other) => match other.0.to_string().as_str() {
            // Self-signed and marked as an authority: `openssl req -x509` does both.
            "CaUsedAsEndEntity" => unknown_issuer(key),
            "UnsupportedCertVersion" => {
                "its certificate is of version 1 of X.509, which has no names: make one of version 3".to_owned()
            }
            name => format!("its certificate is refused: {}; mend it, {itself}", spaced(name)),
        },
        other => format!("its certificate is refused: {other}; mend it, {itself}"),
    })
}

fn unknown_issuer(key: &str) -> String {
    format!(
        "its certificate comes from an unknown issuer: give that issuer's certificate, or the server's own, as {key} (a PEM \
         file), or take those of this system with {key} = \"system\""
    )
}

/// Splits the name of an error, such as `RequiredEkuNotFound`, into words.
fn spaced(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

/// Finds the TLS error within another error.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref::<rustls::Error>() {
        return Some(found);
    }
    // ureq's and std's errors do not return a wrapped error in `source`.
    match error.downcast_ref::<ureq::Error>() {
        Some(ureq::Error::Rustls(found)) => return Some(found),
        Some(ureq::Error::Io(inner)) => return tls_error(inner),
        _ => {}
    }
    let inner: Option<&'a (dyn Error + 'static)> = match error.downcast_ref::<io::Error>() {
        Some(error) => error.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    };
    tls_error(inner?)
}

/// Returns the text in quotes of `DnsName("box")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').map_or(name, |(_, inner)| inner.trim_end_matches(')'));
    inner.trim_matches('"')
}

fn day(time: UnixTime) -> String {
    let at = i64::try_from(time.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok());
    at.map_or_else(
        || "a day out of reach".to_owned(),
        |at| at.to_string().chars().take_while(|c| *c != 'T').collect(),
    )
}
