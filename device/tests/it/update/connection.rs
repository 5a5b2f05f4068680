//! Connection to the server of a repository: certificates, proxies, `User-Agent`, and HTML pages in
//! place of files.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::scene::{Scene, applied};
use super::server::Fault;
use super::workshop::Workshop;
use crate::served::{Daemon, until};
use crate::setting::{Run, finish, text};
use crate::update_daemon::{BY_HAND, CAMERA, config, post};

/// Content of a test server.
enum Site {
    /// The files of a folder.
    Folder(PathBuf),
    /// Redirects to the same path of this address.
    Moved(String),
}

/// Serves a site by https as 127.0.0.1 until the test ends, with a self-signed certificate that it
/// writes to `certificate`.
fn serve_tls(site: Site, certificate: &Path) -> SocketAddr {
    let made =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(certificate, made.cert.pem()).expect("a file");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let server = server.expect("versions").with_no_client_auth();
    let server =
        Arc::new(server.with_single_cert(vec![made.cert.der().clone()], key).expect("a key"));
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(server.clone()).expect("a connection");
            // A client that does not trust the certificate disconnects.
            let _ = answer(StreamOwned::new(connection, stream), &site);
        }
    });
    address
}

fn answer(
    mut stream: StreamOwned<ServerConnection, TcpStream>,
    site: &Site,
) -> std::io::Result<()> {
    let mut path = String::new();
    for line in BufReader::new(&mut stream).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(asked) = line.strip_prefix("GET /") {
            asked.split(' ').next().unwrap_or_default().clone_into(&mut path);
        }
    }
    let (status, body) = match site {
        Site::Moved(to) => (format!("302 Found\r\nLocation: {to}{path}"), Vec::new()),
        Site::Folder(folder) => match std::fs::read(folder.join(path)) {
            Ok(body) => ("200 OK".to_owned(), body),
            Err(_) => ("404 Not Found".to_owned(), Vec::new()),
        },
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)?;
    stream.conn.send_close_notify();
    stream.flush()
}

/// Starts a proxy that opens tunnels until the test ends. Returns its address and the lines of the
/// requests that it receives.
fn serve_proxy() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (heard, lines) = channel();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let heard = heard.clone();
            std::thread::spawn(move || tunnel(&client, &heard));
        }
    });
    (address, lines)
}

/// Answers a request for a tunnel, and copies both ways until one side ends.
fn tunnel(client: &TcpStream, heard: &Sender<String>) -> std::io::Result<()> {
    let mut target = None;
    for line in BufReader::new(client).lines() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        if let Some(asked) = line.strip_prefix("CONNECT ") {
            target = asked.split(' ').next().map(TcpStream::connect);
        }
        // The test may have dropped the receiver.
        let _ = heard.send(line);
    }
    let Some(server) = target else { return Ok(()) };
    let mut to = client.try_clone()?;
    let mut from = server?;
    to.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    let mut client = client.try_clone()?;
    let mut server = from.try_clone()?;
    std::thread::spawn(move || std::io::copy(&mut client, &mut server));
    std::io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Both)
}

/// Runs a command with environment variables.
fn with_variables(scene: &Scene, arguments: &[&str], variables: &[(&str, &str)]) -> Run {
    let always = ["--json", "--device", "cpu", "--base", "base.fmlb"];
    let mut command = scene.setting.command(&[&always[..], arguments].concat());
    finish(command.envs(variables.iter().copied()))
}

/// Runs one round of updates with environment variables.
fn update_with(scene: &Scene, variables: &[(&str, &str)]) -> Run {
    let root = scene.setting.path("root.json");
    let url = scene.server.url();
    with_variables(scene, &["update", "--from", &url, "--root", text(&root)], variables)
}

#[test]
fn a_certificate_of_ones_own_is_named_and_then_trusted() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let certificate = scene.setting.path("authority.pem");
    let address = serve_tls(Site::Folder(scene.site.folder().to_owned()), &certificate);
    let url = format!("https://{address}/");
    let root = scene.setting.path("root.json");
    let update = ["update", "--from", &url, "--root", text(&root)];
    let run = scene.run(&update);
    for says in [&*url, "metadata/", "comes from an unknown issuer", "--authority"] {
        assert!(run.code == 1 && run.stderr.contains(says), "{says}: {}", run.stderr);
    }
    let system = [&update[..], &["--check", "--authority", "system"]].concat();
    let run = with_variables(&scene, &system, &[("SSL_CERT_FILE", text(&certificate))]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let missing = scene.run(&[&update[..], &["--authority", "no.pem"]].concat());
    assert!(missing.stderr.contains("--authority: no.pem"), "{}", missing.stderr);
    let run = scene.run(&[&update[..], &["--authority", text(&certificate)]].concat());
    assert_eq!((run.code, &*applied(&run)), (0, "garden-1.fmla"), "{}", run.stderr);
    // The daemon has a key for it.
    let plain = config(&scene, CAMERA, BY_HAND).replace(&scene.server.url(), &url);
    let mut daemon = Daemon::start_with(&scene.setting, &plain, &[]);
    let (code, problem) = post(&mut daemon, "check", &Value::Null);
    let detail = problem["detail"].as_str().unwrap_or_default();
    assert!(code == 502 && detail.contains("update.authority"), "{problem}");
    drop(daemon);
    let trusting = format!("{plain}authority = \"{}\"\n", text(&certificate));
    let mut daemon = Daemon::start_with(&scene.setting, &trusting, &[]);
    assert_eq!(post(&mut daemon, "check", &Value::Null).0, 200);
}

#[test]
fn a_proxy_of_the_environment_is_used_unless_the_host_is_excepted() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let unused = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let proxy = format!("http://{}", unused.local_addr().expect("an address"));
    drop(unused);
    let through = update_with(&scene, &[("http_proxy", &proxy)]);
    assert_eq!(through.code, 1, "nobody is there: {}", through.stdout);
    let wrong = update_with(&scene, &[("http_proxy", "http://")]);
    assert!(wrong.stderr.contains("http_proxy is "), "{}", wrong.stderr);
    let other = update_with(&scene, &[("https_proxy", &proxy), ("no_proxy", "")]);
    assert_eq!(applied(&other), "garden-1.fmla", "{}", other.stderr);
    scene.json(&["rollback"]);
    scene.offer(2);
    let past = update_with(&scene, &[("http_proxy", &proxy), ("no_proxy", "127.0.0.0/8")]);
    assert_eq!(applied(&past), "garden-2.fmla", "{}", past.stderr);
}

#[test]
fn a_tunnel_of_a_proxy_leads_to_a_repository_by_https() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let certificate = scene.setting.path("authority.pem");
    let server = serve_tls(Site::Folder(scene.site.folder().to_owned()), &certificate);
    let (proxy, lines) = serve_proxy();
    let url = format!("https://{server}/");
    let root = scene.setting.path("root.json");
    let update =
        ["update", "--from", &url, "--root", text(&root), "--authority", text(&certificate)];
    let proxy = format!("http://ann:secret@{proxy}");
    let run = with_variables(&scene, &update, &[("https_proxy", &proxy)]);
    assert_eq!((run.code, &*applied(&run)), (0, "garden-1.fmla"), "{}", run.stderr);
    let lines: Vec<String> = lines.try_iter().collect();
    assert_eq!(lines[0], format!("CONNECT {server} HTTP/1.1"));
    // "ann:secret" in base 64.
    let login =
        |line: &String| line.eq_ignore_ascii_case("proxy-authorization: basic YW5uOnNlY3JldA==");
    assert!(lines.iter().any(login), "{lines:?}");
}

#[test]
fn a_redirect_does_not_lead_out_of_https() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    let certificate = scene.setting.path("authority.pem");
    let moved = serve_tls(Site::Moved(scene.server.url()), &certificate);
    let url = format!("https://{moved}/");
    let root = scene.setting.path("root.json");
    let update =
        ["update", "--from", &url, "--root", text(&root), "--authority", text(&certificate)];
    let run = scene.run(&update);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stderr.contains("https"), "{}", run.stderr);
    assert!(scene.server.asked().is_empty(), "nothing was asked in the clear");
}

#[test]
fn a_server_is_told_which_program_asks() {
    let mut scene = Scene::new(Workshop::toy());
    scene.offer(1);
    scene.taken("garden-1.fmla");
    let expected = format!("fmlora-edge/{} (channel stable)", env!("CARGO_PKG_VERSION"));
    for asked in scene.server.asked() {
        assert_eq!(asked.agent, expected, "{}", asked.path);
    }
}

/// A login page of the network, or a wrong address, is reported as such, with the address.
#[test]
fn a_page_is_told_from_a_repository() {
    let mut scene = Scene::updated(Workshop::toy());
    let before = scene.known();
    scene.offer(2);
    let page = Fault::Instead(b"<!doctype html><title>Log in</title>".to_vec());
    let adapter = scene.site.listed[1].path();
    for file in ["metadata/2.root.json", "metadata/timestamp.json", "metadata/3.targets.json"] {
        scene.server.fail(file, page.clone());
        let run = scene.update();
        let says = format!("{}{file}: an HTML page came instead of the file", scene.server.url());
        assert!(run.code == 1 && run.stderr.contains(&says), "{says}: {}", run.stderr);
        assert_eq!(scene.known(), before);
        scene.server.heal();
    }
    scene.server.fail(&adapter, Fault::Status(511));
    scene.not_taken("the network asks for a login");
    scene.server.heal();
    scene.taken("garden-2.fmla");
}

#[test]
fn what_a_root_may_not_say_is_refused_in_words() {
    let scene = Scene::new(Workshop::toy());
    let mut root = scene.site.root.clone();
    root.consistent_snapshot = false;
    let keys = &scene.site.keys[&tough::schema::RoleType::Root][..2];
    let plain = super::key::written(&super::key::signed(&root, keys));
    std::fs::write(scene.setting.path("root.json"), plain).expect("a file");
    let run = scene.update();
    assert!(run.code == 1 && run.stderr.contains("consistent_snapshot"), "{}", run.stderr);
    std::fs::write(scene.setting.path("root.json"), scene.site.read("metadata/timestamp.json"))
        .expect("a file");
    let run = scene.update();
    let says = r#"its _type is \"timestamp\", expected \"root\""#;
    assert!(run.code == 1 && run.stderr.contains(says), "{}", run.stderr);
}

#[test]
fn without_a_root_the_log_says_so_at_the_start() {
    let scene = Scene::new(Workshop::toy());
    let config = config(&scene, CAMERA, BY_HAND);
    let lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("root =")).collect();
    let rootless = lines.join("\n");
    let _daemon = Daemon::start_with(&scene.setting, &rootless, &[]);
    until("a line of the log", || {
        let log = std::fs::read_to_string(scene.setting.path("log")).unwrap_or_default();
        log.contains("this box takes no update until update.root names")
    });
}
