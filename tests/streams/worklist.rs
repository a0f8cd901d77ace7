//! `worklist`: a source that its consumers feed.

use crate::support::{
    Counter, Gate, Ledger, SOON, WIDTHS, bang, caught, dawdle, eventually, message, mix, settle,
    within,
};
use fanfold::{
    CancelToken, Fanfold, WorkItem, Worklist, worklist,
    worklist::{BudgetExhausted, BudgetedWorklist, PushError, Pusher},
};
use quickcheck::QuickCheck;
use std::collections::VecDeque;
use std::sync::mpsc;

const NODES: u64 = 4_000;

/// The children of a node in a tree of `nodes` nodes: none to many, with long thin branches too.
fn children(nodes: u64, node: u64) -> std::ops::Range<u64> {
    // Each node's first child follows its elder sibling's last, so they are numbered level by level.
    let first = |node: u64| 1 + (0..node).map(degree).sum::<u64>();
    let begin = first(node).min(nodes);
    begin..(begin + degree(node)).min(nodes)
}

/// At least one, so that every number occurs.
fn degree(node: u64) -> u64 {
    match mix(node) % 16 {
        0 => 9,
        1 | 2 => 3,
        _ => 1,
    }
}

/// The same tree, computed once.
fn tree(nodes: u64) -> Vec<std::ops::Range<u64>> {
    let mut begin = 1;
    let mut tree = Vec::new();
    for node in 0..nodes {
        let end = (begin + degree(node)).min(nodes);
        tree.push(begin.min(nodes)..end);
        begin = end;
    }
    tree
}

#[test]
fn the_tree_has_every_node_once() {
    let tree = tree(300);
    assert!((0..300).all(|node| tree[node as usize] == children(300, node)));
    assert_eq!(tree.into_iter().flatten().count(), 299);
}

fn sorted(mut nodes: Vec<u64>) -> Vec<u64> {
    nodes.sort_unstable();
    nodes
}

// ---- by itself

#[test]
fn items_come_in_the_order_in_which_they_were_pushed() {
    let tree = tree(NODES);
    let mut source = worklist([0]);
    let mut seen = Vec::new();
    for node in source.by_ref() {
        for child in tree[*node as usize].clone() {
            node.push(child).unwrap();
        }
        seen.push(*node);
    }
    assert!(seen.into_iter().eq(0..NODES), "level by level");
    assert!(source.next().is_none());
    assert!(worklist([0; 0]).next().is_none());
    assert!(worklist(0..5).map(|item| *item).eq(0..5));
}

#[test]
fn a_worklist_is_a_queue() {
    fn law(seeds: Vec<u8>, steps: Vec<u8>) -> bool {
        let mut model: VecDeque<u8> = seeds.iter().copied().collect();
        let mut source = worklist(seeds);
        let mut pushers: Vec<Pusher<u8>> = Vec::new();
        for step in steps {
            match step % 4 {
                0 if model.is_empty() && !pushers.is_empty() => {} // it would block
                0 => {
                    let work_item = source.next().map(WorkItem::into_parts);
                    let Some((item, pusher)) = work_item else {
                        if !model.is_empty() {
                            return false;
                        }
                        continue;
                    };
                    if model.pop_front() != Some(item) {
                        return false;
                    }
                    pushers.push(pusher);
                }
                1 => drop(pushers.pop()),
                _ => {
                    if let Some(pusher) = pushers.last() {
                        pusher.push(step).unwrap();
                        model.push_back(step);
                    }
                }
            }
            let over = model.is_empty() && pushers.is_empty();
            if source.size_hint() != (model.len(), over.then_some(0)) {
                return false;
            }
        }
        drop(pushers);
        source.map(|item| *item).eq(model)
    }
    QuickCheck::new()
        .tests(2_000)
        .quickcheck(law as fn(Vec<u8>, Vec<u8>) -> bool);
}

#[test]
fn a_work_item_derefs_to_its_item() {
    let mut source = worklist([String::from("ab")]);
    let mut work_item = source.next().unwrap();
    work_item.insert(0, 'x');
    assert_eq!((work_item.len(), work_item.as_str()), (3, "xab"));
    (*work_item).push('y'); // the string's own
    work_item.push(String::from("more")).unwrap(); // the source's
    assert!(format!("{work_item:?} {source:?}").contains("xaby"));
    let (item, pusher) = work_item.into_parts();
    assert_eq!(item, "xaby");
    drop(pusher);
    assert_eq!(
        source
            .next()
            .map(|work_item| work_item.into_parts().0)
            .as_deref(),
        Some("more")
    );
    assert!(source.next().is_none());
}

#[test]
fn next_waits_for_a_push_or_for_the_last_pusher() {
    within(SOON, || {
        let mut source = worklist([1, 2]);
        let (_, first) = source.next().unwrap().into_parts();
        let (_, second) = source.next().unwrap().into_parts();
        let (tell, told) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for work_item in source {
                tell.send(*work_item).unwrap();
            }
        });
        settle();
        assert!(told.try_recv().is_err(), "it waits");
        second.push(3).unwrap();
        assert_eq!(told.recv(), Ok(3));
        drop(second);
        settle();
        assert!(!reader.is_finished(), "one pusher is left");
        first.push(4).unwrap();
        drop(first);
        assert_eq!(told.recv(), Ok(4));
        reader.join().unwrap();
    });
}

// ---- crawls

/// Pushes the node's children and passes the node on.
fn explore(tree: &[std::ops::Range<u64>], node: &WorkItem<u64>) -> u64 {
    for child in tree[**node as usize].clone() {
        node.push(child).unwrap();
    }
    **node
}

#[test]
fn closures_that_push_visit_each_node_once() {
    for n in WIDTHS {
        within(SOON, move || {
            let tree = tree(NODES);
            let all = || (0..NODES).collect::<Vec<_>>();
            let ordered = worklist([0]).par_map_ordered(n, |node| explore(&tree, &node));
            assert_eq!(sorted(ordered.collect()), all());
            let unordered = worklist([0]).par_map_unordered(n, |node| explore(&tree, &node));
            assert_eq!(sorted(unordered.collect()), all());
            let alone = worklist([0]).par_map_ordered(n, |node| explore(&tree, &node));
            // One at a time there is only one order.
            assert_eq!(alone.in_flight(1).collect::<Vec<_>>(), all());
        });
    }
}

#[test]
fn nodes_that_take_their_time_are_visited_once() {
    for n in WIDTHS {
        within(SOON, move || {
            let tree = tree(600);
            let visit = |node: WorkItem<u64>| {
                dawdle(*node * 10 + n as u64);
                // the work item is dropped a little after the last push
                let visited = explore(&tree, &node);
                dawdle(*node * 7 + n as u64);
                visited
            };
            let all: Vec<u64> = (0..600).collect();
            for in_flight in [1, 2, 7, 64] {
                let stage = worklist([0]).par_map_ordered(n, visit).in_flight(in_flight);
                assert_eq!(sorted(stage.collect()), all, "{n}, {in_flight}");
            }
            let stage = worklist([0]).par_map_unordered(n, visit).eager();
            assert_eq!(sorted(stage.collect()), all);
        });
    }
}

#[test]
fn a_long_thin_branch_is_followed_to_its_end() {
    for n in WIDTHS {
        within(SOON, move || {
            let step = |node: WorkItem<u64>| {
                if *node < 1_000 {
                    node.push(*node + 1).unwrap();
                }
                *node
            };
            let ordered = worklist([0]).par_map_ordered(n, step);
            assert!(ordered.eq(0..=1_000));
            let unordered = worklist([0]).par_map_unordered(n, step).in_flight(1);
            assert!(unordered.eq(0..=1_000));
        });
    }
}

#[test]
fn a_loop_that_pushes_visits_each_node_once() {
    for n in WIDTHS {
        within(SOON, move || {
            let nodes = NODES / 5; // each may cost two thread switches
            let tree = tree(nodes);
            let visit = |node: WorkItem<u64>| node.into_parts();
            for ordered in [true, false] {
                for in_flight in [0, 1, 3] {
                    let mut stage = worklist([0]).par_map_ordered(n, visit);
                    if !ordered {
                        stage = stage.unordered();
                    }
                    if in_flight > 0 {
                        stage = stage.in_flight(in_flight);
                    }
                    let mut seen = Vec::new();
                    for (node, pusher) in stage {
                        for child in tree[node as usize].clone() {
                            pusher.push(child).unwrap();
                        }
                        seen.push(node);
                    }
                    if ordered {
                        // pushed in the order of the loop, which is the order of the source
                        assert!(seen.into_iter().eq(0..nodes), "{n}, {in_flight}");
                    } else {
                        assert!(sorted(seen).into_iter().eq(0..nodes), "{n}, {in_flight}");
                    }
                }
            }
        });
    }
}

#[test]
fn pushers_travel_through_chains() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = tree(2_000);
            let stage = worklist([0])
                .par_map_ordered(n, WorkItem::into_parts)
                .par_filter(n, |(node, _)| node % 5 != 4 || *node < 10_000)
                .readahead(2)
                .par_map_unordered(n, |(node, pusher)| (node, pusher));
            let mut seen = Vec::new();
            for (node, pusher) in stage {
                for child in tree[node as usize].clone() {
                    pusher.push(child).unwrap();
                }
                seen.push(node);
            }
            assert!(sorted(seen).into_iter().eq(0..2_000));
        });
    }
}

#[test]
fn every_kind_of_stage_can_crawl() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = tree(2_000);
            let all: Vec<u64> = (0..2_000).collect();
            let init = worklist([0]).par_map_ordered_init(
                n,
                || 0,
                |count, node: WorkItem<u64>| {
                    *count += 1;
                    explore(&tree, &node)
                },
            );
            assert_eq!(sorted(init.collect()), all);
            let tried = worklist([0]).try_par_map_ordered(n, |node| {
                for child in tree[*node as usize].clone() {
                    node.push(child)?;
                }
                Ok::<u64, PushError<u64>>(*node)
            });
            let nodes: Result<Vec<u64>, _> = tried.collect();
            assert_eq!(nodes.map(sorted), Ok(all.clone()));
            let flat = worklist([0]).par_flat_map(n, |node| [explore(&tree, &node); 2]);
            assert_eq!(flat.count(), 4_000);
            let kept = worklist([0]).par_filter_map(n, |node| {
                Some(explore(&tree, &node)).filter(|node| node % 2 == 0)
            });
            assert_eq!(kept.count(), 1_000);
            let filtered = worklist([0]).par_filter(n, |node| explore(&tree, node) > 0);
            let nodes: Vec<u64> = filtered.map_items();
            assert_eq!(sorted(nodes), all[1..]);
            let local = worklist([0])
                .local()
                .par_map_ordered(n, |node| explore(&tree, &node));
            assert_eq!(sorted(local.collect()), all);
        });
    }
}

/// Takes each work item apart as soon as it arrives: kept items would keep the source waiting.
trait MapItems {
    fn map_items(self) -> Vec<u64>;
}

impl<F> MapItems for fanfold::Stage<fanfold::stage::Par<Worklist<u64>, fanfold::stage::Filter<F>>>
where
    F: Fn(&WorkItem<u64>) -> bool + Send + Sync,
{
    fn map_items(self) -> Vec<u64> {
        self.fold(Vec::new(), |mut nodes, work_item| {
            nodes.push(work_item.into_parts().0);
            nodes
        })
    }
}

#[test]
fn stages_that_own_and_stages_in_a_scope_can_crawl() {
    for n in 1..=9 {
        within(SOON, move || {
            // borrowed nodes, and a borrowed tree
            struct Dir(&'static str, Vec<Dir>);
            let leaf = |name| Dir(name, Vec::new());
            let root = Dir("a", vec![Dir("b", vec![leaf("d"), leaf("e")]), leaf("c")]);
            let name = |dir: WorkItem<&'_ Dir>| {
                for sub in &dir.1 {
                    assert!(dir.push(sub).is_ok());
                }
                dir.0
            };
            fanfold::scope(|s| {
                let names = worklist([&root])
                    .par_map_ordered(n, name)
                    .in_flight(1)
                    .within(s);
                assert!(names.eq(["a", "b", "c", "d", "e"]));
            });
            let mut names: Vec<_> = worklist([&root]).par_map_unordered(n, name).collect();
            names.sort_unstable();
            assert_eq!(names, ["a", "b", "c", "d", "e"]);
            let owned = worklist([9_u64]).par_map_ordered(n, |count| {
                if *count > 0 {
                    count.push(*count - 1).unwrap();
                }
                *count
            });
            let boxed: Box<dyn Iterator<Item = u64> + Send> = Box::new(owned);
            assert!(boxed.eq((0..=9).rev()));
        });
    }
}

#[test]
fn results_are_delivered_while_the_source_waits() {
    for n in 2..=9 {
        within(SOON, move || {
            let (gate, opener) = (Gate::new(), Gate::new());
            let _opener = opener.opener();
            let wait = gate.clone();
            let mut stage = worklist([0, 1, 2]).par_map_ordered(n, move |node| {
                if *node == 2 {
                    wait.wait(); // still holding its work item
                    node.push(3).unwrap();
                }
                *node
            });
            assert_eq!((stage.next(), stage.next()), (Some(0), Some(1)));
            gate.open();
            assert!(stage.eq([2, 3]));
        });
    }
}

// ---- ends

#[test]
fn a_panic_ends_the_crawl_and_hangs_nothing() {
    for n in 1..=9 {
        within(SOON, move || {
            let tree = tree(2_000);
            let visit = |node: WorkItem<u64>| {
                let node = explore(&tree, &node);
                if node == 100 { bang(node) } else { node }
            };
            let stage = worklist([0]).par_map_ordered(n, visit);
            assert_eq!(caught(|| stage.count()), Err(100));
            // In an isolated stage it is not the end; what the node pushed before is visited too.
            let stage = worklist([0]).par_map_ordered(n, visit).isolate();
            let (good, bad): (Vec<_>, Vec<_>) = stage.partition(|result| result.is_ok());
            assert_eq!((good.len(), bad.len()), (1_999, 1));
        });
    }
}

#[test]
fn a_panic_before_the_push_ends_that_branch_only() {
    for n in 1..=9 {
        within(SOON, move || {
            let stage = worklist([0_u64, 100]).par_map_unordered(n, |node| {
                if *node == 5 {
                    bang(5);
                }
                if *node % 100 < 9 {
                    node.push(*node + 1).unwrap();
                }
                *node
            });
            // 0 to 5, and 100 to 109
            assert_eq!(stage.isolate().count(), 6 + 10);
        });
    }
}

#[test]
fn an_error_ends_the_crawl() {
    for n in 1..=9 {
        within(SOON, move || {
            let mut stage = worklist([0_u64]).try_par_map_ordered(n, |node| {
                node.push(*node + 1).unwrap();
                node.push(*node + 2).unwrap();
                if *node < 20 { Ok(*node) } else { Err("enough") }
            });
            assert!(stage.by_ref().any(|result| result == Err("enough")));
            assert!(stage.next().is_none());
            drop(stage);
            fanfold::testing::assert_quiescent();
        });
    }
}

#[test]
fn a_dropped_or_cancelled_stage_stops_waiting_for_items() {
    for n in 1..=9 {
        within(SOON, move || {
            let (tell, pushers) = mpsc::channel();
            let endless = |token: &CancelToken| {
                let tell = tell.clone();
                worklist([0, 1, 2])
                    .par_map_ordered(n, move |node| {
                        let (node, pusher) = node.into_parts();
                        tell.send(pusher).unwrap(); // the source goes on waiting
                        node
                    })
                    .cancel_on(token)
            };
            let token = CancelToken::new();
            let mut stage = endless(&token);
            assert_eq!(stage.next(), Some(0));
            drop(stage);
            let mut stage = endless(&token);
            for node in 0..3 {
                assert_eq!(stage.next(), Some(node));
            }
            let cancels = token.clone();
            let thread = std::thread::spawn(move || {
                settle();
                cancels.cancel();
            });
            assert_eq!(stage.next(), None);
            thread.join().unwrap();
            // the pushers outlive their source
            for pusher in pushers.try_iter() {
                assert_eq!(pusher.push(7), Ok(()));
            }
        });
    }
}

/// The stage that ends waited in the source before, but no longer does.
#[test]
fn a_stage_that_has_its_item_interrupts_no_later_reader() {
    within(SOON, || {
        let mut source = worklist([0]);
        let work_item = source.next().unwrap();
        let push = |item| {
            settle(); // until a thread waits
            work_item.push(item).unwrap();
        };
        for i in 1..4 {
            std::thread::scope(|threads| {
                threads.spawn(move || push(i));
                fanfold::scope(|s| {
                    let here = source.by_ref().local();
                    let stage = here.par_map_ordered(1, |item| *item).in_flight(1);
                    let mut stage = stage.within(s);
                    assert_eq!(stage.next(), Some(i));
                });
            });
            std::thread::scope(|threads| {
                threads.spawn(move || push(10 * i));
                assert_eq!(source.next().map(|item| *item), Some(10 * i));
            });
        }
    });
}

#[test]
fn a_source_that_was_interrupted_can_be_asked_again() {
    within(SOON, || {
        let mut source = worklist([0]);
        let (tell, pushers) = mpsc::channel();
        fanfold::scope(|s| {
            let stage = source.by_ref().par_map_ordered(2, |node: WorkItem<i32>| {
                let (node, pusher) = node.into_parts();
                tell.send(pusher).unwrap();
                node
            });
            let mut stage = stage.within(s);
            assert_eq!(stage.next(), Some(0));
            settle(); // a worker waits in the source by now
            drop(stage);
        });
        let pusher = pushers.recv().unwrap();
        let thread = std::thread::spawn(move || {
            settle();
            pusher.push(1).unwrap();
        });
        assert_eq!(source.next().map(|item| *item), Some(1));
        assert!(source.next().is_none());
        thread.join().unwrap();
    });
}

#[test]
fn each_item_is_dropped_once() {
    for n in 1..=9 {
        within(SOON, move || {
            for taken in [0, 1, 5, 40, 1_000] {
                let ledger = Ledger::new();
                let tracks = ledger.clone();
                let stage = worklist([ledger.track(1)]).par_map_unordered(n, move |node| {
                    for child in [node.id * 2, node.id * 2 + 1] {
                        if child < 500 {
                            node.push(tracks.track(child)).unwrap();
                        }
                    }
                    node.into_parts().0
                });
                let mut got: Vec<u64> = stage.take(taken).map(|node| node.id).collect();
                got.sort_unstable();
                got.dedup();
                assert_eq!(got.len(), taken.min(499));
                ledger.assert_dropped_once();
            }
        });
    }
}

#[test]
fn items_pushed_to_a_dropped_worklist_are_dropped() {
    let ledger = Ledger::new();
    let mut source = worklist((0..9).map(|id| ledger.track(id)));
    let work_item = source.next().unwrap();
    work_item.push(ledger.track(9)).unwrap();
    drop(source);
    assert_eq!(ledger.alive(), 1, "the item itself");
    assert!(work_item.push(ledger.track(10)).is_ok());
    assert_eq!(ledger.alive(), 1);
    drop(work_item);
    ledger.assert_dropped_once();
}

#[test]
fn a_drop_that_panics_does_no_harm() {
    let ledger = Ledger::new();
    let mut source = worklist([ledger.track(0), ledger.bomb(1)]);
    let work_item = source.next().unwrap();
    assert_eq!(caught(|| drop(source)), Err(1));
    assert_eq!(caught(|| work_item.push(ledger.bomb(2)).is_ok()), Err(2));
    assert!(work_item.push(ledger.track(3)).is_ok());
    drop(work_item);
    ledger.assert_dropped_once();
}

// ---- bounds

#[test]
fn a_full_queue_gives_the_item_back() {
    let mut source = worklist([0, 1]).buffer(2);
    let work_item = source.next().unwrap();
    assert_eq!(work_item.push(2), Ok(()));
    assert_eq!(work_item.push(3), Err(PushError::Full(3)));
    assert_eq!(source.next().map(|item| *item), Some(1));
    assert_eq!(work_item.push(4), Ok(()), "room again");
    drop(work_item);
    assert!(source.map(|item| *item).eq([2, 4]));
    // more seeds than the capacity are accepted
    let mut source = worklist(0..9).buffer(1);
    let work_item = source.next().unwrap();
    assert_eq!(work_item.push(9), Err(PushError::Full(9)));
    assert_eq!(work_item.push(9).map_err(PushError::into_inner), Err(9));
    drop(work_item);
    assert_eq!(source.count(), 8);
}

#[test]
fn a_crawl_within_a_capacity_never_blocks() {
    for n in 1..=9 {
        within(SOON, move || {
            let dropped = Counter::new();
            let refused = dropped.clone();
            let stage = worklist([0_u64])
                .buffer(3)
                .par_map_unordered(n, move |node| {
                    for child in 1..=9 {
                        if *node < 1_000 && node.push(*node * 2 + child).is_err() {
                            refused.add();
                        }
                    }
                    *node
                });
            // a push that waited for room would wait for itself
            assert!(stage.count() > 3);
            assert!(dropped.get() > 0);
        });
    }
}

#[test]
fn a_budget_ends_what_has_no_end() {
    for n in WIDTHS {
        within(SOON, move || {
            let given = Counter::new();
            let counts = given.clone();
            let runaway = worklist([0_u64])
                .budget(1_000)
                .par_map_ordered(n, move |node| {
                    let node = node?;
                    counts.add();
                    for child in 0..3 {
                        let _ = node.push(child); // a program that ignores the error
                    }
                    Ok::<u64, BudgetExhausted>(*node)
                });
            let results: Vec<_> = runaway.collect();
            assert_eq!((results.len(), given.get()), (1_001, 1_000));
            let exhausted = results[1_000].as_ref().unwrap_err();
            assert_eq!(
                (exhausted.budget(), exhausted.refused()),
                (1_000, 3_000 - 999)
            );
            assert!(results[..1_000].iter().all(Result::is_ok));
            // and with `?`
            let runaway = worklist([0_u64])
                .budget(1_000)
                .try_par_map_ordered(n, |node| {
                    let node = node.map_err(|error| error.to_string())?;
                    node.push(*node + 1).map_err(|error| error.to_string())?;
                    Ok::<u64, String>(*node)
                });
            let all: Result<Vec<_>, _> = runaway.collect();
            assert_eq!(all, Err("the budget is spent".to_owned()));
        });
    }
}

#[test]
fn a_budget_that_suffices_yields_no_error() {
    for budget in [10, 11, usize::MAX] {
        let mut source = worklist([0]).budget(budget);
        for i in 0..10 {
            let work_item = source.next().unwrap().unwrap();
            assert_eq!(*work_item, i);
            if i < 9 {
                work_item.push(i + 1).unwrap();
            }
        }
        assert_eq!(source.size_hint(), (0, Some(0)), "not even a budget error");
        assert!(source.next().is_none() && source.next().is_none());
    }
}

#[test]
fn the_budget_error_comes_last_and_once() {
    let mut source = worklist([0]).budget(2).buffer(9);
    let work_item = source.next().unwrap().unwrap();
    assert_eq!(
        (work_item.push(1), work_item.push(2)),
        (Ok(()), Err(PushError::Budget(2)))
    );
    drop(work_item);
    assert_eq!(source.size_hint(), (1, Some(2)));
    assert_eq!(
        source.next().map(|work_item| work_item.map(|item| *item)),
        Some(Ok(1))
    );
    assert_eq!(source.size_hint(), (0, Some(1)));
    let said = source.next().unwrap().unwrap_err();
    assert_eq!(
        said.to_string(),
        "the budget of 2 items is spent, and 1 more were refused"
    );
    assert!(source.next().is_none() && source.next().is_none());
    assert_eq!(source.size_hint(), (0, Some(0)));
    // seeds count towards the budget
    let ledger = Ledger::new();
    let mut source = worklist((0..9).map(|id| ledger.track(id))).budget(4);
    assert_eq!(ledger.alive(), 4);
    assert_eq!(source.by_ref().take(4).flatten().count(), 4);
    let exhausted = source.next().unwrap().unwrap_err();
    assert_eq!((exhausted.budget(), exhausted.refused()), (4, 5));
    ledger.assert_dropped_once();
}

#[test]
fn a_budget_that_is_interrupted_is_not_exhausted() {
    within(SOON, || {
        let mut source = worklist([0]).budget(1);
        let (tell, pushers) = mpsc::channel();
        fanfold::scope(|s| {
            let stage = source
                .by_ref()
                .par_map_ordered(2, |node: Result<WorkItem<i32>, _>| {
                    let (node, pusher) = node.unwrap().into_parts();
                    assert_eq!(pusher.push(1), Err(PushError::Budget(1)));
                    tell.send(pusher).unwrap();
                    node
                });
            let mut stage = stage.within(s);
            assert_eq!(stage.next(), Some(0));
            settle();
            drop(stage);
        });
        drop(pushers);
        assert!(source.next().unwrap().is_err());
        assert!(source.next().is_none());
    });
}

#[test]
fn zeros_are_refused_with_the_fix() {
    let said = message(|| worklist([1]).buffer(0));
    assert!(
        said.contains("at least 1") && said.contains("leave it out"),
        "{said}"
    );
    let said = message(|| worklist([1]).budget(0));
    assert!(
        said.contains("at least 1") && said.contains("leave it out"),
        "{said}"
    );
    let said = message(|| worklist([1]).budget(1).buffer(0));
    assert!(said.contains("at least 1"), "{said}");
}

#[test]
fn errors_need_no_bounds_on_the_item() {
    struct Plain;
    let try_it = || -> Result<(), Box<dyn std::error::Error>> {
        let mut source = worklist([Plain]).buffer(1);
        let work_item = source.next().unwrap();
        work_item.push(Plain)?;
        work_item.push(Plain)?;
        Ok(())
    };
    assert_eq!(try_it().unwrap_err().to_string(), "the queue is full");
    assert_eq!(format!("{:?}", PushError::Budget(Plain)), "Budget(..)");
}

#[test]
fn nothing_runs_before_the_first_next() {
    let calls = Counter::new();
    let counts = calls.clone();
    let stage = worklist([1]).par_map_unordered(2, move |_| counts.add());
    settle();
    assert_eq!(calls.get(), 0);
    assert_eq!(stage.count(), 1);
}

#[test]
fn the_types_have_the_auto_traits_of_their_items() {
    fn is_send<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_send::<Worklist<u8>>();
    is_send::<BudgetedWorklist<u8>>();
    is_shared::<WorkItem<u8>>();
    is_shared::<Pusher<u8>>();
    is_shared::<PushError<u8>>();
    is_shared::<BudgetExhausted>();
    // items that are not `Send` can be crawled on this thread
    let mut source = worklist([std::rc::Rc::new(1)]);
    let work_item = source.next().unwrap();
    work_item.push(std::rc::Rc::new(2)).unwrap();
    drop(work_item);
    assert_eq!(source.count(), 1);
}

#[test]
fn a_pusher_can_be_used_by_many_threads() {
    within(SOON, || {
        let mut source = worklist([0]);
        let (_, pusher) = source.next().unwrap().into_parts();
        let pushed = Counter::new();
        std::thread::scope(|s| {
            for thread in 0..4 {
                let (pusher, pushed) = (&pusher, &pushed);
                s.spawn(move || {
                    for i in 0..500 {
                        pusher.push(thread * 500 + i).unwrap();
                        pushed.add();
                    }
                });
            }
        });
        drop(pusher);
        eventually("all pushed", || pushed.get() == 2_000);
        let mut all: Vec<_> = source.map(|item| *item).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..2_000));
    });
}
