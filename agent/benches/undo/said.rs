//! What the agent's code logs in this process or in its own: numbers by their names.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Everything that this process has logged since it was last forgotten.
#[derive(Clone, Default)]
pub struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// From here on; once in a process.
    pub fn listen() -> Self {
        let said = Self::default();
        let writer = said.clone();
        tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        said
    }

    pub fn forget(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    pub fn number(&self, name: &str) -> f64 {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        number(&String::from_utf8_lossy(&said), name)
    }
}

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The last `name=NUMBER` of a log.
fn number(log: &str, name: &str) -> f64 {
    let key = format!(" {name}=");
    let (_, rest) = log
        .rsplit_once(&key)
        .unwrap_or_else(|| panic!("nothing was said of {name}: {log}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .unwrap_or_else(|cause| panic!("{name} {rest}: {cause}"))
}
