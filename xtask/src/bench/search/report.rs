//! The table of `bench search`, and its verdict.

use anyhow::{Result, bail};
use serde_json::json;

use super::{
    goal::{Goal, Times, Verdict},
    measure::Row,
};
use crate::bench::{
    machine::Machine,
    table::{columns, dash, number},
};

/// A figure that is not the time of a question.
pub struct Figure {
    pub name: String,
    pub value: Option<f64>,
    pub unit: &'static str,
    pub goal: Option<Goal>,
}

impl Figure {
    fn verdict(&self) -> Option<Verdict> {
        Some(self.goal?.judge(self.value, Times::default()))
    }
}

/// Questions on one data set.
pub struct Part {
    pub title: String,
    pub rows: Vec<Row>,
}

/// Everything that a run found out.
pub struct Report {
    pub head: Vec<String>,
    pub runs: usize,
    pub parts: Vec<Part>,
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn print(&self) {
        println!("\n{}", Machine::read().describe());
        for line in &self.head {
            println!("{line}");
        }
        println!(
            "milliseconds, warm cache, medians of {} runs after one that warms up\n\
             ripgrep, jq and llm-proxy: from the start of the process to its end, everything \
             printed taken; goals hold this figure\n\
             inside: the search alone, as --explain tells it; DuckDB: the statement alone, in a \
             process that stays up\n\
             jq: on a sample, scaled to all lines; MB: the most memory that was resident\n\
             same: rows that were compared and equal (lines byte by byte with ripgrep's, fields \
             with DuckDB's)",
            self.runs
        );
        for part in &self.parts {
            println!("\n{}", part.title);
            for line in columns(&table(&part.rows)) {
                println!("{line}");
            }
            for row in &part.rows {
                if let Some(trouble) = &row.trouble {
                    println!("FAILED: {}: {trouble}", row.name);
                }
            }
        }
        println!();
        let mut rows = vec![["figure", "value", "goal", ""].map(str::to_owned).to_vec()];
        for figure in &self.figures {
            let value = figure.value.map_or_else(dash, |value| {
                format!("{} {}", number(value), figure.unit).trim_end().to_owned()
            });
            let goal = figure.goal.map_or_else(dash, Goal::show);
            let word = figure.verdict().map_or("", Verdict::word);
            rows.push(vec![figure.name.clone(), value, goal, word.to_owned()]);
        }
        for line in columns(&rows) {
            println!("{line}");
        }
        println!();
    }

    pub fn json(&self) -> Result<String> {
        let parts = self.parts.iter().map(|part| json!({ "title": part.title, "rows": part.rows }));
        let figures = self.figures.iter().map(|figure| {
            json!({ "figure": figure.name, "value": figure.value, "unit": figure.unit,
                    "goal": figure.goal.map(Goal::show),
                    "verdict": figure.verdict().map(Verdict::word) })
        });
        Ok(serde_json::to_string_pretty(&json!({
            "machine": Machine::read(),
            "runs": self.runs,
            "parts": parts.collect::<Vec<_>>(),
            "figures": figures.collect::<Vec<_>>(),
        }))?)
    }

    /// With `check`, fails when a goal was missed or could not be measured.
    pub fn verdict(&self, check: bool) -> Result<()> {
        let rows = self.parts.iter().flat_map(|part| &part.rows);
        let rows = rows.filter_map(|row| Some((row.name.as_str(), row.verdict()?)));
        let figures = self
            .figures
            .iter()
            .filter_map(|figure| Some((figure.name.as_str(), figure.verdict()?)));
        let all: Vec<_> = rows.chain(figures).collect();
        let missed: Vec<_> = all.iter().filter(|(_, verdict)| *verdict != Verdict::Met).collect();
        for (name, verdict) in &missed {
            println!("{}: {name}", verdict.word());
        }
        if check && !missed.is_empty() {
            bail!("{} of {} goals not met", missed.len(), all.len());
        }
        Ok(())
    }
}

fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let head = [
        "question",
        "ripgrep",
        "jq",
        "DuckDB",
        "llm-proxy",
        "inside",
        "MB",
        "DuckDB MB",
        "read",
        "same",
        "goal",
        "",
    ];
    let mut table = vec![head.map(str::to_owned).to_vec()];
    let show = |value: Option<f64>| value.map_or_else(dash, number);
    for row in rows {
        table.push(vec![
            row.name.clone(),
            show(row.ripgrep_ms),
            show(row.jq_ms),
            show(row.duck_ms),
            show(row.own_ms),
            show(row.inside_ms),
            show(row.own_peak_mb),
            show(row.duck_peak_mb),
            row.bytes_read.map_or_else(dash, bytes),
            row.compared.map_or_else(dash, |rows| rows.to_string()),
            row.goal.map_or_else(dash, Goal::show),
            row.verdict().map_or("", Verdict::word).to_owned(),
        ]);
    }
    table
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} B"),
        10_000..10_000_000 => format!("{} kB", count / 1_000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_goal_fails_a_check() {
        let row =
            |own_ms| Row { own_ms: Some(own_ms), goal: Some(Goal::Ms(8.0)), ..Row::default() };
        let report = |own_ms| Report {
            head: Vec::new(),
            runs: 5,
            parts: vec![Part { title: String::new(), rows: vec![row(own_ms)] }],
            figures: Vec::new(),
        };
        assert!(report(7.0).verdict(true).is_ok());
        assert!(report(9.0).verdict(false).is_ok());
        assert!(report(9.0).verdict(true).is_err());
    }
}
