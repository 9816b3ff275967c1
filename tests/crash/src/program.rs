//! Other programs run to their end, as ip, tc and nft, or listened to.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, Output, Stdio};
use std::sync::mpsc;

/// `input` is what it reads. An error only if it could not be run; how it ended is the caller's matter.
pub fn output(name: &str, arguments: &[&str], input: &str) -> Result<Output, String> {
    let failed = |cause: std::io::Error| format!("{name} {}: {cause}", arguments.join(" "));
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(failed)?;
    }
    child.wait_with_output().map_err(failed)
}

/// What a program says that must succeed.
pub fn run(name: &str, arguments: &[&str], input: &str) -> Result<String, String> {
    let output = output(name, arguments, input)?;
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(failure(name, arguments, &output)),
    }
}

/// Why it counts as failed, in words.
pub fn failure(name: &str, arguments: &[&str], output: &Output) -> String {
    format!(
        "{name} {}: {}: {}",
        arguments.join(" "),
        output.status,
        text(&output.stderr).trim()
    )
}

/// What it wrote, as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Its lines as they come; the channel closes when it closes its end.
pub fn lines(stdout: Option<ChildStdout>) -> mpsc::Receiver<String> {
    let (tell, lines) = mpsc::channel();
    if let Some(stdout) = stdout {
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines
                .map(|line| tell.send(line))
                .take_while(Result::is_ok)
                .count()
        });
    }
    lines
}
