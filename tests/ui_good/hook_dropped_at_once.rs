// It lives as long as its name.
use fanfold::CancelToken;

#[deny(unused_must_use)]
fn main() {
    let token = CancelToken::new();
    let _hook = token.on_cancel(|| println!("cancelled"));
    token.cancel();
}
