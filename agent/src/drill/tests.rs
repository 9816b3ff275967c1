//! When a renewal still opens the gate of a step.

use super::*;

#[test]
fn a_step_at_its_end_is_not_renewed() {
    let ms = Duration::from_millis;
    assert_eq!(renewed_gate(ms(9_000), ms(0)), None);
    assert_eq!(renewed_gate(ms(9_000), ms(3)), None);
    assert_eq!(renewed_gate(ms(9_000), ms(50)), None);
    assert_eq!(
        renewed_gate(ms(9_000), ms(51)),
        Some(Gate::from_millis(51)),
        "the gate never outlives the step"
    );
    assert_eq!(
        renewed_gate(ms(900), ms(5_000)),
        Some(Gate::from_millis(900)),
        "nor the lease"
    );
}
