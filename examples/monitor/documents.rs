//! What the stages do with a document.

use fastrand::Rng;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, Crc};
use std::fmt;
use std::io::{self, Read, Write};

/// The longest document. The shortest has a quarter of it.
const LENGTH: usize = 16 << 10;

const WORDS: [&str; 16] = [
    "paper",
    "fold",
    "ream",
    "the",
    "of",
    "printer",
    "tractor",
    "feed",
    "a",
    "sheet",
    "perforated",
    "and",
    "continuous",
    "form",
    "is",
    "stacked",
];

pub(crate) struct Document {
    number: u64,
    text: Vec<u8>,
}

/// A document that was compressed, with what it must be once it is unpacked.
pub(crate) struct Packed {
    number: u64,
    gzip: Vec<u8>,
    crc: u32,
}

/// What documents come to: of one of them, or the sum of many in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) documents: u64,
    bytes: u64,
    packed: u64,
    checksum: u64,
}

/// The text depends on the number only.
pub(crate) fn document(number: u64) -> Document {
    let mut random = Rng::with_seed(number);
    let length = random.usize(LENGTH / 4..LENGTH);
    let mut text = Vec::with_capacity(LENGTH + 16);
    while text.len() < length {
        let word = WORDS[random.usize(..WORDS.len())];
        text.extend_from_slice(word.as_bytes());
        text.push(if random.u8(..) < 20 { b'\n' } else { b' ' });
    }
    Document { number, text }
}

pub(crate) fn compress(document: Document) -> Packed {
    let Document { number, text } = document;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    let gzip = gzip.write_all(&text).and_then(|()| gzip.finish());
    Packed {
        number,
        gzip: gzip.expect("a Vec takes everything"),
        crc: crc(&text),
    }
}

/// Unpacks a document again.
///
/// # Panics
///
/// If it is another one than before. The panic comes out of the stage, on the consumer's thread.
pub(crate) fn check(packed: &Packed) -> Checked {
    let number = packed.number;
    let text = unpack(&packed.gzip).unwrap_or_else(|e| panic!("document {number}: {e}"));
    assert_eq!(crc(&text), packed.crc, "document {number} has changed");
    // With the number in it, as documents that have changed places would have the same sum.
    let mut random = Rng::with_seed(number << 32 ^ u64::from(packed.crc));
    Checked {
        documents: 1,
        bytes: text.len() as u64,
        packed: packed.gzip.len() as u64,
        checksum: random.u64(..),
    }
}

fn unpack(gzip: &[u8]) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(LENGTH + 16);
    GzDecoder::new(gzip).read_to_end(&mut text)?;
    Ok(text)
}

fn crc(text: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(text);
    crc.sum()
}

impl Checked {
    pub(crate) fn add(&mut self, other: &Checked) {
        self.documents += other.documents;
        self.bytes += other.bytes;
        self.packed += other.packed;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Checked {
            documents,
            bytes,
            packed,
            checksum,
        } = self;
        write!(
            f,
            "{documents} documents, {bytes} bytes, {packed} packed, checksum {checksum:016x}"
        )
    }
}
