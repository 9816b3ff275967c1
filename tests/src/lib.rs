//! The proof of the whole line: end-to-end tests on a real lab live in `tests/tests`.
