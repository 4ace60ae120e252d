//! A question asked of lines one by one, as they come: live tail, `--follow`.

use arrow_buffer::BooleanBuffer;
use domain::fields::Stream;

use super::{
    EngineError, Search,
    evaluate::Evaluator,
    hot::dataset_of,
    needle::Prefilter,
    plan::{Node, Plan, time_leaf},
};
use crate::segment::{Dataset, Decoder, schema::TS};

/// Tells which lines of a journal match. Order, limit, position and context do
/// not count, and neither do captured bodies, which come apart.
pub struct Filter {
    streams: Vec<OfStream>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

struct OfStream {
    plan: Plan,
    time: Option<Node>,
    prefilter: Prefilter,
    decoder: Decoder,
    evaluator: Evaluator,
}

impl Filter {
    pub fn new(search: &Search) -> Result<Self, EngineError> {
        let search = Search { bodies: false, ..search.clone() };
        let mut datasets: Vec<Dataset> =
            search.streams.iter().map(|stream: &Stream| Dataset::of(*stream)).collect();
        datasets.sort_unstable();
        datasets.dedup();
        let streams = datasets.into_iter().map(|dataset| OfStream::new(&search, dataset));
        Ok(Self { streams: streams.collect::<Result<_, _>>()? })
    }

    /// Whether a line of the journal matches; never one of the journal's own.
    pub fn matches(&mut self, line: &[u8]) -> bool {
        let dataset = dataset_of(line);
        let stream = self.streams.iter_mut().find(|known| Some(known.plan.dataset) == dataset);
        stream.is_some_and(|stream| stream.matches(line))
    }
}

impl OfStream {
    fn new(search: &Search, dataset: Dataset) -> Result<Self, EngineError> {
        let plan = Plan::new(search, dataset, &[])?;
        let mut columns = plan.columns();
        columns.push(TS);
        let is_bounded = !plan.covers(i64::MIN, i64::MAX - 1);
        Ok(Self {
            time: is_bounded.then(|| Node::Leaf(time_leaf(&plan))),
            prefilter: Prefilter::new(&plan.needles)?,
            decoder: Decoder::new(dataset, Some(&columns)),
            evaluator: Evaluator::new(plan.leaves),
            plan,
        })
    }

    fn matches(&mut self, line: &[u8]) -> bool {
        if self.plan.is_never
            || !self.prefilter.may_match(line)
            || self.decoder.push(line, 0).is_err()
        {
            return false;
        }
        let batch = self.decoder.finish();
        let parts = self.plan.parts.iter().map(|part| &part.node);
        self.time.iter().chain(parts).all(|node| {
            let mask: BooleanBuffer = self.evaluator.mask(node, &batch);
            mask.len() == 1 && mask.value(0)
        })
    }
}
