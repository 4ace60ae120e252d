//! Inputs as they come: packed, broken, endless, too long, gone.

use std::{
    cell::Cell,
    io::{self, Read, Write as _},
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::*;
use crate::engine::Stop;

fn lines(shown: &[Shown]) -> Vec<&str> {
    shown.iter().map(|(line, _, _)| line.as_str()).collect()
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn context_is_shown_once_and_gaps_are_told() {
    let dir = directory();
    let bytes: String = (0..40).map(|n| format!("line {n:02}\n")).collect();
    let wanted = |n: &&str| ["03", "05", "20", "39"].contains(n);
    let numbers: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
    let expr = Expr::Or(numbers.iter().map(String::as_str).filter(wanted).map(text).collect());
    let check = |take, context, expected: &str| {
        for way in WAYS {
            let search = Search { take, context, ..Search::new(expr.clone()) };
            let (shown, report) =
                find(vec![input(way, bytes.as_bytes(), dir.path())], &search, SMALL);
            let shown: String = shown
                .iter()
                .map(|(line, context, gap)| {
                    let gap = if *gap { " --" } else { "" };
                    let mark = if *context { "-" } else { ":" };
                    format!("{gap} {}{mark}", &line[5..])
                })
                .collect();
            assert_eq!(shown, expected, "{way:?} {take:?} {context}");
            assert!(report.is_complete());
        }
    };
    check(Take::All, 0, " 03: 05: 20: 39:");
    check(Take::All, 2, " -- 01- 02- 03: 04- 05: 06- 07- -- 18- 19- 20: 21- 22- -- 37- 38- 39:");
    check(Take::First(2), 1, " -- 02- 03: 04- 05: 06-");
    check(Take::First(1), 3, " 00- 01- 02- 03: 04- 05- 06-");
    check(Take::Last(2), 1, " 19- 20: 21- -- 38- 39:");
    check(
        Take::Last(3),
        3,
        " 04- 05: 06- 07- 08- -- 17- 18- 19- 20: 21- 22- 23- -- 36- 37- 38- 39:",
    );
    check(Take::Last(0), 3, "");
    check(Take::Last(1), 0, " 39:");
}

#[test]
fn every_kind_of_line_is_kept() {
    let dir = directory();
    let bytes = b"\xef\xbb\xbf{\"level\":\"error\",\"msg\":\"timeout a\"}\r\n\n   \n\
        ERROR timeout b\nbinary \xff\xfe\0 timeout\n  {\"msg\":\"TIME\\u006fUT c\"}\n\
        {\"msg\":\"torn timeout\n{\"level\":\"warn\",\"msg\":\"timeout d\"}";
    for way in WAYS {
        let find = |expr| find(vec![input(way, bytes, dir.path())], &Search::new(expr), SMALL);
        let (shown, report) = find(text("timeout"));
        assert_eq!(shown.len(), 6, "{way:?} {shown:?}");
        assert_eq!((report.lines, report.not_json, report.matched), (6, 2, 6), "{way:?}");
        assert_eq!(shown[0].0, "{\"level\":\"error\",\"msg\":\"timeout a\"}");
        assert_eq!(shown[2].0, "binary \u{fffd}\u{fffd}\0 timeout");
        let level = domain::query::FieldRef::Attribute("level".to_owned());
        let has_level = Expr::Field(level, domain::query::Test::Present);
        assert_eq!(find(has_level.clone()).0.len(), 2, "{way:?}");
        assert_eq!(find(Expr::Not(Box::new(has_level))).0.len(), 4, "{way:?}");
        assert_eq!(find(Expr::All).0.len(), 6, "{way:?}");
    }
}

#[test]
fn a_line_too_long_is_passed_over_and_counted() {
    let dir = directory();
    let sizes = Sizes { block_bytes: 1000, line_bytes_max: 5000 };
    for (length, passed_over) in [(4990, 0), (5010, 1), (30_000, 1)] {
        let long = format!("needle{}", "x".repeat(length));
        let bytes = format!("needle a\n{long}\nneedle b\n{long}");
        for way in WAYS {
            let input = input(way, bytes.as_bytes(), dir.path());
            let (shown, report) = find(vec![input], &Search::new(text("needle")), sizes);
            assert_eq!(report.passed_over, 2 * passed_over, "{way:?} {length}");
            assert_eq!(shown.len() as u64, 4 - 2 * passed_over, "{way:?} {length}");
            assert!(shown.iter().any(|(line, _, _)| line == "needle b"), "{way:?} {length}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_searched() {
    let dir = directory();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("a file");
        path
    };
    let many: String = (0..5000).map(|n| format!("{{\"n\":{n},\"m\":\"needle\"}}\n")).collect();
    let whole = gzip(many.as_bytes());
    let paths = [
        write("good.jsonl", b"needle 1\n"),
        dir.path().join("missing.jsonl"),
        dir.path().to_owned(),
        write("empty", b""),
        write("cut.gz", &whole[..whole.len() * 3 / 4]),
        write("bad.zst", &[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3, 4, 5]),
        write("other.xz", b"\xfd7zXZ\0"),
        write("segment.parquet", b"PAR1xxxx"),
        write("named.gz", b"needle 2, not packed\n"),
        write("last.jsonl", b"needle 3"),
    ];
    let inputs = paths.iter().cloned().map(Input::File).collect();
    let (shown, report) = find(inputs, &Search::new(text("needle")), Sizes::default());
    let failed: Vec<&Path> = report.problems.iter().map(|problem| problem.path.as_path()).collect();
    let failing = [1, 2, 4, 5, 6, 7].map(|n: usize| paths[n].as_path());
    assert_eq!(failed, failing, "{:?}", report.problems);
    assert_eq!((report.inputs, report.inputs_failed), (10, 6));
    assert!(report.problems[4].what.contains("xz -dc"), "{:?}", report.problems);
    let plain: Vec<&str> = lines(&shown).into_iter().filter(|line| !line.contains('{')).collect();
    assert_eq!(plain, ["needle 1", "needle 2, not packed", "needle 3"]);
    // What came before the cut was searched.
    assert!(shown.len() > 1000, "{}", shown.len());
}

#[test]
fn a_named_pipe_is_read_like_a_stream() {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(&gzip(b"needle\nother\n")).expect("a pipe takes this");
    drop(writer);
    let path = PathBuf::from(format!("/proc/self/fd/{}", reader.as_raw_fd()));
    let (shown, report) =
        find(vec![Input::File(path)], &Search::new(text("needle")), Sizes::default());
    assert_eq!((lines(&shown), report.problems), (vec!["needle"], Vec::new()));
}

#[test]
fn a_pipe_with_a_name_ends_when_its_writer_does() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = directory();
    let path = dir.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let writer = std::thread::spawn({
        let path = path.clone();
        // Opens it, writes and is gone: nobody ever opens it for writing again.
        move || std::fs::write(path, b"needle\nother\n").expect("written")
    });
    let (shown, report) =
        find(vec![Input::File(path)], &Search::new(text("needle")), Sizes::default());
    writer.join().expect("no panic");
    assert_eq!((lines(&shown), report.problems), (vec!["needle"], Vec::new()));
}

#[test]
fn the_level_is_also_where_ecs_has_it() {
    let bytes = "{\"log.level\":\"error\",\"n\":1}\n{\"log\":{\"level\":\"ERROR\"},\"n\":2}\n\
                 {\"level\":\"info\",\"log\":{\"level\":\"error\"},\"n\":3}\n";
    let dir = directory();
    let level = domain::query::parse_for_foreign("level:error", domain::time::Timestamp::EPOCH);
    let search = Search::new(level.expect("a query"));
    for way in WAYS {
        let (shown, _) = find(vec![input(way, bytes.as_bytes(), dir.path())], &search, SMALL);
        assert_eq!(shown.len(), 2, "{way:?}: {shown:?}");
    }
}

/// Gives a line at each read, after the one before it was answered.
struct Trickle {
    given: usize,
    answered: Rc<Cell<usize>>,
}

impl Read for Trickle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // The first bytes are read one by one, to see whether they are packed.
        if buffer.len() > 1 {
            assert!(self.answered.get() + 1 >= self.given, "line {} was not answered", self.given);
        }
        self.given += 1;
        let line = b"needle\n";
        let length = line.len().min(buffer.len());
        buffer[..length].copy_from_slice(&line[..length]);
        Ok(length)
    }
}

#[test]
fn an_endless_stream_is_answered_as_it_comes() {
    let answered = Rc::new(Cell::new(4));
    let trickle = Trickle { given: 0, answered: Rc::clone(&answered) };
    let input = Input::Stream(PathBuf::from("-"), Box::new(trickle));
    let search = Search { take: Take::First(50), ..Search::new(text("needle")) };
    let mut visit = |hit: Hit<'_>| {
        assert!(hit.at_once);
        answered.set(answered.get() + 1);
        ControlFlow::Continue(())
    };
    let report = crate::foreign::search(&fs(), vec![input], &search, &mut visit);
    assert_eq!(report.expect("a report").matched, 50);
}

#[test]
fn bounds_stop_a_search_and_are_told() {
    let dir = directory();
    let bytes = "a line of text\n".repeat(10_000);
    let run = |change: &dyn Fn(&mut Search)| {
        let mut search = Search::new(text("line"));
        change(&mut search);
        find(vec![input(Way::Plain, bytes.as_bytes(), dir.path())], &search, SMALL).1
    };
    let report = run(&|search| search.budget.rows_scanned = Some(100));
    assert_eq!(report.stopped, Some(Stop::RowsScanned));
    assert!(report.lines >= 100 && report.lines < 200);
    let report = run(&|search| search.budget.deadline = Some(std::time::Instant::now()));
    assert_eq!(report.stopped, Some(Stop::Deadline));
    let report = run(&|search| search.cancel.cancel());
    assert_eq!(report.stopped, Some(Stop::Cancelled));
    let report = run(&|search| {
        search.take = Take::Last(10_000);
        search.budget.memory_bytes = 10_000;
    });
    assert_eq!(report.stopped, Some(Stop::Memory));
    let report = run(&|search| search.take = Take::First(7));
    assert_eq!((report.stopped, report.matched), (None, 7));
    let path = input(Way::Plain, bytes.as_bytes(), dir.path());
    let report = crate::foreign::count(&fs(), vec![path], &Search::new(Expr::All));
    assert_eq!(report.expect("a report").matched, 10_000);
}

#[test]
fn the_last_of_many_inputs_are_the_last() {
    let one = || Input::Stream("one".into(), Box::new(&b"a 1\na 2\n"[..]));
    let other = || Input::Stream("other".into(), Box::new(&b"a 3\nb\na 4\n"[..]));
    let (shown, report) = find(vec![one(), other()], &last(3, text("a")), SMALL);
    assert_eq!((lines(&shown), report.matched), (vec!["a 2", "a 3", "a 4"], 3));
    let context = Search { context: 1, ..last(3, text("a")) };
    let (shown, _) = find(vec![one(), other()], &context, SMALL);
    assert_eq!(lines(&shown), ["a 2", "a 3", "b", "a 4"]);
}

#[test]
fn only_the_end_of_a_file_is_read_for_its_last_lines() {
    let dir = directory();
    let bytes = "a line of text\n".repeat(10_000);
    let plain = || input(Way::Plain, bytes.as_bytes(), dir.path());
    let missing = Input::File(dir.path().join("missing"));
    let (shown, report) = find(vec![missing, plain()], &last(20, text("line")), SMALL);
    assert_eq!((shown.len(), report.problems.len()), (20, 1), "{report:?}");
    assert!(report.bytes < 10_000, "{report:?}");
}

#[test]
fn figures_are_those_of_the_lines() {
    use domain::query::{parse_stats, parse_stats_for_foreign};
    let dir = directory();
    let bytes = r#"{"ts":"2026-11-23T10:00:30Z","model":"a","took":1,"cost_usd":"0.5","n":{"m":5}}
{"ts":1795428090,"model":"a","took":"3","cost_usd":0.25}
{"time":"2026-11-23T10:02:00Z","model":"b","took":-2.5,"cost_usd":"x"}
not json
{"model":"b","took":null}
"#;
    let run = |text: &str, bucket_micros| {
        let stats = parse_stats_for_foreign(text).expect("statistics");
        let stats = domain::query::Stats { bucket_micros, ..stats };
        let inputs = vec![input(Way::Plain, bytes.as_bytes(), dir.path())];
        let search = Search::new(Expr::All);
        let answer = crate::foreign::stats(&fs(), inputs, &search, &stats, None);
        let (table, report) = answer.expect("a table");
        let row = |row: &Vec<crate::engine::Cell>| {
            row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        (table.rows.iter().map(row).collect::<Vec<_>>(), report.matched)
    };
    assert!(parse_stats("count by model").is_ok());
    let (rows, matched) = run("count, sum(took), max(took), sum(cost_usd) by model", None);
    assert_eq!(rows, ["a 2 4 3 0.75", "b 2 -2.5 -2.5 ", " 1   "]);
    assert_eq!(matched, 5);
    let (rows, matched) = run("count, sum(n.m)", Some(60_000_000));
    assert_eq!(
        rows,
        [
            "2026-11-23T10:00:00.000000Z 1 5",
            "2026-11-23T10:01:00.000000Z 1 ",
            "2026-11-23T10:02:00.000000Z 1 ",
        ],
    );
    assert_eq!(matched, 3);
}
