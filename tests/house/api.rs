//! The public surface is recorded in `tests/house/api.txt`, so that review sees every change.
//!
//! The list is read from the sources: what `lib.rs` re-exports, with the methods, variants and trait
//! impls of each, as written. After an intended change, write it again:
//! `UPDATE_API=1 cargo test --test house api`.

use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::{Attribute, File, ImplItem, Item, TraitItem, UseTree, Visibility};

#[test]
fn the_public_surface_is_the_recorded_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = root.join("tests/house/api.txt");
    let now = surface(&root.join("src"));
    if std::env::var_os("UPDATE_API").is_some() {
        fs::write(&list, &now).expect("the list can be written");
        return;
    }
    let agreed = fs::read_to_string(&list).expect("tests/house/api.txt is there");
    let (now, agreed): (BTreeSet<_>, BTreeSet<_>) =
        (now.lines().collect(), agreed.lines().collect());
    let added: Vec<_> = now.difference(&agreed).collect();
    let gone: Vec<_> = agreed.difference(&now).collect();
    assert!(
        added.is_empty() && gone.is_empty(),
        "the public surface has changed. If that is meant, say it in CHANGELOG.md and run \
         `UPDATE_API=1 cargo test --test house api`.\nnew: {added:#?}\ngone: {gone:#?}"
    );
}

#[test]
fn the_list_has_what_users_call_and_nothing_private() {
    let list = surface(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    for line in [
        "Fanfold::par_map_ordered",
        "Stage::in_flight",
        "CancelToken::current",
        "Overflow::DropOldest",
        "impl Iterator for Stage",
        "fn parallel_map",
        "testing::assert_quiescent",
    ] {
        assert!(list.contains(line), "{line} is not listed");
    }
    assert!(
        !list.contains("pub (crate)"),
        "what is not public is listed"
    );
}

/// All sources, parsed.
fn sources(dir: &Path, files: &mut Vec<(PathBuf, File)>) {
    for entry in fs::read_dir(dir).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let file = syn::parse_file(&text).expect("it compiles, so it parses");
            files.push((path, file));
        }
    }
}

fn surface(src: &Path) -> String {
    let mut files = Vec::new();
    sources(src, &mut files);
    let named = |name: &str| {
        let file = files.iter().find(|(path, _)| path.ends_with(name));
        &file.expect("it is there").1
    };
    // The root and its public modules define what is public. An item that the root has too is listed there.
    let mut names = BTreeMap::new();
    let root = named("src/lib.rs");
    let modules = root.items.iter().filter_map(|item| match item {
        Item::Mod(item) if is_public(&item.vis) => Some(item.ident.to_string()),
        _ => None,
    });
    for module in modules {
        handed_out(
            named(&format!("src/{module}.rs")),
            &format!("{module}::"),
            &mut names,
        );
    }
    handed_out(root, "", &mut names);
    let mut lines = BTreeSet::new();
    for (_, file) in &files {
        for item in &file.items {
            list(item, &names, &mut lines);
        }
    }
    let mut text = String::new();
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    text
}

/// The names that a file re-exports or defines.
fn handed_out(file: &File, prefix: &str, names: &mut BTreeMap<String, String>) {
    for item in &file.items {
        let (vis, name) = match item {
            Item::Use(item) if is_public(&item.vis) => {
                exported(&item.tree, &mut |name| {
                    names.insert(name, prefix.to_owned());
                });
                continue;
            }
            Item::Fn(item) => (&item.vis, &item.sig.ident),
            Item::Struct(item) => (&item.vis, &item.ident),
            Item::Enum(item) => (&item.vis, &item.ident),
            Item::Trait(item) => (&item.vis, &item.ident),
            Item::Type(item) => (&item.vis, &item.ident),
            _ => continue,
        };
        if is_public(vis) {
            names.insert(name.to_string(), prefix.to_owned());
        }
    }
}

fn exported(tree: &UseTree, add: &mut impl FnMut(String)) {
    match tree {
        UseTree::Path(path) => exported(&path.tree, add),
        UseTree::Name(name) => add(name.ident.to_string()),
        UseTree::Rename(rename) => add(rename.rename.to_string()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| exported(tree, add)),
        UseTree::Glob(_) => panic!("a glob hides what is public"),
    }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// Hidden from the documentation, so not promised.
fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        let words = text(&attr.meta);
        words.contains("hidden") || words.contains("cfg (test)") || words.contains("doctest")
    })
}

/// The derived traits, and whether the type is `non_exhaustive`.
fn derived(attrs: &[Attribute]) -> String {
    let all = attrs.iter().map(|attr| text(&attr.meta));
    let words = all.filter(|words| words.starts_with("derive") || words == "non_exhaustive");
    words.fold(String::new(), |list, words| list + " [" + &words + "]")
}

/// The tokens as written, on one line.
fn text(tokens: &impl ToTokens) -> String {
    let text = tokens.to_token_stream().to_string();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name of a type, without its arguments.
fn head(ty: &syn::Type) -> Option<String> {
    match ty {
        syn::Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        syn::Type::Reference(reference) => head(&reference.elem),
        _ => None,
    }
}

fn list(item: &Item, names: &BTreeMap<String, String>, lines: &mut BTreeSet<String>) {
    let known = |name: &str| names.get(name).map(|prefix| format!("{prefix}{name}"));
    match item {
        Item::Fn(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => {
            if let Some(name) = known(&item.sig.ident.to_string()) {
                lines.insert(format!("{name}: {}", text(&item.sig)));
            }
        }
        Item::Struct(item) if is_public(&item.vis) => {
            let Some(name) = known(&item.ident.to_string()) else {
                return;
            };
            let derived = derived(&item.attrs);
            lines.insert(format!("{name}: struct {}{derived}", text(&item.generics)));
            for field in item.fields.iter().filter(|field| is_public(&field.vis)) {
                lines.insert(format!("{name}: field {}", text(field)));
            }
        }
        Item::Enum(item) if is_public(&item.vis) => {
            let Some(name) = known(&item.ident.to_string()) else {
                return;
            };
            let derived = derived(&item.attrs);
            lines.insert(format!("{name}: enum {}{derived}", text(&item.generics)));
            for variant in &item.variants {
                let (variant, fields) = (&variant.ident, text(&variant.fields));
                lines.insert(format!("{name}::{variant} {fields}"));
            }
        }
        Item::Type(item) if is_public(&item.vis) => {
            if let Some(name) = known(&item.ident.to_string()) {
                lines.insert(format!("{name}: type {}", text(&item.ty)));
            }
        }
        Item::Trait(item) if is_public(&item.vis) => {
            let Some(name) = known(&item.ident.to_string()) else {
                return;
            };
            let above = text(&item.supertraits);
            lines.insert(format!("{name}: trait {} : {above}", text(&item.generics)));
            for inner in &item.items {
                match inner {
                    TraitItem::Fn(inner) if !is_hidden(&inner.attrs) => {
                        lines.insert(format!("{name}::{}: {}", inner.sig.ident, text(&inner.sig)));
                    }
                    TraitItem::Type(inner) if !is_hidden(&inner.attrs) => {
                        lines.insert(format!("{name}::{}: type", inner.ident));
                    }
                    _ => {}
                }
            }
        }
        Item::Impl(item) if !is_hidden(&item.attrs) => {
            let Some(name) = head(&item.self_ty).and_then(|name| known(&name)) else {
                return;
            };
            if let Some((not, of, _)) = &item.trait_ {
                let of = format!("{}{}", not.map_or("", |_| "!"), text(of));
                lines.insert(format!(
                    "{name}: impl {of} for {} {}",
                    text(&item.self_ty),
                    text(&item.generics.where_clause)
                ));
                return;
            }
            for inner in &item.items {
                if let ImplItem::Fn(inner) = inner {
                    if is_public(&inner.vis) && !is_hidden(&inner.attrs) {
                        let signature = text(&inner.sig);
                        lines.insert(format!("{name}::{}: {signature}", inner.sig.ident));
                    }
                }
            }
        }
        _ => {}
    }
}
