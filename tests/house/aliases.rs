//! Names that users of other libraries search for lead to what does the job here: rustdoc's search finds an item by its
//! `#[doc(alias)]`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use syn::{Attribute, Ident, ImplItem, Item, Meta, TraitItem};

/// What is searched for, and the item that is found.
const WANTED: &[(&str, &str)] = &[
    // rayon
    ("par_iter", "Fanfold"),
    ("into_par_iter", "Fanfold"),
    ("par_bridge", "Fanfold"),
    ("ParallelIterator", "Fanfold"),
    ("map_init", "par_map_ordered_init"),
    ("map_with", "par_map_ordered_init"),
    ("for_each_init", "par_for_each"),
    ("fold_with", "par_fold"),
    ("par_reduce", "par_fold"),
    ("par_find", "find"),
    ("par_any", "any"),
    ("par_all", "all"),
    ("par_partition", "partition"),
    ("par_sort", "merge_sorted_by_key"),
    ("find_first", "find"),
    ("find_any", "find"),
    ("position_first", "position"),
    // pariter, dpc-pariter, plmap
    ("parallel_map", "par_map_ordered"),
    ("parallel_filter", "par_filter"),
    ("parallel_filter_map", "par_filter_map"),
    ("plmap", "par_map_ordered"),
    ("scope", "scoped"),
    // futures, tokio
    ("buffered", "par_map_ordered"),
    ("buffer_unordered", "par_map_unordered"),
    ("try_buffered", "try_par_map_ordered"),
    ("try_buffer_unordered", "try_par_map_unordered"),
    ("for_each_concurrent", "par_for_each"),
    ("try_for_each_concurrent", "try_par_for_each"),
    ("try_filter", "try_par_filter"),
    ("try_filter_map", "try_par_filter_map"),
    ("take_until", "cancel_on"),
    ("select", "merge"),
    ("select_all", "merge"),
    ("flatten_unordered", "merge"),
    ("chunks", "window"),
    ("recv_many", "ready_chunks"),
    ("chunks", "ready_chunks"),
    ("select_ok", "hedge"),
    ("race", "hedge"),
    // Go, conc, rill
    ("errgroup", "parallel_map"),
    ("errgroup", "try_par_for_each"),
    ("ResultPool", "Task"),
    ("JoinHandle", "Task"),
    ("ScopedJoinHandle", "Task"),
    ("join", "group"),
    ("try_join", "group"),
    ("JoinSet", "group"),
    ("WithContext", "group_with"),
    ("group_on", "group_with"),
    ("fan_in", "merge"),
    ("tee", "broadcast_into"),
    ("tee", "tee_into"),
    ("batch", "window"),
    ("channel", "recv"),
    ("receiver", "recv"),
    ("select", "recv"),
    ("par_bridge", "recv"),
    ("WaitGroup", "group"),
    ("SetLimit", "group"),
    ("join_all", "group"),
    ("try_join_all", "group"),
    ("ctx", "CancelToken"),
    ("abort", "CancelToken"),
    ("shutdown", "drain_on"),
    ("graceful", "drain_on"),
    ("bounded", "readahead"),
    ("sync_channel", "readahead"),
    ("ThreadPool", "Pool"),
    ("flat_map_iter", "par_flat_map"),
    ("for_each_with", "par_for_each"),
    ("par_chunks", "window"),
    ("par_windows", "window"),
    // others
    ("prefetch", "readahead"),
    ("imap", "par_map_ordered"),
    ("imap_unordered", "par_map_unordered"),
    ("pmap", "par_map_ordered"),
    ("map_reduce", "par_fold"),
    ("kmerge", "merge_sorted_by_key"),
    // names as one would build them here
    ("par_map", "par_map_unordered"),
    ("par_map_init", "par_map_ordered_init"),
    ("par_filter_init", "par_map_ordered_init"),
    ("par_filter_map_init", "par_map_ordered_init"),
    ("par_flat_map_init", "par_map_ordered_init"),
    ("try_par_map", "try_par_map_unordered"),
    ("try_par_map_init", "try_par_map_ordered_init"),
    ("try_flat_map", "try_par_flat_map"),
    ("par_map_while", "Stage"),
    ("par_take_while", "Stage"),
    ("par_inspect", "Stage"),
    ("into_source", "Stage"),
];

/// Aliases, each with the name of its item.
type Aliases = BTreeSet<(String, String)>;

fn note(attrs: &[Attribute], name: &Ident, aliases: &mut Aliases) {
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        let Meta::List(list) = &attr.meta else {
            continue;
        };
        // `alias = "a"`, or `alias("a", "b")`
        let text = list.tokens.to_string();
        if let Some(names) = text.strip_prefix("alias") {
            let names = names.split('"').skip(1).step_by(2);
            aliases.extend(names.map(|alias| (alias.to_owned(), name.to_string())));
        }
    }
}

fn note_all(item: &Item, aliases: &mut Aliases) {
    match item {
        Item::Fn(item) => note(&item.attrs, &item.sig.ident, aliases),
        Item::Struct(item) => note(&item.attrs, &item.ident, aliases),
        Item::Trait(item) => {
            note(&item.attrs, &item.ident, aliases);
            for inner in &item.items {
                if let TraitItem::Fn(inner) = inner {
                    note(&inner.attrs, &inner.sig.ident, aliases);
                }
            }
        }
        Item::Impl(item) => {
            for inner in &item.items {
                if let ImplItem::Fn(inner) = inner {
                    note(&inner.attrs, &inner.sig.ident, aliases);
                }
            }
        }
        _ => {}
    }
}

fn read(dir: &Path, aliases: &mut Aliases) {
    for entry in fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(&path, aliases);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let file = syn::parse_file(&text).expect("it compiles, so it parses");
            file.items.iter().for_each(|item| note_all(item, aliases));
        }
    }
}

#[test]
fn names_from_elsewhere_are_found() {
    let mut aliases = Aliases::default();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut aliases,
    );
    let found =
        |(alias, item): &(&str, &str)| aliases.contains(&((*alias).to_owned(), (*item).to_owned()));
    let lost: Vec<_> = WANTED.iter().filter(|wanted| !found(wanted)).collect();
    assert!(
        lost.is_empty(),
        "`#[doc(alias)]`s that are missing: {lost:#?}"
    );
}
