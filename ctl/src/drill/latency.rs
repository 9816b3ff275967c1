//! Quantiles of latency for a terminal: information beside the verdict.

use scenarios::verdict::{Quantile, Verdict, Window};

use crate::output::table;

/// One line for each row that has latencies; empty if none has.
pub fn latency_text(verdict: &Verdict) -> String {
    let head = [
        "latency",
        "window",
        "p50",
        "p95",
        "p99",
        "before: p50",
        "p95",
        "p99",
    ];
    let mut rows = vec![head.map(str::to_string).to_vec()];
    for row in &verdict.rows {
        if row.latency.is_empty() && row.base_latency.is_empty() {
            continue;
        }
        let window = match row.window {
            Window::Fault => "fault",
            Window::After => "after",
        };
        let mut line = vec![row.stream.clone(), window.to_string()];
        line.extend(three(&row.latency));
        line.extend(three(&row.base_latency));
        rows.push(line);
    }
    match rows.len() {
        1 => String::new(),
        _ => format!(
            "{}(ms, with 99 % intervals; no answer is infinitely slow)\n",
            table(&rows)
        ),
    }
}

fn three(quantiles: &[Quantile]) -> Vec<String> {
    let words = |index: usize| {
        quantiles
            .get(index)
            .map_or_else(|| "-".to_string(), words_of)
    };
    (0..3).map(words).collect()
}

/// `12.3 [11.9, 13]`, where `inf` is no answer.
fn words_of(quantile: &Quantile) -> String {
    let ms = |us: Option<u64>| match us {
        Some(us) => format!("{}", (us as f64 / 100.0).round() / 10.0),
        None => "inf".to_string(),
    };
    let Quantile {
        us,
        low_us,
        high_us,
        ..
    } = *quantile;
    format!("{} [{}, {}]", ms(us), ms(low_us), ms(high_us))
}

#[cfg(test)]
mod tests {
    use scenarios::verdict::{Class, Outcome, Row};

    use super::*;

    #[test]
    fn silence_is_infinite_and_rows_without_latencies_are_left_out() {
        let quantile = |us, high_us| Quantile {
            q: 0.5,
            us,
            low_us: Some(1_240),
            high_us,
        };
        let row = |latency: Vec<Quantile>| Row {
            stream: "aws/checkout".into(),
            window: Window::Fault,
            class: Class::Isolated,
            bad: 0,
            total: 0,
            base_bad: 0,
            base_total: 0,
            d: 0.0,
            l: 0.0,
            u: 0.0,
            latency,
            base_latency: Vec::new(),
            e_value: None,
            alarm_ms: None,
            only_seen_from: Vec::new(),
            notes: Vec::new(),
        };
        let verdict = |rows| Verdict {
            outcome: Outcome::Pass,
            reasons: Vec::new(),
            rows,
            planes: Vec::new(),
            users: Vec::new(),
            proves_isolation: true,
        };
        assert_eq!(latency_text(&verdict(vec![row(Vec::new())])), "");
        let told = quantile(Some(2_000), None);
        let text = latency_text(&verdict(vec![row(vec![told, quantile(None, None)])]));
        assert!(text.contains("2 [1.2, inf]"), "{text}");
        assert!(text.contains("inf [1.2, inf]"), "{text}");
    }
}
