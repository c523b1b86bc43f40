//! As little of an HTTP client as will do.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n";

/// Reads answers that are all of the same length, as from these servers.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Box<[u8; 1024]>,
    /// Of an answer, head and body.
    length: usize,
}

impl Connection {
    /// Asks once, and learns from the answer how long they are.
    pub async fn open(mut stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.write_all(REQUEST).await.expect("the server listens");
        let mut connection = Self { stream, buffer: Box::new([0; 1024]), length: 0 };
        let mut filled = 0;
        while connection.length == 0 || filled < connection.length {
            filled += connection.read(filled).await;
            connection.length = length(&connection.buffer[..filled]).unwrap_or(0);
        }
        connection.check(filled);
        connection
    }

    pub async fn ask(&mut self) {
        self.stream.write_all(REQUEST).await.expect("the server listens");
        self.answer().await;
    }

    /// Waits for the answer to what was sent.
    pub async fn answer(&mut self) {
        let mut filled = 0;
        while filled < self.length {
            filled += self.read(filled).await;
        }
        self.check(filled);
    }

    async fn read(&mut self, filled: usize) -> usize {
        let count = self.stream.read(&mut self.buffer[filled..]).await.expect("an answer");
        assert!(count > 0, "the server should keep the connection open");
        count
    }

    fn check(&self, filled: usize) {
        let answer = &self.buffer[..filled];
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
        assert_eq!(filled, self.length, "an answer should be as long as the first");
    }
}

/// `None` before there is a whole head.
fn length(answer: &[u8]) -> Option<usize> {
    const NAME: &str = "content-length: ";
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).expect("a head is text");
    let body = head.lines().find_map(|line| line.strip_prefix(NAME));
    let body: usize = body.expect("bodies of known length").parse().expect("a number");
    Some(end + body)
}
