//! A child process that answers in lines, and that is gone when it is not wanted any more.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::reply::{self, Reply};
use crate::terminal::interrupt::Interrupt;

/// Longest answer; weights are in files.
const LINE_LIMIT: u64 = 16 << 20;
/// Lines of stderr that an error repeats, and characters of each.
const TAIL_LINES: usize = 5;
const TAIL_WIDTH: usize = 200;
/// Between two looks at the clock and at Ctrl-C.
const TICK: Duration = Duration::from_millis(50);
/// What a process gets to end by itself, and its stderr to be read to the end.
const GRACE: Duration = Duration::from_millis(500);

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Ended {
    /// The user wants to stop.
    Stopped,
    /// The command did something wrong; with the last lines of its stderr.
    Failed(String),
}

/// A line of stdout.
enum Line {
    Text(String),
    TooLong,
}

/// A command that was started, with its whole process group.
pub(super) struct Process {
    child: Child,
    group: Option<Pid>,
    /// Closed when it is to end.
    input: Option<Sender<Vec<u8>>>,
    lines: Receiver<Line>,
    tail: Arc<Mutex<VecDeque<String>>>,
    /// Closed when stderr is.
    silent: Receiver<()>,
    timeout: Duration,
    interrupt: Interrupt,
    /// Why it is over.
    over: Option<String>,
}

impl Process {
    /// Starts `command` in a shell, in a process group of its own.
    pub(super) fn start(
        command: &str,
        timeout: Duration,
        interrupt: Interrupt,
    ) -> io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (input, messages) = mpsc::channel();
        // Few lines are kept: a command that writes without being asked has to wait.
        let (line, lines) = mpsc::sync_channel(4);
        let (noise, silent) = mpsc::channel();
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(stdin) = child.stdin.take() {
            thread::spawn(move || write(stdin, &messages));
        }
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read(stdout, &line));
        }
        if let Some(stderr) = child.stderr.take() {
            let tail = tail.clone();
            thread::spawn(move || listen(stderr, &tail, noise));
        }
        Ok(Self {
            group: Pid::from_raw(child.id() as i32),
            child,
            input: Some(input),
            lines,
            tail,
            silent,
            timeout,
            interrupt,
            over: None,
        })
    }

    /// Sends a line that asks for no answer.
    pub(super) fn tell(&mut self, message: &Value) {
        let line = format!("{message}\n").into_bytes();
        if let Some(input) = &self.input {
            // A process that does not read any more is noticed when an answer is waited for.
            let _ = input.send(line);
        }
    }

    /// Sends a line and waits for the answer with the same `id`. After a failure it has ended,
    /// and every later question fails for the same reason.
    pub(super) fn ask(&mut self, message: &Value, id: &str) -> Result<Reply, Ended> {
        if let Some(reason) = &self.over {
            return Err(Ended::Failed(reason.clone()));
        }
        self.tell(message);
        let deadline = Instant::now() + self.timeout;
        loop {
            if self.interrupt.is_raised() {
                self.end();
                return Err(Ended::Stopped);
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            let problem = match self.lines.recv_timeout(rest.min(TICK)) {
                Ok(Line::Text(line)) => match reply::parse(&line, id) {
                    Ok(Some(reply)) => return Ok(reply),
                    Ok(None) => continue,
                    Err(problem) => problem,
                },
                Ok(Line::TooLong) => format!("an answer is longer than {LINE_LIMIT} bytes"),
                Err(RecvTimeoutError::Timeout) if rest > TICK => continue,
                Err(RecvTimeoutError::Timeout) => format!(
                    "no answer within {} s; --timeout gives it more",
                    self.timeout.as_secs_f64()
                ),
                Err(RecvTimeoutError::Disconnected) => self.farewell(),
            };
            return Err(Ended::Failed(self.give_up(&problem)));
        }
    }

    /// Ends the process because of `problem`; the whole reason, which later questions repeat.
    pub(super) fn give_up(&mut self, problem: &str) -> String {
        self.end();
        let tail = self
            .tail
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        let said: Vec<&str> = tail.iter().map(String::as_str).collect();
        let reason = match said.is_empty() {
            true => format!("{problem}; its stderr is empty"),
            false => format!("{problem}; its stderr ends: {}", said.join(" | ")),
        };
        drop(tail);
        self.over = Some(reason.clone());
        reason
    }

    /// How a process went that closed its stdout.
    fn farewell(&mut self) -> String {
        match self.exited(GRACE) {
            Some(status) => format!("ended before it answered ({status})"),
            None => "closed its stdout before it answered".to_owned(),
        }
    }

    /// The exit status, if there is one within `patience`.
    fn exited(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills the whole process group and leaves no zombie.
    fn end(&mut self) {
        self.input = None;
        if let Some(group) = self.group.take() {
            // Fails only where nobody of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
        // Fails only where the child was waited for already.
        let _ = self.child.wait();
        // A child of the child that left the group may keep stderr open for ever.
        let _ = self.silent.recv_timeout(GRACE);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A closed stdin is the sign to end.
        self.input = None;
        if self.over.is_none() && !self.interrupt.is_raised() {
            self.exited(GRACE);
        }
        self.end();
    }
}

fn write(mut stdin: ChildStdin, messages: &Receiver<Vec<u8>>) {
    for message in messages {
        if stdin
            .write_all(&message)
            .and_then(|()| stdin.flush())
            .is_err()
        {
            break;
        }
    }
}

fn read(stdout: ChildStdout, lines: &SyncSender<Line>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let got = (&mut stdout)
            .take(LINE_LIMIT + 1)
            .read_until(b'\n', &mut line);
        let line = match got {
            Ok(0) | Err(_) => break,
            Ok(n) if n as u64 > LINE_LIMIT => Line::TooLong,
            Ok(_) => Line::Text(String::from_utf8_lossy(&line).into_owned()),
        };
        let last = matches!(line, Line::TooLong);
        if lines.send(line).is_err() || last {
            break;
        }
    }
}

/// Keeps the last lines of stderr, however much there is.
fn listen(mut stderr: ChildStderr, tail: &Mutex<VecDeque<String>>, _noise: Sender<()>) {
    let mut piece = [0; 8192];
    let mut line = String::new();
    while let Ok(n @ 1..) = stderr.read(&mut piece) {
        for c in String::from_utf8_lossy(&piece[..n]).chars() {
            match c {
                '\n' | '\r' => keep(tail, &mut line),
                c if c.is_control() => line.push(' '),
                c => line.push(c),
            }
            if line.chars().count() == TAIL_WIDTH {
                keep(tail, &mut line);
            }
        }
    }
    keep(tail, &mut line);
}

fn keep(tail: &Mutex<VecDeque<String>>, line: &mut String) {
    let line = std::mem::take(line);
    if line.trim().is_empty() {
        return;
    }
    let mut tail = tail.lock().unwrap_or_else(|poison| poison.into_inner());
    tail.push_back(line.trim().to_owned());
    if tail.len() > TAIL_LINES {
        tail.pop_front();
    }
}
