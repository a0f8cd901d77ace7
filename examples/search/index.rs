//! What a back end searches in: an inverted index with BM25 ranking over its share of the pages.

use fastrand::Rng;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The novel of the wordcount example, page by page.
const BOOK: &str = include_str!("../wordcount/corpus/pride-and-prejudice.txt");

/// So many hits a query has at most; and so many of them one shard can have.
pub(crate) const TOP: usize = 10;

/// BM25's usual parameters: how soon a word that is repeated says nothing new, and how much the
/// length of a page is held against it.
const K: f32 = 1.2;
const B: f32 = 0.75;

/// What is asked.
pub(crate) struct Query {
    pub(crate) number: u64,
    pub(crate) words: String,
}

/// A page that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    /// In thousandths, so that it is the same on both ends of a wire, and can be compared.
    pub(crate) score: u32,
    pub(crate) page: u32,
    pub(crate) path: String,
    /// How the page begins.
    pub(crate) opening: String,
}

impl Hit {
    /// Best first, and of equals the earlier page: no two hits have the same.
    pub(crate) fn rank(&self) -> (Reverse<u32>, u32) {
        (Reverse(self.score), self.page)
    }
}

/// A line of an answer.
impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Hit {
            score,
            page,
            path,
            opening,
        } = self;
        write!(f, "{score}\t{page}\t{path}\t{opening}")
    }
}

impl FromStr for Hit {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parse = || {
            let mut fields = line.split('\t');
            Some(Hit {
                score: fields.next()?.parse().ok()?,
                page: fields.next()?.parse().ok()?,
                path: fields.next()?.to_owned(),
                opening: fields.next()?.to_owned(),
            })
        };
        parse().ok_or_else(|| format!("this is no hit: {line:?}"))
    }
}

struct Page {
    path: &'static str,
    text: &'static str,
    words: Vec<String>,
}

/// All pages, and what is counted over all of them, whichever shard they go to: so the scores of
/// different shards can be compared.
pub(crate) struct Collection {
    pages: Vec<Page>,
    /// In how many pages a word is.
    spread: HashMap<String, u32>,
    mean_length: f32,
}

impl Collection {
    pub(crate) fn embedded() -> Self {
        let pages: Vec<Page> = BOOK
            .split("=== ")
            .filter_map(|page| page.split_once('\n'))
            .map(|(path, text)| Page {
                path,
                text,
                words: words(text).collect(),
            })
            .collect();
        let mut spread = HashMap::new();
        for page in &pages {
            for word in page.words.iter().collect::<BTreeSet<_>>() {
                *spread.entry(word.clone()).or_default() += 1;
            }
        }
        let length: usize = pages.iter().map(|page| page.words.len()).sum();
        Self {
            mean_length: length as f32 / pages.len() as f32,
            pages,
            spread,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pages.len()
    }

    /// The index of the pages that are one shard's of so many.
    pub(crate) fn index(&self, shard: usize, shards: usize) -> Index {
        let mut index = Index::default();
        for (number, page) in self.pages.iter().enumerate().skip(shard).step_by(shards) {
            let mut counts = HashMap::<&str, f32>::new();
            for word in &page.words {
                *counts.entry(word).or_default() += 1.0;
            }
            let length = page.words.len() as f32 / self.mean_length;
            for (word, count) in counts {
                let weight = count * (K + 1.0) / (count + K * (1.0 - B + B * length));
                let weight = self.rarity(word) * weight;
                let posting = (number as u32, weight);
                index
                    .postings
                    .entry(word.to_owned())
                    .or_default()
                    .push(posting);
            }
            let opening = page.text.lines().find(|line| !line.is_empty());
            let opening = opening.unwrap_or_default().to_owned();
            index.titles.insert(number as u32, (page.path, opening));
        }
        index
    }

    /// A word that few pages have says more.
    fn rarity(&self, word: &str) -> f32 {
        let (pages, with) = (self.pages.len() as f32, self.spread[word] as f32);
        (1.0 + (pages - with + 0.5) / (with + 0.5)).ln()
    }

    /// Queries of two or three words of one page, the same for the same seed.
    pub(crate) fn queries(&self, count: u64, seed: u64) -> Vec<Arc<Query>> {
        let mut random = Rng::with_seed(seed);
        let long = |word: &&String| word.len() >= 4;
        let choices = self
            .pages
            .iter()
            .map(|page| page.words.iter().filter(long).collect::<Vec<_>>());
        let choices: Vec<_> = choices.filter(|words| !words.is_empty()).collect();
        let mut query = |number| {
            let page = &choices[random.usize(..choices.len())];
            let words: Vec<&str> = (0..random.usize(2..=3))
                .map(|_| page[random.usize(..page.len())].as_str())
                .collect();
            Arc::new(Query {
                number,
                words: words.join(" "),
            })
        };
        (0..count).map(&mut query).collect()
    }
}

/// What one shard has.
#[derive(Default)]
pub(crate) struct Index {
    /// Of each word the pages that it is on, and what it counts there.
    postings: HashMap<String, Vec<(u32, f32)>>,
    titles: HashMap<u32, (&'static str, String)>,
}

impl Index {
    /// The best pages, in the order of [`Hit::rank`].
    pub(crate) fn search(&self, query: &str) -> Vec<Hit> {
        let mut scores = HashMap::<u32, f32>::new();
        // A set: to ask twice for a word changes nothing. And the same order of the sums everywhere.
        for word in words(query).collect::<BTreeSet<_>>() {
            for (page, weight) in self.postings.get(&word).into_iter().flatten() {
                *scores.entry(*page).or_default() += weight;
            }
        }
        let mut ranked: Vec<_> = scores
            .into_iter()
            .map(|(page, score)| (Reverse((score * 1e3).round() as u32), page))
            .collect();
        ranked.sort_unstable();
        ranked.truncate(TOP);
        ranked
            .into_iter()
            .map(|(Reverse(score), page)| {
                let (path, opening) = self.titles[&page].clone();
                Hit {
                    score,
                    page,
                    path: path.to_owned(),
                    opening,
                }
            })
            .collect()
    }
}

/// A word is a run of letters and digits.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}
