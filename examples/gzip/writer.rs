//! A writer that compresses in parallel: what is written goes to the workers in blocks, and what they make of it to the
//! writer behind, in order.

use fanfold::{TryPushMapOrdered, Workers, try_push_map_ordered};
use flate2::{Compression, bufread::GzEncoder};
use std::io::{self, Read, Write};

/// What goes to a worker at a time.
pub(crate) const BLOCK: usize = 64 * 1024;

/// Compresses a block to a member of a `.gz` file. Such members, one after the other, are a file again.
pub(crate) fn member(block: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut packed = Vec::new();
    GzEncoder::new(io::Cursor::new(block), Compression::default()).read_to_end(&mut packed)?;
    Ok(packed)
}

type Compress = fn(Vec<u8>) -> io::Result<Vec<u8>>;

pub(crate) struct GzWriter<W> {
    /// Only this thread writes, so it may be any writer: one that borrows, or is not `Send`.
    out: W,
    block: Vec<u8>,
    is_empty: bool,
    members: TryPushMapOrdered<Vec<u8>, Compress>,
}

impl<W: Write> GzWriter<W> {
    pub(crate) fn new(out: W, n: impl Into<Workers>) -> Self {
        GzWriter {
            out,
            block: Vec::new(),
            is_empty: true,
            members: try_push_map_ordered(n, member),
        }
    }

    fn push(&mut self) -> io::Result<()> {
        self.is_empty = false;
        for member in self.members.push(std::mem::take(&mut self.block)) {
            self.out.write_all(&member?)?;
        }
        Ok(())
    }

    /// Writes what is left. A writer that is dropped without this leaves the file incomplete.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        // A file has one member at least.
        if self.is_empty || !self.block.is_empty() {
            self.push()?;
        }
        for member in self.members.finish() {
            self.out.write_all(&member?)?;
        }
        self.out.flush()?;
        Ok(self.out)
    }
}

impl<W: Write> Write for GzWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.block.len() == BLOCK {
            self.push()?;
        }
        let taken = data.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.block.is_empty() {
            self.push()?;
        }
        for member in self.members.by_ref() {
            self.out.write_all(&member?)?;
        }
        self.out.flush()
    }
}
