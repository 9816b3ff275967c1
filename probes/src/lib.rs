//! What looks at the fleet: open-loop schedule, probe kinds, block records.
