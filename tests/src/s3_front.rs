use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// What the front does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Passes it on to the real server.
    Forward,
    /// Answers by itself, with that status line (`503 Slow Down`) and body.
    Instead(String, String),
    /// Passes it on, but answers this: the server did it, the client is told otherwise.
    ForwardThen(String, String),
}

type Script = Box<dyn FnMut(&str) -> Answer + Send>;

/// An HTTP server in front of a real S3 server, which fails by a script. Signatures stay valid: the client signs the front's address, and what it
/// signed is passed on unchanged.
#[derive(Debug)]
pub struct S3Front {
    port: u16,
    requests: Arc<Mutex<Vec<String>>>,
}

impl S3Front {
    /// Starts one. `script` gets each request's first line, for example `POST /bucket/key?uploadId=… HTTP/1.1`.
    pub fn to(target_port: u16, script: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("address").port();
        let script: Arc<Mutex<Script>> = Arc::new(Mutex::new(Box::new(script)));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                thread::spawn(move || serve(client, target_port, &script, &seen));
            }
        });
        Self { port, requests }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// First lines of the requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One request a connection: every answer says `Connection: close`.
fn serve(mut client: TcpStream, target_port: u16, script: &Mutex<Script>, seen: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if client.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let header = |name: &str| {
        head.lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
    };
    let length = header("content-length").and_then(|text| text.parse::<usize>().ok()).unwrap_or(0);
    if header("expect").is_some() {
        client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    if header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked")) {
        read_chunks(&mut client, &mut body)?;
    }
    let line = head.lines().next().unwrap_or_default().to_owned();
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
    let answer = (script.lock().unwrap_or_else(PoisonError::into_inner))(&line);
    let (status, text) = match answer {
        Answer::Instead(status, text) => (status, text),
        Answer::Forward => return client.write_all(&forward(&head, &body, target_port)?),
        Answer::ForwardThen(status, text) => {
            forward(&head, &body, target_port)?;
            (status, text)
        }
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nx-amz-request-id: front\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

/// Reads a body that comes in chunks, framing and all, to be passed on as it is.
fn read_chunks(client: &mut TcpStream, body: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let line = read_line(client, body)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).map_err(io::Error::other)?;
        if size == 0 {
            // Trailers, and an empty line.
            while !read_line(client, body)?.is_empty() {}
            return Ok(());
        }
        let start = body.len();
        body.resize(start + size + 2, 0);
        client.read_exact(&mut body[start..])?;
    }
}

fn read_line(client: &mut TcpStream, body: &mut Vec<u8>) -> io::Result<String> {
    let start = body.len();
    let mut byte = [0];
    while !body[start..].ends_with(b"\r\n") {
        client.read_exact(&mut byte)?;
        body.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&body[start..body.len() - 2]).into_owned())
}

fn forward(head: &str, body: &[u8], target_port: u16) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", target_port))?;
    let mut lines: Vec<&str> = head.trim_end().lines().collect();
    lines.retain(|line| !line.to_ascii_lowercase().starts_with("connection:") && !line.to_ascii_lowercase().starts_with("expect:"));
    write!(server, "{}\r\nConnection: close\r\n\r\n", lines.join("\r\n"))?;
    server.write_all(body)?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer)?;
    Ok(answer)
}
