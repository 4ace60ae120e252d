//! The demo's one screen: what happened, where it is kept, what to do next.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
};

use serde_json::Value;

use super::{
    proxy::{AuditLine, AuditTree, Books},
    verify::{number, text},
};

/// Entries shown; `llm-proxy audit list` has the rest.
const ENTRIES_SHOWN: usize = 10;
const COLUMNS: [(&str, Align); 12] = [
    ("TIME", Align::Left),
    ("STATUS", Align::Right),
    ("OUTCOME", Align::Left),
    ("PROVIDER", Align::Left),
    ("MODEL", Align::Left),
    ("IN", Align::Right),
    ("OUT", Align::Right),
    ("COST USD", Align::Right),
    ("MS", Align::Right),
    ("OVERHEAD µs", Align::Right),
    ("WHY", Align::Left),
    ("REQUEST ID", Align::Left),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Align {
    Left,
    Right,
}

/// Colours, where the output is a terminal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    pub(super) colours: bool,
}

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn title(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn outcome(self, outcome: &str, text: &str) -> String {
        let code = match outcome {
            "ok" => "32",
            "denied" | "client_error" | "client_closed" => "33",
            _ => "31",
        };
        self.wrap(code, text)
    }
}

/// All that the screen tells.
pub(super) struct Screen<'a> {
    pub(super) address: SocketAddr,
    pub(super) data_dir: &'a Path,
    pub(super) key_file: &'a Path,
    pub(super) token: &'a str,
    pub(super) provider: &'a str,
    pub(super) records: &'a [Value],
    pub(super) entries: &'a [AuditLine],
    pub(super) tree: &'a AuditTree,
    pub(super) books: Books,
    pub(super) failures: &'a [String],
    pub(super) paint: Paint,
}

impl Screen<'_> {
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        self.print_records(out)?;
        self.print_totals(out)?;
        self.print_entries(out)?;
        self.print_places(out)?;
        self.print_verdict(out)?;
        out.flush()
    }

    fn print_records(&self, out: &mut dyn Write) -> io::Result<()> {
        let title = format!("{} requests, {} records", self.books.accepted, self.records.len());
        writeln!(out, "{}", self.paint.title(&title))?;
        let rows: Vec<[String; 12]> = self.records.iter().map(row).collect();
        let header = COLUMNS.map(|(name, _)| name.to_owned());
        let mut widths = header.clone().map(|name| name.chars().count());
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        writeln!(out, "{}", self.paint.faint(&aligned(&header, &widths)))?;
        for row in &rows {
            writeln!(out, "{}", self.paint.outcome(&row[2], &aligned(row, &widths)))?;
        }
        writeln!(out)
    }

    fn print_totals(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut outcomes = BTreeMap::<&str, u64>::new();
        for record in self.records {
            *outcomes.entry(text(record, "outcome").unwrap_or("?")).or_default() += 1;
        }
        let totals: Vec<_> =
            outcomes.iter().map(|(outcome, count)| format!("{outcome} {count}")).collect();
        writeln!(out, "{}  {}", self.paint.title("outcomes"), totals.join(" · "))?;
        let Books { accepted, stored, coalesced, lost, in_flight } = self.books;
        writeln!(
            out,
            "{}     accepted {accepted} = stored {stored} + coalesced {coalesced} + lost {lost} \
             + in flight {in_flight}\n",
            self.paint.title("books"),
        )
    }

    fn print_entries(&self, out: &mut dyn Write) -> io::Result<()> {
        let title = format!("{} audit entries", self.entries.len());
        writeln!(out, "{}", self.paint.title(&title))?;
        let skipped = self.entries.len().saturating_sub(ENTRIES_SHOWN);
        for entry in &self.entries[skipped..] {
            writeln!(
                out,
                "{:>5}  {}  {:<16} {:<8} {:<16} {}",
                entry.index.map_or_else(|| "-".to_owned(), |index| index.to_string()),
                time_of(&entry.ts),
                entry.action,
                entry.result,
                entry.actor,
                entry.target,
            )?;
        }
        let AuditTree { size, root, findings, .. } = self.tree;
        let found = match findings.first() {
            None => self.paint.outcome("ok", "audit verify: nothing was changed"),
            Some(first) => self.paint.outcome("proxy_error", first),
        };
        let root = root.get(..16).unwrap_or(root);
        writeln!(out, "{}  {size} entries under root {root}…  {found}", self.paint.title("tree"))?;
        writeln!(out)
    }

    fn print_places(&self, out: &mut dyn Write) -> io::Result<()> {
        let data = self.data_dir.display();
        let url = format!("http://{}", self.address);
        let mut line = |name: &str, value: &str| {
            writeln!(out, "{}  {value}", self.paint.title(&format!("{name:<10}")))
        };
        line("proxy", &format!("{url}/v1  (OpenAI)   {url}/anthropic  (Anthropic)"))?;
        line("provider", self.provider)?;
        line("management", &format!("{url}/manage   key in {}", self.key_file.display()))?;
        line("records", &format!("{data}/journal/*.jsonl"))?;
        line(
            "try it",
            &format!("curl {url}/v1/chat/completions -H 'Content-Type: application/json' \\"),
        )?;
        line("", &format!("  -H 'Authorization: Bearer {}' \\", self.token))?;
        line(
            "",
            r#"  -d '{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}'"#,
        )?;
        line("read it", &format!("llm-proxy logs search --data-dir {data} --errors --since 1h"))?;
        if let Some(id) = self.records.last().and_then(|record| text(record, "request_id")) {
            line("", &format!("llm-proxy logs show --data-dir {data} {id}"))?;
        }
        line("", &format!("llm-proxy logs check --data-dir {data}"))?;
        line("", &format!("llm-proxy audit --data-dir {data} list"))?;
        line("", &format!("llm-proxy audit verify --dir {data} --db --key {}", self.tree.key))?;
        writeln!(out)
    }

    fn print_verdict(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.failures.is_empty() {
            let verdict = "checked: one record for each request, ends as expected, usage equal to \
                           the provider's own account, nothing lost";
            return writeln!(out, "{}", self.paint.outcome("ok", verdict));
        }
        let verdict = format!("{} checks failed", self.failures.len());
        writeln!(out, "{}", self.paint.outcome("proxy_error", &verdict))?;
        self.failures.iter().try_for_each(|failure| writeln!(out, "  - {failure}"))
    }
}

fn row(record: &Value) -> [String; 12] {
    let text = |field| text(record, field).unwrap_or("").to_owned();
    let number = |field| number(record, field).map(|n| n.to_string()).unwrap_or_default();
    // `~` marks our own estimate.
    let mark = if text("usage_source") == "estimated" { "~" } else { "" };
    let tokens = |field| match number(field) {
        figure if figure.is_empty() => figure,
        figure => format!("{mark}{figure}"),
    };
    let millis = record.get("duration_ms").and_then(Value::as_f64).unwrap_or(0.0);
    [
        time_of(&text("ts")).to_owned(),
        number("status_code"),
        text("outcome"),
        text("provider"),
        text("model"),
        tokens("input_tokens"),
        tokens("output_tokens"),
        text("cost_usd"),
        format!("{millis:.1}"),
        number("overhead_us"),
        text("error_code"),
        text("request_id"),
    ]
}

/// `10:00:00.123` of an RFC 3339 time.
fn time_of(ts: &str) -> &str {
    ts.get(11..23).unwrap_or(ts)
}

fn aligned(cells: &[String; 12], widths: &[usize; 12]) -> String {
    let cells = cells.iter().zip(widths).zip(COLUMNS);
    let padded = cells.map(|((cell, width), (_, align))| {
        let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
        if align == Align::Left { format!("{cell}{padding}") } else { format!("{padding}{cell}") }
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn screen(paint: Paint, failures: &[String]) -> String {
        let records = [
            json!({"ts": "2026-11-23T10:00:00.123456Z", "status_code": 200, "outcome": "ok",
                   "provider": "openai", "model": "gpt-4o", "input_tokens": 12,
                   "output_tokens": 40, "usage_source": "estimated", "cost_usd": "0.00043",
                   "duration_ms": 51.25, "overhead_us": 61, "request_id": "demo-1"}),
            json!({"ts": "2026-11-23T10:00:01.000000Z", "status_code": 403, "outcome": "denied",
                   "error_code": "model_not_allowed", "duration_ms": 0.1,
                   "request_id": "demo-2"}),
        ];
        let mut out = Vec::new();
        Screen {
            address: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data_dir: Path::new("demo-data"),
            key_file: Path::new("demo-data/management-key"),
            token: "sk-x",
            provider: "built-in sample provider",
            records: &records,
            entries: &[],
            tree: &AuditTree {
                size: 0,
                root: String::new(),
                key: String::new(),
                findings: Vec::new(),
            },
            books: Books { accepted: 2, stored: 2, coalesced: 0, lost: 0, in_flight: 0 },
            failures,
            paint,
        }
        .print(&mut out)
        .expect("writing to memory");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn columns_are_aligned() {
        let text = screen(Paint { colours: false }, &[]);
        let lines: Vec<_> = text.lines().collect();
        let column = |line: &str, word: &str| {
            line.split_once(word).map(|(before, _)| before.chars().count())
        };
        assert_eq!(column(lines[1], "REQUEST ID"), column(lines[2], "demo-1"));
        assert_eq!(column(lines[2], "demo-1"), column(lines[3], "demo-2"));
        assert!(lines[2].contains("~12") && lines[3].contains("model_not_allowed"));
        assert!(text.contains("accepted 2 = stored 2") && !text.contains('\x1b'));
        assert!(text.contains("llm-proxy logs show --data-dir demo-data demo-2\n"), "{text}");
    }

    #[test]
    fn failures_are_listed() {
        let text = screen(Paint { colours: true }, &["chat: wrong".into()]);
        assert!(text.contains("1 checks failed") && text.contains("- chat: wrong"));
        assert!(text.contains("\x1b[33m"));
    }
}
