//! One record: who asked what, how it ended, what it took.

use std::net::Ipv4Addr;

use domain::{
    context::{SpanId, TraceId},
    ids::{CorrelationId, RecordId, RequestId},
    price::{PriceTable, Priced},
    provider::Operation,
    record::{Begun, Outcome, Record},
    rng::Rng,
    usage::{Usage, UsageSource},
};

use crate::{
    dice::{Dice, Weighted},
    errors::{self, Failing, Failures},
    models::{MODELS, Model},
    timeline::Timeline,
    world::{Project, World},
};

/// What the dice of a record and of a group of records are for.
const RECORD: u64 = 2;
const GROUP: u64 = 3;
/// Neighbours of which some belong together: one agent at work.
const GROUP_RECORDS: u64 = 12;
const GROUPED: f64 = 0.28;
/// Failures in the middle of all projects.
const FAILING: f64 = 0.055;
/// Of the requests that name themselves, those that name themselves like another.
const REPEATED: f64 = 0.01;
const CLIENT_NAMES: u64 = 1 << 40;

/// Makes any record of a seed's world.
#[derive(Clone, Debug)]
pub struct Records {
    seed: u64,
    world: World,
    models: Weighted,
    failures: Failures,
    prices: PriceTable,
    timeline: Timeline,
}

/// Records that one client's work joins.
struct Group {
    dice: Dice,
    correlation_id: CorrelationId,
    trace_id: TraceId,
}

impl Records {
    pub fn new(seed: u64, timeline: Timeline) -> Self {
        Self {
            seed,
            world: World::new(seed),
            models: Weighted::new(MODELS.iter().map(|model| model.weight)),
            failures: Failures::default(),
            prices: PriceTable::shipped(),
            timeline,
        }
    }

    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The record of this number. It ends at its place in the timeline, so it
    /// began before that by as long as it took.
    pub fn get(&self, number: u64) -> Record {
        let dice = Dice::new(self.seed, RECORD, number);
        let group = dice.chance(GROUPED).then(|| self.group(number));
        let project = self.world.draw(group.as_ref().map_or(&dice, |group| &group.dice));
        let model = &MODELS[self.models.draw(&dice)];
        let failing = dice.chance(FAILING).then(|| self.failures.draw(&dice));
        let duration_us = duration_us(model, failing, &dice);
        let micros = i64::try_from(duration_us).unwrap_or(i64::MAX);
        let ts = self.timeline.at(number).plus_micros(-micros);
        let request_id = request_id(project, ts, &dice);
        let correlation_id = match &group {
            Some(group) => group.correlation_id.clone(),
            None => request_id.clone().into(),
        };
        let trace_id = group.as_ref().map_or_else(|| TraceId::generate(&dice), |g| g.trace_id);
        let begun = Begun {
            record_id: RecordId::new(ts, &dice),
            ts,
            request_id,
            correlation_id,
            trace_id,
            span_id: SpanId::generate(&dice),
            operation: model.operation,
            method: "POST".into(),
            path: model.path.into(),
            http_version: "1.1",
        };
        let mut record = Record {
            parent_span_id: group.is_some().then(|| SpanId::generate(&dice)),
            duration_us,
            provider: Some(model.provider.into()),
            model: Some(model.name.into()),
            outcome: Outcome::Ok,
            attempts: 1,
            ..Record::begun(begun)
        };
        caller(&mut record, project, failing, &dice);
        self.exchange(&mut record, model, failing, &dice);
        record
    }

    fn group(&self, number: u64) -> Group {
        let of = number / GROUP_RECORDS;
        let dice = Dice::new(self.seed, GROUP, of);
        let began = self.timeline.at(of * GROUP_RECORDS);
        let correlation_id = CorrelationId::generate(began, &dice);
        Group { correlation_id, trace_id: TraceId::generate(&dice), dice }
    }

    fn exchange(&self, record: &mut Record, model: &Model, failing: Option<&Failing>, dice: &Dice) {
        record.overhead_us = Some(dice.lognormal(48.0, 0.5) as u64 + 9);
        record.request_bytes = (model.input_tokens.max(40.0) * dice.lognormal(4.6, 0.8)) as u64;
        if let Some(failing) = failing {
            fail(record, failing, dice);
        } else {
            record.status_code = Some(200);
            record.upstream_status_code = Some(200);
        }
        if record.upstream_status_code.is_some() {
            record.upstream_us = Some(record.duration_us * 997 / 1000);
            let first = record.duration_us as f64 * (0.06 + 0.5 * dice.unit());
            record.ttfb_us = Some(first as u64);
            record.upstream_request_id = Some(upstream_id(model, dice));
        }
        if record.upstream_status_code == Some(200) {
            self.answer(record, model, dice);
        } else {
            record.response_bytes = dice.between(140, 420);
        }
    }

    /// The provider began to answer.
    fn answer(&self, record: &mut Record, model: &Model, dice: &Dice) {
        record.response_model = Some(model.answered.into());
        record.stream_response = dice.chance(model.streamed);
        let usage = usage(model, record.partial, dice);
        let shown = usage.output_tokens.unwrap_or(0) - usage.reasoning_tokens.unwrap_or(0);
        record.response_bytes = 380 + shown * if record.stream_response { 231 } else { 5 };
        if record.stream_response {
            record.events = Some(shown + 3);
            record.ttft_us = record.ttfb_us.map(|first| first + dice.between(900, 60_000));
        }
        if !record.partial && model.output_tokens > 0.0 {
            record.finish_reason = Some(finish_reason(model, dice).into());
        }
        if usage.is_empty() || record.partial && dice.chance(0.5) {
            return;
        }
        let priced = Priced {
            usage,
            model: Some(model.name),
            response_model: Some(model.answered),
            provider: model.provider,
            ..Priced::default()
        };
        record.cost = self.prices.cost(&priced);
        record.price_table = record.cost.map(|_| self.prices.version().clone());
        (record.usage, record.usage_source) = (usage, UsageSource::Provider);
    }
}

fn caller(record: &mut Record, project: &Project, failing: Option<&Failing>, dice: &Dice) {
    // A program runs in a few dozen places.
    let [a, b] = project.network;
    let (c, d) = (dice.between(0, 1) as u8, dice.between(1, 24) as u8);
    record.client_ip = Some(Ipv4Addr::new(10, a, b.wrapping_add(c), d).into());
    record.user_agent = Some(project.agent.into());
    record.http_version = if project.agent.starts_with("Go") { "2" } else { "1.1" };
    // Nobody knows whose an unknown token is.
    if failing.is_some_and(|failing| failing.code == "token_not_found") {
        record.model = None;
        return;
    }
    record.project_id = Some(project.id);
    record.project = Some(project.name.clone());
    record.token_id = Some(dice.pick(&project.tokens));
    record.labels.clone_from(&project.labels);
    if project.users > 0 && dice.chance(0.92) {
        let user = format!("user-{:06}", dice.below(project.users));
        record.end_user = Some(user.into());
    }
}

fn request_id(project: &Project, ts: domain::time::Timestamp, dice: &Dice) -> RequestId {
    if !dice.chance(project.names_requests) {
        return RequestId::generate(ts, dice);
    }
    let number = if dice.chance(REPEATED) { dice.below(1_000) } else { dice.below(CLIENT_NAMES) };
    let team = project.name.split('-').next().unwrap_or("client");
    RequestId::parse(format!("{team}-{number:010x}").as_bytes())
        .unwrap_or_else(|| RequestId::generate(ts, dice))
}

fn duration_us(model: &Model, failing: Option<&Failing>, dice: &Dice) -> u64 {
    let millis = match failing {
        Some(failing) if !failing.attempted => dice.lognormal(0.16, 0.4),
        Some(failing) if failing.outcome == Outcome::Timeout => 60_000.0 + dice.unit() * 40.0,
        Some(failing) if !failing.partial => dice.lognormal(260.0, 0.8),
        _ => dice.lognormal(model.latency_ms, model.spread),
    };
    (millis * 1000.0) as u64
}

fn fail(record: &mut Record, failing: &Failing, dice: &Dice) {
    record.outcome = failing.outcome;
    record.status_code = failing.status;
    record.upstream_status_code = failing.upstream_status;
    record.error_code = (!failing.code.is_empty()).then(|| failing.code.into());
    record.error = Some(errors::tell(failing, dice).into());
    record.partial = failing.partial;
    record.attempts = u32::from(failing.attempted) * (1 + u32::from(dice.chance(0.08)));
}

fn usage(model: &Model, partial: bool, dice: &Dice) -> Usage {
    let draw = |median: f64| (median > 0.0).then(|| dice.lognormal(median, 0.9) as u64 + 1);
    let input_tokens = draw(model.input_tokens);
    let output_tokens = draw(model.output_tokens)
        .map(|tokens| if partial { (tokens as f64 * dice.unit()) as u64 } else { tokens });
    let share = |of: Option<u64>, most: f64| of.map(|n| (n as f64 * dice.unit() * most) as u64);
    let is_long = input_tokens.is_some_and(|tokens| tokens > 1_024) && model.output_tokens > 0.0;
    let cached = if is_long && dice.chance(0.6) { share(input_tokens, 0.8) } else { None };
    let writes = model.operation == Operation::Messages && cached.is_some() && dice.chance(0.4);
    Usage {
        input_tokens,
        output_tokens,
        total_tokens: None,
        cached_input_tokens: cached,
        cache_write_tokens: if writes { share(input_tokens, 0.2) } else { None },
        reasoning_tokens: if model.reasons { share(output_tokens, 0.9) } else { None },
    }
    .with_total()
}

fn finish_reason(model: &Model, dice: &Dice) -> &'static str {
    let roll = dice.below(100);
    match (model.operation, roll) {
        (Operation::Messages, 0..72) => "end_turn",
        (Operation::Messages, 72..92) => "tool_use",
        (Operation::Messages, _) => "max_tokens",
        (Operation::Responses, 0..95) => "completed",
        (Operation::Responses, _) => "incomplete",
        (_, 0..78) => "stop",
        (_, 78..93) => "tool_calls",
        (_, 93..99) => "length",
        _ => "content_filter",
    }
}

fn upstream_id(model: &Model, dice: &Dice) -> Box<str> {
    let (high, low) = (dice.next_u64(), dice.next_u64());
    match model.operation {
        Operation::Messages => format!("req_011{high:016x}{:05x}", low >> 44).into(),
        _ => format!("req_{high:016x}{low:016x}").into(),
    }
}

#[cfg(test)]
mod tests;
