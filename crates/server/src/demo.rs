//! `llm-proxy demo`: the proxy, shown at work in one command.
//!
//! Owns the sample provider, the requests that it sends and the screen that it
//! prints. Promises that everything shown went through real connections and
//! real files, and that `--once` succeeds only if every check did. It must
//! never reach into the proxy: what it needs, [`proxy::Proxy`] gives.

mod calls;
pub mod provider;
pub mod proxy;
mod ready;
mod screen;
mod send;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use domain::{ids::ProjectId, rng::Rng, secret::Secret, token::Token};
use serde_json::{Value, json};

use self::{
    calls::{Call, Credential, real_calls, sample_calls},
    provider::{SampleProvider, directives::Directives},
    proxy::{CreatedToken, Launch, Launcher, NewProject, NewToken, Proxy},
    screen::{Paint, Screen},
    send::Sender,
    verify::Sent,
};

const USUAL_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// How long the last records may take to be stored.
const RECORDS_WAIT: Duration = Duration::from_secs(10);
const RECORDS_POLL: Duration = Duration::from_millis(20);
const TOKEN_MINUTES: u64 = 24 * 60;

/// Shows the proxy at work: sends varied requests through it and prints what
/// it kept.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct DemoArgs {
    /// Where the demo keeps its data
    #[arg(long, default_value = "./demo-data", value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Address of the proxy [default: 127.0.0.1:8080, or a free port]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Exit after printing; status 0 only if every step worked
    #[arg(long)]
    pub once: bool,
    /// Who answers: the built-in sample provider, or OpenAI with OPENAI_API_KEY
    #[arg(long, value_enum, default_value_t = DemoProvider::Sample)]
    pub provider: DemoProvider,
    /// For scripts: write addresses, keys and tokens to this file as JSON (mode 0600) when ready
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Option<DemoCommand>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum DemoProvider {
    Sample,
    Openai,
}

#[derive(Debug, clap::Subcommand)]
pub enum DemoCommand {
    /// Run the sample provider alone and print its address
    #[command(hide = true)]
    Provider(ProviderArgs),
}

#[derive(Debug, clap::Args)]
pub struct ProviderArgs {
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Accepted keys begin so
    #[arg(long, default_value = "sample-")]
    pub key_prefix: String,
    /// What every request gets, in the words of the x-sample header
    #[arg(long, default_value = "", value_name = "WORDS")]
    pub sample: String,
    /// Answer chat completions from memory, for benchmarks: 1 KB, or 53 chunks
    #[arg(long)]
    pub prepared: bool,
    /// Keep no ledger
    #[arg(long)]
    pub no_ledger: bool,
}

/// What the demo takes from its surroundings.
pub struct Surroundings<'a> {
    pub out: &'a mut dyn Write,
    pub colours: bool,
    pub rng: &'a dyn Rng,
    /// `OPENAI_API_KEY`.
    pub openai_key: Option<Secret>,
}

/// Runs the sample provider alone until `stop` is done.
pub async fn run_provider(
    args: ProviderArgs,
    out: &mut dyn Write,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let defaults = Directives::default().overridden_by(&args.sample).map_err(anyhow::Error::msg)?;
    let config = provider::Config {
        listen: args.listen,
        key_prefix: args.key_prefix,
        defaults,
        prepared: args.prepared,
        keeps_ledger: !args.no_ledger,
        tls: None,
    };
    let provider = SampleProvider::start(config).await.context("cannot listen")?;
    writeln!(out, "{}", provider.url())?;
    out.flush()?;
    provider.stop_after(stop).await;
    Ok(())
}

/// Runs the demo; true if every check held. Stays up until `stop` is done,
/// unless it is to run once.
pub async fn run<L: Launcher>(
    args: DemoArgs,
    launcher: L,
    surroundings: Surroundings<'_>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let Surroundings { out, colours, rng, openai_key } = surroundings;
    let (sample, key) = match args.provider {
        DemoProvider::Sample => {
            let provider = SampleProvider::start(provider::Config::default()).await?;
            let key = provider.key().clone();
            (Some(provider), key)
        }
        DemoProvider::Openai => (None, openai_key.context("OPENAI_API_KEY is not set")?),
    };
    let launch = Launch {
        data_dir: args.data_dir.clone(),
        listen: args.listen.unwrap_or_else(usual_or_free_address),
        openai_base_url: sample.as_ref().map(SampleProvider::url),
        anthropic_base_url: sample.as_ref().map(SampleProvider::url),
    };
    let proxy = launcher.launch(launch).await.context("cannot start the proxy")?;
    let run_id = format!("demo-{:08x}", rng.next_u64() >> 32);
    let cast = Cast::create(&proxy, &run_id, key, rng).await?;
    let failures =
        show(&proxy, &cast, sample.as_ref(), &run_id, &args, (&mut *out, colours)).await?;
    if let Some(path) = &args.ready_file {
        let content = ready_content(&proxy, &cast, sample.as_ref(), &args);
        ready::write(path, &content).context("cannot write the ready file")?;
    }
    if !args.once {
        writeln!(out, "running until Ctrl-C")?;
        out.flush()?;
        stop.await;
    }
    proxy.stop().await.context("cannot stop cleanly")?;
    if let Some(provider) = sample {
        provider.stop().await;
    }
    Ok(failures == 0)
}

/// Sends, checks and prints; the number of checks that failed.
async fn show(
    proxy: &impl Proxy,
    cast: &Cast,
    sample: Option<&SampleProvider>,
    run_id: &str,
    args: &DemoArgs,
    (out, colours): (&mut dyn Write, bool),
) -> anyhow::Result<usize> {
    let calls = if sample.is_some() { sample_calls() } else { real_calls() };
    let sent = send_all(proxy, cast, run_id, calls).await?;
    let records = settled_records(proxy, run_id, sent.len()).await?;
    let tree = proxy.tree().await?;
    let (books, entries) = (proxy.books(), proxy.entries().await?);
    let ledger = sample.map(SampleProvider::ledger);
    let mut failures = verify::disagreements(&sent, &records, ledger);
    failures.extend(verify::check_accounts(&books, &entries, Cast::TOKENS));
    failures.extend(tree.findings.iter().map(|finding| format!("audit: {finding}")));
    let provider_text = match sample {
        Some(provider) => format!("{}  (built-in sample provider)", provider.url()),
        None => "OpenAI".into(),
    };
    Screen {
        address: proxy.address(),
        data_dir: &args.data_dir,
        key_file: proxy.management_key_file(),
        token: cast.normal.token.expose(),
        provider: &provider_text,
        records: &records,
        entries: &entries,
        tree: &tree,
        books,
        failures: &failures,
        paint: Paint { colours },
    }
    .print(out)?;
    Ok(failures.len())
}

/// The usual address, or a free port where something else has it.
fn usual_or_free_address() -> SocketAddr {
    match std::net::TcpListener::bind(USUAL_ADDRESS) {
        Ok(_) => USUAL_ADDRESS,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

/// The project and the tokens of one demo.
struct Cast {
    project_id: ProjectId,
    normal: CreatedToken,
    model_limited: CreatedToken,
    one_request: CreatedToken,
    rate_limited: CreatedToken,
    revoked: CreatedToken,
    /// Never issued.
    unknown: Secret,
}

impl Cast {
    /// Tokens issued.
    const TOKENS: usize = 5;

    async fn create(
        proxy: &impl Proxy,
        name: &str,
        key: Secret,
        rng: &dyn Rng,
    ) -> anyhow::Result<Self> {
        let project = NewProject { name: name.into(), key };
        let project_id = proxy.create_project(project).await.context("cannot create a project")?;
        let token = |description| NewToken {
            project_id,
            description,
            duration_minutes: TOKEN_MINUTES,
            max_requests: None,
            rate_limit_rpm: None,
            allowed_models: Vec::new(),
        };
        let limited = NewToken { allowed_models: vec!["gpt-4o".into()], ..token("gpt-4o only") };
        let once = NewToken { max_requests: Some(1), ..token("one request") };
        let paced = NewToken { rate_limit_rpm: Some(60), ..token("sixty a minute") };
        let cast = Self {
            project_id,
            normal: proxy.create_token(token("for everything")).await?,
            model_limited: proxy.create_token(limited).await?,
            one_request: proxy.create_token(once).await?,
            rate_limited: proxy.create_token(paced).await?,
            revoked: proxy.create_token(token("revoked at once")).await?,
            unknown: Secret::new(Token::generate(rng).expose()),
        };
        proxy.revoke_token(cast.revoked.id).await.context("cannot revoke a token")?;
        Ok(cast)
    }

    const fn token(&self, credential: Credential) -> Option<&Secret> {
        match credential {
            Credential::Normal => Some(&self.normal.token),
            Credential::ModelLimited => Some(&self.model_limited.token),
            Credential::OneRequest => Some(&self.one_request.token),
            Credential::Revoked => Some(&self.revoked.token),
            Credential::Unknown => Some(&self.unknown),
            Credential::None => None,
        }
    }
}

async fn send_all(
    proxy: &impl Proxy,
    cast: &Cast,
    run_id: &str,
    calls: Vec<Call>,
) -> anyhow::Result<Vec<Sent>> {
    let sender = Sender::to(proxy.address());
    let mut sent = Vec::with_capacity(calls.len());
    for call in calls {
        let request_id = format!("{run_id}-{}", call.name);
        let token = cast.token(call.credential);
        let seen = sender
            .send(&call, &request_id, token)
            .await
            .with_context(|| format!("the call '{}' had no answer", call.name))?;
        sent.push(Sent { call, request_id, seen });
    }
    Ok(sent)
}

/// Records follow their answers by moments: waits until all are stored.
async fn settled_records(
    proxy: &impl Proxy,
    prefix: &str,
    expected: usize,
) -> anyhow::Result<Vec<Value>> {
    let deadline = tokio::time::Instant::now() + RECORDS_WAIT;
    loop {
        let records = proxy.records(prefix).await.context("cannot read the records")?;
        let settled = records.len() >= expected && proxy.books().in_flight == 0;
        if settled || tokio::time::Instant::now() > deadline {
            ensure!(!records.is_empty(), "no record was written");
            return Ok(records);
        }
        tokio::time::sleep(RECORDS_POLL).await;
    }
}

fn ready_content(
    proxy: &impl Proxy,
    cast: &Cast,
    sample: Option<&SampleProvider>,
    args: &DemoArgs,
) -> Value {
    let url = format!("http://{}", proxy.address());
    json!({
        "url": url,
        "data_dir": args.data_dir,
        "project_id": cast.project_id.to_string(),
        "management": {"url": url, "key": proxy.management_key().expose()},
        "sample_provider": sample.map(|provider| {
            json!({"url": provider.url(), "key": provider.key().expose()})
        }),
        "tokens": {
            "normal": cast.normal.token.expose(),
            "model_limited": cast.model_limited.token.expose(),
            "used_up": cast.one_request.token.expose(),
            "rate_limited": cast.rate_limited.token.expose(),
            "revoked": cast.revoked.token.expose(),
            "unknown": cast.unknown.expose(),
        },
    })
}
