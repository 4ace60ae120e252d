//! The commands on a kept journal.

use std::{cell::Cell, sync::Arc};

use clap::Parser;
use domain::time::ManualClock;
use logstore::fs::StdFs;

use super::*;

#[derive(Debug, Parser)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) logs: LogsCommand,
}

struct Epoch;

impl Clock for Epoch {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH
    }
}

impl<'a> Surroundings<'a> {
    /// A pipe, in the first minute of 1970.
    pub(super) fn test(out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let (terminal, color, columns, meter) = (false, false, None, None);
        let (clock, stop) = (&Epoch, &|| true);
        Self { out, err, terminal, color, columns, meter, clock, stop, server: None }
    }
}

/// The journal that the log store keeps for ever as its first format.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary directory");
    let journal = logstore::journal_dir(dir.path());
    std::fs::create_dir(&journal).expect("a directory");
    let name = "test-1-000000000001.jsonl";
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../logstore/tests/data/v1");
    std::fs::copy(kept.join(name), journal.join(name)).expect("a copy");
    dir
}

fn run_in(dir: &Path, args: &[&str], stop: &dyn Fn() -> bool) -> (u8, String, String) {
    let dir = dir.to_str().expect("a path");
    run_here(&[args, &["--data-dir", dir]].concat(), stop)
}

fn run_here(args: &[&str], stop: &dyn Fn() -> bool) -> (u8, String, String) {
    let cli = match Cli::try_parse_from(["logs"].iter().chain(args)) {
        Ok(cli) => cli,
        Err(error) => return (TROUBLE, String::new(), error.to_string()),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let now = Timestamp::parse("2025-11-23T12:00:00Z").expect("a time");
    let clock = &ManualClock::at(now);
    let mut around = Surroundings { clock, stop, ..Surroundings::test(&mut out, &mut err) };
    let status = run(cli.logs, &mut around);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status, text(out), text(err))
}

fn check_output(args: &[&str], expected: (u8, &str)) {
    let dir = data_dir();
    let (status, out, err) = run_in(dir.path(), args, &|| true);
    assert_eq!((status, out.as_str()), expected, "{args:?}: {err}");
}

#[test]
fn simple_flags_find_and_exit_as_grep() {
    let fields = ["-o", "csv", "--fields", "request_id,status_code"];
    let find = |flags: &[&str], (status, out): (u8, &str)| {
        let args: Vec<&str> = [&["search"], flags, &fields].concat();
        check_output(&args, (status, out));
    };
    let (one, two) = ("req-1,200\r\n", "req-3,200\r\n");
    let head = "request_id,status_code\r\n";
    let both = format!("{head}{one}{two}");
    find(&[], (0, &both));
    find(&["--reverse"], (0, &format!("{head}{two}{one}")));
    find(&["--limit", "1"], (0, &format!("{head}{two}")));
    find(&["--request-id", "req-1"], (0, &format!("{head}{one}")));
    find(&["--status", "2xx", "--model", "gpt-*", "--since", "3h"], (0, &both));
    find(&["CHAT", "--slow", "1000", "--level", "info", "--outcome", "ok"], (0, &both));
    find(&["--errors"], (1, head));
    find(&["--until", "2025-11-23T10:00Z"], (1, head));
    check_output(&["search", "--count", "--stream", "record"], (0, "2\n"));
    check_output(
        &["tail", "-n", "1", "--fields", "request_id,project"],
        (0, "REQUEST_ID  PROJECT\nreq-3       blue \"quoted\"\n"),
    );
}

#[test]
fn bad_values_say_what_was_expected() {
    let check = |args: &[&str], part: &str| {
        let (status, _, err) = run_in(data_dir().path(), args, &|| true);
        assert_eq!(status, TROUBLE, "{args:?}");
        assert!(err.contains(part), "{args:?}: {err}");
    };
    check(&["search", "--fields", "statuscode"], "did you mean 'status_code'?");
    check(&["search", "--status", "abc"], "expected 500, 5xx, >=400");
    check(&["search", "--since", "soon"], "--since: expected 15m, 1h30m, 7d");
    check(&["search", "--outcome", "fine"], "--outcome: expected one of ok, denied");
    check(&["search", "--limit", "-1"], "'--limit <N>': expected a whole number from 0 to");
    check(&["search", "--limit", "99999999999999999999999"], "a whole number from 0 to 4294967295");
    check(&["tail", "-n", "-1"], "'--lines <LINES>': expected a whole number");
    check(&["search", "--since", "1h", "--until", "2h"], "nothing lies between --since 2025-11-23");
    check(&["search", "--since", "1h", "--until", "1h"], "nothing lies between");
    check(&["files", "--since", "2025-11-24", "--until", "2025-11-23"], "nothing lies between");
    check(&["search", "-C", "2000"], "2000 is not in 0..=1000");
    check(&["search", "--bucket", "5"], "--bucket: expected 1s, 5m, 1h or 1d");
    check(&["search", "--stats", "p95 by model"], "--stats: p95 needs a field");
    check(&["search", "a", "file.log"], "files are searched where they are: leave out --data-dir");
    let (status, _, err) = run_in(data_dir().path(), &["search", "ok statuscode:1"], &|| true);
    let expected = "error: unknown field 'statuscode'; did you mean 'status_code'?\n\
        \u{20} ok statuscode:1\n     ^^^^^^^^^^\n";
    assert_eq!((status, err.as_str()), (TROUBLE, expected));
    let (status, _, err) = run_in(Path::new("/nonexistent"), &["search"], &|| true);
    let expected = "error: there are neither records nor traces in /nonexistent\n";
    assert_eq!((status, err.as_str()), (TROUBLE, expected));
    // What cannot be read is not empty.
    let dir = tempfile::tempdir().expect("temporary directory");
    let journal = logstore::journal_dir(dir.path());
    std::os::unix::fs::symlink(&journal, &journal).expect("a link to itself");
    let (status, _, err) = run_in(dir.path(), &["search"], &|| true);
    let expected = format!("error: cannot read {}: ", journal.display());
    assert!(status == TROUBLE && err.starts_with(&expected), "{err}");
    assert_eq!(err.matches("symbolic links").count(), 1, "the cause once: {err}");
}

#[test]
fn following_ends_where_until_says() {
    for until in ["2025-11-23T10:00:01.5Z", "2025-11-23T11:59Z"] {
        let args = ["search", "-f", "--until", until, "-o", "logfmt", "--fields", "request_id"];
        let (status, out, err) = run_in(data_dir().path(), &args, &|| false);
        assert_eq!((status, out.is_empty()), (FOUND, false), "{until}: {out}{err}");
    }
}

#[test]
fn queries_say_what_flags_say() {
    let fields = ["-o", "csv", "--fields", "request_id"];
    let find = |query: &str, expected: &str| {
        let args: Vec<&str> = [&["search", query], fields.as_slice()].concat();
        let found = if expected.is_empty() { NOTHING } else { FOUND };
        check_output(&args, (found, &format!("request_id\r\n{expected}")));
    };
    find("project:\"blue \\\"quoted\\\"\"", "req-1\r\nreq-3\r\n");
    find("labels.team:a* status_code>=200", "req-1\r\nreq-3\r\n");
    find("request_id:req-1 OR trace_id:00000000000000000000000000000004", "req-1\r\nreq-3\r\n");
    find("duration_ms>=1s -request_id:req-1", "req-3\r\n");
    find("NOT (request_id:req-1 OR request_id:req-3)", "");
    find("path:/chat.completions$/ level>=info", "req-1\r\nreq-3\r\n");
    find("level>=warn", "");
}

#[test]
fn figures_are_those_of_the_lines() {
    check_output(
        &["search", "--stats", "count, max(status_code) by model", "-o", "csv"],
        (FOUND, "model,count,max(status_code)\r\ngpt-4o-mini,2,200\r\n"),
    );
    check_output(
        &["search", "--bucket", "1h"],
        (FOUND, "BUCKET             COUNT\n2025-11-23T10:00Z      2\n"),
    );
    check_output(&["search", "--stats", "count", "level:error"], (NOTHING, "COUNT\n    0\n"));
}

#[test]
fn the_story_of_a_request_is_told_by_any_id() {
    let check = |id: &str, found: u8, part: &str| {
        let (status, out, err) = run_in(data_dir().path(), &["show", id], &|| true);
        assert_eq!(status, found, "{id}: {err}");
        assert!(out.contains(part), "{id}: {out}{err}");
    };
    let arrives = "       +0.000  record  POST /v1/chat/completions arrives\n";
    check("req-1", FOUND, arrives);
    check("00000000-0000-0000-0000-000000000001", FOUND, "request     req-1 ");
    check("00000000000000000000000000000002", FOUND, arrives);
    check("cor-3", FOUND, "request     req-3 ");
    check("nobody", NOTHING, "");
    let (_, out, _) = run_in(data_dir().path(), &["show", "req-1", "-o", "json"], &|| true);
    let story: serde_json::Value = serde_json::from_str(&out).expect("one object");
    assert_eq!(story["records"][0]["request_id"], "req-1");
    assert_eq!(story["siblings"], serde_json::json!([]));
}

#[test]
fn fields_are_listed() {
    let (status, out, _) = run_in(data_dir().path(), &["fields"], &|| true);
    assert_eq!(status, FOUND);
    let line = |name: &str| out.lines().find(|line| line.starts_with(name)).map(str::to_owned);
    assert!(line("cost_usd ").is_some_and(|line| line.contains("US dollars")), "{out}");
    assert!(line("action ").is_some_and(|line| line.contains("entry")), "{out}");
    assert!(line("status ").is_some_and(|line| line.contains("short for status_code")), "{out}");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_quietly() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = data_dir();
    let dir = dir.path().to_str().expect("a path");
    for args in [&["search", "-o", "raw"][..], &["search", "--count"], &["show", "req-1"]] {
        let all = [&["logs"], args, &["--data-dir", dir]].concat();
        let cli = Cli::try_parse_from(all).expect("valid");
        let mut err = Vec::new();
        let status = run(cli.logs, &mut Surroundings::test(&mut Gone, &mut err));
        assert_eq!((status, err.is_empty()), (FOUND, true), "{args:?}");
    }
}

#[test]
fn check_proves_and_finds_damage() {
    let dir = data_dir();
    let (status, out, _) = run_in(dir.path(), &["check"], &|| true);
    assert_eq!(status, FOUND, "{out}");
    assert!(out.ends_with("the books are consistent\n"), "{out}");
    let path = logstore::journal_dir(dir.path()).join("test-1-000000000001.jsonl");
    let mut bytes = std::fs::read(&path).expect("a file");
    bytes[300] ^= 1;
    std::fs::write(&path, bytes).expect("a file");
    let (status, out, _) = run_in(dir.path(), &["check"], &|| true);
    assert_eq!(status, NOTHING, "{out}");
    assert!(out.contains("are damaged, 2 lines are missing"), "{out}");
    let (status, _, err) = run_in(dir.path(), &["search"], &|| true);
    assert_eq!(status, TROUBLE);
    assert!(err.contains("incomplete"), "{err}");
}

#[test]
fn following_shows_what_is_appended() {
    let dir = data_dir();
    let journal = logstore::journal_dir(dir.path());
    let looks = Cell::new(0);
    let stop = || {
        looks.set(looks.get() + 1);
        if looks.get() == 2 {
            let (journal, _) = logstore::Journal::open(
                logstore::JournalConfig::new(&journal),
                domain::record::Envelope {
                    instance: domain::ids::InstanceId::parse("test-1").expect("an id"),
                    version: "0.0.0",
                },
                Arc::new(StdFs),
                Arc::new(domain::time::ManualClock::at(Timestamp::EPOCH)),
                Box::new(()),
            )
            .expect("the journal opens");
            journal.close();
        }
        looks.get() > 4
    };
    let args = ["tail", "-f", "-n", "1", "-o", "logfmt", "--fields", "request_id,outcome"];
    let (status, out, err) = run_in(dir.path(), &args, &stop);
    let expected = "request_id=req-3 outcome=ok\nrequest_id=req-2 outcome=interrupted\n";
    assert_eq!((status, out.as_str()), (FOUND, expected), "{err}");
}

#[test]
fn files_of_others_are_searched_by_their_own_names() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("mixed.log");
    let lines = "{\"level\":\"ERROR\",\"msg\":\"upstream timeout\",\"error\":{\"code\":7}}\n\
                 ERROR timeout in plain text\n\
                 {\"level\":\"info\",\"msg\":\"timeout\",\"took\":3,\"ts\":1763892000}\n";
    std::fs::write(&path, lines).expect("a file");
    let file = path.to_str().expect("a path");
    let lines: Vec<&str> = lines.lines().collect();
    let check = |args: &[&str], expected: (u8, String)| {
        let args: Vec<&str> = [&["search"], args, &[file]].concat();
        let (status, out, err) = run_here(&args, &|| true);
        assert_eq!((status, out), expected, "{args:?}: {err}");
    };
    let shown = |numbers: &[usize]| {
        numbers.iter().map(|number| format!("{}\n", lines[*number])).collect::<String>()
    };
    check(&["level:error timeout"], (FOUND, shown(&[0])));
    check(&["timeout"], (FOUND, shown(&[0, 1, 2])));
    check(&["--limit", "2", "timeout"], (FOUND, shown(&[1, 2])));
    check(&["error.code>5"], (FOUND, shown(&[0])));
    check(&["--until", "2025-11-24", "timeout"], (FOUND, shown(&[2])));
    check(&["-C", "1", "plain"], (FOUND, shown(&[0, 1, 2])));
    check(&["absent"], (NOTHING, String::new()));
    check(&["--count", "timeout"], (FOUND, "3\n".to_owned()));
    check(
        &["--stats", "count, max(took) by level", "-o", "csv", "level:*"],
        (FOUND, "level,count,max(took)\r\nERROR,1,\r\ninfo,1,3\r\n".to_owned()),
    );
    let missing = dir.path().join("missing.log");
    let missing = missing.to_str().expect("a path");
    let (status, out, err) = run_here(&["search", "plain", missing, file], &|| true);
    assert_eq!((status, out), (TROUBLE, shown(&[1])));
    assert!(err.contains("missing.log"), "{err}");
    // Two words of a query that nobody put in quotation marks.
    let (status, _, err) = run_here(&["search", "status:500", "timeout-of-us"], &|| true);
    assert_eq!(status, TROUBLE);
    assert!(err.contains("in quotation marks: 'status:500 timeout-of-us'"), "{err}");
    let (_, _, err) = run_in(data_dir().path(), &["search", file], &|| true);
    assert!(err.contains("to search the file"), "{err}");
}

#[test]
fn lines_of_others_are_shown_by_whatever_names_they_have() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("app.log");
    let lines = "plain text, with a comma\n\
        {\"@timestamp\":\"2025-11-23T10:00:00Z\",\"log.level\":\"error\",\"message\":\"a b\",\"n\":1}\n\
        {\"time\":1763892000,\"severity\":\"WARN\",\"k\":{\"a\":1}}\n";
    std::fs::write(&path, lines).expect("a file");
    let file = path.to_str().expect("a path");
    let check = |args: &[&str], expected: &str| {
        let args: Vec<&str> = [&["search", ""], args, &[file]].concat();
        let (status, out, err) = run_here(&args, &|| true);
        assert_eq!((status, out.as_str()), (FOUND, expected), "{args:?}: {err}");
    };
    check(
        &["-o", "table"],
        "TS                    LEVEL  MSG\n\
         \u{20}                            plain text, with a comma\n\
         2025-11-23T10:00:00Z  error  a b n=1\n\
         1763892000            WARN   k=\"{\\\"a\\\":1}\"\n",
    );
    check(
        &["-o", "csv"],
        "ts,level,msg,rest\r\n,,\"plain text, with a comma\",\r\n\
         2025-11-23T10:00:00Z,error,a b,n=1\r\n\
         1763892000,WARN,,\"k=\"\"{\\\"\"a\\\"\":1}\"\"\"\r\n",
    );
    check(
        &["-o", "logfmt", "--limit", "3"],
        "text=\"plain text, with a comma\"\n\
         @timestamp=2025-11-23T10:00:00Z log.level=error message=\"a b\" n=1\n\
         time=1763892000 severity=WARN k=\"{\\\"a\\\":1}\"\n",
    );
    check(
        &["-o", "json", "--fields", "level,msg,n"],
        "{\"msg\":\"plain text, with a comma\"}\n\
         {\"level\":\"error\",\"msg\":\"a b\",\"n\":1}\n{\"level\":\"WARN\"}\n",
    );
}

#[test]
fn a_file_is_followed_over_its_rotation() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (path, old) = (dir.path().join("app.log"), dir.path().join("app.log.1"));
    std::fs::write(&path, "{\"n\":1,\"a\":\"x\"}\n{\"n\":2}\n").expect("a file");
    let file = path.to_str().expect("a path");
    let looks = Cell::new(0);
    let stop = || {
        looks.set(looks.get() + 1);
        if looks.get() == 3 {
            std::fs::rename(&path, &old).expect("renamed");
            std::fs::write(&path, "{\"n\":3}\nx in a new file\n").expect("a file");
        }
        looks.get() > 6
    };
    let (status, out, err) = run_here(&["search", "x", file, "-f"], &stop);
    let expected = "{\"n\":1,\"a\":\"x\"}\nx in a new file\n";
    assert_eq!((status, out.as_str()), (FOUND, expected), "{err}");
    let refused = |args: &[&str], part: &str| {
        let (status, out, err) = run_here(&[&["search", "x", "-f"], args].concat(), &|| true);
        assert_eq!((status, out.as_str()), (TROUBLE, ""), "{args:?}");
        assert!(err.contains(part), "{args:?}: {err}");
    };
    refused(&[file, file], "--follow takes one file");
    refused(&[file, "--limit", "5"], "--limit cannot bound a file that is followed");
}

const PAGE: &str = include_str!("../../../../../docs/search.md");

/// The words of a command line, up to a pipe.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[test]
fn the_page_shows_commands_that_work() {
    let typed = PAGE.lines().filter_map(|line| line.strip_prefix("$ "));
    let typed = typed.filter_map(|line| line.find("llm-proxy logs ").map(|at| &line[at..]));
    let quoted = PAGE.split('`').filter(|text| text.starts_with("llm-proxy logs search "));
    let mut count = 0;
    for line in typed.chain(quoted) {
        let all = words(line).into_iter().skip(1).map(|word| match word.starts_with("-outcome") {
            true => format!(" {word}"),
            false => word,
        });
        let cli = Cli::try_parse_from(all).unwrap_or_else(|error| panic!("{line}: {error}"));
        if let Command::Search(args) = &cli.logs.command {
            let (query, files) = args.query_and_files();
            let asked = args.filter.question(query, Timestamp::EPOCH, !files.is_empty());
            let is_mistake = line.contains("statuscode");
            assert_eq!(asked.is_err(), is_mistake, "{line}: {asked:?}");
            let (stats, bucket) = (args.stats.as_deref(), args.bucket.as_deref());
            stats::asked(stats, bucket, !files.is_empty()).expect(line);
            args.show.columns(!files.is_empty()).expect(line);
        }
        count += 1;
    }
    assert!(count > 15, "{count}");
}

#[test]
fn the_page_has_every_short_name() {
    for alias in domain::query::ALIASES {
        let fields: Vec<String> = alias.fields.iter().map(|name| format!("`{name}`")).collect();
        let row = format!("| `{}` | {} |", alias.name, fields.join(" or "));
        assert!(PAGE.contains(&row), "docs/search.md lacks {row}");
    }
}
