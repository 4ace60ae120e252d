//! The texts of one body, what is found in them, and the body without it.
//!
//! Rules look at texts as they are meant: unescaped, and those of a stream that
//! continue each other joined, because a secret may be cut anywhere between
//! events. What is found is written back where it came from; all else stays
//! byte for byte.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use super::{
    Redacted,
    builtin::{MARK, whole_words},
    form,
    json::{self, Kind},
    rules::{Builtin, Match, RuleId, Rules},
};
use crate::capture::Omission;

/// Documents inside strings of documents, as arguments of tools are.
const NESTED_MAX: usize = 3;

/// How a text is written back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Write {
    Raw,
    /// Inside the quotes of a JSON string.
    Inside,
    /// A JSON value becomes a string.
    Value,
    /// In a pair of a form.
    Encoded,
}

#[derive(Debug)]
struct Leaf<'t> {
    at: Range<usize>,
    text: Cow<'t, str>,
    write: Write,
    secret: bool,
    named: bool,
    /// Digits in it are no telephone and no card.
    is_id: bool,
    is_number: bool,
    /// Which texts it continues: told apart by their objects, and by place only.
    channels: Option<[u64; 2]>,
    /// Something nested in it was replaced already.
    changed: bool,
}

/// A part of a leaf that goes. Only one part of a secret that spans several
/// leaves leaves a mark.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Gap {
    leaf: usize,
    from: usize,
    to: usize,
    rule: Option<RuleId>,
}

pub(super) struct Sheet<'t, 'r> {
    rules: &'r Rules,
    secrets: &'r [&'r str],
    body: &'t str,
    cut: bool,
    nesting: usize,
    leaves: Vec<Leaf<'t>>,
    counts: HashMap<RuleId, u64>,
}

impl<'t, 'r> Sheet<'t, 'r> {
    pub(super) fn new(rules: &'r Rules, secrets: &'r [&'r str], body: &'t str, cut: bool) -> Self {
        let (leaves, counts) = (Vec::new(), HashMap::new());
        Self { rules, secrets, body, cut, nesting: 0, leaves, counts }
    }

    /// Notes a text that is no JSON; `name` is what a form calls it.
    pub(super) fn text(&mut self, at: Range<usize>, write: Write, name: Option<String>) {
        let said = &self.body[at.clone()];
        if said.is_empty() {
            return;
        }
        let text = if write == Write::Encoded { form::decoded(said) } else { Cow::Borrowed(said) };
        self.push(Leaf {
            at,
            text,
            write,
            secret: name.is_some_and(|name| json::is_secret_name(&name)),
            named: false,
            is_id: false,
            is_number: false,
            channels: None,
            changed: false,
        });
    }

    /// Notes the texts of the JSON that stands in a part of the body.
    pub(super) fn json(&mut self, at: Range<usize>) -> Result<(), Omission> {
        let payload = &self.body[at.clone()];
        let Ok(document) = json::read(payload, self.rules.paths()) else {
            return self.not_json(&[at]);
        };
        let found = document.found.iter().map(|found| {
            let text = found.text.clone();
            (at.start + found.at.start..at.start + found.at.end, text, found)
        });
        let leaves: Vec<_> =
            found.map(|(at, text, found)| leaf(at, text, found, &document)).collect();
        leaves.into_iter().for_each(|leaf| self.push(leaf));
        Ok(())
    }

    /// The same for JSON whose lines are parts of the body.
    pub(super) fn json_in_lines(&mut self, lines: &[Range<usize>]) -> Result<(), Omission> {
        let mut payload = String::new();
        let mut starts = Vec::new();
        for line in lines {
            starts.push(payload.len());
            payload.push_str(&self.body[line.clone()]);
            payload.push('\n');
        }
        let Ok(document) = json::read(&payload, self.rules.paths()) else {
            return self.not_json(lines);
        };
        let place = |offset: usize| {
            let line = starts.partition_point(|start| *start <= offset) - 1;
            (lines[line].start + offset - starts[line]).min(lines[line].end)
        };
        for found in &document.found {
            let Range { start, end } = found.at;
            let last = if end > start { place(end - 1) + 1 } else { place(start) };
            let text = Cow::Owned(found.text.clone().into_owned());
            let leaf = leaf(place(start)..last.max(place(start)), text, found, &document);
            self.push(leaf);
        }
        Ok(())
    }

    /// Plain text then; but not where escapes could hide something from the
    /// rules.
    fn not_json(&mut self, lines: &[Range<usize>]) -> Result<(), Omission> {
        if lines.iter().any(|line| self.body[line.clone()].contains("\\u")) {
            return Err(Omission::Unreadable);
        }
        for line in lines {
            self.text(line.clone(), Write::Raw, None);
        }
        Ok(())
    }

    fn push(&mut self, mut leaf: Leaf<'t>) {
        let begins = leaf.text.trim_start().starts_with(['{', '[']);
        let may_nest = begins && leaf.write == Write::Inside && leaf.text.contains('"');
        if may_nest && self.nesting < NESTED_MAX {
            let mut inner = Sheet::new(self.rules, self.secrets, &leaf.text, false);
            inner.nesting = self.nesting + 1;
            let read = inner.json(0..leaf.text.len()).is_ok();
            let (text, counts) = inner.written();
            if read && !counts.is_empty() {
                counts.into_iter().for_each(|(rule, n)| *self.counts.entry(rule).or_default() += n);
                leaf.text = Cow::Owned(text);
                leaf.changed = true;
            }
        }
        self.leaves.push(leaf);
    }

    /// The body without what was found in it.
    pub(super) fn redacted(self) -> Redacted {
        let rules = self.rules;
        let (text, counts) = self.written();
        let mut by_rule: Vec<(RuleId, u64)> = counts.into_iter().collect();
        by_rule.sort_unstable();
        let by_rule = by_rule.into_iter().map(|(rule, n)| (rules.name(rule).into(), n)).collect();
        Redacted { text, by_rule }
    }

    fn written(mut self) -> (String, HashMap<RuleId, u64>) {
        let mut gaps = self.whole();
        self.find_alone(&mut gaps);
        self.find_joined(&mut gaps);
        let gaps = self.allowed(gaps);
        let mut out = String::with_capacity(self.body.len());
        let mut done = 0;
        let mut order: Vec<usize> = (0..self.leaves.len()).collect();
        order.sort_by_key(|leaf| self.leaves[*leaf].at.start);
        for number in order {
            let leaf = &self.leaves[number];
            let from = gaps.partition_point(|gap| gap.leaf < number);
            let to = gaps.partition_point(|gap| gap.leaf <= number);
            if (from == to && !leaf.changed) || leaf.at.start < done {
                continue;
            }
            out.push_str(&self.body[done..leaf.at.start]);
            let text = without(&leaf.text, &gaps[from..to], self.rules, &mut self.counts);
            write(&text, leaf.write, &mut out);
            done = leaf.at.end;
        }
        out.push_str(&self.body[done..]);
        (out, self.counts)
    }

    /// Leaves that go whatever they say.
    fn whole(&self) -> Vec<Gap> {
        let by_name = self.rules.has(Builtin::Credentials);
        let leaves = self.leaves.iter().enumerate().filter_map(|(number, leaf)| {
            let by_name = by_name && leaf.secret && !leaf.text.is_empty();
            let rule = match (leaf.named, by_name) {
                (true, _) => RuleId::PATH,
                (false, true) if !leaf.text.starts_with(MARK) => RuleId::CREDENTIALS,
                _ => return None,
            };
            Some(Gap { leaf: number, from: 0, to: leaf.text.len(), rule: Some(rule) })
        });
        leaves.collect()
    }

    /// What is found in each text by itself.
    fn find_alone(&self, gaps: &mut Vec<Gap>) {
        let pieces: Vec<[usize; 1]> = (0..self.leaves.len()).map(|leaf| [leaf]).collect();
        self.find(&pieces, gaps);
    }

    /// What is found in texts that continue each other.
    fn find_joined(&self, gaps: &mut Vec<Gap>) {
        let mut channels: HashMap<(usize, u64), Vec<usize>> = HashMap::new();
        for (number, leaf) in self.leaves.iter().enumerate() {
            for (way, channel) in leaf.channels.iter().flatten().enumerate() {
                channels.entry((way, *channel)).or_default().push(number);
            }
        }
        let varies = |leaves: &Vec<usize>| {
            let first = leaves.first().map(|leaf| &self.leaves[*leaf].text);
            leaves.iter().any(|leaf| Some(&self.leaves[*leaf].text) != first)
        };
        let mut joined: Vec<Vec<usize>> = channels.into_values().filter(varies).collect();
        // Where nothing is interleaved, both ways are the same.
        joined.sort_unstable();
        joined.dedup();
        self.find(&joined, gaps);
        if self.cut {
            for leaves in &joined {
                self.open_end(leaves, gaps);
            }
        }
    }

    /// The stream was cut: its last word may be the beginning of a secret.
    fn open_end(&self, leaves: &[usize], gaps: &mut Vec<Gap>) {
        let mut text = String::new();
        let mut places = Vec::with_capacity(leaves.len());
        for leaf in leaves {
            places.push((text.len(), *leaf));
            text.push_str(&self.leaves[*leaf].text);
        }
        let from = whole_words(&text);
        self.spread(&places, (from, text.len(), None), gaps);
    }

    /// Searches the texts of each group as one.
    fn find<L: AsRef<[usize]>>(&self, groups: &[L], gaps: &mut Vec<Gap>) {
        let mut all = String::new();
        // Where each leaf's text begins in all of it.
        let mut places: Vec<(usize, usize)> = Vec::new();
        let mut found: Vec<Match> = Vec::new();
        for group in groups {
            let from = all.len();
            for leaf in group.as_ref() {
                places.push((all.len(), *leaf));
                let text = &*self.leaves[*leaf].text;
                // NUL stands between texts only.
                if text.contains('\0') {
                    all.push_str(&text.replace('\0', "\u{1}"));
                } else {
                    all.push_str(text);
                }
            }
            if self.rules.has_patterns() {
                let before = found.len();
                self.rules.find_patterns(&all[from..], &mut found);
                found[before..].iter_mut().for_each(|at| {
                    at.from += from;
                    at.to += from;
                });
            }
            all.push('\0');
        }
        self.rules.find(&all, self.secrets, &mut found);
        for Match { from, to, rule } in found {
            self.spread(&places, (from, to, Some(rule)), gaps);
        }
    }

    /// Notes a span in each leaf that it touches; the first has the mark.
    fn spread(
        &self,
        places: &[(usize, usize)],
        (from, to, mut rule): (usize, usize, Option<RuleId>),
        gaps: &mut Vec<Gap>,
    ) {
        let first = places.partition_point(|(start, _)| *start <= from).saturating_sub(1);
        for (start, leaf) in &places[first..] {
            if *start >= to {
                break;
            }
            let end = start + self.leaves[*leaf].text.len();
            let (from, to) = (from.max(*start), to.min(end));
            if from < to {
                gaps.push(Gap { leaf: *leaf, from: from - start, to: to - start, rule });
                rule = None;
            }
        }
    }

    /// Without what a rule must not say of a text, in order, overlaps as one.
    fn allowed(&self, mut gaps: Vec<Gap>) -> Vec<Gap> {
        gaps.retain(|gap| {
            let leaf = &self.leaves[gap.leaf];
            let is_phone = gap.rule == Some(RuleId::PHONE);
            let is_card = gap.rule == Some(RuleId::CARD);
            !(leaf.is_id && (is_phone || is_card)) && !(leaf.is_number && is_phone)
        });
        gaps.sort_unstable_by_key(|gap| (gap.leaf, gap.from, std::cmp::Reverse(gap.to)));
        let mut merged: Vec<Gap> = Vec::with_capacity(gaps.len());
        for gap in gaps {
            match merged.last_mut() {
                Some(last) if last.leaf == gap.leaf && gap.from < last.to => {
                    last.to = last.to.max(gap.to);
                    last.rule = last.rule.or(gap.rule);
                }
                _ => merged.push(gap),
            }
        }
        merged
    }
}

fn leaf<'t>(
    at: Range<usize>,
    text: Cow<'t, str>,
    found: &json::Found<'_>,
    document: &json::Document<'_>,
) -> Leaf<'t> {
    let is_text = found.kind == Kind::Text;
    Leaf {
        at,
        text,
        write: match found.kind {
            Kind::Name | Kind::Text => Write::Inside,
            Kind::Number | Kind::Named => Write::Value,
        },
        secret: found.secret,
        named: found.kind == Kind::Named,
        is_id: found.is_id,
        is_number: found.kind == Kind::Number,
        channels: is_text.then(|| [document.channel(found), found.place]),
        changed: false,
    }
}

/// `text` with marks in its gaps.
fn without(text: &str, gaps: &[Gap], rules: &Rules, counts: &mut HashMap<RuleId, u64>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for gap in gaps {
        out.push_str(&text[done..text.floor_char_boundary(gap.from)]);
        if let Some(rule) = gap.rule {
            out.push_str(MARK);
            out.push_str(rules.name(rule));
            out.push(']');
            *counts.entry(rule).or_default() += 1;
        }
        done = text.ceil_char_boundary(gap.to);
    }
    out.push_str(&text[done..]);
    out
}

fn write(text: &str, way: Write, out: &mut String) {
    match way {
        Write::Raw => out.push_str(text),
        Write::Encoded => form::encode(text, out),
        Write::Inside | Write::Value => {
            let mut quoted = Vec::with_capacity(text.len() + 2);
            crate::json::write_text(&mut quoted, text);
            let quoted = String::from_utf8(quoted).expect("a JSON text of a text is one");
            let inside = &quoted[1..quoted.len() - 1];
            out.push_str(if way == Write::Value { &quoted } else { inside });
        }
    }
}
