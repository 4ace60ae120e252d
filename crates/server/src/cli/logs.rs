//! `llm-proxy logs tail|check|search`: reads the journal of a data directory,
//! offline or beside the server that writes it. Never writes there.

pub mod redact;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::{Args, Subcommand, ValueEnum};
use domain::{glob::Glob, record::Outcome, time::Timestamp};
use logstore::{
    check::{CheckReport, check},
    follow::Follower,
    fs::{Fs, StdFs},
    search::{
        Condition, LEVELS, Matcher, Query, StatusTest, Streams, Summary, Take, parse_status,
        parse_time, search,
    },
    show::{Format, Printer, known_field},
};

/// As grep: found, nothing found, error or incomplete.
const FOUND: u8 = 0;
const NOTHING: u8 = 1;
pub const TROUBLE: u8 = 2;
/// Newest matches shown where nobody says how many.
const LIMIT_DEFAULT: usize = 100;
/// A follower looks around this often for a new instance and for its end.
const FOLLOW_WAIT: Duration = Duration::from_millis(50);

/// Read records, entries and traces
#[derive(Debug, Args)]
pub struct LogsCommand {
    #[command(subcommand)]
    command: Command,
    /// The data directory to read, instead of the configured one (DATA_DIR)
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl LogsCommand {
    /// Gives the configured directory to a command that names none.
    pub fn or_data_dir<E>(
        mut self,
        configured: impl FnOnce() -> Result<PathBuf, E>,
    ) -> Result<Self, E> {
        if self.data_dir.is_none() {
            self.data_dir = Some(configured()?);
        }
        Ok(self)
    }

    /// The one command that asks the configuration and no data directory.
    pub fn redaction(&self) -> Option<&redact::RedactArgs> {
        match &self.command {
            Command::Redact(args) => Some(args),
            _ => None,
        }
    }

    fn data_dir(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new("./data"))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the newest lines, and with -f those that come
    Tail(Box<TailArgs>),
    /// Find lines; exit status 0 found, 1 nothing found, 2 error or incomplete
    Search(Box<SearchArgs>),
    /// Prove checksums, numbering and books; 0 consistent, 1 not, 2 not checked
    Check,
    /// Try the rules that redact captured bodies: 0 replaced, 1 nothing, 2 left out
    Redact(redact::RedactArgs),
}

#[derive(Debug, Args)]
struct TailArgs {
    /// How many of the newest lines to begin with
    #[arg(short = 'n', long, default_value_t = 10)]
    lines: usize,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Args)]
struct SearchArgs {
    /// Words that must all occur in msg, error or path (any case)
    words: Vec<String>,
    /// Show only the newest matches, oldest of them first; 0 shows all
    #[arg(long, default_value_t = LIMIT_DEFAULT)]
    limit: usize,
    /// Show the newest first
    #[arg(long, conflicts_with = "follow")]
    reverse: bool,
    /// Print only how many lines match (of all, not of the newest)
    #[arg(long, conflicts_with_all = ["follow", "reverse"])]
    count: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// From this time on: 15m, 1h, 7d, 2026-11-23, 2026-11-23T10:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Which stream
    #[arg(long, value_enum, default_value = "all")]
    stream: StreamArg,
    /// Lines of this request
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Lines of all requests with this correlation id
    #[arg(long, value_name = "ID")]
    correlation_id: Option<String>,
    /// Lines of this W3C trace
    #[arg(long, value_name = "ID")]
    trace_id: Option<String>,
    /// Project name or id; like the five below it takes * as a wildcard
    #[arg(long)]
    project: Option<String>,
    /// Token id
    #[arg(long)]
    token: Option<String>,
    /// End user
    #[arg(long)]
    user: Option<String>,
    /// Model asked for or answered with
    #[arg(long)]
    model: Option<String>,
    /// Provider's name
    #[arg(long)]
    provider: Option<String>,
    /// Path of the request
    #[arg(long)]
    path: Option<String>,
    /// 500, 5xx, >=400, or a list of them
    #[arg(long, value_parser = status_arg)]
    status: Option<StatusArg>,
    /// ok, denied, client_error, upstream_error, timeout, client_closed, ...
    #[arg(long, value_parser = outcome_arg)]
    outcome: Option<String>,
    /// Records whose outcome is not ok; other lines of level error
    #[arg(long)]
    errors: bool,
    /// Records that took at least so many milliseconds
    #[arg(long, value_name = "MS", value_parser = millis_arg)]
    slow: Option<f64>,
    /// This level or a graver one
    #[arg(long, value_parser = level_arg)]
    level: Option<usize>,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// Fields to show, in order
    #[arg(long, value_delimiter = ',', value_parser = field_arg)]
    fields: Vec<String>,
    /// How lines are printed
    #[arg(short = 'o', long, value_enum, default_value = "table")]
    output: OutputArg,
    /// Go on with lines as they are written
    #[arg(short = 'f', long)]
    follow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StreamArg {
    Record,
    Entry,
    Trace,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OutputArg {
    Table,
    Json,
    Csv,
    Logfmt,
    Raw,
}

/// A list of its own type: clap would take a bare vector for many values.
#[derive(Clone, Debug)]
struct StatusArg(Vec<StatusTest>);

fn status_arg(text: &str) -> Result<StatusArg, String> {
    let expected = "expected 500, 5xx, >=400 or a list such as 429,5xx";
    parse_status(text).map(StatusArg).ok_or_else(|| expected.to_owned())
}

fn outcome_arg(text: &str) -> Result<String, String> {
    let known: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    match known.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("expected one of {}", known.join(", "))),
    }
}

fn level_arg(text: &str) -> Result<usize, String> {
    let level = LEVELS.iter().position(|level| level.eq_ignore_ascii_case(text));
    level.ok_or_else(|| format!("expected one of {}", LEVELS.join(", ")))
}

fn millis_arg(text: &str) -> Result<f64, String> {
    let millis = text.strip_suffix("ms").unwrap_or(text).parse::<f64>();
    let millis = millis.ok().filter(|ms| ms.is_finite() && *ms >= 0.0);
    millis.ok_or_else(|| "expected a number of milliseconds".to_owned())
}

fn field_arg(text: &str) -> Result<String, String> {
    known_field(text).map(|()| text.to_owned())
}

/// What a command finds around it: passed in, so that tests can be exact.
pub struct Surroundings<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// `out` is a terminal: colours are welcome.
    pub terminal: bool,
    pub now: Timestamp,
    /// Asked between looks of a follower; true ends it.
    pub stop: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Runs one command; returns the exit status.
pub fn run(command: LogsCommand, around: &mut Surroundings<'_>) -> u8 {
    let result = execute(&command, around);
    match result {
        Ok(status) => status,
        // Whoever read our output has seen enough.
        Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => FOUND,
        Err(trouble) => {
            // Nobody is left to tell when this fails too.
            writeln!(around.err, "error: {trouble}").unwrap_or_default();
            TROUBLE
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("there is no journal in {}", .0.display())]
    NoJournal(PathBuf),
    #[error("--{0} '{1}': expected 15m, 1h, 7d, 2026-11-23 or 2026-11-23T10:00Z")]
    Time(&'static str, String),
    #[error("{0}")]
    Io(#[from] io::Error),
}

fn execute(command: &LogsCommand, around: &mut Surroundings<'_>) -> Result<u8, Trouble> {
    let dir = logstore::journal_dir(command.data_dir());
    let following = match &command.command {
        Command::Tail(args) => args.show.follow,
        Command::Search(args) => args.show.follow,
        Command::Check | Command::Redact(_) => false,
    };
    if !dir.is_dir() && !following {
        return Err(Trouble::NoJournal(command.data_dir().to_owned()));
    }
    match &command.command {
        Command::Check => run_check(&dir, around),
        // Taken before it comes here: see `redaction`.
        Command::Redact(_) => Ok(NOTHING),
        Command::Tail(args) => {
            let matcher = Matcher::new(query(&args.filter, &[], around.now)?);
            let plan = Plan { take: Take::Newest(args.lines), reverse: false };
            run_search(&dir, &matcher, plan, &args.show, around)
        }
        Command::Search(args) => {
            let matcher = Matcher::new(query(&args.filter, &args.words, around.now)?);
            let take = match (args.count, args.limit) {
                (true, _) => Take::Count,
                (false, 0) => Take::All,
                (false, limit) => Take::Newest(limit),
            };
            let plan = Plan { take, reverse: args.reverse };
            run_search(&dir, &matcher, plan, &args.show, around)
        }
    }
}

/// What is done with the matches.
#[derive(Clone, Copy)]
struct Plan {
    take: Take,
    reverse: bool,
}

fn query(args: &FilterArgs, words: &[String], now: Timestamp) -> Result<Query, Trouble> {
    let time = |name, text: &Option<String>| match text {
        None => Ok(None),
        Some(text) => {
            parse_time(text, now).map(Some).ok_or_else(|| Trouble::Time(name, text.clone()))
        }
    };
    let mut conditions = Vec::new();
    let exact: [(&'static [&'static str], &Option<String>); 4] = [
        (&["request_id"], &args.request_id),
        (&["correlation_id"], &args.correlation_id),
        (&["trace_id"], &args.trace_id),
        (&["outcome"], &args.outcome),
    ];
    for (fields, value) in exact {
        conditions.extend(value.clone().map(|value| Condition::Equals(fields, value)));
    }
    let patterns: [(&'static [&'static str], &Option<String>); 6] = [
        (&["project", "project_id"], &args.project),
        (&["token_id"], &args.token),
        (&["end_user"], &args.user),
        (&["model", "response_model"], &args.model),
        (&["provider"], &args.provider),
        (&["path"], &args.path),
    ];
    for (fields, value) in patterns {
        conditions.extend(value.clone().map(|value| match value.contains('*') {
            true => Condition::Like(fields, Glob::new(value)),
            false => Condition::Equals(fields, value),
        }));
    }
    conditions.extend(args.status.clone().map(|status| Condition::Status(status.0)));
    conditions.extend(args.errors.then_some(Condition::Errors));
    conditions.extend(args.slow.map(Condition::SlowMs));
    conditions.extend(args.level.map(Condition::LevelAtLeast));
    conditions.extend(words.iter().map(|word| Condition::Word(word.to_lowercase())));
    let streams = match args.stream {
        StreamArg::Record => Streams::One("record"),
        StreamArg::Entry => Streams::One("entry"),
        StreamArg::Trace => Streams::One("trace"),
        StreamArg::All => Streams::All,
    };
    let (since, until) = (time("since", &args.since)?, time("until", &args.until)?);
    Ok(Query { streams, since, until, conditions })
}

fn run_search(
    dir: &Path,
    matcher: &Matcher,
    plan: Plan,
    show: &ShowArgs,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let format = match show.output {
        OutputArg::Table => Format::Table,
        OutputArg::Json => Format::Json,
        OutputArg::Csv => Format::Csv,
        OutputArg::Logfmt => Format::Logfmt,
        OutputArg::Raw => Format::Raw,
    };
    let summary = if plan.take == Take::Count {
        let summary = search(&fs, dir, matcher, plan.take, &mut |_| Ok(()))?;
        writeln!(around.out, "{}", summary.matched)?;
        summary
    } else {
        let mut printer = Printer::new(around.out, format, show.fields.clone(), around.terminal);
        let summary = print_found(&fs, dir, matcher, plan, &mut printer)?;
        if show.follow {
            follow(&fs, dir, matcher, &summary, &mut printer, around.stop)?;
        }
        summary
    };
    if !summary.is_complete() {
        writeln!(
            around.err,
            "incomplete: {} damaged bytes and {} files could not be read (see logs check)",
            summary.damaged_bytes, summary.files_skipped
        )?;
        return Ok(TROUBLE);
    }
    Ok(if summary.matched > 0 || show.follow { FOUND } else { NOTHING })
}

fn print_found(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    matcher: &Matcher,
    plan: Plan,
    printer: &mut Printer<'_>,
) -> io::Result<Summary> {
    if plan.take == Take::All && !plan.reverse && !printer.aligns() {
        return search(fs, dir, matcher, plan.take, &mut |line| printer.print(&[line]));
    }
    let mut found: Vec<Vec<u8>> = Vec::new();
    let summary = search(fs, dir, matcher, plan.take, &mut |line| {
        found.push(line.to_vec());
        Ok(())
    })?;
    let mut lines: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
    if plan.reverse {
        lines.reverse();
    }
    printer.print(&lines)?;
    Ok(summary)
}

/// Prints what comes, until told to stop.
fn follow(
    fs: &Arc<dyn Fs>,
    dir: &Path,
    matcher: &Matcher,
    summary: &Summary,
    printer: &mut Printer<'_>,
    stop: &dyn Fn() -> bool,
) -> io::Result<()> {
    let follower = |cursor| Follower::new(Arc::clone(fs), dir, cursor);
    let mut followers: Vec<Follower> = summary.ends.iter().cloned().map(follower).collect();
    let nothing = Matcher::new(Query {
        streams: Streams::All,
        since: None,
        until: Some(Timestamp::EPOCH),
        conditions: Vec::new(),
    });
    while !stop() {
        let mut moved = false;
        for follower in &mut followers {
            moved |= follower.poll(&mut |lines| {
                let mut found = Vec::new();
                matcher.matches(lines, &mut |line| {
                    found.push(line);
                    Ok(())
                })?;
                match found.is_empty() {
                    true => Ok(()),
                    false => printer.print(&found),
                }
            })?;
        }
        if followers.is_empty() {
            // The first instance may be about to start.
            let ends = search(fs, dir, &nothing, Take::Newest(0), &mut |_| Ok(()))?.ends;
            followers = ends
                .into_iter()
                .map(|end| follower(logstore::cursor::Cursor { seq: 0, ..end }))
                .collect();
        }
        match followers.first() {
            _ if moved => {}
            Some(first) => first.wait(FOLLOW_WAIT),
            None => pause(),
        }
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "nothing tells when an instance begins its files")]
fn pause() {
    std::thread::sleep(FOLLOW_WAIT);
}

fn run_check(dir: &Path, around: &mut Surroundings<'_>) -> Result<u8, Trouble> {
    let fs: Arc<dyn Fs> = Arc::new(StdFs);
    let report = check(&fs, dir)?;
    let CheckReport { files, bytes, batches, lines, records, interrupted, starts, open, .. } =
        &report;
    writeln!(around.out, "files        {files} ({bytes} bytes)")?;
    writeln!(around.out, "batches      {batches} (with a checksum that fits)")?;
    writeln!(around.out, "lines        {lines}")?;
    writeln!(around.out, "records      {records} ({interrupted} interrupted)")?;
    writeln!(around.out, "starts       {starts}")?;
    writeln!(around.out, "unfinished   {open}")?;
    for note in &report.notes {
        writeln!(around.out, "note: {note}")?;
    }
    for finding in &report.findings {
        writeln!(around.out, "WRONG: {finding}")?;
    }
    if report.findings_left_out > 0 {
        writeln!(around.out, "WRONG: and {} more findings", report.findings_left_out)?;
    }
    if report.files == 0 {
        writeln!(around.out, "nothing to check")?;
        return Ok(TROUBLE);
    }
    let consistent = report.is_consistent();
    let verdict =
        if consistent { "the books are consistent" } else { "the books are NOT consistent" };
    writeln!(around.out, "{verdict}")?;
    Ok(if consistent { FOUND } else { NOTHING })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        logs: LogsCommand,
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
        let all = ["logs"].iter().chain(args).map(ToString::to_string);
        let dir = ["--data-dir".to_owned(), dir.display().to_string()];
        let cli = match Cli::try_parse_from(all.chain(dir)) {
            Ok(cli) => cli,
            Err(error) => return (TROUBLE, String::new(), error.to_string()),
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let now = Timestamp::parse("2025-11-23T12:00:00Z").expect("a time");
        let mut around = Surroundings { out: &mut out, err: &mut err, terminal: false, now, stop };
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
        check(&["search", "--since", "soon"], "--since 'soon': expected 15m");
        check(&["search", "--outcome", "fine"], "expected one of ok, denied");
        let (status, _, err) = run_in(Path::new("/nonexistent"), &["search"], &|| true);
        assert_eq!((status, err.as_str()), (2, "error: there is no journal in /nonexistent\n"));
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
}
