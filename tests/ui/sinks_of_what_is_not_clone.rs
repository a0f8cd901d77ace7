// Each sink gets every item, so all but one get clones.
use fanfold::Fanfold;

struct Image(Vec<u8>);

fn main() {
    let images = (1..=3).map(|i| Image(vec![0; i]));
    let (bytes, count) = images.tee_into(
        |images| images.map(|image| image.0.len()).sum::<usize>(),
        |images| images.count(),
    );
    assert_eq!((bytes, count), (6, 3));
}
