//! The planner's answer: windows that suffice, or why they do not and what would.

use std::fmt;

use super::bet::{has_own_limit, p0_max};
use super::evidence::{Evidence, is_attributed};
use super::interval::floor_n0;
use super::power::{Question, abort_preview, planning_rate};
use crate::history::{Counts, Record, Role, Stream};

/// Bad rate assumed of a stream whose limit its baseline will set, until that is known: what lies
/// above 1.5 times the 90th percentile of usual latencies, and above the 99th of a gauge.
const ASSUMED_SLOW: f64 = 0.05;
const ASSUMED_GAUGE: f64 = 0.02;
/// Of clumped streams the spread of the blocks is used; fewer of them say little of it (simulated).
pub(super) const BLOCKS_MIN: u64 = 12;

/// What a drill has configured. Times in ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked {
    pub alpha: f64,
    pub margin: f64,
    /// Bad rate expected of a healthy stream; 0.005 until a baseline is known.
    pub p: f64,
    /// The whole baseline; a stream without a declared slo gets only its second half.
    pub before_ms: u64,
    pub fault_ms: u64,
    pub after_ms: u64,
    pub block_ms: u64,
    /// The longest mechanism by which damage could spread (DNS TTL, health checks); 0: none known.
    pub propagation_s: u64,
    /// Length of the outage episodes that must not slip between windows; 0: not asked.
    pub episode_s: f64,
}

/// Windows that suffice.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// Needed of fault, after, and the counted part of before.
    pub needed_s: u64,
    /// The stream that needs them so long.
    pub stream: String,
    /// Fewest probes of any proof.
    pub floor: u64,
    /// (share of bad probes, blocks until the abort speaks), for the plan to show.
    pub abort: Vec<(f64, Option<u32>)>,
}

/// A drill that would end INCONCLUSIVE; the text says what would do instead.
#[derive(Clone, Debug, PartialEq)]
pub struct TooShort {
    pub stream: String,
    pub rate: f64,
    pub question: Question,
    /// `before`, `during` or `after`.
    pub window: &'static str,
    /// What of it counts, whole seconds.
    pub configured_s: u64,
    /// Absent: no window of a day or 200,000 probes would do.
    pub needed_s: Option<u64>,
    /// With this rate, or this margin, the configured window would do.
    pub rate_instead: Option<f64>,
    pub margin_instead: Option<f64>,
    /// Why no rate helps: damage needs time to spread, or the baseline must match the fault.
    pub because: Option<String>,
}

impl std::error::Error for TooShort {}

impl fmt::Display for TooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question {
            p,
            margin,
            alpha,
            others,
            p0_max,
        } = self.question;
        let setting = format!(
            "{} at {} probes/s ({others} streams must not notice, p {}, margin {}, alpha {})",
            self.stream,
            tidy(self.rate),
            share(p),
            share(margin),
            share(alpha)
        );
        let Some(needed) = self.needed_s else {
            if p + margin >= p0_max {
                return write!(
                    f,
                    "{setting}: no window is long enough; a bad rate and a margin of {} together make \
                     the abort too slow, heal it or lower the margin",
                    share(p0_max)
                );
            }
            return write!(
                f,
                "{setting}: no window is long enough; heal it, or raise the rate or the margin"
            );
        };
        write!(f, "{setting} needs >= {needed} s")?;
        if let Some(because) = &self.because {
            write!(f, " ({because})")?;
        }
        write!(
            f,
            "; configured `{}` {} s counts -> would end INCONCLUSIVE; raise it to {needed} s",
            self.window, self.configured_s
        )?;
        if let Some(rate) = self.rate_instead {
            write!(f, ", or {} probes/s", tidy(rate))?;
        }
        if let Some(margin) = self.margin_instead {
            write!(f, ", or margin {}", share(margin))?;
        }
        Ok(())
    }
}

/// At most two decimals, none if whole.
fn tidy(x: f64) -> String {
    let rounded = (x * 100.0).round() / 100.0;
    format!("{rounded}")
}

fn share(fraction: f64) -> String {
    format!("{} %", tidy(fraction * 100.0))
}

/// Before the drill: every stream is expected to have the bad rate `asked.p`.
pub fn check(streams: &[Stream], asked: &Asked) -> Result<Windows, Box<TooShort>> {
    let assumed = |stream: &Stream| match &stream.basis.counts {
        Counts::Slow { .. } => ASSUMED_SLOW,
        Counts::Gauge { limit: None } => ASSUMED_GAUGE,
        _ => asked.p,
    };
    check_each(
        streams
            .iter()
            .map(|stream| (stream, assumed(stream)))
            .collect(),
        asked,
    )
}

/// After the baseline, before fire: each stream with the bad rate it has shown. `None` where the
/// history cannot be read (the baseline gate, `Watch::new`, says why).
pub fn check_again(records: &[Record], asked: &Asked) -> Option<Result<Windows, Box<TooShort>>> {
    let evidence = Evidence::read(records).ok()?;
    let rate = |stream: &Stream| {
        let base = evidence.baseline(stream);
        planning_rate(base.bad, base.valid)
    };
    let streams = evidence
        .header
        .streams
        .iter()
        .map(|stream| (stream, rate(stream)))
        .collect();
    Some(check_each(streams, asked))
}

fn check_each(streams: Vec<(&Stream, f64)>, asked: &Asked) -> Result<Windows, Box<TooShort>> {
    let others = streams
        .iter()
        .filter(|(s, _)| s.role == Role::Other)
        .count();
    // What users are told by DNS about the target is reported only, and controls are not compared.
    let judged = streams.into_iter().filter(|(stream, _)| match stream.role {
        Role::Other => true,
        Role::Target => stream.is_probed() && !is_attributed(stream),
        Role::Control => false,
    });
    let mut known: Vec<(f64, Question, Option<u64>)> = Vec::new();
    let mut longest = (0, String::new());
    let mut fewest = u64::MAX;
    for (stream, p) in judged {
        let question = Question {
            p,
            margin: stream.basis.margin.unwrap_or(asked.margin),
            alpha: asked.alpha,
            others,
            p0_max: p0_max(stream),
        };
        let same = |k: &&(f64, Question, _)| k.0 == stream.rate && k.1 == question;
        let needed = match known.iter().find(same) {
            Some(known) => known.2,
            None => {
                let needed = question.drill_seconds(stream.rate);
                known.push((stream.rate, question, needed));
                needed
            }
        };
        let needed = check_stream(stream, question, needed, asked)?;
        if needed > longest.0 || longest.1.is_empty() {
            longest = (needed, stream.name.clone());
        }
        if !has_own_limit(stream) {
            fewest = fewest.min((counted_before(stream, asked) as f64 * stream.rate) as u64);
        }
    }
    let question = Question {
        p: asked.p,
        margin: asked.margin,
        alpha: asked.alpha,
        others,
        p0_max: super::bet::P0_MAX,
    };
    let block_ms = asked.block_ms.max(1);
    let planned = asked.fault_ms.saturating_add(asked.after_ms) / block_ms;
    let planned = u32::try_from(planned).unwrap_or(u32::MAX).min(100_000);
    let preview = |y: f64| (y, abort_preview(&question, fewest, planned, y));
    Ok(Windows {
        needed_s: longest.0,
        stream: longest.1,
        floor: floor_n0(asked.alpha, asked.margin),
        abort: [1.0, 0.5, 0.2, 0.1].map(preview).to_vec(),
    })
}

/// Whole seconds of the baseline that count for a stream.
fn counted_before(stream: &Stream, asked: &Asked) -> u64 {
    let counted = if stream.needs_thresholds() {
        asked.before_ms / 2
    } else {
        asked.before_ms
    };
    in_blocks(stream, asked, counted)
}

/// Whole seconds of a window that whole blocks of the stream fill.
fn in_blocks(stream: &Stream, asked: &Asked, window_ms: u64) -> u64 {
    let block_ms = stream.block_ms(asked.block_ms).max(1);
    window_ms / block_ms * block_ms / 1000
}

fn check_stream(
    stream: &Stream,
    question: Question,
    needed: Option<u64>,
    asked: &Asked,
) -> Result<u64, Box<TooShort>> {
    let episodes = (asked.episode_s * (1.0 / asked.alpha).ln() / asked.margin).ceil() as u64;
    let floor = asked.propagation_s.max(episodes);
    let fault_s = in_blocks(stream, asked, asked.fault_ms);
    let after_s = in_blocks(stream, asked, asked.after_ms);
    let before_s = counted_before(stream, asked);
    let refuse = |window, configured_s, needed_s: Option<u64>, because: Option<String>| {
        let statistics = because.is_none();
        Box::new(TooShort {
            stream: stream.name.clone(),
            rate: stream.rate,
            question,
            window,
            configured_s,
            needed_s,
            rate_instead: needed_s
                .filter(|_| statistics)
                .and_then(|needed| rate_for(&question, stream.rate, needed, configured_s)),
            margin_instead: Some(())
                .filter(|()| statistics)
                .and_then(|()| margin_for(&question, stream.rate, configured_s)),
            because,
        })
    };
    let windows = [
        ("during", fault_s),
        ("before", before_s),
        ("after", after_s),
    ];
    let Some(statistics) = needed else {
        return Err(refuse("during", fault_s, None, None));
    };
    for (window, configured_s) in windows {
        if configured_s < statistics {
            return Err(refuse(window, configured_s, needed, None));
        }
    }
    let blocks_s = BLOCKS_MIN
        .saturating_mul(stream.block_ms(asked.block_ms))
        .div_ceil(1000);
    for (window, configured_s) in windows.into_iter().filter(|_| stream.is_clumped()) {
        if configured_s < blocks_s {
            let because = Some(format!(
                "{BLOCKS_MIN} of its blocks are the fewest whose spread says anything"
            ));
            return Err(refuse(window, configured_s, Some(blocks_s), because));
        }
    }
    if fault_s < floor {
        let because = why_so_long(asked, episodes);
        return Err(refuse("during", fault_s, Some(floor), Some(because)));
    }
    if before_s < fault_s {
        let because = "the baseline must hold as many probes as the fault window".into();
        return Err(refuse("before", before_s, Some(fault_s), Some(because)));
    }
    Ok(statistics.max(floor))
}

/// Why a fault must last longer than the statistics alone want.
fn why_so_long(asked: &Asked, episodes: u64) -> String {
    match asked.propagation_s >= episodes {
        true => format!("damage may take {} s to spread", asked.propagation_s),
        false => format!(
            "episodes of {} s must not slip through",
            tidy(asked.episode_s)
        ),
    }
}

/// A rate with which the configured window would do, whole probes/s.
fn rate_for(question: &Question, rate: f64, needed_s: u64, configured_s: u64) -> Option<f64> {
    if configured_s == 0 {
        return None;
    }
    let first = (rate * needed_s as f64 / configured_s as f64).ceil();
    let step = (first / 20.0).ceil();
    let candidates = (0..10).map(|i| first + step * f64::from(i));
    candidates
        .into_iter()
        .find(|rate| question.suffices_from(configured_s, *rate))
}

/// A margin in half per cents, at most 10 %, with which the configured window would do.
fn margin_for(question: &Question, rate: f64, configured_s: u64) -> Option<f64> {
    let first = ((question.margin * 200.0).floor() as u32).saturating_add(1);
    let candidates = (first..=20).map(|half_percents| f64::from(half_percents) / 200.0);
    candidates.into_iter().find(|margin| {
        Question {
            margin: *margin,
            ..*question
        }
        .suffices_from(configured_s, rate)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Plane;

    fn stream(name: &str, role: Role, rate: f64, slo_ms: Option<u64>) -> Stream {
        Stream {
            name: name.into(),
            role,
            plane: Plane::Data,
            cell: None,
            probe: "checkout".into(),
            rate,
            slo_ms,
            timeout_ms: 1000,
            basis: Default::default(),
        }
    }

    fn nine(rate: f64) -> Vec<Stream> {
        (0..9)
            .map(|i| stream(&format!("c{i}/checkout"), Role::Other, rate, Some(500)))
            .collect()
    }

    fn asked(seconds: u64) -> Asked {
        Asked {
            alpha: 0.01,
            margin: 0.02,
            p: 0.005,
            before_ms: seconds * 1000,
            fault_ms: seconds * 1000,
            after_ms: seconds * 1000,
            block_ms: 1000,
            propagation_s: 0,
            episode_s: 0.0,
        }
    }

    /// The gate after the baseline would refuse it: 0 of 500 may still be 2 %.
    #[test]
    fn a_margin_too_wide_for_the_abort_is_refused_before_the_baseline() {
        let wide = |margin| Asked {
            margin,
            ..asked(30)
        };
        let refused = check(&nine(50.0), &wide(0.1)).unwrap_err();
        let text = refused.to_string();
        assert!(text.ends_with("heal it or lower the margin"), "{text}");
        let refused = check(&nine(10.0), &wide(0.08)).unwrap_err();
        let needed = refused.needed_s.expect("a longer baseline says more");
        assert!(needed > 30, "{refused}");
        assert!(check(&nine(50.0), &wide(0.06)).is_ok());
    }

    #[test]
    fn a_drill_too_short_is_told_what_would_do() {
        let refused = check(&nine(20.0), &asked(30)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "c0/checkout at 20 probes/s (9 streams must not notice, p 0.5 %, margin 2 %, alpha 1 %) \
             needs >= 45 s; configured `during` 30 s counts -> would end INCONCLUSIVE; \
             raise it to 45 s, or 30 probes/s, or margin 3 %"
        );
    }

    #[test]
    fn a_drill_long_enough_is_told_when_it_would_abort() {
        let windows = check(&nine(20.0), &asked(45)).unwrap();
        assert_eq!((windows.needed_s, windows.floor), (45, 228));
        assert_eq!(windows.abort[0], (1.0, Some(4)));
    }

    #[test]
    fn the_slowest_stream_decides() {
        let mut streams = nine(100.0);
        let users = |cell: &str, role| Stream {
            probe: "shop".to_owned(),
            cell: Some(cell.to_owned()),
            ..stream(&format!("shop@{cell}"), role, 10.0, Some(500))
        };
        streams.push(users("c1", Role::Other));
        let refused = check(&streams, &asked(45)).unwrap_err();
        assert_eq!(refused.stream, "shop@c1");
        // What users of the target see is reported only.
        streams.pop();
        streams.push(users("c0", Role::Target));
        assert!(check(&streams, &asked(45)).is_ok());
    }

    #[test]
    fn every_window_is_checked_and_floors_hold() {
        let streams = nine(20.0);
        let refuse = |change: &dyn Fn(&mut Asked)| {
            let mut asked = asked(60);
            change(&mut asked);
            *check(&streams, &asked).unwrap_err()
        };
        assert_eq!(refuse(&|a| a.before_ms = 44_000).window, "before");
        assert_eq!(refuse(&|a| a.after_ms = 44_000).window, "after");
        assert_eq!(refuse(&|a| a.before_ms = 59_000).needed_s, Some(60));
        assert_eq!(refuse(&|a| a.propagation_s = 90).needed_s, Some(90));
        assert_eq!(refuse(&|a| a.episode_s = 1.0).needed_s, Some(231));
        assert_eq!(refuse(&|a| a.p = 0.6).needed_s, None);
        let halved = [stream("a/b", Role::Other, 20.0, None)];
        assert_eq!(check(&halved, &asked(60)).unwrap_err().window, "before");
    }
}
