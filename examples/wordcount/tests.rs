//! `cargo test --example wordcount`: checks that a run of the whole program does not make.

use crate::cli::Args;
use crate::fetch::{Answer, Body, Fetcher, Page};
use crate::text::{text_of, words};
use clap::Parser;
use fanfold::Fanfold;
use std::time::Duration;

fn html(text: &str) -> Body {
    Body {
        text: text.to_owned(),
        is_html: true,
    }
}

fn page<T>(content: T) -> Page<T> {
    Page {
        answer: Answer::default(),
        content: Ok(content),
        took: Duration::ZERO,
    }
}

fn args(line: &[&str]) -> Result<Args, String> {
    Args::try_parse_from([&["wordcount"], line].concat()).map_err(|e| e.to_string())
}

#[test]
fn counts_what_a_reader_sees() {
    for (count, text) in [
        (0, ""),
        (0, "<html><head><title>a b c</title></head>"),
        (
            0,
            "<script>a < b</script><style>p {}</style><noscript>c</noscript><template>d</template><!-- e -->",
        ),
        (1, "<span>w</span>o<b>r</b>d"),
        (2, "<p>one<p>two"),
        (2, "one<br>two"),
        (
            4,
            "<ul><li>one</li><li>two</li></ul><table><tr><td>3</td><td>4</td></tr></table>",
        ),
        (3, "Caf&eacute; &amp; &#x3b1;&mdash;d&rsquo;accord"),
        (
            2,
            "a title='not this'>don't <a href='x' title='nor this'>stop</a>",
        ),
    ] {
        let text = if text.starts_with("a ") {
            format!("<{text}")
        } else {
            text.to_owned()
        };
        assert_eq!(words(&text_of(html(&text))), count, "{text}");
    }
}

#[test]
fn plain_text_is_no_html() {
    let body = Body {
        text: "if a <b and c> d".to_owned(),
        is_html: false,
    };
    assert_eq!(words(&text_of(body)), 6);
}

#[test]
fn a_deeply_nested_page_is_counted() {
    let deep = format!("{}word{}", "<div>".repeat(3_000), "</div>".repeat(3_000));
    assert_eq!(words(&text_of(html(&deep))), 1);
}

#[test]
fn a_panic_is_the_error_of_its_own_row() {
    let parse = |page: Page<usize>| page.then(|n| if n == 1 { panic!("bad page {n}") } else { n });
    let pages = (0..3)
        .map(page)
        .par_map_ordered(2, parse)
        .isolate()
        .map(Page::or_failed);
    let content: Vec<_> = pages.map(|page| page.content).collect();
    assert_eq!(
        content,
        [Ok(0), Err("panicked: bad page 1".to_owned()), Ok(2)]
    );
}

#[test]
fn reads_files_by_path_and_by_url() {
    let dir = std::env::temp_dir().join(format!("wordcount {}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("ä page.html");
    std::fs::write(&file, "<p>three little words").unwrap();
    let fetcher = Fetcher::new(&args(&["list"]).unwrap());
    let count = |line: &str| {
        fetcher
            .page(line)
            .then(text_of)
            .then(|text| words(&text))
            .content
    };

    let path = file.to_str().unwrap();
    assert_eq!(count(path), Ok(3));
    assert_eq!(count(&format!("file://{path}")), Ok(3));
    assert_eq!(
        count(&format!(
            "FILE://localhost{}",
            path.replace(' ', "%20").replace('ä', "%C3%A4")
        )),
        Ok(3)
    );
    for (bad, why) in [
        ("file://elsewhere/page", "another machine"),
        ("file:///%zz", "hexadecimal"),
        ("file:///%ff", "not UTF-8"),
        (dir.to_str().unwrap(), "not a file"),
        ("http://", "http"),
        ("HTTP:// /", "invalid"),
    ] {
        let error = count(bad).unwrap_err();
        assert!(error.contains(why), "{bad}: {error}");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn bad_options_name_the_fix() {
    for (line, fix) in [
        (["--timeout", "5"], "such as 500ms, 5s or 2m"),
        (["--timeout", "fast"], "such as 500ms, 5s or 2m"),
        (["--timeout", "0s"], "from 1ms to 60m"),
        (["--timeout", "infs"], "such as"),
        (["--timeout", "99m"], "from 1ms to 60m"),
        (["--workers", "0"], "from 1 to 1024"),
        (["--retries", "21"], "to 20"),
        (["--retries", "many"], "from 0"),
    ] {
        let error = args(&line).map(drop).unwrap_err();
        assert!(error.contains(fix), "{line:?}: {error}");
    }
    assert_eq!(
        args(&["--timeout", "1.5s"]).unwrap().timeout(),
        Duration::from_millis(1500)
    );
    assert_eq!(args(&[]).unwrap().timeout(), Duration::from_secs(1));
    assert_eq!(args(&["-"]).unwrap().timeout(), Duration::from_secs(5));
}
