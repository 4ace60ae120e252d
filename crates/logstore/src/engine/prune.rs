//! Which rows of a row group may match, by what the file says of its pages.
//! Errs on the side of reading: what is not known may match.

use std::ops::Range;

use domain::query::Comparison;

use super::{
    check::TextCheck,
    plan::{Check, Leaf, Node},
};
use crate::segment::{Bounds, PageBounds};

/// Ascending rows, not overlapping.
pub(crate) type Ranges = Vec<Range<u64>>;

/// Rows of `group` that may hold. `pages` gives the bounds of a column's pages;
/// empty where it has none.
pub(crate) fn possible<E>(
    node: &Node,
    group: &Range<u64>,
    pages: &mut dyn FnMut(&'static str) -> Result<Vec<PageBounds>, E>,
) -> Result<Ranges, E> {
    let all = || vec![group.clone()];
    Ok(match node {
        Node::Constant(true) | Node::Not(_) => all(),
        Node::Constant(false) => Vec::new(),
        Node::And(nodes) => {
            let mut left = all();
            for node in nodes {
                left = intersect(&left, &possible(node, group, pages)?);
            }
            left
        }
        Node::Or(nodes) => {
            let mut any = Vec::new();
            for node in nodes {
                any = unite(any, possible(node, group, pages)?);
            }
            any
        }
        Node::Leaf(leaf) => {
            let pages = pages(leaf.column)?;
            if pages.is_empty() {
                return Ok(all());
            }
            let meeting = pages.iter().filter(|page| may_hold(leaf, page));
            meeting.fold(Vec::new(), |rows, page| unite(rows, vec![page.rows.clone()]))
        }
    })
}

fn may_hold(leaf: &Leaf, page: &PageBounds) -> bool {
    let Some(bounds) = &page.bounds else { return false };
    match (&leaf.check, bounds) {
        (Check::Whole(ranges), Bounds::Integer(least, most)) => ranges.meets(*least, *most),
        (Check::Number(check), Bounds::Number(least, most)) => check.meets(*least, *most),
        (Check::Decimal(check), Bounds::Decimal(least, most)) => {
            let unit = super::evaluate::DECIMAL_UNIT;
            check.meets(*least as f64 / unit, *most as f64 / unit)
        }
        (Check::Boolean { yes, no }, Bounds::Boolean(least, most)) => {
            (*yes && *most) || (*no && !*least)
        }
        (Check::Text(check), Bounds::Text(least, most)) => text_may_hold(check, least, most),
        _ => true,
    }
}

/// `most` may have been cut, then raised: it is a bound, but no value.
fn text_may_hold(check: &TextCheck, least: &[u8], most: &[u8]) -> bool {
    let between = |text: &String| least <= text.as_bytes() && text.as_bytes() <= most;
    match check {
        TextCheck::Any(texts) => texts.iter().any(between),
        TextCheck::AnyOfMany(texts) => texts.iter().any(between),
        TextCheck::Like(glob) => {
            let prefix = glob.as_str().split('*').next().unwrap_or_default().as_bytes();
            let least = &least[..least.len().min(prefix.len())];
            least <= prefix && prefix <= most
        }
        TextCheck::Order(comparison, text) => match comparison {
            Comparison::Less => least < text.as_bytes(),
            Comparison::LessOrEqual => least <= text.as_bytes(),
            Comparison::Greater | Comparison::GreaterOrEqual => most >= text.as_bytes(),
        },
        TextCheck::Regex(_) | TextCheck::Contains(_) | TextCheck::Severity(..) => true,
    }
}

pub(crate) fn intersect(a: &[Range<u64>], b: &[Range<u64>]) -> Ranges {
    let (mut at_a, mut at_b) = (0, 0);
    let mut both = Vec::new();
    while let (Some(x), Some(y)) = (a.get(at_a), b.get(at_b)) {
        let (from, to) = (x.start.max(y.start), x.end.min(y.end));
        if from < to {
            both.push(from..to);
        }
        match x.end <= y.end {
            true => at_a += 1,
            false => at_b += 1,
        }
    }
    both
}

pub(crate) fn unite(a: Ranges, b: Ranges) -> Ranges {
    if b.is_empty() {
        return a;
    }
    let mut all = [a, b].concat();
    all.sort_by_key(|range| range.start);
    let mut any: Ranges = Vec::with_capacity(all.len());
    for range in all {
        match any.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => any.push(range),
        }
    }
    any
}

pub(crate) fn count(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use domain::{
        fields,
        query::{Expr, FieldRef, Literal, Test},
    };

    use super::*;
    use crate::{
        engine::{Search, plan::Plan},
        segment::Dataset,
    };

    fn pairs(ranges: &[Range<u64>]) -> Vec<(u64, u64)> {
        ranges.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn ranges_meet_and_join() {
        let (a, b) = (vec![0..10, 20..30], vec![5..25, 29..40]);
        assert_eq!(intersect(&a, &b), [5..10, 20..25, 29..30]);
        assert_eq!(pairs(&unite(a, b)), [(0, 40)]);
        assert_eq!(pairs(&unite(vec![0..1, 5..6], vec![2..3, 3..4])), [(0, 1), (2, 4), (5, 6)]);
    }

    #[test]
    fn pages_that_cannot_match_are_left_out() {
        let page = |rows, bounds| PageBounds { rows, bounds, nulls: None };
        let pages = |column: &str| match column {
            "status_code" => vec![
                page(0..10, Some(Bounds::Integer(200, 499))),
                page(10..20, Some(Bounds::Integer(200, 500))),
                page(20..30, None),
                page(30..40, Some(Bounds::Unknown)),
            ],
            _ => vec![
                page(0..20, Some(Bounds::Text(b"a".into(), b"gpt-4".into()))),
                page(20..40, Some(Bounds::Text(b"gpt-4o".into(), b"z".into()))),
            ],
        };
        let check = |expr: Expr, expected: &[(u64, u64)]| {
            let plan = Plan::new(&Search::new(expr), Dataset::Records, &[]).expect("valid");
            let mut left: Ranges = std::iter::once(0..40).collect();
            for part in &plan.parts {
                let ranges = possible(&part.node, &(0..40), &mut |c| Ok::<_, ()>(pages(c)));
                left = intersect(&left, &ranges.expect("bounds"));
            }
            assert_eq!(pairs(&left), expected);
        };
        let field = |name: &str, test: Test| {
            Expr::Field(FieldRef::Known(fields::find(name).expect("a field")), test)
        };
        let at_least = |least| Test::Compare(Comparison::GreaterOrEqual, Literal::Integer(least));
        let like = |pattern: &str| Test::Like(domain::glob::Glob::new(pattern));
        check(field("status_code", at_least(500)), &[(10, 20), (30, 40)]);
        check(field("status_code", Test::Present), &[(0, 20), (30, 40)]);
        check(field("model", like("gpt-5*")), &[(20, 40)]);
        check(field("model", like("gpt*")), &[(0, 40)]);
        let both = vec![field("status_code", at_least(500)), field("model", like("b*"))];
        check(Expr::And(both.clone()), &[(10, 20)]);
        check(Expr::Or(both), &[(0, 20), (30, 40)]);
        check(Expr::Not(Box::new(field("status_code", at_least(500)))), &[(0, 40)]);
    }
}
