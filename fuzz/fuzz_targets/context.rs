#![no_main]
//! Ids and `traceparent` as clients send them.

use domain::{
    context::{SpanId, TraceContext, TraceId, parse_traceparent},
    ids::{CorrelationId, RequestId},
    rng::Fixed,
};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some(id) = RequestId::parse(input) {
        assert_eq!(id.as_str().as_bytes(), input);
        assert!((1..=128).contains(&input.len()));
        assert!(input.iter().all(u8::is_ascii_graphic));
    }
    drop(CorrelationId::parse(input));
    TraceId::parse(input);
    SpanId::parse(input);
    let parsed = parse_traceparent(input);
    let context = TraceContext::from_traceparent(Some(input), &Fixed(1));
    let again = parse_traceparent(context.traceparent().as_bytes());
    let (trace_id, _, _) = again.expect("what we send is valid");
    if let Some((given, _, _)) = parsed {
        assert_eq!(given.as_bytes(), trace_id.as_bytes());
    }
});
