//! Writes all mutants of a file into it, each behind a switch of its own.

use crate::Mutant;
use proc_macro2::LineColumn;
use std::collections::HashMap;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

/// What comes in place of a piece of the source.
struct Edit {
    at: Range<usize>,
    pieces: Vec<Piece>,
}

enum Piece {
    /// As it stands here.
    New(String),
    /// A piece of the source, with the edits inside it.
    Old(Range<usize>),
}

struct Planter<'a> {
    source: &'a str,
    lines: Vec<usize>,
    /// By genre, and the place where what they change begins.
    mutants: HashMap<(&'a str, usize), Vec<&'a Mutant>>,
    edits: Vec<Edit>,
    planted: Vec<usize>,
    /// Within something that is evaluated when it is compiled.
    constant: usize,
}

/// The condition for this mutant.
fn switch(id: usize) -> String {
    format!("crate::planted({id})")
}

/// These pieces between marks by which a compiler's error finds the mutants.
fn marked(ids: &[usize], pieces: Vec<Piece>) -> Vec<Piece> {
    let list = ids
        .iter()
        .map(|id| id.to_string())
        .collect::<Vec<_>>()
        .join(",");
    let mut all = vec![Piece::New(format!("/*<{list}*/"))];
    all.extend(pieces);
    all.push(Piece::New("/*>*/".to_owned()));
    all
}

/// The file with these mutants in it, and which of them could be planted.
pub fn plant(source: &str, mutants: &[&Mutant]) -> (String, Vec<usize>) {
    let mut lines = vec![0];
    lines.extend(source.match_indices('\n').map(|(at, _)| at + 1));
    let mut planter = Planter {
        source,
        lines,
        mutants: HashMap::new(),
        edits: Vec::new(),
        planted: Vec::new(),
        constant: 0,
    };
    for mutant in mutants {
        let at = planter.byte(mutant.line, mutant.column);
        let key = (mutant.genre.as_str(), at);
        planter.mutants.entry(key).or_default().push(mutant);
    }
    let file = syn::parse_file(source).expect("what cargo-mutants has read");
    planter.visit_file(&file);
    let mut text = planter.render(0..source.len(), None);
    text.push('\n');
    (text, planter.planted)
}

impl<'a> Planter<'a> {
    /// Lines and columns count from 1, columns in characters.
    fn byte(&self, line: usize, column: usize) -> usize {
        let start = self.lines[line - 1];
        let rest = &self.source[start..];
        start
            + rest
                .char_indices()
                .nth(column - 1)
                .map_or(rest.len(), |(at, _)| at)
    }

    fn at(&self, place: LineColumn) -> usize {
        self.byte(place.line, place.column + 1)
    }

    fn range(&self, what: &impl Spanned) -> Range<usize> {
        let span = what.span();
        self.at(span.start())..self.at(span.end())
    }

    fn take(&mut self, genre: &'a str, at: usize) -> Vec<&'a Mutant> {
        if self.constant > 0 {
            return Vec::new();
        }
        let found = self.mutants.remove(&(genre, at)).unwrap_or_default();
        self.planted.extend(found.iter().map(|mutant| mutant.id));
        found
    }

    fn render(&self, range: Range<usize>, within: Option<usize>) -> String {
        let mut inside: Vec<usize> = (0..self.edits.len())
            .filter(|&index| {
                let at = &self.edits[index].at;
                Some(index) != within && range.start <= at.start && at.end <= range.end
            })
            .collect();
        // The outer ones first.
        inside.sort_by_key(|&index| {
            let at = &self.edits[index].at;
            (at.start, std::cmp::Reverse(at.end))
        });
        let mut text = String::new();
        let mut done = range.start;
        for index in inside {
            let edit = &self.edits[index];
            if edit.at.start < done {
                continue; // inside the last one, which renders it
            }
            text.push_str(&self.source[done..edit.at.start]);
            for piece in &edit.pieces {
                match piece {
                    Piece::New(new) => text.push_str(new),
                    Piece::Old(old) => text.push_str(&self.render(old.clone(), Some(index))),
                }
            }
            done = edit.at.end;
        }
        text.push_str(&self.source[done..range.end]);
        text
    }

    /// `if planted {other} else if .. else {as it is}`
    fn choose(&mut self, at: Range<usize>, found: &[(usize, String)], otherwise: Vec<Piece>) {
        let mut pieces = vec![Piece::New("(".to_owned())];
        for (id, text) in found {
            let text = format!("if {} {{ {text} }} else ", switch(*id));
            pieces.extend(marked(&[*id], vec![Piece::New(text)]));
        }
        pieces.push(Piece::New("{ ".to_owned()));
        pieces.extend(otherwise);
        pieces.push(Piece::New(" })".to_owned()));
        let ids: Vec<usize> = found.iter().map(|(id, _)| *id).collect();
        let pieces = marked(&ids, pieces);
        self.edits.push(Edit { at, pieces });
    }

    fn body(&mut self, block: &'a syn::Block) {
        let Some(first) = block.stmts.first() else {
            return;
        };
        let at = self.range(first).start;
        let brace = self.at(block.brace_token.span.open().end());
        for place in [at, brace] {
            for mutant in self.take("FnValue", place) {
                let text = format!(
                    "if {} {{ return {}; }} ",
                    switch(mutant.id),
                    mutant.replacement
                );
                let pieces = marked(&[mutant.id], vec![Piece::New(text)]);
                self.edits.push(Edit {
                    at: brace..brace,
                    pieces,
                });
            }
        }
    }

    fn function(
        &mut self,
        sig: &syn::Signature,
        block: &'a syn::Block,
        inner: impl FnOnce(&mut Self),
    ) {
        let constant = usize::from(sig.constness.is_some());
        self.constant += constant;
        // A second type behind one `impl Trait` cannot be.
        if !self.source[self.range(&sig.output)].contains("impl ") {
            self.body(block);
        }
        inner(self);
        self.constant -= constant;
    }

    fn constant(&mut self, inner: impl FnOnce(&mut Self)) {
        self.constant += 1;
        inner(self);
        self.constant -= 1;
    }
}

impl<'a, 'ast: 'a> Visit<'ast> for Planter<'a> {
    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.constant(|this| visit::visit_item_const(this, item));
    }

    fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
        self.constant(|this| visit::visit_impl_item_const(this, item));
    }

    fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
        self.constant(|this| visit::visit_trait_item_const(this, item));
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.constant(|this| visit::visit_item_static(this, item));
    }

    fn visit_expr_const(&mut self, expr: &'ast syn::ExprConst) {
        self.constant(|this| visit::visit_expr_const(this, expr));
    }

    fn visit_type_array(&mut self, array: &'ast syn::TypeArray) {
        self.constant(|this| visit::visit_type_array(this, array));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block, |this| {
            visit::visit_item_fn(this, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block, |this| {
            visit::visit_impl_item_fn(this, item);
        });
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block, |this| {
                visit::visit_trait_item_fn(this, item);
            });
        }
    }

    fn visit_expr_binary(&mut self, expr: &'ast syn::ExprBinary) {
        let op = self.range(&expr.op);
        let found = self.take("BinaryOperator", op.start);
        if !found.is_empty() {
            let (left, right) = (self.range(&expr.left), self.range(&expr.right));
            let found: Vec<_> = found
                .iter()
                .map(|mutant| {
                    let (left, right) = (&self.source[left.clone()], &self.source[right.clone()]);
                    (mutant.id, format!("{left} {} {right}", mutant.replacement))
                })
                .collect();
            let otherwise = vec![
                Piece::Old(left),
                Piece::New(format!(" {} ", &self.source[op])),
                Piece::Old(right),
            ];
            let at = self.range(expr);
            self.choose(at, &found, otherwise);
        }
        visit::visit_expr_binary(self, expr);
    }

    fn visit_expr_unary(&mut self, expr: &'ast syn::ExprUnary) {
        let op = self.range(&expr.op);
        let found = self.take("UnaryOperator", op.start);
        if !found.is_empty() {
            let operand = self.range(&*expr.expr);
            let found: Vec<_> = found
                .iter()
                .map(|mutant| {
                    let operand = &self.source[operand.clone()];
                    (mutant.id, format!("{}{operand}", mutant.replacement))
                })
                .collect();
            let op = self.source[op].to_owned();
            let at = self.range(expr);
            self.choose(at, &found, vec![Piece::New(op), Piece::Old(operand)]);
        }
        visit::visit_expr_unary(self, expr);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        let start = self.range(arm).start;
        let pattern = self.range(&arm.pat);
        let mut deleted = self.take("MatchArm", start);
        if pattern.start != start {
            deleted.extend(self.take("MatchArm", pattern.start));
        }
        let mut ids: Vec<usize> = deleted.iter().map(|mutant| mutant.id).collect();
        let not_deleted: String = ids
            .iter()
            .map(|&id| format!("!{} && ", switch(id)))
            .collect();
        if let Some((_, guard)) = &arm.guard {
            let at = self.range(&**guard);
            let mut guards = self.take("MatchArmGuard", at.start);
            guards.sort_by_key(|mutant| mutant.replacement != "true");
            if !guards.is_empty() || !ids.is_empty() {
                let mut text = format!("{not_deleted}(");
                for mutant in guards {
                    ids.push(mutant.id);
                    text.push_str(&match mutant.replacement.as_str() {
                        "true" => format!("{} || ", switch(mutant.id)),
                        _ => format!("!{} && ", switch(mutant.id)),
                    });
                }
                text.push('(');
                let pieces = vec![
                    Piece::New(text),
                    Piece::Old(at.clone()),
                    Piece::New("))".to_owned()),
                ];
                let pieces = marked(&ids, pieces);
                self.edits.push(Edit { at, pieces });
            }
        } else if !ids.is_empty() {
            let text = format!(" if {not_deleted}true");
            let pieces = marked(&ids, vec![Piece::New(text)]);
            let at = pattern.end..pattern.end;
            self.edits.push(Edit { at, pieces });
        }
        visit::visit_arm(self, arm);
    }
}
