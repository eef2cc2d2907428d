//! What this process logged, for tests of logs. One for all tests of a test binary.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static ONCE: Once = Once::new();

/// Begins to keep everything from INFO upwards.
pub fn keep() {
    ONCE.call_once(|| {
        let kept = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::INFO)
            .with_writer(|| Keeper)
            .try_init();
        kept.expect("nobody else wants the log");
    });
}

/// Every line so far that contains this text.
pub fn lines_with(text: &str) -> Vec<String> {
    let kept = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    let all = String::from_utf8_lossy(&kept);
    let found = all.lines().filter(|line| line.contains(text));
    found.map(str::to_owned).collect()
}

struct Keeper;

impl io::Write for Keeper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
