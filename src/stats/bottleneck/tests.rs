use super::*;
use crate::runtime::meter::Totals;
use crate::stats::Snapshot;
use crate::sync::Arc;

const MS: Duration = Duration::from_millis(1);

/// A hundred milliseconds of each of ten permits: so many of them were in that state.
#[derive(Clone, Copy, Default)]
struct Plant {
    run: u32,
    source: u32,
    room: u32,
    /// In milliseconds, of 2,000.
    head: u32,
    blocked: u32,
    finished: u64,
}

const SECONDS: u32 = 2;

impl Plant {
    fn interval(self) -> Interval {
        let at = |part: u32| SECONDS * 10 * MS * part; // of 1,000 parts, of ten permits
        let totals = Totals {
            elapsed: SECONDS * 1000 * MS,
            width: 10,
            run: at(self.run),
            source: at(self.source),
            room: at(self.room),
            room_blocked: at(self.room) * self.blocked / 2000,
            spare: at(1000 - self.run - self.source - self.room),
            head: self.head * MS,
            blocked: self.blocked * MS,
            pulled: self.finished,
            ran: self.finished,
            taken: self.finished,
            bound: 160,
            ..Totals::default()
        };
        let name: Arc<str> = "plant".into();
        let before = Totals {
            width: 10,
            ..Totals::default()
        };
        Snapshot::new(&name, &totals).since(&Snapshot::new(&name, &before))
    }

    fn verdict(self) -> Bottleneck {
        self.interval().bottleneck()
    }
}

const PLANT: Plant = Plant {
    run: 500,
    source: 100,
    room: 0,
    head: 1000,
    blocked: 0,
    finished: 1000,
};

#[test]
fn too_little_says_nothing() {
    let few = Plant {
        finished: 99,
        run: 950,
        source: 0,
        ..PLANT
    };
    assert_eq!(few.verdict(), Bottleneck::Unknown);
    let enough = Plant {
        finished: 100,
        ..few
    };
    assert!(matches!(enough.verdict(), Bottleneck::Workers { .. }));
    let mut short = PLANT.interval();
    short.elapsed = 999 * MS;
    assert_eq!(short.bottleneck(), Bottleneck::Unknown);
}

#[test]
fn each_verdict_begins_at_its_border() {
    let workers = |run| {
        Plant {
            run,
            source: 50,
            ..PLANT
        }
        .verdict()
    };
    assert!(matches!(
        workers(900),
        Bottleneck::Workers { width: 10, .. }
    ));
    assert!(!matches!(workers(899), Bottleneck::Workers { .. }));

    let head = |blocked| {
        Plant {
            room: 150,
            blocked,
            ..PLANT
        }
        .verdict()
    };
    assert!(matches!(head(400), Bottleneck::Head { in_flight: 160, .. }));
    assert!(!matches!(head(399), Bottleneck::Head { .. }));

    let away = |head| Plant { head, ..PLANT }.verdict();
    assert!(matches!(away(200), Bottleneck::Consumer { .. }));
    assert!(!matches!(away(201), Bottleneck::Consumer { .. }));
    let room = |room| Plant { room, ..PLANT }.verdict();
    assert!(matches!(room(200), Bottleneck::Consumer { .. }));
    assert!(!matches!(room(199), Bottleneck::Consumer { .. }));

    let source = |run, head| {
        Plant {
            run,
            source: 400,
            head,
            ..PLANT
        }
        .verdict()
    };
    assert!(matches!(source(500, 1000), Bottleneck::Source { .. }));
    assert_eq!(source(501, 1000), Bottleneck::Balanced);
    assert_eq!(source(500, 999), Bottleneck::Balanced);
}

#[test]
fn rates_are_those_of_useful_time() {
    // 1,000 items in 1.6 s of the source's time.
    let slow = Plant {
        run: 100,
        source: 80,
        head: 2000,
        ..PLANT
    };
    assert_eq!(slow.verdict(), Bottleneck::Source { rate: 625.0 });
    // In 1 s, which is half of the time: the workers do not wait for the source, but for cores, say.
    let fast = Plant { source: 50, ..slow };
    assert_eq!(fast.verdict(), Bottleneck::Balanced);
    // Ten workers, busy 95 % of two seconds; the source would give 2,500.
    let busy = Plant {
        run: 950,
        source: 20,
        head: 2000,
        ..PLANT
    };
    let Bottleneck::Workers { rate, headroom, .. } = busy.verdict() else {
        panic!("{:?}", busy.verdict())
    };
    assert!((rate - 500.0 / 0.95).abs() < 0.1 && (headroom - 2500.0 / rate).abs() < 0.01);
    let taker = Plant { head: 0, ..PLANT };
    assert_eq!(taker.verdict(), Bottleneck::Consumer { rate: 500.0 });
}

#[test]
fn workers_that_use_all_cores_are_the_limit_although_they_wait_for_them() {
    let cores = u32::try_from(cores()).expect("a number of cores");
    let verdict = |percent: u32| {
        let mut busy = PLANT.interval();
        busy.end.width = 64.max(cores as usize);
        busy.time.run_cpu = Some(busy.elapsed * cores * percent / 100);
        busy.bottleneck()
    };
    let Bottleneck::Workers {
        rate, cpu_bound, ..
    } = verdict(80)
    else {
        panic!("{:?}", verdict(80))
    };
    assert!(cpu_bound && (rate - 500.0).abs() < 0.1);
    assert!(verdict(80).to_string().contains("do not help"));
    assert_eq!(verdict(79), PLANT.verdict());
}

#[test]
fn a_chain_is_limited_by_the_first_that_is_not_stopped() {
    let stopped = Plant { room: 400, ..PLANT };
    let busy = Plant {
        run: 950,
        source: 20,
        ..PLANT
    };
    let starved = Plant {
        run: 100,
        source: 800,
        head: 1500,
        ..PLANT
    };
    for (chain, limit) in [
        ([busy, starved, starved], 0),
        ([stopped, busy, starved], 1),
        ([stopped, stopped, busy], 2),
        ([stopped, stopped, stopped], 3),
    ] {
        let lines = table(&chain.map(Plant::interval));
        let marked: Vec<_> = lines
            .lines()
            .skip(1)
            .map(|line| line.contains(" < "))
            .collect();
        let want: Vec<_> = (0..4).map(|stage| stage == limit).collect();
        assert_eq!(marked, want, "{lines}");
    }
    assert!(table(&[]).starts_with("stage"));
}
