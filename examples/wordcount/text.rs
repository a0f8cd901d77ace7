//! From a page to its words.

use crate::fetch::Body;
use scraper::{Html, Node};

/// The text that a reader of the page sees; of anything but HTML, all of it.
pub(crate) fn text_of(body: Body) -> String {
    if !body.is_html {
        return body.text;
    }
    let page = Html::parse_document(&body.text);
    let mut text = String::with_capacity(body.text.len() / 2);
    // A stack of its own: no nesting, however deep, can overflow the thread's.
    let mut open = vec![(page.root_element().children(), false)];
    while let Some((children, is_block)) = open.last_mut() {
        match children.next().map(|node| (node, node.value())) {
            Some((_, Node::Text(piece))) => text.push_str(piece),
            Some((node, Node::Element(element))) if !is_hidden(element.name()) => {
                let is_block = !is_inline(element.name());
                text.push_str(if is_block { "\n" } else { "" });
                open.push((node.children(), is_block));
            }
            Some(_) => {}
            None => {
                text.push_str(if *is_block { "\n" } else { "" });
                open.pop();
            }
        }
    }
    text
}

/// Elements whose content is not shown.
fn is_hidden(name: &str) -> bool {
    matches!(name, "head" | "script" | "style" | "noscript" | "template")
}

/// Elements that may begin in the middle of a word, as in `<b>w</b>ord`. All others end it.
fn is_inline(name: &str) -> bool {
    const INLINE: &str = "a abbr b bdi bdo big cite code del dfn em font i ins kbd mark \
        q s samp small span strike strong sub sup time tt u var wbr";
    INLINE.split(' ').any(|inline| inline == name)
}

/// A word is a run of letters, digits and apostrophes; `don't` is one, `to-day` are two.
pub(crate) fn words(text: &str) -> usize {
    let in_word = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’');
    text.split(|c| !in_word(c))
        .filter(|run| run.contains(char::is_alphanumeric))
        .count()
}
