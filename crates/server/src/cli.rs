//! The command line: one tree, each command in a module of its own.
//!
//! Owns the root of the tree, where commands find the proxy, and exit statuses:
//! 0 worked, 1 failed, 2 and above as the command documents, 64 wrong usage or
//! configuration. Promises that no secret has to stand on a command line.

pub mod audit;
pub mod client;
pub mod config;
mod dashed;
pub mod db;
pub mod demo;
pub mod input;
pub mod key;
pub mod logs;
pub mod project;
pub mod server;
pub mod show;
pub mod token;

#[cfg(test)]
mod root_tests;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use domain::secret::Secret;

use self::client::Client;
use crate::{
    app::{Ground, alone::Alone},
    config::{Config, Environment},
    system::SystemClock,
};

/// Wrong usage, after sysexits.h.
pub const USAGE: u8 = 64;

/// An LLM proxy that keeps the record
#[derive(Debug, Parser)]
#[command(name = "llm-proxy", version, propagate_version = true)]
pub struct Cli {
    /// Configuration file (YAML)
    #[arg(long, global = true, env = "LLM_PROXY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the proxy at work: nothing to configure, no network
    Demo(crate::demo::DemoArgs),
    /// Run the proxy
    Server(server::ServerArgs),
    /// Check or show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Manage projects
    Project {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: project::ProjectCommand,
    },
    /// Manage tokens
    Token {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: token::TokenCommand,
    },
    /// Manage management keys
    Key {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: key::KeyCommand,
    },
    Logs(logs::LogsCommand),
    /// Ask the audit log
    Audit {
        #[command(flatten)]
        place: Place,
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Look after the database
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Print completions for a shell
    Completions {
        /// Whose completions
        shell: clap_complete::Shell,
    },
}

/// Where the proxy is that a command talks to: the one that runs on the data
/// directory, unless a URL says otherwise. When none runs there, the command
/// does the work itself.
#[derive(Debug, Args)]
pub struct Place {
    /// A server elsewhere; needs a management key in MANAGEMENT_TOKEN
    #[arg(long, global = true, value_name = "URL")]
    url: Option<String>,
    /// How answers are printed
    #[arg(short, long, global = true, value_enum, default_value_t)]
    output: show::Format,
    /// Why, for the audit entry
    #[arg(long, global = true, value_name = "TEXT")]
    reason: Option<String>,
    /// The ticket behind it, for the audit entry
    #[arg(long, global = true, value_name = "TEXT")]
    ticket: Option<String>,
}

/// Parses what was typed and runs it.
pub fn main(arguments: Vec<std::ffi::OsString>, environment: Environment) -> ExitCode {
    let arguments = dashed::queries_marked(arguments);
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; the rest is wrong usage.
            let code = if error.use_stderr() { wrong_usage(&arguments) } else { 0 };
            let _printed = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli, &environment) {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let refused = error.downcast_ref::<crate::config::Problems>().is_some();
            // Nobody is left to tell when this fails too.
            let _told = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::from(if refused { USAGE } else { 1 })
        }
    }
}

/// `logs` answers as grep does: 1 is 'nothing found' and every error is 2. The
/// commands about the audit tree say 1 of tampering alone.
fn wrong_usage(arguments: &[std::ffi::OsString]) -> u8 {
    let tree = Cli::command();
    let mut words = arguments.iter().skip(1).filter_map(|it| it.to_str());
    let Some(command) = words.find_map(|word| tree.find_subcommand(word)) else { return USAGE };
    let inner = words.find_map(|word| command.find_subcommand(word));
    match (command.get_name(), inner.map(clap::Command::get_name)) {
        ("logs", _) => logs::TROUBLE,
        ("audit", Some("verify" | "proof" | "checkpoint")) => audit::tree::USAGE,
        _ => USAGE,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(cli: Cli, environment: &Environment) -> anyhow::Result<u8> {
    let file = cli.config.as_deref();
    let out = &mut io::stdout();
    match cli.command {
        Command::Demo(args) => demo::run(args, environment),
        Command::Server(args) => server::run(&args, environment, file),
        Command::Config(command) => {
            config::run(&command, environment, file, out)?;
            Ok(0)
        }
        Command::Logs(command) => Ok(read_lines(command, environment, file, out)),
        Command::Db(command) => {
            let config = Config::load(environment, file)?;
            in_runtime(db::run(&command, &config, out))?;
            Ok(0)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "llm-proxy", &mut script);
            match out.write_all(&script) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
                written => Ok(written.map(|()| 0)?),
            }
        }
        Command::Project { place, command } => {
            let work = async |client: &Client, around: &mut input::Surroundings<'_>| {
                project::run(command, client, around).await
            };
            place.manage(environment, file, out, work)
        }
        Command::Token { place, command } => {
            let work = async |client: &Client, around: &mut input::Surroundings<'_>| {
                token::run(command, client, around).await
            };
            place.manage(environment, file, out, work)
        }
        Command::Audit { place, command: audit::AuditCommand::Tree(command) } => {
            Ok(audit::tree::run(&command, place.url.as_deref(), environment, file, out))
        }
        Command::Audit { place, command } => {
            let work = async |client: &Client, around: &mut input::Surroundings<'_>| {
                audit::run(command, client, around).await
            };
            place.manage(environment, file, out, work)
        }
        Command::Key { place, command } => {
            let work = async |client: &Client, around: &mut input::Surroundings<'_>| {
                key::run(command, client, around).await
            };
            place.manage(environment, file, out, work)
        }
    }
}

/// `logs` tells of its troubles itself and always ends with a status as grep's.
fn read_lines(
    command: logs::LogsCommand,
    environment: &Environment,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> u8 {
    if let Some(args) = command.redaction() {
        let status = logs::redact::run(args, environment, file, out, &mut io::stderr());
        return status;
    }
    if let Some((order, data_dir)) = command.order() {
        return order.carry_out(data_dir, environment, file, out).unwrap_or_else(|error| {
            writeln!(io::stderr(), "error: {error:#}").unwrap_or_default();
            logs::TROUBLE
        });
    }
    let configured = || Config::load(environment, file);
    let command = command.or_data_dir(|| configured().map(|it| it.settings.data_dir));
    let command = match command {
        Ok(command) => command,
        Err(problems) => {
            writeln!(io::stderr(), "error: {problems}").unwrap_or_default();
            return logs::TROUBLE;
        }
    };
    let server = match command.url() {
        None => None,
        Some(url) => match configured()
            .map_err(anyhow::Error::from)
            .and_then(|it| logs::Remote::new(Client::remote(url, it.settings.management_token)?))
        {
            Ok(server) => Some(Arc::new(server)),
            Err(error) => {
                writeln!(io::stderr(), "error: {error:#}").unwrap_or_default();
                return logs::TROUBLE;
            }
        },
    };
    let terminal = io::stdout().is_terminal();
    let is_plain = |name: &str| environment.get(name).is_some_and(|it| !it.is_empty());
    let is_dumb = environment.get("TERM").is_some_and(|it| it == "dumb");
    let watched = io::stderr().is_terminal() && !is_dumb;
    let mut around = logs::Surroundings {
        out: &mut io::BufWriter::with_capacity(LINES_BYTES, out),
        err: &mut io::stderr(),
        terminal,
        color: terminal && !is_dumb && !is_plain("NO_COLOR"),
        columns: terminal_columns().filter(|_| terminal),
        meter: watched.then(|| Box::new(io::stderr()) as Box<dyn Write + Send>),
        clock: &SystemClock,
        // SIGINT ends a follower: it writes nothing that could be torn.
        stop: &|| false,
        server,
    };
    logs::run(command, &mut around)
}

/// Lines gather before they are written.
const LINES_BYTES: usize = 64 * 1024;

fn terminal_columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

fn in_runtime(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot begin a runtime")?;
    runtime.block_on(work)?;
    Ok(0)
}

impl Place {
    /// Runs a command with the server at the URL, with the one that runs on the
    /// data directory, or with none, on the data directory itself.
    fn manage(
        &self,
        environment: &Environment,
        file: Option<&Path>,
        out: &mut dyn Write,
        work: impl AsyncFnOnce(&Client, &mut input::Surroundings<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<u8> {
        let config = Config::load(environment, file)?;
        let mut stdin = io::stdin();
        let variable = |name: &str| environment.get(name).cloned();
        in_runtime(async {
            let (mut client, alone) = self.reach(&config, environment, file).await?;
            client.reason.clone_from(&self.reason);
            client.ticket.clone_from(&self.ticket);
            let mut around = self.around(&config, out, &mut stdin, &variable);
            let worked = work(&client, &mut around).await;
            drop(client);
            if let Some(alone) = alone {
                alone.stop().await;
            }
            worked
        })
    }

    async fn reach(
        &self,
        config: &Config,
        environment: &Environment,
        file: Option<&Path>,
    ) -> anyhow::Result<(Client, Option<Alone>)> {
        if let Some(url) = &self.url {
            return Ok((Client::remote(url, self.key(config))?, None));
        }
        if let Some(client) = Client::running(&config.settings.data_dir).await {
            return Ok((client, None));
        }
        let alone = Alone::start(Ground::prepare(environment, file)?).await?;
        Ok((Client::in_process(Arc::clone(&alone.management)), Some(alone)))
    }

    fn key(&self, config: &Config) -> Option<Secret> {
        config.settings.management_token.clone()
    }

    fn around<'a>(
        &self,
        config: &Config,
        out: &'a mut dyn Write,
        input: &'a mut dyn io::Read,
        environment: &'a dyn Fn(&str) -> Option<String>,
    ) -> input::Surroundings<'a> {
        let local = || format!("http://{}", config.settings.listen_addr);
        input::Surroundings {
            out,
            input,
            environment,
            format: self.output,
            proxy_url: self.url.clone().unwrap_or_else(local),
        }
    }
}
