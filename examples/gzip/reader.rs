//! The same where there is a reader: its blocks are an iterator, and the stage pulls them.

use crate::writer::{BLOCK, member};
use fanfold::{Fanfold, Workers};
use std::io::{self, Read, Write};

/// The blocks of a reader, of which only the last one is shorter; one at least.
fn blocks(mut input: impl Read) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    let (mut is_first, mut is_over) = (true, false);
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let mut block = Vec::new();
        let read = input.by_ref().take(BLOCK as u64).read_to_end(&mut block);
        is_over = read.is_err() || block.len() < BLOCK;
        let is_needed = std::mem::take(&mut is_first) || read.is_err() || !block.is_empty();
        is_needed.then(|| read.map(|_| block))
    })
}

/// Compresses all of `input`.
pub(crate) fn compress(
    input: impl Read + Send,
    mut out: impl Write,
    n: impl Into<Workers>,
) -> io::Result<()> {
    let members = blocks(input).try_par_map_ordered(n, |block| member(block?));
    members.try_for_each(|member| out.write_all(&member?))?;
    out.flush()
}
