//! What is asked of every tool: the queries of the table, each in the language
//! of each tool that can answer it.

use anyhow::{Context, Result};

use super::{duck::Duck, goal::Goal};

/// The day of which one column is asked at the largest size.
const ONE_DAY: [&str; 2] = ["2026-11-18T00:00Z", "2026-11-19T00:00Z"];
const THREE_DAYS: [&str; 2] = ["2026-11-17T00:00Z", "2026-11-20T00:00Z"];
const FIVE: &str = "provider:anthropic operation:messages model:claude-sonnet-4-5 \
    finish_reason:max_tokens duration_ms>=16000";
const FIVE_SQL: &str = "provider = 'anthropic' AND operation = 'messages' AND \
    model = 'claude-sonnet-4-5' AND finish_reason = 'max_tokens' AND duration_ms >= 16000 AND \
    ts >= TIMESTAMPTZ '2026-11-17 00:00:00Z' AND ts < TIMESTAMPTZ '2026-11-20 00:00:00Z'";
/// Fields stand in a fixed order in a line, which makes this fair to ripgrep.
const FIVE_REGEX: &str = r#""ts":"2026-11-1[789]T.*"provider":"anthropic","operation":"messages","model":"claude-sonnet-4-5".*"finish_reason":"max_tokens".*"duration_ms":(1[6-9]\d{3}|[2-9]\d{4}|\d{6,})\b"#;
const FIVE_JQ: &str = r#"select(.provider == "anthropic" and .operation == "messages" and .model == "claude-sonnet-4-5" and .finish_reason == "max_tokens" and .duration_ms >= 16000 and .ts >= "2026-11-17" and .ts < "2026-11-20")"#;
const COLUMNS: &str = "* EXCLUDE (line)";

/// How answers are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Same {
    /// Lines: byte by byte with ripgrep's, field by field with DuckDB's rows.
    Lines,
    /// Tables: the columns of this header stand for those of the statement, in
    /// this order; figures may differ by this share.
    Table { columns: &'static [&'static str], tolerance: f64 },
    /// There is nothing to compare with.
    Nothing,
}

/// One way of asking; a question has several where its value changes with each
/// run, so that no cache answers.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Arguments behind `llm-proxy logs search`.
    pub ours: Vec<String>,
    pub ripgrep: Option<Vec<String>>,
    pub jq: Option<String>,
    pub sql: Option<String>,
    /// For the comparison, where it is not the statement that is timed.
    pub exact_sql: Option<String>,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Question {
    pub name: &'static str,
    pub asks: Vec<Ask>,
    pub same: Same,
    pub goal: Option<Goal>,
}

/// What is looked for: taken from the data.
pub struct Known {
    /// `record_id, request_id, correlation_id, trace_id, ts, seq`.
    ids: Vec<Vec<String>>,
    rare_word: String,
}

impl Known {
    /// Asks DuckDB, so that what is looked for exists.
    pub fn look(duck: &mut Duck, rare_words: &[&str]) -> Result<Self> {
        let some = |row: Vec<Option<String>>| row.into_iter().collect::<Option<Vec<_>>>();
        let ids = duck.rows(
            "SELECT record_id, request_id, correlation_id, trace_id, \
             strftime(ts, '%Y-%m-%d %H:%M:%S.%f') || 'Z', seq FROM records \
             WHERE length(request_id) = 36 ORDER BY hash(record_id) LIMIT 6",
        )?;
        let ids: Vec<_> = ids.into_iter().filter_map(some).collect();
        let words: Vec<String> = rare_words
            .iter()
            .map(|word| {
                format!(
                    "SELECT '{word}' AS w, count(*) AS n FROM records WHERE error LIKE '%{word}%'"
                )
            })
            .collect();
        let sql = format!(
            "SELECT w FROM ({}) WHERE n > 0 ORDER BY n, w LIMIT 1",
            words.join(" UNION ALL ")
        );
        let rare_word = duck.rows(&sql)?.into_iter().next().and_then(some);
        let rare_word = rare_word.and_then(|row| row.into_iter().next());
        Ok(Self { ids, rare_word: rare_word.context("the data holds none of the rare words")? })
    }

    pub fn rare_word(&self) -> &str {
        &self.rare_word
    }
}

/// The queries of the table, in its order.
pub fn questions(known: &Known) -> Vec<Question> {
    let mut all = Vec::new();
    let by_id = [
        ("one request by request id", "request_id", "--request-id", 1),
        ("one record by record id", "record_id", "", 0),
        ("requests by correlation id", "correlation_id", "--correlation-id", 2),
        ("requests by trace id", "trace_id", "--trace-id", 3),
    ];
    for (name, field, flag, column) in by_id {
        let asks = known.ids.iter().map(|ids| id_ask(field, flag, &ids[column])).collect();
        all.push(Question { name, asks, same: Same::Lines, goal: Some(Goal::Ms(8.0)) });
    }
    all.push(five("five predicates over 3 days, all wide rows", None, Goal::TimesDuck(1.0)));
    all.push(five("the same, newest 100", Some(100), Goal::Ms(50.0)));
    all.push(rare_word(&known.rare_word));
    all.push(quantiles());
    all.push(costs());
    all.push(context(known));
    all.push(newest());
    all
}

/// Those that are asked again where there are twenty times as many records.
pub fn at_scale(known: &Known) -> Vec<Question> {
    let [since, until] = ONE_DAY;
    let during =
        "ts >= TIMESTAMPTZ '2026-11-18 00:00:00Z' AND ts < TIMESTAMPTZ '2026-11-19 00:00:00Z'";
    let one_day = Ask {
        ours: words(&format!(
            "--stream record -o csv --limit 0 --since {since} --until {until} --stats"
        ))
        .with("p95(duration_ms) by model"),
        sql: Some(format!(
            "SELECT model, approx_quantile(duration_ms, 0.95) FROM records WHERE {during} \
             GROUP BY model"
        )),
        exact_sql: Some(format!(
            "SELECT model, quantile_disc(duration_ms, 0.95) FROM records WHERE {during} \
             GROUP BY model"
        )),
        ..Ask::default()
    };
    let open = Ask { ours: words("--stream record -o raw --limit 1"), ..Ask::default() };
    let nothing = Same::Nothing;
    vec![
        Question {
            name: "open, newest 1",
            asks: vec![open],
            same: nothing,
            goal: Some(Goal::Ms(100.0)),
        },
        Question {
            name: "one request by request id",
            asks: id_lookups(known),
            same: nothing,
            goal: Some(Goal::Ms(20.0)),
        },
        Question { same: nothing, ..five_newest() },
        Question {
            name: "p95 by model over one day",
            asks: vec![one_day],
            same: Same::Table { columns: &["model", "p95(duration_ms)"], tolerance: 0.02 },
            goal: Some(Goal::Ms(700.0)),
        },
    ]
}

/// Look-ups of one request after the other.
pub fn id_lookups(known: &Known) -> Vec<Ask> {
    known.ids.iter().map(|ids| id_ask("request_id", "--request-id", &ids[1])).collect()
}

/// The newest matches of a filter.
pub fn five_newest() -> Question {
    five("newest 100 of five predicates", Some(100), Goal::Ms(500.0))
}

fn id_ask(field: &str, flag: &str, id: &str) -> Ask {
    let find = match flag {
        "" => vec![format!("{field}:{id}")],
        flag => vec![flag.to_owned(), id.to_owned()],
    };
    Ask {
        ours: words("--stream record -o raw --limit 0").and(find),
        // The id is as good as the pair; jq needs the field.
        ripgrep: Some(vec!["-F".to_owned(), format!("\"{field}\":\"{id}\"")]),
        jq: Some(format!("select(.{field} == \"{id}\")")),
        sql: Some(format!("SELECT {COLUMNS} FROM records WHERE {field} = '{id}'")),
        exact_sql: None,
    }
}

fn five(name: &'static str, limit: Option<u32>, goal: Goal) -> Question {
    let [since, until] = THREE_DAYS;
    let flags = format!(
        "--stream record -o raw --since {since} --until {until} --limit {}",
        limit.unwrap_or(0)
    );
    let newest = limit
        .map_or_else(String::new, |limit| format!(" ORDER BY ts DESC, seq DESC LIMIT {limit}"));
    let ask = Ask {
        ours: words(&flags).with(FIVE),
        ripgrep: limit.is_none().then(|| vec![FIVE_REGEX.to_owned()]),
        jq: limit.is_none().then(|| FIVE_JQ.to_owned()),
        sql: Some(format!("SELECT {COLUMNS} FROM records WHERE {FIVE_SQL}{newest}")),
        exact_sql: None,
    };
    Question { name, asks: vec![ask], same: Same::Lines, goal: Some(goal) }
}

fn rare_word(word: &str) -> Question {
    let ask = Ask {
        ours: words("--stream record -o raw --limit 0").with(word),
        ripgrep: Some(vec!["-i".to_owned(), format!("\"stream\":\"record\".*{word}")]),
        jq: Some(format!(
            "select(.stream == \"record\" and ((.error // \"\") | ascii_downcase | contains(\"{word}\")))"
        )),
        sql: Some(format!("SELECT {COLUMNS} FROM records WHERE error ILIKE '%{word}%'")),
        exact_sql: None,
    };
    let goal = Some(Goal::Ms(100.0));
    Question { name: "rare word in error", asks: vec![ask], same: Same::Lines, goal }
}

fn quantiles() -> Question {
    let statement = |function: &str| {
        let of = |share: &str| format!("{function}(duration_ms, {share})");
        format!(
            "SELECT model, count(*), {}, {}, {} FROM records GROUP BY model",
            of("0.5"),
            of("0.95"),
            of("0.99")
        )
    };
    let ask = Ask {
        ours: words("--stream record -o csv --limit 0 --stats")
            .with("count, p50(duration_ms), p95(duration_ms), p99(duration_ms) by model"),
        // The faster of its two functions; the exact one is what is compared.
        sql: Some(statement("approx_quantile")),
        exact_sql: Some(statement("quantile_disc")),
        ..Ask::default()
    };
    let columns = &["model", "count", "p50(duration_ms)", "p95(duration_ms)", "p99(duration_ms)"];
    Question {
        name: "p50, p95, p99 by model",
        asks: vec![ask],
        same: Same::Table { columns, tolerance: 0.02 },
        goal: Some(Goal::TimesDuck(1.3)),
    }
}

fn costs() -> Question {
    let ask = Ask {
        ours: words("--stream record -o csv --limit 0 --bucket 1d --stats")
            .with("count, sum(cost_usd) by project"),
        sql: Some(
            "SELECT date_trunc('day', ts) AS day, project, count(*), sum(cost_usd) FROM records \
             GROUP BY ALL"
                .to_owned(),
        ),
        ..Ask::default()
    };
    let columns = &["bucket", "project", "count", "sum(cost_usd)"];
    Question {
        name: "cost per project per day",
        asks: vec![ask],
        same: Same::Table { columns, tolerance: 0.0 },
        goal: Some(Goal::TimesDuck(0.5)),
    }
}

fn context(known: &Known) -> Question {
    let ask = |ids: &Vec<String>| Ask {
        ours: words("--stream record -o raw --context 50 --request-id").with(&ids[1]),
        sql: Some(format!(
            "(SELECT {COLUMNS} FROM records WHERE (ts, seq) <= (TIMESTAMPTZ '{0}', {1}) \
             ORDER BY ts DESC, seq DESC LIMIT 51) UNION ALL \
             (SELECT {COLUMNS} FROM records WHERE (ts, seq) > (TIMESTAMPTZ '{0}', {1}) \
             ORDER BY ts, seq LIMIT 50)",
            ids[4], ids[5]
        )),
        ..Ask::default()
    };
    Question {
        name: "50 before and after one request",
        asks: known.ids.iter().map(ask).collect(),
        same: Same::Lines,
        goal: Some(Goal::Ms(10.0)),
    }
}

fn newest() -> Question {
    let ask = Ask {
        ours: words("--stream record -o raw --limit 100"),
        sql: Some(format!("SELECT {COLUMNS} FROM records ORDER BY ts DESC, seq DESC LIMIT 100")),
        ..Ask::default()
    };
    let goal = Some(Goal::Ms(10.0));
    Question { name: "newest 100", asks: vec![ask], same: Same::Lines, goal }
}

/// Words between blanks, and then words that may hold blanks.
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

pub trait More {
    fn with(self, word: &str) -> Self;
    fn and(self, words: Vec<String>) -> Self;
}

impl More for Vec<String> {
    fn with(mut self, word: &str) -> Self {
        self.push(word.to_owned());
        self
    }

    fn and(mut self, words: Vec<String>) -> Self {
        self.extend(words);
        self
    }
}
