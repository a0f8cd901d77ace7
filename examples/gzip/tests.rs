//! `cargo test --example gzip`

use crate::reader::compress;
use crate::writer::{BLOCK, GzWriter};
use flate2::read::MultiGzDecoder;
use std::cell::RefCell;
use std::io::{self, Read, Write};
use std::process::{Command, Stdio};
use std::rc::Rc;

/// Bytes that can be compressed, but not to nothing.
fn bytes(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut byte = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        b"to be or not"[(state >> 33) as usize % 12]
    };
    (0..len).map(&mut byte).collect()
}

const LENGTHS: [usize; 8] = [
    0,
    1,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    2 * BLOCK,
    9 * BLOCK + 7,
    40 * BLOCK,
];

fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    MultiGzDecoder::new(packed)
        .read_to_end(&mut data)
        .expect("it is a .gz file");
    data
}

/// What `gzip -d` makes of it; `None`: there is no gzip here.
fn unpacked_by_gzip(packed: Vec<u8>) -> Option<Vec<u8>> {
    let mut command = Command::new("gzip");
    let command = command
        .arg("-dc")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().ok()?;
    let mut stdin = child.stdin.take().expect("it was asked for");
    let writing = std::thread::spawn(move || stdin.write_all(&packed));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("no panic").expect("it reads all");
    assert!(output.status.success(), "gzip -d: {}", output.status);
    Some(output.stdout)
}

/// Writes in pieces of this length.
fn pushed(data: &[u8], n: usize, piece: usize) -> Vec<u8> {
    let mut writer = GzWriter::new(Vec::new(), n);
    for piece in data.chunks(piece) {
        writer.write_all(piece).expect("a Vec takes all");
    }
    writer.finish().expect("a Vec takes all")
}

#[test]
fn what_was_written_comes_out_of_the_file() {
    for n in 1..=9 {
        for len in &LENGTHS[..7] {
            let data = bytes(*len);
            assert!(
                unpacked(&pushed(&data, n, 10_000)) == data,
                "{n} workers, {len} bytes"
            );
        }
    }
}

#[test]
fn pulled_and_pushed_files_are_the_same() {
    for len in LENGTHS {
        let (data, mut pulled) = (bytes(len), Vec::new());
        compress(&*data, &mut pulled, 3).expect("a Vec takes all");
        assert!(pushed(&data, 3, BLOCK / 3) == pulled, "{len} bytes");
    }
}

#[test]
fn gzip_reads_it() {
    for len in LENGTHS {
        let data = bytes(len);
        match unpacked_by_gzip(pushed(&data, 2, 4_096)) {
            Some(read) => assert!(read == data, "{len} bytes"),
            None => eprintln!("no gzip here"),
        }
    }
}

#[test]
fn after_a_flush_all_that_was_written_is_there() {
    let out = Rc::new(RefCell::new(Vec::new())); // neither Send nor shared with a worker
    struct Shared(Rc<RefCell<Vec<u8>>>);
    impl Write for Shared {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(data)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut writer = GzWriter::new(Shared(Rc::clone(&out)), 2);
    let mut data = Vec::new();
    for len in &LENGTHS[1..] {
        let more = bytes(*len);
        data.extend_from_slice(&more);
        writer.write_all(&more).expect("a Vec takes all");
        writer.flush().expect("a Vec takes all");
        assert!(unpacked(&out.borrow()) == data);
    }
    writer.finish().expect("a Vec takes all");
    assert!(unpacked(&out.borrow()) == data);
}

/// A disk that is full after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = self.0.min(data.len());
        self.0 -= room;
        if room == 0 {
            Err(io::Error::other("the disk is full"))
        } else {
            Ok(room)
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_error_of_the_writer_behind_comes_out() {
    let mut writer = GzWriter::new(Full(100_000), 2);
    let data = bytes(100 * BLOCK);
    let error = writer
        .write_all(&data)
        .and_then(|()| writer.finish().map(drop))
        .unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
    let error = compress(&*data, Full(100_000), 2).unwrap_err();
    assert_eq!(error.to_string(), "the disk is full");
}
