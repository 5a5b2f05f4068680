//! Cameras that ask for a password by Basic or Digest.

use std::slice::from_ref;
use std::sync::Mutex;

use fmlora_device::Thing;
use http_auth::{PasswordClient, PasswordParams};

use super::box_camera::{BoxCamera, snapshot};
use super::{check, number, say, watch};
use crate::served::jpegs;
use crate::setting::Setting;

/// Returns the value of a header of a request.
fn line<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let named = |line: &'a str| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    };
    head.lines().find_map(named)
}

fn refuse(challenges: &[String]) -> Vec<u8> {
    let headers: Vec<String> =
        challenges.iter().map(|asked| format!("WWW-Authenticate: {asked}\r\n")).collect();
    let lines = headers.concat();
    format!("HTTP/1.1 401 Unauthorized\r\n{lines}Content-Length: 0\r\nConnection: close\r\n\r\n")
        .into()
}

/// Returns a parameter of an answer to a challenge.
fn parameter<'a>(answer: &'a str, name: &str) -> &'a str {
    let found = answer.split([',', ' ']).find_map(|part| part.trim().strip_prefix(name));
    found.and_then(|value| value.strip_prefix('=')).unwrap_or_default().trim_matches('"')
}

/// Returns true if an answer matches the challenge, the user and the password.
fn is_right(challenge: &str, answer: &str, uri: &str) -> bool {
    // In the spelling of the standard.
    let challenge = challenge.replace("md5", "MD5");
    let Ok(PasswordClient::Digest(mut client)) = PasswordClient::try_from(challenge.as_str())
    else {
        return false;
    };
    let params =
        PasswordParams { username: "ann", password: "p@ss:1", uri, method: "GET", body: None };
    let count = u32::from_str_radix(parameter(answer, "nc"), 16).unwrap_or(1);
    let cnonce = parameter(answer, "cnonce");
    let computed = (0..count).map(|_| client.respond_with_testing_cnonce(&params, cnonce)).last();
    computed.and_then(Result::ok).as_deref() == Some(answer)
}

const LOGIN: &str = "ann:p%40ss%3A1";

#[test]
fn a_camera_that_asks_for_digest_is_entered_with_its_stream_and_its_pictures() {
    let picture = jpegs(Thing::ALL[0], 1, 1).remove(0);
    let kinds = [
        "Digest realm=\"cam\", qop=\"auth\", nonce=\"NONCE\", opaque=\"x\"",
        "Digest qop=\"auth,auth-int\", realm=\"cam\", algorithm=SHA-256, nonce=\"NONCE\"",
        "Digest realm=\"cam\", nonce=\"NONCE\"",
        "Digest realm=\"cam\", qop=\"auth\", algorithm=md5, nonce=\"NONCE\"",
    ];
    for kind in kinds {
        for stream in [true, false] {
            let picture = picture.clone();
            // A nonce is valid for three pictures.
            let uses = Mutex::new(0);
            let camera = BoxCamera::start(move |_, head, to| {
                let mut uses = uses.lock().expect("no panic");
                let nonce = format!("<{}>", *uses / 3);
                let challenge = kind.replace("NONCE", &nonce);
                let answer = line(head, "authorization").unwrap_or_default();
                if !is_right(&challenge, answer, "/live?x=1&y=a@b") {
                    let old = answer.contains("nonce") && !answer.contains(&nonce);
                    let stale = if old { ", stale=true" } else { "" };
                    let basic = "Basic realm=\"cam\"".to_owned();
                    return say(to, &refuse(&[basic, format!("{challenge}{stale}")]));
                }
                *uses += 1;
                drop(uses);
                if stream {
                    BoxCamera::stream_for_ever(to, &picture);
                } else {
                    say(to, &snapshot(&picture));
                }
            });
            let url = camera.url_with(LOGIN, "/live?x=1&y=a@b");
            let (_, info) = watch(&url, "frames", |info| number(info, "/frames") > 10);
            assert_eq!(number(&info, "/source/openings"), 1, "{kind}: {info}");
            assert_eq!(number(&info, "/source/damaged"), 0, "{kind}: {info}");
            assert!(camera.requests().iter().all(|head| !head.contains("Basic ")), "{kind}");
        }
    }
}

#[test]
fn a_camera_that_asks_for_basic_gets_the_password_that_was_meant() {
    let picture = jpegs(Thing::ALL[0], 1, 1).remove(0);
    // ann:p@ss:1
    let right = "Basic YW5uOnBAc3M6MQ==";
    for asked in ["Basic realm=\"cam\"", "basic", ""] {
        let picture = picture.clone();
        let camera = BoxCamera::start(move |_, head, to| match line(head, "authorization") {
            Some(answer) if answer == right => say(to, &snapshot(&picture)),
            _ if asked.is_empty() => say(to, &refuse(&[])),
            _ => say(to, &refuse(&[asked.to_owned()])),
        });
        for login in [LOGIN, "ann:p@ss:1"] {
            let (code, said) = check(&Setting::new(), &camera.url_with(login, "/"), "");
            assert_eq!(code, 0, "{asked:?} {login}: {said}");
        }
        for (url, expected) in [
            (camera.url_with("ann:other", "/"), "refuses user and password"),
            (camera.url("/"), "write USER:PASSWORD@ before the host in camera.source"),
        ] {
            let before = camera.requests().len();
            let (code, said) = check(&Setting::new(), &url, "");
            assert_eq!(code, 1, "{said}");
            assert!(said.contains(expected) && !said.contains("other"), "{said}");
            let tries = camera.requests().len() - before;
            assert!(tries <= 2, "an account is locked after a few tries: {tries}");
        }
    }
}

#[test]
fn a_refusal_says_of_a_user_only_if_there_is_one() {
    let forbidden = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let camera = BoxCamera::start(move |_, _, to| say(to, forbidden));
    for (url, expected) in [
        (camera.url("/"), "answers 403 Forbidden; if it needs a user and a password, write USER:"),
        (camera.url_with(LOGIN, "/"), "answers 403 Forbidden and asks for no user and password"),
    ] {
        let (code, said) = check(&Setting::new(), &url, "");
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(expected) && !said.contains("refuses"), "{said}");
    }
}

#[test]
fn a_user_name_beyond_ascii_is_sent_in_its_letters() {
    let picture = jpegs(Thing::ALL[0], 1, 1).remove(0);
    let challenge = "Digest realm=\"cam\", qop=\"auth\", nonce=\"1\"".to_owned();
    let camera = BoxCamera::start(move |_, head, to| {
        let answer = line(head, "authorization").unwrap_or_default();
        if answer.starts_with("Digest username=\"\u{e4}dmin\", ") {
            say(to, &snapshot(&picture));
        } else {
            say(to, &refuse(from_ref(&challenge)));
        }
    });
    for login in ["\u{e4}dmin:a", "%C3%A4dmin:a"] {
        let (code, said) = check(&Setting::new(), &camera.url_with(login, "/"), "");
        assert_eq!(code, 0, "{login}: {said}");
    }
}

#[test]
fn a_redirect_is_followed_and_takes_no_password_to_another_host() {
    let picture = jpegs(Thing::ALL[0], 1, 1).remove(0);
    let answer = snapshot(&picture);
    let elsewhere = BoxCamera::start(move |_, _, to| say(to, &answer));
    let target = elsewhere.url("/picture");
    let camera = BoxCamera::start(move |_, head, to| {
        let location = match head.split(' ').nth(1) {
            _ if line(head, "authorization").is_none() => {
                return say(to, &refuse(&["Basic realm=\"cam\"".to_owned()]));
            }
            Some("/away") => target.clone(),
            Some("/here") => "/real".to_owned(),
            Some("/real") => return say(to, &snapshot(&picture)),
            _ => "/round".to_owned(),
        };
        let head = format!(
            "HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        say(to, head.as_bytes());
    });
    for (path, code) in [("/here", 0), ("/away", 0), ("/round", 1)] {
        let (found, said) = check(&Setting::new(), &camera.url_with(LOGIN, path), "");
        assert_eq!(found, code, "{path}: {said}");
    }
    let requests = elsewhere.requests();
    assert!(!requests.is_empty());
    assert!(requests.iter().all(|head| line(head, "authorization").is_none()), "{requests:?}");
}
