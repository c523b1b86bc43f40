//! The other process, as seen from here: a line to it is a job, a line from it the result.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use crate::child::{ARGUMENT, Job};

#[derive(Debug)]
pub struct Loader {
    child: Child,
    /// `None` at the end: the other process stops when it is closed.
    jobs: Option<ChildStdin>,
    results: BufReader<ChildStdout>,
}

impl Loader {
    pub fn start() -> Self {
        let program = env::current_exe().expect("a program");
        let mut child = Command::new(program)
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let jobs = child.stdin.take();
        let results = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, jobs, results }
    }

    /// Answers per second, when every connection asks again as soon as it is answered.
    pub fn rate(&mut self, address: SocketAddr, time: Duration) -> f64 {
        let answers = self.ask(&Job::Closed { address, time });
        answers[0] as f64 / time.as_secs_f64()
    }

    /// Seconds from when a request was due to its answer, for `count` requests.
    pub fn latencies(
        &mut self,
        address: SocketAddr,
        rate: f64,
        count: usize,
        seed: u64,
    ) -> Vec<f64> {
        let nanos = self.ask(&Job::Open { address, rate, count, seed });
        assert_eq!(nanos.len(), count, "every request should be answered");
        nanos.into_iter().map(|nanos| nanos as f64 / 1e9).collect()
    }

    fn ask(&mut self, job: &Job) -> Vec<u64> {
        writeln!(self.jobs.as_mut().expect("open"), "{job}").expect("the load process listens");
        let mut line = String::new();
        self.results.read_line(&mut line).expect("text");
        assert!(!line.is_empty(), "the load process has failed");
        line.split_whitespace().map(|number| number.parse().expect("a number")).collect()
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.jobs = None;
        // Nothing can be done about it.
        let _ = self.child.wait();
    }
}
