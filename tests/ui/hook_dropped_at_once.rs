// An unused hook is deregistered at once. The note says what to write; rustc's own advice, `let _ = ..`, drops it too.
use fanfold::CancelToken;

#[deny(unused_must_use)]
fn main() {
    let token = CancelToken::new();
    token.on_cancel(|| println!("cancelled"));
    token.cancel();
}
