//! `llm-proxy audit rebuild|recover`: with the data directory for itself.

use std::{io::Write, path::Path};

use crate::{
    app::{
        Ground,
        recover::{Order, Report, carry_out},
    },
    config::Environment,
};

pub async fn run(
    order: Order,
    environment: &Environment,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let Report { size, tiles_rebuilt, rows } =
        carry_out(Ground::prepare(environment, file)?, order).await?;
    if tiles_rebuilt {
        writeln!(out, "The tiles were made anew from the database; their root is the signed one.")?;
    }
    writeln!(
        out,
        "{size} entries in the tree. In the database {} rows were right, {} were missing, {} were \
         wrong; {} waiting ones had their place already.",
        rows.kept, rows.added, rows.replaced, rows.removed
    )?;
    writeln!(
        out,
        "Now run `llm-proxy audit verify --db`, with checkpoints that you keep elsewhere."
    )?;
    Ok(())
}
