//! `bench proxy`: what llm-proxy costs, beside the floor and the line, in one
//! run; and the door to `bench search`.
//!
//! Owns the processes of a run and the order of its rounds. Promises that every
//! figure of a table comes from the same run, round by round in turn, so that a
//! noisy machine is noisy for all. Must never share code with what it measures.

mod bare;
mod line;
mod load;
mod machine;
mod measure;
mod process;
mod product;
mod provider;
mod report;
mod scenario;
mod search;
mod serve;
mod table;
mod wire;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use self::{
    measure::{Phases, Sample, Target},
    process::{Running, free_address},
    serve::Shape,
};
use crate::{args::Args, shell};

/// Of an odd number of rounds the median is one that was measured.
const ROUNDS: u32 = 3;
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// As the binary is published.
pub const PROFILE: &str = "dist";

/// What the command line asks for.
struct Options {
    rounds: u32,
    seconds: f64,
    shape: Shape,
    inner: bool,
    provider: Option<SocketAddr>,
    peers: Vec<Peer>,
    json: Option<PathBuf>,
    check: bool,
}

/// Another proxy, started by whoever runs the benchmark.
#[derive(Clone, Debug)]
struct Peer {
    name: String,
    address: SocketAddr,
    prefix: String,
    pid: u32,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let shape = "a peer reads NAME=http://ADDRESS:PORT[/PREFIX],PID";
        let (name, rest) = text.split_once('=').context(shape)?;
        let (url, pid) = rest.rsplit_once(',').context(shape)?;
        let place = url.strip_prefix("http://").context(shape)?;
        let (address, prefix) = place.split_at(place.find('/').unwrap_or(place.len()));
        Ok(Self {
            name: name.to_owned(),
            address: address.parse().context(shape)?,
            prefix: prefix.trim_end_matches('/').to_owned(),
            pid: pid.parse().context(shape)?,
        })
    }
}

/// The task: `bench proxy|search [flags]`.
pub fn run(mut args: Args) -> Result<()> {
    let word = args.word();
    if cfg!(debug_assertions) {
        return again_optimised();
    }
    match word.as_deref() {
        Some("proxy") => proxy(args),
        Some("search") => search::run(args),
        other => {
            let other = other.unwrap_or("");
            bail!("bench what? There are 'bench proxy' and 'bench search', not '{other}'")
        }
    }
}

fn proxy(mut args: Args) -> Result<()> {
    let options = Options {
        rounds: args.value("--rounds")?.unwrap_or(ROUNDS),
        seconds: args.value("--seconds")?.unwrap_or(3.0),
        shape: args.value("--shape")?.unwrap_or(Shape::Multi),
        inner: match args.value::<String>("--mock")?.as_deref() {
            None => false,
            Some("inner") => true,
            Some(other) => bail!("--mock takes 'inner', not '{other}'"),
        },
        provider: args.value("--provider")?,
        peers: args.values("--peer")?,
        json: args.value("--json")?,
        check: args.flag("--check"),
    };
    args.finish()?;
    if options.rounds == 0 {
        bail!("at least one round, or there is no median");
    }
    measure(&options)
}

/// A part of the benchmark in a process of its own (called by `run` only).
pub fn part(mut args: Args) -> Result<()> {
    let part = args.word().context("which part?")?;
    let listen: SocketAddr = args.value("--listen")?.context("--listen")?;
    let shape = args.value("--shape")?.unwrap_or(Shape::Multi);
    let upstream: Option<String> = args.value("--upstream")?;
    let records: Option<PathBuf> = args.value("--records")?;
    args.finish()?;
    match part.as_str() {
        "provider" => provider::run(listen, shape),
        "bare" => bare::run(listen, shape, &upstream.context("--upstream")?),
        "line" => {
            let upstream = upstream.context("--upstream")?;
            line::run(listen, shape, &upstream, &records.context("--records")?)
        }
        _ => bail!("unknown part '{part}'"),
    }
}

/// The parts of the benchmark are built as the product is, or the ratios would
/// compare compilers.
fn again_optimised() -> Result<()> {
    let build = ["build", "--profile", PROFILE, "--quiet", "--package", "xtask"];
    shell::run(shell::cargo(build))?;
    let binary = shell::target_dir().join(PROFILE).join("xtask");
    let mut command = Command::new(binary);
    command.args(std::env::args_os().skip(1));
    shell::run(command)
}

fn measure(options: &Options) -> Result<()> {
    let dir = scratch()?;
    let result = measure_in(options, &dir);
    if result.is_ok() {
        std::fs::remove_dir_all(&dir).ok();
    } else {
        println!("what the processes said is in {}", dir.display());
    }
    result
}

fn scratch() -> Result<PathBuf> {
    let dir = shell::target_dir().join(format!("bench/{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn measure_in(options: &Options, dir: &Path) -> Result<()> {
    let binary = product::build(options.inner)?;
    let upstream = match options.provider {
        Some(address) => address,
        None => free_address()?,
    };
    let mut running = vec![start_provider(options, binary.as_deref(), upstream, dir)?];
    wire::wait_for(upstream, START_TIMEOUT)?;
    let mut targets = vec![Target::direct(upstream)];
    for name in ["bare", "line"] {
        let (process, target) = start_part(name, options.shape, upstream, dir)?;
        running.push(process);
        targets.push(target);
    }
    let mut products = Vec::new();
    if let (Some(binary), false) = (&binary, options.inner) {
        for records in product::variants()? {
            let product = product::Product::start(binary, records, upstream, dir)?;
            targets.push(product.target());
            products.push(product);
        }
    }
    targets.extend(options.peers.iter().map(|peer| Target {
        name: peer.name.clone(),
        address: peer.address,
        prefix: peer.prefix.clone(),
        token: scenario::LINE_TOKEN.to_owned(),
        pid: Some(peer.pid),
        phases: Phases::All,
    }));
    let samples = rounds(options, &mut targets)?;
    let mut books = Vec::new();
    for product in products {
        let own = samples.iter().filter(|sample| sample.target == product.name());
        let sent = own.map(|sample| sample.sent).sum::<u64>() + measure::PROBES;
        books.push(product.end_and_count(sent)?);
    }
    for process in running {
        process.end()?;
    }
    let report = report::Report::new(options.shape, options.seconds, samples, books);
    report.print();
    if let Some(file) = &options.json {
        std::fs::write(file, report.json()?)?;
        println!("raw samples: {}", file.display());
    }
    report.verdict(options.check)
}

fn start_provider(
    options: &Options,
    binary: Option<&Path>,
    address: SocketAddr,
    dir: &Path,
) -> Result<Running> {
    let Some(binary) = binary.filter(|_| !options.inner) else {
        println!("provider: the inner one of this benchmark, on {address}");
        return Running::start("provider", inner("provider", address, options.shape)?, dir);
    };
    println!("provider: {} demo provider, on {address}", binary.display());
    let mut command = Command::new(binary);
    command.args(["demo", "provider", "--listen", &address.to_string()]);
    // It answers from memory and remembers nothing: what is measured is not it.
    command.args(["--prepared", "--no-ledger", "--key-prefix", scenario::KEY_PREFIX]);
    Running::start("provider", command, dir)
}

fn inner(part: &str, address: SocketAddr, shape: Shape) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench-part", part, "--listen", &address.to_string()]);
    command.args(["--shape", shape.name()]);
    Ok(command)
}

fn start_part(
    name: &str,
    shape: Shape,
    upstream: SocketAddr,
    dir: &Path,
) -> Result<(Running, Target)> {
    let address = free_address()?;
    let mut command = inner(name, address, shape)?;
    command.args(["--upstream", &upstream.to_string()]);
    command.arg("--records").arg(dir.join(format!("{name}.jsonl")));
    let process = Running::start(name, command, dir)?;
    wire::wait_for(address, START_TIMEOUT)?;
    let target = Target {
        name: name.to_owned(),
        address,
        prefix: String::new(),
        token: scenario::LINE_TOKEN.to_owned(),
        pid: Some(process.pid()),
        phases: Phases::All,
    };
    Ok((process, target))
}

/// Every target in turn, as often as asked; each round begins with another one,
/// so that none always follows the same neighbour.
fn rounds(options: &Options, targets: &mut [Target]) -> Result<Vec<Sample>> {
    let time = Duration::from_secs_f64(options.seconds);
    let idle: Vec<_> = targets.iter().map(Target::resident_bytes).collect::<Result<_>>()?;
    let expected = targets[0].expected().context("the provider alone")?;
    let mut samples = Vec::new();
    for round in 0..options.rounds {
        for step in 0..targets.len() {
            let index = (step + round as usize) % targets.len();
            let target = &targets[index];
            if round == 0 && index > 0 {
                target.probe(&expected).with_context(|| format!("probe {}", target.name))?;
            }
            println!("round {} of {}: {}", round + 1, options.rounds, target.name);
            let mut sample = target
                .measure(round, &expected, time)
                .with_context(|| format!("measure {}", target.name))?;
            sample.idle_bytes = idle[index];
            samples.push(sample);
        }
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{scenario::Kind, *};

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Starts a part on a thread that lives as long as the test process.
    fn start(part: impl FnOnce(SocketAddr) -> Result<()> + Send + 'static) -> SocketAddr {
        let address = free_address().expect("a free address");
        std::thread::spawn(move || part(address));
        wire::wait_for(address, TIMEOUT).expect("the part listens");
        address
    }

    fn check(shape: Shape) {
        let name = format!("xtask-line-{}-{}.jsonl", std::process::id(), shape.name());
        let file = std::env::temp_dir().join(name);
        let provider = start(move |address| provider::run(address, shape));
        let upstream = provider.to_string();
        let bare = start(move |address| bare::run(address, shape, &upstream));
        let (upstream, records) = (provider.to_string(), file.clone());
        let line = start(move |address| line::run(address, shape, &upstream, &records));

        let mut sent = 0;
        for kind in [Kind::Plain, Kind::Stream, Kind::Paced] {
            let direct = scenario::shot(kind, provider, "", scenario::LINE_TOKEN);
            let bytes = direct.probe().expect("the provider answers");
            for address in [bare, line] {
                let shot = scenario::shot(kind, address, "", scenario::LINE_TOKEN);
                let shot = load::Shot { body_bytes: Some(bytes), ..shot };
                let seen = load::closed_loop(&shot, 4, Duration::from_millis(30)).expect("a loop");
                assert!(seen.answers >= 4, "{kind:?}: {}", seen.answers);
                sent += if address == line { seen.answers } else { 0 };
            }
        }
        let shot = scenario::shot(Kind::Plain, line, "", scenario::LINE_TOKEN);
        sent +=
            load::fixed_rate(&shot, 200, Duration::from_millis(100)).expect("a rate").len() as u64;
        let stranger = scenario::shot(Kind::Plain, line, "", "sk-nobody").probe();
        assert!(stranger.is_err_and(|error| error.to_string().contains("401")));

        // One line for each request, the refused one included.
        let start = Instant::now();
        let lines = || std::fs::read_to_string(&file).expect("its file").lines().count() as u64;
        while lines() < sent + 1 && start.elapsed() < TIMEOUT {
            std::thread::yield_now();
        }
        assert_eq!(lines(), sent + 1);
        let text = std::fs::read_to_string(&file).expect("its file");
        for line in text.lines() {
            let line: serde_json::Value = serde_json::from_str(line).expect("a line is JSON");
            assert_eq!(line["status_code"] == 200, line["response_bytes"] != 0, "{line}");
        }
        std::fs::remove_file(file).expect("removed");
    }

    #[test]
    fn the_parts_forward_and_keep_count_on_one_runtime() {
        check(Shape::Multi);
    }

    #[test]
    fn the_parts_forward_and_keep_count_on_one_runtime_a_core() {
        check(Shape::PerCore);
    }

    #[test]
    fn peers_are_read() {
        let peer: Peer = "nginx=http://127.0.0.1:81/x/,42".parse().expect("a peer");
        assert_eq!((peer.name.as_str(), peer.prefix.as_str(), peer.pid), ("nginx", "/x", 42));
        for bad in ["nginx", "nginx=127.0.0.1:81,42", "nginx=http://127.0.0.1:81"] {
            assert!(bad.parse::<Peer>().is_err(), "{bad}");
        }
    }
}
