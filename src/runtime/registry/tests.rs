use super::*;

#[test]
fn leaving_a_root_restores_the_one_before() {
    let own = root();
    let outer = enter(own + 1);
    let inner = enter(own + 2);
    assert_eq!(root(), own + 2);
    drop(inner);
    assert_eq!(root(), own + 1);
    drop(outer);
    assert_eq!(root(), own);
}
