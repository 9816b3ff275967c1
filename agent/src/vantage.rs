//! The prober of this node: a child of another user without any privilege, while a conductor asks for it.
//!
//! The agent carries bytes between the two and reads none of them. The child holds none of the agent's
//! descriptors (all are close-on-exec) and ends with the call, with the agent, or by itself.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::{VantageReply, VantageRequest};

/// The user that owns nothing, of Debian and most others.
pub const NOBODY: u32 = 65534;
/// Bytes that are carried at once, and replies that wait for the network.
const CHUNK: usize = 16 << 10;
const WAITING: usize = 4;
/// A conductor that reads nothing for so long has no vantage any more; else a stopped one would keep
/// this node's only place.
const UNREAD: Duration = Duration::from_secs(30);
/// A child whose output has ended is about to end itself.
const ENDING: Duration = Duration::from_millis(500);

/// What the child writes, as it comes.
pub type Seen = ReceiverStream<Result<VantageReply, Status>>;

/// Starts the prober, one at a time.
pub struct Vantage {
    program: Option<PathBuf>,
    user: u32,
    one: Arc<Semaphore>,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("another vantage runs on this node; nothing was started")]
    Taken,
    #[error(
        "the program cellwall-vantage stands nowhere: say the agent's --vantage; nothing was started"
    )]
    NoProgram,
    #[error("cannot start {}: {cause}; nothing was started", program.display())]
    Start { program: PathBuf, cause: io::Error },
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Taken => Status::resource_exhausted(text),
            Error::NoProgram | Error::Start { .. } => Status::failed_precondition(text),
        }
    }
}

impl Vantage {
    /// `program`, else `cellwall-vantage` beside the agent itself.
    pub fn of(program: Option<PathBuf>, user: u32) -> Self {
        let beside = || {
            let own = std::env::current_exe().ok()?;
            Some(own.parent()?.join("cellwall-vantage"))
        };
        Self {
            program: program.or_else(beside),
            user,
            one: Arc::new(Semaphore::new(1)),
        }
    }

    /// Starts the prober and gives it `first`, then what `requests` bring.
    pub fn begin(
        &self,
        first: Vec<u8>,
        requests: Streaming<VantageRequest>,
    ) -> Result<Seen, Error> {
        let one = Arc::clone(&self.one);
        let alone = one.try_acquire_owned().map_err(|_| Error::Taken)?;
        let program = self.program.as_deref().ok_or(Error::NoProgram)?;
        let mut child = start(program, self.user).map_err(|cause| Error::Start {
            program: program.to_owned(),
            cause,
        })?;
        let (replies, seen) = mpsc::channel(WAITING);
        tracing::info!(pid = child.id(), "a vantage begins");
        if let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) {
            tokio::spawn(carry(
                child,
                (input, first, requests),
                output,
                replies,
                alone,
            ));
        }
        Ok(ReceiverStream::new(seen))
    }
}

/// By a descriptor, because another user may not be able to walk to where the program stands.
fn start(program: &Path, user: u32) -> io::Result<Child> {
    let opened = File::open(program)?;
    Command::new(format!("/proc/self/fd/{}", opened.as_raw_fd()))
        .arg0("cellwall-vantage")
        .env_clear()
        .current_dir("/")
        .uid(user)
        .gid(user)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

type Input = (ChildStdin, Vec<u8>, Streaming<VantageRequest>);

/// Until the call, the child's output or the conductor ends; then the child is no more.
async fn carry(
    mut child: Child,
    input: Input,
    output: ChildStdout,
    replies: mpsc::Sender<Result<VantageReply, Status>>,
    alone: OwnedSemaphorePermit,
) {
    let own_end = tokio::select! {
        () = orders(input) => false,
        own_end = answers(output, &replies) => own_end,
    };
    let ended = match own_end {
        true => tokio::time::timeout(ENDING, child.wait()).await.ok(),
        false => None,
    };
    if ended.is_none() {
        let _ = child.kill().await; // it has ended already
    }
    let status = ended.and_then(Result::ok);
    tracing::info!(?status, "the vantage has ended");
    // Whoever begins the next one need not wait for the conductor of this one.
    drop(alone);
    let last = replies.send(Err(Status::aborted(word(status))));
    let _ = tokio::time::timeout(UNREAD, last).await;
}

async fn orders((mut pipe, first, mut requests): Input) {
    if pipe.write_all(&first).await.is_err() {
        return std::future::pending().await; // its output says the rest
    }
    while let Ok(Some(request)) = requests.message().await {
        if pipe.write_all(&request.input).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// True if the child closed its output, false if nobody wants it any more.
async fn answers(
    mut pipe: ChildStdout,
    replies: &mpsc::Sender<Result<VantageReply, Status>>,
) -> bool {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = tokio::select! {
            read = pipe.read(&mut buffer) => read,
            () = replies.closed() => return false,
        };
        let Ok(length @ 1..) = read else {
            return true;
        };
        let output = buffer[..length].to_vec();
        let sent = replies.send_timeout(Ok(VantageReply { output }), UNREAD);
        if sent.await.is_err() {
            return false;
        }
    }
}

fn word(status: Option<ExitStatus>) -> String {
    match status {
        Some(status) => format!("the vantage ended by itself ({status}); the agent's log says why"),
        None => "the vantage was ended".to_owned(),
    }
}
