//! Lines, and blocks of lines, in buffers that go back to the source when they are dropped.

use crossbeam_queue::ArrayQueue;
use std::io::{BufRead, Read};
use std::mem::take;
use std::ops::Deref;
use std::sync::LazyLock;

/// How many spent buffers wait to be filled again, at most. More are freed.
const SPENT: usize = 4_096;
/// Bytes of a block, before the rest of its last line.
const BLOCK: u64 = 32 << 10;

/// A static, since a counter of references would be changed twice for each line, by two threads.
static SPENT_LINES: LazyLock<ArrayQueue<String>> = LazyLock::new(|| ArrayQueue::new(SPENT));
static SPENT_BLOCKS: LazyLock<ArrayQueue<Vec<u8>>> = LazyLock::new(|| ArrayQueue::new(SPENT));

/// A line, with its end.
pub struct Line(String);

/// Whole lines. Whether they are UTF-8 is left to the worker.
pub struct Block(Vec<u8>);

/// A line, or none at the end of the file.
pub fn next_line(reader: &mut impl BufRead) -> Option<Line> {
    let mut line = SPENT_LINES.pop().unwrap_or_default();
    line.clear();
    let bytes = reader.read_line(&mut line);
    (bytes.expect("the file can be read") > 0).then_some(Line(line))
}

/// A block, or none at the end of the file.
pub fn next_block(reader: &mut impl BufRead) -> Option<Block> {
    let mut block = SPENT_BLOCKS.pop().unwrap_or_default();
    block.clear();
    let most = reader.take(BLOCK).read_to_end(&mut block);
    let rest = reader.read_until(b'\n', &mut block);
    most.and(rest).expect("the file can be read");
    (!block.is_empty()).then_some(Block(block))
}

impl Deref for Line {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = SPENT_LINES.push(take(&mut self.0));
    }
}

impl Deref for Block {
    type Target = str;

    fn deref(&self) -> &str {
        str::from_utf8(&self.0).expect("the file is UTF-8")
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let _ = SPENT_BLOCKS.push(take(&mut self.0));
    }
}
