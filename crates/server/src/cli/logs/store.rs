//! `logs segments|compact|prune|erase|adopt`: looks after what is sealed. What
//! changes something goes to the server that runs on the data directory, or is
//! done here when none does; both leave the same entries.

use std::{path::Path, time::Duration};

use clap::Subcommand;
use http::Method;
use logstore::{catalog::snapshot, fs::StdFs};
use serde_json::{Value, json};

use super::{
    super::{
        Place,
        show::{Column, Format, show},
    },
    FOUND, NOTHING, Surroundings, TROUBLE, Trouble,
};
use crate::config::Environment;

/// Rewriting many segments takes its time.
const TIMEOUT: Duration = Duration::from_secs(6 * 3600);

const COLUMNS: &[Column] = &[
    ("DATASET", "dataset"),
    ("DATE", "date"),
    ("LEVEL", "level"),
    ("ROWS", "rows"),
    ("BYTES", "bytes"),
    ("LINES", "lines"),
    ("FROM", "min_ts"),
    ("TO", "max_ts"),
    ("FILE", "file"),
];

#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the sealed segments, oldest first
    Segments {
        /// How they are listed
        #[arg(short, long, value_enum, default_value = "table")]
        output: Format,
    },
    /// Seal what the journal holds and merge small segments
    Compact {
        #[command(flatten)]
        place: Place,
    },
    /// Drop what retention no longer keeps
    Prune {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Erase the records, bodies and traces of a project or an end user
    Erase {
        /// Whose: a project's id
        #[arg(long, value_name = "ID", required_unless_present = "user")]
        project: Option<String>,
        /// Whose: an end user
        #[arg(long, conflicts_with = "project")]
        user: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// Seal journals that dead instances left in the data directory
    Adopt {
        #[command(flatten)]
        place: Place,
    },
}

impl StoreCommand {
    /// What is sent, and from where; `None`: it changes nothing.
    fn order(&self) -> Option<(&Place, &'static str, Option<Value>)> {
        match self {
            Self::Segments { .. } => None,
            Self::Compact { place } => Some((place, "/manage/logs/compact", None)),
            Self::Adopt { place } => Some((place, "/manage/logs/adopt", None)),
            Self::Prune { dry_run, place } => {
                Some((place, "/manage/logs/prune", Some(json!({ "dry_run": dry_run }))))
            }
            Self::Erase { project, user, place } => {
                let whose = json!({ "project_id": project, "end_user": user });
                Some((place, "/manage/logs/erase", Some(whose)))
            }
        }
    }

    pub fn changes_something(&self) -> bool {
        self.order().is_some()
    }

    /// Sends the order; returns the exit status.
    pub fn carry_out(
        &self,
        data_dir: Option<&Path>,
        environment: &Environment,
        file: Option<&Path>,
        out: &mut dyn std::io::Write,
    ) -> anyhow::Result<u8> {
        let Some((place, path, body)) = self.order() else { return Ok(FOUND) };
        let mut environment = environment.clone();
        if let Some(dir) = data_dir {
            environment.insert("DATA_DIR".to_owned(), dir.display().to_string());
        }
        let mut failed = false;
        let status = place.manage(&environment, file, out, async |client, around| {
            let answer = client.call_within(TIMEOUT, Method::POST, path, body).await?;
            show(around.out, around.format, &[], &answer.body)?;
            failed = answer.body["failed"].as_array().is_some_and(|files| !files.is_empty());
            Ok(())
        })?;
        Ok(if failed { TROUBLE } else { status })
    }
}

/// Lists segments from the manifests, without a server.
pub(super) fn segments(
    data_dir: &Path,
    output: Format,
    around: &mut Surroundings<'_>,
) -> Result<u8, Trouble> {
    let seen = snapshot(&StdFs, data_dir).map_err(std::io::Error::other)?;
    let items: Vec<Value> = seen
        .segments
        .iter()
        .map(|it| {
            json!({
                "dataset": it.info.dataset.as_str(),
                "date": it.info.date().trim_start_matches("date="),
                "level": it.info.level,
                "rows": it.info.rows,
                "bytes": it.info.bytes_all(),
                "lines": format!("{}-{}", it.info.first_seq, it.info.last_seq),
                "min_ts": it.info.min_ts,
                "max_ts": it.info.max_ts,
                "sha256": it.info.sha256,
                "instance": it.instance.as_str(),
                "file": it.info.file,
            })
        })
        .collect();
    let nothing = items.is_empty();
    show(around.out, output, COLUMNS, &json!({ "items": items }))?;
    for problem in &seen.problems {
        writeln!(around.err, "incomplete: {}", crate::render::harmless(&problem.to_string()))?;
    }
    Ok(match (seen.problems.is_empty(), nothing) {
        (false, _) => TROUBLE,
        (true, true) => NOTHING,
        (true, false) => FOUND,
    })
}
