//! Other programs on the same machine: processes that compute for as long as this one measures.

use std::hint::black_box;
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// Busy processes; they end with this value, or with the program.
pub struct Busy(Vec<Child>);

impl Busy {
    pub fn start(count: usize) -> Self {
        let program = std::env::current_exe().expect("the program has a path");
        let start = |_| {
            let mut command = Command::new(&program);
            command.arg("--compute").stdin(Stdio::piped());
            command.spawn().expect("the program runs again")
        };
        Busy((0..count).map(start).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It ends when nobody holds the other end of its input.
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }
}

/// What such a process does.
pub fn compute() -> ! {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    loop {
        black_box(());
    }
}
