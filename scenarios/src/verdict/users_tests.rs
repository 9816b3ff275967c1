//! What users met is said only where DNS and the prober could be asked.

use super::drill::*;
use super::effects_tests::users;
use super::judge;
use crate::history::*;

fn words(records: &[Record]) -> Vec<String> {
    let users = judge(records).users;
    users.iter().flat_map(|seen| seen.words.clone()).collect()
}

#[test]
fn dns_that_is_silent_has_not_stopped_answering() {
    let mut records = users();
    alter(&mut records, "shop/dns", 20..40, |b| {
        (b.bad, b.timeouts) = (RATE, RATE);
        b.answers.clear();
    });
    let told = words(&records);
    assert!(
        told.iter()
            .any(|w| w.contains("could not be asked for 20 s")),
        "{told:?}"
    );
    let claims =
        |word: &String| word.contains("of the region's requests") || word.contains("kept until");
    assert!(!told.iter().any(claims), "{told:?}");
    assert!(judge(&records).users[0].rows.is_empty());
    assert!(words(&users()).iter().any(claims));
}

#[test]
fn a_prober_that_was_cut_off_knows_nothing_of_users() {
    let mut records = users();
    for name in header_mut(&mut records).streams.clone() {
        if name.role != Role::Control {
            alter(&mut records, &name.name, 10..30, |b| {
                (b.bad, b.timeouts) = (RATE, RATE);
            });
        }
    }
    let told = words(&records);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("the prober cannot be trusted"), "{told:?}");
}
