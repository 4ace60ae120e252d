//! `llm-proxy demo`: the proxy at work, with nothing to configure.

mod showcase;

use std::io::{self, IsTerminal as _};

use anyhow::Context as _;
use domain::secret::Secret;

use self::showcase::Showcase;
use crate::{
    config::Environment,
    demo::{self, DemoArgs, DemoCommand, Surroundings},
    system::SystemRng,
};

pub fn run(mut args: DemoArgs, environment: &Environment) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("cannot begin a runtime")?;
    let out = &mut io::stdout();
    // Whatever ends the wait (Ctrl-C, or no signals to be had) ends the demo.
    let stop = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    if let Some(DemoCommand::Provider(args)) = args.command.take() {
        runtime.block_on(demo::run_provider(args, out, stop))?;
        return Ok(0);
    }
    let surroundings = Surroundings {
        colours: io::stdout().is_terminal(),
        out,
        rng: &SystemRng,
        openai_key: environment.get("OPENAI_API_KEY").map(|key| Secret::new(key.as_str())),
    };
    let worked = runtime.block_on(demo::run(args, Showcase, surroundings, stop))?;
    Ok(u8::from(!worked))
}
