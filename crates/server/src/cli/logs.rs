//! `llm-proxy logs search|tail|show|fields|files|check`: reads what a data directory
//! keeps, offline or beside the server that writes it. Never writes there.

mod args;
mod check;
mod door;
mod fields;
mod files;
mod follow;
mod meter;
mod search;
mod show;
mod stats;
mod store;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod tests;

pub mod redact;

pub use self::door::Remote;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::{Args, Subcommand};
use domain::{
    fields::Stream,
    query::{QueryError, Stats},
    time::{Clock, Timestamp},
};
use logstore::engine::{EngineError, Search};

use self::{
    args::{FilterArgs, ShowArgs},
    door::Door,
    search::Plan,
};
use crate::render::Format;

/// As grep: found, nothing found, error or incomplete.
const FOUND: u8 = 0;
const NOTHING: u8 = 1;
pub const TROUBLE: u8 = 2;
/// Newest matches, or first groups, shown where nobody says how many.
const LIMIT_DEFAULT: usize = 100;
const CONTEXT_MAX: i64 = 1_000;

/// Read records, entries and traces
#[derive(Debug, Args)]
pub struct LogsCommand {
    #[command(subcommand)]
    command: Command,
    /// The data directory to read, instead of the configured one (DATA_DIR)
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A server elsewhere to ask instead; needs a management key in
    /// MANAGEMENT_TOKEN
    #[arg(long, global = true, value_name = "URL", conflicts_with = "data_dir")]
    url: Option<String>,
}

impl LogsCommand {
    /// Gives the configured directory to a command that names none.
    pub fn or_data_dir<E>(
        mut self,
        configured: impl FnOnce() -> Result<PathBuf, E>,
    ) -> Result<Self, E> {
        let needs_none = match &self.command {
            Command::Fields { .. } => true,
            Command::Search(args) => !args.query_and_files().1.is_empty(),
            _ => false,
        };
        if self.data_dir.is_none() && self.url.is_none() && !needs_none {
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

    /// The server that is asked, where one is.
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// What changes the data directory, with the directory that was named.
    pub fn order(&self) -> Option<(&store::StoreCommand, Option<&Path>)> {
        match &self.command {
            Command::Store(order) if order.changes_something() && self.url.is_none() => {
                Some((order, self.data_dir.as_deref()))
            }
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
    /// Tell the story of a request by any id: its own, its record's, a trace's
    Show {
        /// Request, record, correlation or trace id, or the provider's own
        id: String,
        /// How it is told; json is what the API answers with
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
        /// Tell on stderr what was read and left out, and how long it took
        #[arg(long)]
        explain: bool,
    },
    /// List the fields that queries can name
    Fields {
        /// How they are listed
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// List the Parquet files that count, for other engines
    Files(files::FilesArgs),
    /// Prove checksums, numbering and books; 0 consistent, 1 not, 2 not checked
    Check {
        /// Read every row of every segment and compare checksums of files
        #[arg(long)]
        deep: bool,
    },
    #[command(flatten)]
    Store(store::StoreCommand),
    /// Try the rules that redact captured bodies: 0 replaced, 1 nothing, 2 left out
    Redact(redact::RedactArgs),
}

#[derive(Debug, Args)]
struct TailArgs {
    /// What to look for, in the query language; without it everything
    query: Option<String>,
    /// How many of the newest lines to begin with
    #[arg(short = 'n', long, default_value_t = 10, value_parser = args::lines,
          allow_negative_numbers = true)]
    lines: usize,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A query is words and tests of fields:  timeout status_code>=500 model:gpt-4* -user:bob
Lists, phrases, regexes, alternatives:  status:429,5xx  \"rate limit\"  error:/time.?out/i  (a OR b)
`llm-proxy logs fields` lists the fields.")]
struct SearchArgs {
    /// What to look for, in the query language; without it everything
    query: Option<String>,
    /// Files of JSON lines to search instead, plain, .gz or .zst; - for standard input
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show only the newest matches, oldest of them first, or the first groups;
    /// 0 shows all [default: 100; of files all]
    #[arg(long, value_name = "N", value_parser = args::lines, allow_negative_numbers = true)]
    limit: Option<usize>,
    /// Show the newest first
    #[arg(long, conflicts_with = "follow")]
    reverse: bool,
    /// Show so many lines before and after each match, in time
    #[arg(short = 'C', long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(i64).range(0..=CONTEXT_MAX),
          allow_negative_numbers = true, conflicts_with_all = ["count", "stats", "bucket"])]
    context: i64,
    /// Print only how many lines match (of all, not of the newest)
    #[arg(long, conflicts_with_all = ["follow", "reverse", "stats", "bucket", "fields"])]
    count: bool,
    /// Figures instead of lines: "count, p95(duration_ms), sum(cost_usd) by model"
    #[arg(long, value_name = "FIGURES", conflicts_with_all = ["follow", "reverse", "fields"])]
    stats: Option<String>,
    /// Figures (a count, unless --stats says otherwise) for each span of time: 1m, 1h, 1d
    #[arg(long, value_name = "SPAN", conflicts_with_all = ["follow", "reverse", "fields"])]
    bucket: Option<String>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    show: ShowArgs,
}

/// What a command finds around it: passed in, so that tests can be exact.
pub struct Surroundings<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    /// `out` is a terminal: somebody reads it.
    pub terminal: bool,
    /// Colours are welcome.
    pub color: bool,
    /// Columns of the terminal, where it tells.
    pub columns: Option<usize>,
    /// Where the progress of a long search is drawn, if anybody looks.
    pub meter: Option<Box<dyn Write + Send>>,
    /// What times count from, and what ends a follower at `--until`.
    pub clock: &'a dyn Clock,
    /// Asked between looks of a follower; true ends it.
    pub stop: &'a dyn Fn() -> bool,
    /// The server that is asked with `--url`.
    pub server: Option<Arc<Remote>>,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings").field("now", &self.clock.now()).finish_non_exhaustive()
    }
}

/// Runs one command; returns the exit status.
pub fn run(command: LogsCommand, around: &mut Surroundings<'_>) -> u8 {
    match execute(&command, around) {
        Ok(status) => status,
        // Whoever read our output has seen enough.
        Err(Trouble::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => FOUND,
        Err(trouble) => {
            // Nobody is left to tell when this fails too.
            let told = writeln!(around.err, "error: {}", chain(&trouble));
            if let (Ok(()), Trouble::Wrong { text, error, .. }) = (told, &trouble) {
                let place = error.place(text);
                for line in place.lines() {
                    writeln!(around.err, "  {line}").unwrap_or_default();
                }
            }
            TROUBLE
        }
    }
}

/// The error and what caused it, without what a terminal would obey.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(&format!(": {more}"));
        }
        cause = error.source();
    }
    crate::render::harmless(&text)
}

#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("{0} for a data directory, not for files")]
    NotOfFiles(&'static str),
    #[error("there are neither records nor traces in {}", .0.display())]
    Nothing(PathBuf),
    #[error("cannot read {}", .path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error(
        "there is no file {}; a query of several words is one argument, in quotation marks: \
         '{query}'",
        .path.display()
    )]
    NoFile { path: PathBuf, query: String },
    #[error("files are searched where they are: leave out --{0}")]
    TwoPlaces(&'static str),
    #[error("--follow takes one file")]
    FollowsOne,
    #[error("--limit cannot bound a file that is followed: leave it out")]
    FollowsAll,
    #[error("nothing lies between --since {since} and --until {until}")]
    NoTime { since: Timestamp, until: Timestamp },
    #[error("{}{error}", flag_name(.flag))]
    Wrong { flag: &'static str, text: String, error: QueryError },
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{0}")]
    Server(String),
    #[error("logs {0} works on a data directory, which a server at a URL has to itself")]
    NotRemote(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Trouble {
    fn wrong(flag: &'static str, text: &str, error: QueryError) -> Self {
        Self::Wrong { flag, text: text.to_owned(), error }
    }
}

/// A query has no flag.
fn flag_name(flag: &str) -> String {
    match flag {
        "query" => String::new(),
        flag => format!("--{flag}: "),
    }
}

fn execute(command: &LogsCommand, around: &mut Surroundings<'_>) -> Result<u8, Trouble> {
    let door = match &around.server {
        Some(server) => Door::Server(Arc::clone(server)),
        None => Door::directory(command.data_dir().to_owned()),
    };
    let is_remote = matches!(door, Door::Server(_));
    match &command.command {
        Command::Fields { output } => fields::run(*output, around),
        Command::Files(_) if is_remote => Err(Trouble::NotRemote("files")),
        Command::Check { .. } if is_remote => Err(Trouble::NotRemote("check")),
        Command::Store(_) if is_remote => Err(Trouble::NotRemote("segments and the like")),
        Command::Files(args) => {
            door.check()?;
            files::run(command.data_dir(), args, around)
        }
        Command::Check { deep } => {
            door.check()?;
            check::run(command.data_dir(), *deep, around)
        }
        Command::Store(store::StoreCommand::Segments { output }) => {
            door.check()?;
            store::segments(command.data_dir(), *output, around)
        }
        // Sent before anything is read here.
        Command::Store(_) => Ok(FOUND),
        Command::Show { id, output, explain } => {
            door.check()?;
            show::run(&door, id, *output, *explain, around)
        }
        // Taken before it comes here: see `redaction`.
        Command::Redact(_) => Ok(NOTHING),
        Command::Tail(args) => {
            let question =
                args.filter.question(args.query.as_deref(), around.clock.now(), false)?;
            let plan = Plan { limit: Some(args.lines), reverse: false, context: 0 };
            print(&door, question, plan, &args.show, around)
        }
        Command::Search(args) => {
            let (query, files) = args.query_and_files();
            if files.is_empty() {
                let status = run_search(&door, query, args, around)?;
                return hint_at_file(query, status, around);
            }
            if command.data_dir.is_some() || command.url.is_some() {
                let flag = if command.url.is_some() { "url" } else { "data-dir" };
                return Err(Trouble::TwoPlaces(flag));
            }
            let door = Door::files(files);
            door.check_files(query)?;
            run_search(&door, query, args, around)
        }
    }
}

impl SearchArgs {
    /// A lone `-` is standard input, of which everything is asked.
    fn query_and_files(&self) -> (Option<&str>, Vec<PathBuf>) {
        match self.query.as_deref() {
            Some("-") if self.files.is_empty() => (None, vec![PathBuf::from("-")]),
            query => (query, self.files.clone()),
        }
    }
}

fn run_search(
    door: &Door,
    query: Option<&str>,
    args: &SearchArgs,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let is_foreign = matches!(door, Door::Files { .. });
    let mut question = args.filter.question(query, around.clock.now(), is_foreign)?;
    if is_foreign && args.show.follow && args.limit.is_some_and(|limit| limit > 0) {
        return Err(Trouble::FollowsAll);
    }
    let limit = match args.limit {
        Some(0) => None,
        None if is_foreign && !args.reverse => None,
        limit => Some(limit.unwrap_or(LIMIT_DEFAULT)),
    };
    if args.count {
        door.check()?;
        return search::count(door, question, args.show.explain, around);
    }
    let stats = stats::asked(args.stats.as_deref(), args.bucket.as_deref(), is_foreign)?;
    if let Some(stats) = stats {
        door.check()?;
        question.streams = args.filter.streams(&[Stream::Record]);
        question.limit = groups(&stats, args.limit, limit);
        let format = (args.show.format(false), args.show.explain);
        return stats::run(door, question, &stats, format, around);
    }
    let context = usize::try_from(args.context).unwrap_or_default();
    let plan = Plan { limit, reverse: args.reverse, context };
    print(door, question, plan, &args.show, around)
}

/// `logs search app.log` looks for a word, and finds none of them.
fn hint_at_file(
    query: Option<&str>,
    status: u8,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    if let Some(name) = query.filter(|name| status == NOTHING && Path::new(name).is_file()) {
        let name = crate::render::harmless(name);
        writeln!(around.err, "note: to search the file {name} say: logs search '' {name}")?;
    }
    Ok(status)
}

/// Rows of a table in time order are not cut unless somebody asks for that.
fn groups(stats: &Stats, asked: Option<usize>, limit: Option<usize>) -> Option<usize> {
    if stats.bucket_micros.is_some() && asked.is_none() { None } else { limit }
}

fn print(
    door: &Door,
    question: Search,
    plan: Plan,
    show: &ShowArgs,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    // A follower may wait for a directory that is still to come.
    if !show.follow {
        door.check()?;
    }
    search::run(door, question, plan, show, around)
}
