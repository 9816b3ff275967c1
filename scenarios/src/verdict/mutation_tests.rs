//! Histories spoilt at random: the verdict never panics, and never passes without its evidence.

use proptest::prelude::*;

use super::drill::{history, sound};
use super::{Outcome, Watch, judge, settle_deadline_ms, target_settled};
use crate::history::{Phase, Record};

/// One random way to spoil a record.
#[derive(Clone, Debug)]
enum Spoil {
    Drop,
    Double,
    Number(u8, u64),
    Name,
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let number = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        any::<u64>()
    ];
    prop_oneof![
        Just(Spoil::Drop),
        Just(Spoil::Double),
        (any::<u8>(), number).prop_map(|(field, number)| Spoil::Number(field, number)),
        Just(Spoil::Name),
    ]
}

/// Of what agents tell, a pass needs only that each of them fired.
fn is_required(record: &Record) -> bool {
    !matches!(record, Record::Agent(event) if event.state != "firing")
}

fn apply(records: &mut Vec<Record>, at: prop::sample::Index, spoil: &Spoil) {
    if records.is_empty() {
        return;
    }
    let at = at.index(records.len());
    match spoil {
        Spoil::Drop => drop(records.remove(at)),
        Spoil::Double => {
            let record = records[at].clone();
            records.push(record);
        }
        Spoil::Name => match &mut records[at] {
            Record::Block(b) => b.stream = "@/".into(),
            Record::Header(h) => h.streams[0].name = String::new(),
            Record::Residue(r) => r.cell = String::new(),
            Record::Agent(event) => event.state = "lost".into(),
            _ => {}
        },
        Spoil::Number(field, x) => set_number(&mut records[at], *field, *x),
    }
}

fn set_number(record: &mut Record, field: u8, x: u64) {
    let small = u32::try_from(x).unwrap_or(u32::MAX);
    match record {
        Record::Phase(mark) => mark.at_ms = x,
        Record::Agent(event) => event.at_ms = x,
        Record::Ledger(ledger) => match field % 6 {
            0 => ledger.lost = x,
            1 => ledger.duplicated = x,
            2 => ledger.unread = x,
            3 => (ledger.updated, ledger.deleted) = (x, x),
            4 => ledger.deleted = x,
            _ => ledger.acknowledged = x,
        },
        Record::Block(b) => match field % 4 {
            0 => b.start_ms = x,
            1 => b.valid = small,
            2 => b.bad = small,
            _ => (b.scheduled, b.valid) = (small, small),
        },
        Record::Header(h) => {
            let float = f64::from_bits(x);
            match field % 12 {
                0 => h.judgement.alpha = float,
                1 => h.judgement.margin = float,
                2 => h.judgement.effective_min = float,
                3 => h.judgement.block_ms = x,
                4 => h.judgement.planned_blocks = small,
                5 => h.judgement.guard_ms = x,
                6 => h.judgement.recovery_within_ms = x,
                7 => h.streams[2].rate = float,
                8 => h.streams[6].rate = float,
                9 => h.plan.steps[0].at_ms = x,
                10 => h.plan.steps[1].duration_ms = x,
                _ => h.streams[0].slo_ms = None,
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn spoilt_histories_never_panic(
        spoils in prop::collection::vec((any::<prop::sample::Index>(), spoil()), 1..8),
        header in prop::collection::vec((any::<u8>(), any::<u64>()), 0..3),
    ) {
        let mut records = history(&sound);
        for (field, number) in &header {
            set_number(&mut records[0], *field, *number);
        }
        for (at, spoil) in &spoils {
            apply(&mut records, *at, spoil);
        }
        let verdict = judge(&records);
        prop_assert!(!verdict.reasons.is_empty());
        let text = serde_json::to_string(&verdict).unwrap();
        let back: super::Verdict = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back.outcome, verdict.outcome);
        if let Ok(mut watch) = Watch::new(&records) {
            watch.second(u64::MAX, []);
        }
        target_settled(&records);
        settle_deadline_ms(&records);
    }

    /// Every block since `Before` is required, and so is whatever `is_required` names.
    #[test]
    fn no_pass_without_any_one_record(
        dropped in prop::collection::vec(any::<prop::sample::Index>(), 1..30),
    ) {
        let mut records = history(&sound);
        for at in dropped {
            let required: Vec<usize> = (0..records.len())
                .filter(|at| is_required(&records[*at]))
                .collect();
            records.remove(required[at.index(required.len())]);
        }
        prop_assert_ne!(judge(&records).outcome, Outcome::Pass);
    }
}

/// Not at random: each required record alone, and each stream as a whole.
#[test]
fn each_required_record_denies_a_pass_when_it_is_missing() {
    let whole = history(&sound);
    assert_eq!(judge(&whole).outcome, Outcome::Pass);
    for at in 0..whole.len() {
        if matches!(whole[at], Record::Block(_)) || !is_required(&whole[at]) {
            continue;
        }
        let mut records = whole.clone();
        let gone = records.remove(at);
        let verdict = judge(&records);
        assert_ne!(verdict.outcome, Outcome::Pass, "without {gone:?}");
        if matches!(&gone, Record::Phase(mark) if mark.phase == Phase::Fire) {
            assert_eq!(verdict.outcome, Outcome::Aborted);
        }
    }
    for stream in super::drill::streams() {
        let mut records = whole.clone();
        records.retain(|r| !matches!(r, Record::Block(b) if b.stream == stream.name));
        assert_ne!(
            judge(&records).outcome,
            Outcome::Pass,
            "without {}",
            stream.name
        );
    }
    for length in (0..whole.len()).step_by(97) {
        assert_ne!(
            judge(&whole[..length]).outcome,
            Outcome::Pass,
            "only {length} records"
        );
    }
}
