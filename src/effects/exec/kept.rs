//! What is kept of a program's output.

use tokio::io::{AsyncRead, AsyncReadExt};

use super::OUTPUT_END_MAX;

/// The two ends of an output.
pub(super) struct Kept {
    pub(super) head: Vec<u8>,
    pub(super) tail: Vec<u8>,
    /// Bound on the head.
    head_max: usize,
    dropped: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self::with_head(OUTPUT_END_MAX)
    }
}

impl Kept {
    /// With room for so much at the beginning.
    pub(super) fn with_head(head_max: usize) -> Self {
        Self {
            head: Vec::new(),
            tail: Vec::new(),
            head_max,
            dropped: 0,
        }
    }

    /// Reads to the end, which is a broken pipe, too; keeps the ends.
    pub(super) async fn read(&mut self, pipe: Option<impl AsyncRead + Unpin>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = pipe.read(&mut chunk).await {
            self.push(chunk.get(..count).unwrap_or_default());
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = self
            .head_max
            .saturating_sub(self.head.len())
            .min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.tail.extend_from_slice(rest);
        let excess = self.tail.len().saturating_sub(OUTPUT_END_MAX);
        // Cut only now and then: moving the tail for every small write would be quadratic.
        if excess > OUTPUT_END_MAX {
            self.cut(excess);
        }
    }

    fn cut(&mut self, excess: usize) {
        self.tail.drain(..excess);
        self.dropped = self.dropped.saturating_add(excess);
    }

    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        self.dropped == 0 && self.tail.len() <= OUTPUT_END_MAX
    }

    pub(super) fn into_text(mut self) -> String {
        self.cut(self.tail.len().saturating_sub(OUTPUT_END_MAX));
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.dropped > 0 {
            text.push_str(&format!("\n[{} bytes left out]\n", self.dropped));
        }
        text.push_str(&String::from_utf8_lossy(&self.tail));
        text
    }
}
