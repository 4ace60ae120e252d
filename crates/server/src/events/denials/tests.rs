//! Counting refusals: nothing is lost, nothing is counted twice.

use std::net::{IpAddr, Ipv4Addr};

use domain::{ids::ProjectId, time::ManualClock};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const START: Timestamp = Timestamp::from_micros(1_790_000_000_000_000);
const REASONS: [&str; 4] = ["token_missing", "token_invalid", "token_not_found", "rate_limited"];

fn key(reason: usize, party: u64, network: u32) -> Key {
    Key {
        action: Action::AccessDenied,
        reason: REASONS[reason % REASONS.len()],
        class: "chat",
        party: match party {
            0 => Party::Nobody,
            party => Party::Project(ProjectId(Uuid::from_u128(party.into()))),
        },
        network: Some(IpAddr::V4(Ipv4Addr::from(network << 8))),
    }
}

fn take(denials: &Denials, key: Key) {
    let now = denials.clock.now();
    denials.take(key, now, None, |key| {
        management(key, now, Actor::anonymous(), EntryContext::default(), 401)
    });
}

/// Adds what is due to `entered`; returns how many entries that makes.
fn enter(denials: &Denials, all: bool, entered: &mut Totals) -> usize {
    let mut entries = 0;
    loop {
        let due = denials.due(denials.clock.now(), all, 64);
        for due in &due {
            *entered.entry(due.reason.clone()).or_default() += due.count;
        }
        entries += due.len();
        if due.len() < 64 {
            return entries;
        }
    }
}

#[test]
fn five_of_a_key_stand_alone_and_the_rest_together() {
    let clock = Arc::new(ManualClock::at(START));
    let denials = Denials::new(clock.clone());
    for _ in 0..1000 {
        take(&denials, key(0, 0, 1));
    }
    let mut entered = Totals::new();
    assert_eq!(enter(&denials, false, &mut entered), 5);
    clock.advance_micros(WINDOW_MICROS);
    let due = denials.due(clock.now(), false, 64);
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].count, 995);
    assert_eq!(due[0].event.draft.action(), Action::AccessDeniedAggregate);
    assert!(denials.is_idle());
    // The next window has its own five.
    take(&denials, key(0, 0, 1));
    assert_eq!(enter(&denials, false, &mut entered), 1);
}

#[test]
fn a_flood_of_keys_is_told_apart_less_and_counted_all_the_same() {
    let denials = Denials::new(Arc::new(ManualClock::at(START)));
    let refused = 150_000u32;
    for at in 0..refused {
        take(&denials, key(at as usize, u64::from(at) + 1, at));
    }
    let state = denials.state.lock();
    assert!(state.windows.len() <= KEYS_MAX, "{}", state.windows.len());
    assert!(state.individuals.len() <= INDIVIDUALS_MAX);
    drop(state);
    let mut entered = Totals::new();
    let entries = enter(&denials, true, &mut entered);
    assert!(entries <= KEYS_MAX + INDIVIDUALS_MAX);
    assert_eq!(entered.values().sum::<u64>(), u64::from(refused));
    assert_eq!(entered, denials.counted());
    assert!(denials.is_idle());
}

#[test]
fn guesses_from_one_network_leave_few_entries() {
    let denials = Denials::new(Arc::new(ManualClock::at(START)));
    for guess in 0..10_000 {
        let mark = CredentialMark::new(format!("sk-{guess:043}").as_bytes(), None);
        let mark = CredentialMark { tag: Some(format!("w1:{guess}").into()), ..mark };
        take(&denials, Key { party: Party::Credential(mark), ..key(2, 0, 1) });
    }
    let mut entered = Totals::new();
    let entries = enter(&denials, true, &mut entered);
    assert_eq!(entries, CREDENTIALS_MAX as usize + INDIVIDUAL_MAX as usize + 1);
    assert_eq!(entered.values().sum::<u64>(), 10_000);
}

#[test]
fn a_clock_that_is_set_back_keeps_no_window_open() {
    let clock = Arc::new(ManualClock::at(START));
    let denials = Denials::new(clock.clone());
    (0..10).for_each(|_| take(&denials, key(0, 0, 1)));
    clock.advance_micros(-3_600_000_000);
    let mut entered = Totals::new();
    enter(&denials, false, &mut entered);
    assert_eq!(entered, denials.counted());
}

proptest! {
    /// Whatever comes in whatever order: counted = entered + waiting.
    #[test]
    fn counts_are_conserved(
        steps in prop::collection::vec((0..4usize, 0..3u64, 0..3u32, 0..8u8), 1..400)
    ) {
        let clock = Arc::new(ManualClock::at(START));
        let denials = Denials::new(clock.clone());
        let mut entered = Totals::new();
        for (refused, (reason, party, network, step)) in (1u64..).zip(steps) {
            take(&denials, key(reason, party, network));
            if step == 0 {
                clock.advance_micros(WINDOW_MICROS / 3);
            }
            if step < 2 {
                enter(&denials, step == 0, &mut entered);
            }
            let state = denials.state.lock();
            let folded = state.windows.values().filter_map(|it| Some(it.folded.as_ref()?.count));
            let waiting = folded.sum::<u64>() + state.individuals.len() as u64;
            prop_assert_eq!(state.counted.values().sum::<u64>(), refused);
            prop_assert_eq!(entered.values().sum::<u64>() + waiting, refused);
        }
        enter(&denials, true, &mut entered);
        prop_assert_eq!(entered, denials.counted());
    }
}
