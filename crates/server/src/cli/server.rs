//! `llm-proxy server`: the product.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    app::{Ground, Server, server::Manner, shutdown::Shutdown},
    config::Environment,
};

/// Runs the proxy until SIGTERM or SIGINT
#[derive(Debug, clap::Args)]
pub struct ServerArgs {
    /// Forget records, for `cargo xtask bench` alone
    #[cfg(feature = "bench")]
    #[arg(long, hide = true)]
    pub bench_null_outbox: bool,
    /// Serve on one runtime for all cores, for comparison
    #[cfg(feature = "bench")]
    #[arg(long, hide = true)]
    pub bench_shared_runtime: bool,
    /// Write so many made-up records a second beside those of requests
    #[cfg(feature = "bench")]
    #[arg(long, hide = true, value_name = "N")]
    pub bench_ingest: Option<u32>,
}

#[cfg_attr(not(feature = "bench"), expect(unused_variables, reason = "a benchmark's choice"))]
pub fn run(
    args: &ServerArgs,
    environment: &Environment,
    file: Option<&Path>,
) -> anyhow::Result<u8> {
    let manner = Manner {
        shows_lines: true,
        #[cfg(feature = "bench")]
        forgets_records: args.bench_null_outbox,
        #[cfg(feature = "bench")]
        shares_runtime: args.bench_shared_runtime,
        #[cfg(feature = "bench")]
        ingests: args.bench_ingest,
    };
    let ground = Ground::prepare(environment, file)?;
    let timeout = ground.config.settings.shutdown_timeout;
    // Everything but requests runs on this thread: it is little, and seldom.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot begin a runtime")?;
    runtime.block_on(async {
        let server = Server::start(ground, manner).await?;
        let shutdown = Shutdown::on_signals(timeout, server.reopen())?;
        shutdown.soft.cancelled().await;
        let signal = shutdown.signal();
        let kept_all = server.stop_for(signal, shutdown.hard).await;
        Ok(u8::from(!kept_all))
    })
}
