#!/usr/bin/env bash
# rumqttc 0.25.1: a publish above the client's own packet limit (10,240 bytes by default) is accepted by `publish`, which says
# Ok, and fails later inside the event loop. The event loop then drops its connection, and the messages that were queued behind
# the large one are lost: they are not sent after the reconnection, whatever their quality of service, and nothing names them.
#
# Needs cargo and crates.io; the broker is a few lines on loopback. Fails if the behaviour changes.
# Output seen (2026-11-27), after four lines "publish ...: Ok(())":
#   errors of the event loop: ["Mqtt state: Mqtt serialization/deserialization error: Cannot send packet of size '20013'. It's greater than the broker's maximum packet size of: '10240'"]
#   arrived: ["before"]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cargo init --quiet --name probe .
cargo add --quiet rumqttc@=0.25.1 --no-default-features
cat > src/main.rs <<'RS'
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use rumqttc::{Client, MqttOptions, QoS};

/// Answers CONNECT and PUBLISH of quality 1, and tells the topics that arrive.
fn serve(mut stream: TcpStream, topics: &Sender<String>) {
    let mut bytes = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(n) => bytes.extend_from_slice(&buffer[..n]),
        }
        while bytes.len() >= 2 {
            let (kind, length) = (bytes[0] >> 4, usize::from(bytes[1]));
            if bytes.len() < 2 + length {
                break;
            }
            let body: Vec<u8> = bytes.drain(..2 + length).skip(2).collect();
            match kind {
                1 => stream.write_all(&[0x20, 2, 0, 0]).expect("CONNACK"),
                3 => {
                    let name = 2 + usize::from(body[1]);
                    let _ = topics.send(String::from_utf8_lossy(&body[2..name]).into_owned());
                    stream.write_all(&[0x40, 2, body[name], body[name + 1]]).expect("PUBACK");
                }
                _ => {}
            }
        }
    }
}

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its number").port();
    let (send, topics) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            serve(stream, &send);
        }
    });
    let (client, mut connection) = Client::new(MqttOptions::new("probe", "127.0.0.1", port), 16);
    for (topic, size) in [("before", 10), ("large", 20_000), ("after-1", 10), ("after-2", 10)] {
        let accepted = client.publish(topic, QoS::AtLeastOnce, false, vec![b'x'; size]);
        println!("publish {topic}, {size} bytes: {accepted:?}");
    }
    let mut errors = Vec::new();
    while errors.len() < 3 {
        match connection.recv_timeout(Duration::from_secs(2)) {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => errors.push(error.to_string()),
            Err(_) => break,
        }
    }
    let arrived: Vec<String> = topics.try_iter().collect();
    println!("errors of the event loop: {errors:?}");
    println!("arrived: {arrived:?}");
    assert!(!errors.is_empty());
    assert!(!arrived.iter().any(|topic| topic.starts_with("after")));
}
RS
cargo run --quiet
