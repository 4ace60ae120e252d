//! The search engine against a model that reads every line: on the journal, on
//! segments, and on both, with every kind of condition.

mod naive;
mod world;

use std::{collections::BTreeMap, ops::ControlFlow, sync::Arc};

use domain::{
    fields::{self, Stream},
    ids::InstanceId,
    query::{Expr, FieldRef, Function, Literal, Measure, Stats, Test},
    time::Timestamp,
};
use logstore::engine::{
    self, Budget, Cell, Filter, Order, Position, Report, Search, Sources, Stop,
};
use proptest::prelude::*;

use self::{
    naive::{Fields, holds, parse, place, value},
    world::{Dice, Line, World, expr, project, time},
};

/// Streams, times, projects and order at random; no limit.
fn question(dice: &mut Dice) -> Search {
    let mut search = Search::new(match dice.below(6) {
        0 => Expr::All,
        _ => expr(dice, 2),
    });
    search.streams = match dice.below(3) {
        0 => Stream::ALL.to_vec(),
        1 => vec![Stream::Record],
        _ => vec![*dice.pick(Stream::ALL)],
    };
    search.since = dice.one_in(3).then(|| time(dice));
    search.until = dice.one_in(3).then(|| time(dice));
    search.bodies = dice.one_in(2);
    search.projects = dice.one_in(4).then(|| vec![project(1), project(2)]);
    if dice.one_in(2) {
        search.order = Order::OldestFirst;
    }
    search
}

fn allowed(search: &Search, line: &Line, fields: &Fields) -> bool {
    search.streams.contains(&line.stream)
        && search.projects.as_ref().is_none_or(|projects| {
            let own = fields.get("project_id").and_then(|id| id.as_str());
            projects.iter().any(|project| own == Some(&project.to_string()))
        })
}

/// The lines that should be found, in order.
fn expected<'w>(world: &'w World, search: &Search) -> Vec<&'w Line> {
    let mut found: Vec<&Line> = world
        .lines
        .iter()
        .filter(|line| {
            let fields = parse(&line.text);
            allowed(search, line, &fields)
                && search.since.is_none_or(|since| line.ts >= since)
                && search.until.is_none_or(|until| line.ts < until)
                && holds(&search.expr, &fields, line.stream, &bodies_of(world, search, &fields))
        })
        .collect();
    found.sort_by_key(|line| place(line));
    if search.order == Order::NewestFirst {
        found.reverse();
    }
    found
}

fn bodies_of<'w>(world: &'w World, search: &Search, record: &Fields) -> Vec<&'w str> {
    let id = record.get("record_id").and_then(|id| id.as_str()).filter(|_| search.bodies);
    let own = world.bodies.iter().filter(|(record, _)| id == Some(record));
    own.map(|(_, text)| *text).collect()
}

fn run(world: &World, search: &Search) -> (Vec<(String, Position, bool)>, Report) {
    let sources = Sources::open(&world.fs, world.path()).unwrap();
    let mut found = Vec::new();
    let report = engine::search(&sources, search, &mut |hit| {
        let line = String::from_utf8(hit.line.to_vec()).unwrap();
        found.push((line, hit.position.clone(), hit.context));
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.stopped, None);
    (found, report)
}

fn texts(lines: &[&Line]) -> Vec<String> {
    lines.iter().map(|line| line.text.clone()).collect()
}

fn lines_of(found: Vec<(String, Position, bool)>) -> Vec<String> {
    found.into_iter().map(|(line, ..)| line).collect()
}

fn check_search(world: &World, search: &Search, dice: &mut Dice) {
    let wanted = expected(world, search);
    let (found, report) = run(world, search);
    assert_eq!(report.matched, wanted.len() as u64);
    for ((_, position, _), line) in found.iter().zip(&wanted) {
        let instance = InstanceId::parse(line.instance).unwrap();
        assert_eq!(*position, Position { ts: line.ts, instance, seq: line.seq });
    }
    assert_eq!(lines_of(found), texts(&wanted), "{search:?}");
    let sources = Sources::open(&world.fs, world.path()).unwrap();
    assert_eq!(engine::count(&sources, search).unwrap().matched, wanted.len() as u64);
    check_limits(world, search, &wanted, dice);
    check_filter(world, search);
}

/// Pages of a random size, each from the last line of the one before.
fn check_limits(world: &World, search: &Search, wanted: &[&Line], dice: &mut Dice) {
    let size = 1 + dice.below(20) as usize;
    let mut pages = Vec::new();
    let mut after: Option<Position> = None;
    loop {
        let page = Search { limit: Some(size), after: after.clone(), ..search.clone() };
        let (found, _) = run(world, &page);
        let Some((_, last, _)) = found.last() else { break };
        let text = last.to_string();
        after = Some(text.parse().unwrap());
        pages.extend(lines_of(found));
    }
    assert_eq!(pages, texts(wanted), "pages of {size}: {search:?}");
}

fn check_filter(world: &World, search: &Search) {
    let search = &Search { bodies: false, ..search.clone() };
    let mut filter = Filter::new(search).unwrap();
    let mut found: Vec<_> =
        world.lines.iter().filter(|line| filter.matches(line.text.as_bytes())).collect();
    found.sort_by_key(|line| place(line));
    if search.order == Order::NewestFirst {
        found.reverse();
    }
    assert_eq!(texts(&found), texts(&expected(world, search)), "{search:?}");
    assert!(!filter.matches(b"{\"_n\":{}}"));
    assert!(!filter.matches(b"no JSON"));
}

fn check_context(world: &World, search: &Search, dice: &mut Dice) {
    let search = Search {
        context: 1 + dice.below(4) as usize,
        limit: Some(1 + dice.below(4) as usize),
        ..search.clone()
    };
    let mut hits = expected(world, &search);
    hits.truncate(search.limit.unwrap_or(usize::MAX));
    let mut wanted: BTreeMap<_, (&Line, bool)> = BTreeMap::new();
    for hit in &hits {
        let mut near: Vec<&Line> = world
            .lines
            .iter()
            .filter(|line| line.stream == hit.stream && allowed(&search, line, &parse(&line.text)))
            .collect();
        near.sort_by_key(|line| place(line));
        let at = near.iter().position(|line| place(line) == place(hit)).unwrap();
        let from = at.saturating_sub(search.context);
        for line in &near[from..near.len().min(at + search.context + 1)] {
            wanted.entry(place(line)).or_insert((line, true));
        }
    }
    for hit in &hits {
        wanted.insert(place(hit), (hit, false));
    }
    let mut wanted: Vec<_> = wanted.into_values().collect();
    if search.order == Order::NewestFirst {
        wanted.reverse();
    }
    let (found, _) = run(world, &search);
    let found: Vec<(String, bool)> =
        found.into_iter().map(|(line, _, context)| (line, context)).collect();
    let wanted: Vec<(String, bool)> =
        wanted.into_iter().map(|(line, context)| (line.text.clone(), context)).collect();
    assert_eq!(found, wanted, "{search:?}");
}

fn field(name: &str) -> FieldRef {
    FieldRef::Known(fields::find(name).unwrap())
}

fn statistics(dice: &mut Dice) -> Stats {
    let measure = |function, name: &str| Measure { function, field: Some(field(name)) };
    let mut measures = vec![
        Measure { function: Function::Count, field: None },
        measure(Function::Count, "error"),
        measure(Function::Sum, "input_tokens"),
        measure(Function::Sum, "cost_usd"),
        measure(Function::Average, "duration_ms"),
        measure(Function::Minimum, "ts"),
        measure(Function::Maximum, "request_bytes"),
        measure(Function::Quantile(0.5), "duration_ms"),
        measure(Function::Quantile(0.95), "duration_ms"),
        measure(Function::Distinct, "end_user"),
        measure(Function::Distinct, "status_code"),
    ];
    while measures.len() > 1 && !dice.one_in(4) {
        measures.swap_remove(dice.below(measures.len() as u64) as usize);
    }
    let by = [
        field("model"),
        field("status_code"),
        field("stream_response"),
        FieldRef::Label("team".into()),
        FieldRef::Attribute("shard".into()),
        field("end_user"),
        field("request_id"),
    ];
    let by: Vec<FieldRef> = (0..dice.below(4)).map(|_| dice.pick(&by).clone()).collect();
    let bucket_micros = dice.one_in(2).then(|| 1_000_000 * (1 + dice.below(20) as i64));
    Stats { measures, by, bucket_micros }
}

/// What a column of the table should show, with numbers rounded alike.
fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Number(number) => format!("{number:.6}"),
        other => other.to_string(),
    }
}

fn measure(measure: &Measure, lines: &[(&Line, &Fields)]) -> String {
    let weight = |fields: &Fields, stream| match stream {
        Stream::Record => fields.get("count").and_then(|count| count.as_u64()).unwrap_or(1),
        _ => 1,
    };
    let Some(field) = &measure.field else {
        return lines
            .iter()
            .map(|(line, fields)| weight(fields, line.stream))
            .sum::<u64>()
            .to_string();
    };
    let with: Vec<_> = lines
        .iter()
        .filter_map(|(line, fields)| Some((*line, *fields, value(fields, line.stream, field)?)))
        .collect();
    if measure.function == Function::Count {
        return with
            .iter()
            .map(|(line, fields, _)| weight(fields, line.stream))
            .sum::<u64>()
            .to_string();
    }
    let mut all: Vec<String> = with
        .iter()
        .map(|(.., value)| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .collect();
    if measure.function == Function::Distinct {
        all.sort();
        all.dedup();
        return all.len().to_string();
    }
    if measure.function == Function::Minimum {
        return all.into_iter().min().unwrap_or_default();
    }
    let mut numbers: Vec<f64> = all.iter().filter_map(|text| text.parse().ok()).collect();
    numbers.sort_by(f64::total_cmp);
    if numbers.is_empty() {
        return String::new();
    }
    let whole = field == &self::field("input_tokens") || field == &self::field("request_bytes");
    let sum: f64 = numbers.iter().sum();
    match measure.function {
        Function::Sum if whole => format!("{sum}"),
        Function::Sum => {
            let nanos: i128 = numbers.iter().map(|number| (number * 1e9).round() as i128).sum();
            Cell::Decimal(nanos).to_string()
        }
        Function::Average => format!("{:.6}", sum / numbers.len() as f64),
        Function::Maximum => format!("{}", numbers.last().unwrap()),
        Function::Quantile(part) => {
            let rank = (part * numbers.len() as f64 - 1e-9).ceil().max(1.0) as usize;
            format!("{:.6}", numbers[rank - 1])
        }
        _ => unreachable!("done above"),
    }
}

fn check_stats(world: &World, search: &Search, stats: &Stats) {
    let lines = expected(world, search);
    let parsed: Vec<Fields> = lines.iter().map(|line| parse(&line.text)).collect();
    let mut groups: BTreeMap<Vec<String>, Vec<(&Line, &Fields)>> = BTreeMap::new();
    if stats.by.is_empty() && stats.bucket_micros.is_none() {
        groups.insert(Vec::new(), Vec::new());
    }
    for (line, fields) in lines.iter().zip(&parsed) {
        let bucket = stats.bucket_micros.map(|length| {
            let start = line.ts.as_micros().div_euclid(length) * length;
            Timestamp::from_micros(start).to_string()
        });
        let by = stats.by.iter().map(|field| {
            let value = value(fields, line.stream, field);
            value.map_or_else(String::new, |v| {
                v.as_str().map_or_else(|| v.to_string(), str::to_owned)
            })
        });
        groups.entry(bucket.into_iter().chain(by).collect()).or_default().push((line, fields));
    }
    let mut wanted: Vec<Vec<String>> = groups
        .into_iter()
        .map(|(mut key, lines)| {
            key.extend(stats.measures.iter().map(|asked| measure(asked, &lines)));
            key
        })
        .collect();
    wanted.sort();
    let sources = Sources::open(&world.fs, world.path()).unwrap();
    let (table, report) = engine::stats(&sources, search, stats).unwrap();
    assert_eq!(report.matched, lines.len() as u64);
    let mut found: Vec<Vec<String>> =
        table.rows.iter().map(|row| row.iter().map(shown).collect()).collect();
    found.sort();
    let same = found.len() == wanted.len()
        && found.iter().zip(&wanted).all(|(a, b)| a.iter().zip(b).all(|(a, b)| is_about(a, b)));
    assert!(same, "{found:?}\nis not\n{wanted:?}\n{stats:?} of {search:?}");
}

/// Equal, but for the last bits of a fraction.
fn is_about(a: &str, b: &str) -> bool {
    let number = |text: &str| text.parse::<f64>().ok();
    a == b || number(a).zip(number(b)).is_some_and(|(a, b)| (a - b).abs() <= 1e-5)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8,
        // A smaller seed is not a simpler case.
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn answers_are_those_of_the_model(seed: u64, lines in 1u64..120, sealed: bool) {
        let dice = &mut Dice::new(seed);
        let world = World::new(dice, lines);
        if sealed {
            world.seal(dice);
        }
        for _ in 0..10 {
            let search = question(dice);
            check_search(&world, &search, dice);
            check_context(&world, &search, dice);
            check_stats(&world, &Search { order: Order::NewestFirst, ..search }, &statistics(dice));
        }
    }
}

/// One record with bodies that lie in the journal, then in a segment.
#[test]
fn captured_bodies_are_found_by_what_they_say_of_themselves() {
    let dice = &mut Dice::new(7);
    let world = World::new(dice, 200);
    let (record, _) = world.bodies.first().unwrap();
    let wanted = world.bodies.iter().filter(|(id, _)| id == record).count();
    let expr = Expr::Field(field("record_id"), Test::Any(vec![Literal::Text(record.clone())]));
    for sealed in [false, true] {
        if sealed {
            world.seal_all();
        }
        let sources = Sources::open(&world.fs, world.path()).unwrap();
        let mut found = 0;
        let report = engine::search_bodies(&sources, &Search::new(expr.clone()), &mut |hit| {
            let line = parse(std::str::from_utf8(hit.line).unwrap());
            assert_eq!(line["record_id"], record.as_str());
            assert_eq!(line["stream"], "body");
            found += 1;
            ControlFlow::Continue(())
        });
        assert_eq!((report.unwrap().problems, found), (Vec::new(), wanted));
    }
}

/// Damage in the journal is named, and what lies around it is found.
#[test]
fn damage_is_named_and_the_rest_is_found() {
    let dice = &mut Dice::new(11);
    let world = World::new(dice, 200);
    let all = Search { streams: Stream::ALL.to_vec(), ..Search::new(Expr::All) };
    let whole = run(&world, &all).0.len();
    let journal = logstore::journal_dir(world.path());
    let files = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap().path());
    let file = files.filter(|path| path.extension().is_some_and(|e| e == "jsonl")).max().unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let sources = Sources::open(&world.fs, world.path()).unwrap();
    let report = engine::count(&sources, &all).unwrap();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].path, file);
    assert!(!report.is_complete());
    let left = report.matched as usize;
    assert!(left < whole && left > whole / 2, "{left} of {whole}");
}

/// A problem names its file once, and says why.
#[test]
fn a_damaged_segment_is_named_once() {
    let world = World::new(&mut Dice::new(12), 200);
    world.seal_all();
    let taken = logstore::catalog::snapshot(&*world.fs, world.path()).unwrap();
    let file = &taken.segments.first().expect("a sealed file").path;
    std::fs::write(file, b"no Parquet at all").unwrap();
    let all = Search { streams: Stream::ALL.to_vec(), ..Search::new(Expr::All) };
    let sources = Sources::open(&world.fs, world.path()).unwrap();
    let report = engine::count(&sources, &all).unwrap();
    let said: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
    let name = file.file_name().unwrap().to_str().unwrap();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].matches(name).count() == 1 && said[0].contains(": it is damaged: "),
        "{said:?}"
    );
}

/// A journal file that is read in parts: none is missed, none read twice, damage is
/// said once, and by a look-up only if it found nothing.
#[test]
fn a_large_journal_file_is_read_in_parts() {
    const LINES: u64 = 30_000;
    let dir = tempfile::tempdir().unwrap();
    let path = world::large_journal(dir.path(), LINES);
    let fs: Arc<dyn logstore::fs::Fs> = Arc::new(logstore::fs::StdFs);
    let id = |id: &str| {
        let test = Test::Any(vec![Literal::Text(id.to_owned())]);
        Search::new(Expr::Field(field("request_id"), test))
    };
    let check = |search: &Search, matched: u64, problems: usize| {
        let sources = Sources::open(&fs, dir.path()).unwrap();
        let mut lines = 0;
        let report = engine::search(&sources, search, &mut |_| {
            lines += 1;
            ControlFlow::Continue(())
        });
        let report = report.unwrap();
        assert_eq!((report.matched, report.problems.len()), (matched, problems), "{search:?}");
        assert_eq!(lines, matched);
        assert_eq!(report.complete_to[0].seq, LINES + 1);
    };
    for number in [1, LINES / 2, LINES] {
        check(&id(&format!("req-{number}")), 1, 0);
    }
    check(&id("req-0"), 0, 0);
    check(&Search::new(Expr::All), LINES, 0);
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 24 * 1024 * 1024, "{} bytes", bytes.len());
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    check(&Search::new(Expr::All), LINES - world::LARGE_BATCH, 1);
    check(&id("req-1"), 1, 0);
    check(&id("req-0"), 0, 1);
}

/// Bounds end the work and say which one did.
#[test]
fn bounds_are_kept_and_named() {
    let dice = &mut Dice::new(13);
    let world = World::new(dice, 400);
    world.seal_all();
    let sources = Sources::open(&world.fs, world.path()).unwrap();
    let check = |search: &Search, expected: Option<Stop>| {
        let visited = engine::search(&sources, search, &mut |_| ControlFlow::Continue(()));
        assert_eq!(visited.unwrap().stopped, expected);
        assert_eq!(engine::count(&sources, search).unwrap().stopped, expected);
    };
    let all = Search::new(Expr::All);
    check(&all, None);
    let cancelled = all.clone();
    cancelled.cancel.cancel();
    check(&Search { cancel: Default::default(), ..all.clone() }, None);
    check(&cancelled, Some(Stop::Cancelled));
    let none = Budget { rows_scanned: Some(0), ..Budget::default() };
    check(
        &Search { budget: none, cancel: Default::default(), ..all.clone() },
        Some(Stop::RowsScanned),
    );
    let past = Budget { deadline: Some(std::time::Instant::now()), ..Budget::default() };
    check(
        &Search { budget: past, cancel: Default::default(), ..all.clone() },
        Some(Stop::Deadline),
    );
    let enough = Search { limit: Some(0), cancel: Default::default(), ..all.clone() };
    let report = engine::search(&sources, &enough, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!((report.matched, report.stopped), (0, None));
    let mut visited = 0;
    let one = Search { cancel: Default::default(), ..all };
    let report = engine::search(&sources, &one, &mut |_| {
        visited += 1;
        ControlFlow::Break(())
    });
    assert_eq!((report.unwrap().stopped, visited), (None, 1));
}

#[test]
fn an_empty_directory_answers_with_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let fs: Arc<dyn logstore::fs::Fs> = Arc::new(logstore::fs::StdFs);
    let sources = Sources::open(&fs, dir.path()).unwrap();
    let report = engine::count(&sources, &Search::new(Expr::All)).unwrap();
    assert!(report.is_complete());
    assert_eq!((report.matched, report.complete_to), (0, Vec::new()));
}
