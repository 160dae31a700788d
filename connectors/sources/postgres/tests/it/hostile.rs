//! A server that means no good: an error in bounded time, and never a panic.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::log_model::with;

/// A message of the server.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// Answers the start-up of each connection with these bytes, the next message with the next ones, and so on; then hangs up.
fn server(answers: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let Ok((mut socket, _)) = listener.accept() else { return };
        for answer in answers {
            let mut buffer = [0; 4096];
            if !matches!(socket.read(&mut buffer), Ok(1..)) || socket.write_all(&answer).is_err() {
                return;
            }
        }
    });
    port
}

async fn error_of(answers: Vec<Vec<u8>>) -> String {
    let port = server(answers);
    let url = format!("postgres://u:secret@127.0.0.1:{port}/d?sslmode=disable");
    let pipeline = with("x", json!({ "url": url, "tables": ["t"] }));
    let begun = Instant::now();
    let error = pipeline.open(true).await.err().expect("an error").to_string();
    assert!(begun.elapsed() < Duration::from_secs(10), "{error}");
    assert!(!error.contains("secret"), "{error}");
    error
}

#[tokio::test]
async fn nonsense_is_an_error() {
    let ready = [message(b'R', &0u32.to_be_bytes()), message(b'S', b"server_version\x0015.1\0"), message(b'Z', b"I")].concat();
    let sasl = message(b'R', &[&10u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat());
    let scram = message(b'R', &[&11u32.to_be_bytes()[..], b"r=x,s=c2FsdA==,i=2147483647"].concat());
    let notices = message(b'N', b"SNOTICE\0Mx\0\0").repeat(20_000);
    for (answers, expected) in [
        (vec![vec![]], "lost the connection"),
        (vec![vec![b'R', 0, 0, 0, 0]], "a message of 0 bytes"),
        (vec![vec![b'R', 0, 0, 0, 3, 0]], "a message of 3 bytes"),
        (vec![vec![b'R', 0x7F, 0xFF, 0xFF, 0xFF, 0]], "a message of 2147483647 bytes"),
        (vec![vec![b'R', 0x3F, 0xFF, 0xFF, 0xFF, 0]], "lost the connection"),
        (vec![message(b'R', b"")], "authentication request without a kind"),
        (vec![message(b'R', &99u32.to_be_bytes())], "not supported (kind 99)"),
        (vec![message(b'R', &5u32.to_be_bytes())], "md5 request without its salt"),
        (vec![message(b'R', &3u32.to_be_bytes())], "clear text"),
        (vec![message(b'x', b"")], "message `x` while logging in"),
        (vec![notices], "endless messages"),
        (vec![sasl.clone(), scram], "SCRAM failed"),
        // Let in before it proved that it knows the password.
        (vec![sasl, message(b'R', &0u32.to_be_bytes())], "did not finish SCRAM"),
        (vec![message(b'R', &12u32.to_be_bytes())], "without a question"),
        (vec![ready.clone(), message(b'D', &[0, 5, 0, 0, 0, 1])], "does not add up"),
        (vec![ready.clone(), message(b'D', &[0xFF, 0xFF])], "does not add up"),
        (vec![ready.clone(), message(b'W', b"")], "message `W`"),
        (vec![ready.clone(), message(b'E', b"C57P01\0Mbye\0\0")], "bye"),
        (vec![ready.clone(), message(b'Z', b"I"), message(b'Z', b"I")], "no row"),
        (vec![message(b'E', b"C53300\0Mtoo many connections\0\0")], "too many connections"),
    ] {
        let error = error_of(answers).await;
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
