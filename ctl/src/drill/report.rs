//! What people read: the story of the cells while it happens, and the table at the end.

use std::collections::BTreeMap;

use scenarios::fleet::Plane;
use scenarios::history::{AgentEvent, Block, Role, Stream};
use scenarios::verdict::{CellPlane, Class, Outcome, Row, UserReport, Verdict, Window};

use crate::drill::hands::{LOST, NOT_RENEWED, UNREACHABLE};
use crate::drill::latency::latency_text;
use crate::output::{Story, one_line, table};

/// Tells when a stream stops or starts answering, once each time.
pub struct Narrator {
    streams: BTreeMap<String, Told>,
}

struct Told {
    role: Role,
    failing: bool,
}

impl Narrator {
    pub fn new(streams: &[Stream]) -> Self {
        let told = |stream: &Stream| Told {
            role: stream.role,
            failing: false,
        };
        Self {
            streams: streams.iter().map(|s| (s.name.clone(), told(s))).collect(),
        }
    }

    /// A stream fails when at least half of a block is bad, and is back with the first clean one.
    pub fn second(&mut self, story: Story, blocks: &[Block]) {
        for block in blocks.iter().filter(|block| block.vantage.is_none()) {
            let Some(told) = self.streams.get_mut(&block.stream) else {
                continue;
            };
            let failing = block.valid > 0 && 2 * block.bad >= block.valid;
            let clean = block.valid > 0 && block.bad == 0;
            if failing && !told.failing {
                told.failing = true;
                let role = match told.role {
                    Role::Target => "target",
                    Role::Other => "NOT the target",
                    Role::Control => "the prober itself",
                };
                story.tell(&format!(
                    "{} fails: {} of {} bad ({} timeouts); {role}",
                    block.stream, block.bad, block.valid, block.timeouts
                ));
            } else if clean && told.failing {
                told.failing = false;
                story.tell(&format!("{} answers again", block.stream));
            }
        }
    }

    /// Only what a person must know; all of it is in the history.
    pub fn agent(&mut self, story: Story, event: &AgentEvent) {
        if [LOST, NOT_RENEWED, UNREACHABLE].contains(&event.state.as_str()) {
            story.tell(&format!(
                "{}/{} {}: {}",
                event.cell, event.node, event.state, event.detail
            ));
        }
    }
}

/// The table of all rows and the reasons, for a terminal.
pub fn verdict_text(verdict: &Verdict, streams: &[Stream]) -> String {
    let head = [
        "cell", "plane", "stream", "window", "verdict", "bad/n", "base", "D", "L", "U", "notes",
    ];
    let mut rows = vec![head.map(str::to_string).to_vec()];
    rows.extend(verdict.rows.iter().map(|row| row_cells(row, streams)));
    let mut text = table(&rows);
    text.push('\n');
    let latency = latency_text(verdict);
    if !latency.is_empty() {
        text.push_str(&latency);
        text.push('\n');
    }
    if !verdict.planes.is_empty() {
        text.push_str(&matrix(&verdict.planes));
        text.push('\n');
    }
    for seen in &verdict.users {
        text.push_str(&users_text(seen));
        text.push('\n');
    }
    text.push_str(outcome_word(verdict.outcome));
    text.push('\n');
    for reason in &verdict.reasons {
        text.push_str(&format!("  {}\n", one_line(reason)));
    }
    text
}

/// One line for each cell, one column for each plane that any of them has.
fn matrix(lines: &[CellPlane]) -> String {
    let mut planes: Vec<Plane> = lines.iter().map(|line| line.plane).collect();
    planes.sort();
    planes.dedup();
    let mut cells: Vec<&str> = lines.iter().map(|line| line.cell.as_str()).collect();
    cells.sort_unstable();
    cells.dedup();
    let mut rows = vec![vec!["cell".to_string()]];
    rows[0].extend(planes.iter().map(|plane| plane.word().to_string()));
    for cell in cells {
        let mut row = vec![cell.to_string()];
        row.extend(planes.iter().map(|plane| {
            let line = lines
                .iter()
                .find(|line| line.cell == cell && line.plane == *plane);
            line.map_or_else(|| "-".to_string(), plane_text)
        }));
        rows.push(row);
    }
    table(&rows)
}

/// What the users of one entrypoint met: parts of the fault by kind of client, and the worst case.
fn users_text(seen: &UserReport) -> String {
    let percent = |fraction: f64| format!("{:.1} %", fraction * 100.0);
    let head = [
        "users of", "window", "client", "for", "bad/n", "rate", "limits",
    ];
    let mut rows = vec![head.map(str::to_string).to_vec()];
    rows.extend(seen.rows.iter().map(|row| {
        vec![
            seen.entrypoint.clone(),
            row.window.words().to_string(),
            row.client
                .map_or("all", |client| client.words())
                .to_string(),
            format!("{} s", row.seconds),
            format!("{}/{}", row.bad, row.requests),
            percent(row.rate),
            format!("{} to {}", percent(row.low), percent(row.high)),
        ]
    }));
    let mut text = table(&rows);
    for words in &seen.words {
        text.push_str(&format!("  {}\n", one_line(words)));
    }
    text
}

/// What one cell showed on one plane: `isolated, U < 0.40 %`.
fn plane_text(line: &CellPlane) -> String {
    let percent = format!("{:.2} %", line.bound * 100.0);
    let word = class_word(line.class);
    let fell = match line.class {
        Class::Isolated => format!("{word}, U < {percent}"),
        Class::Degraded | Class::Effective | Class::Ineffective => format!("{word}, L > {percent}"),
        _ => word.to_string(),
    };
    match line.recovery {
        Some(recovery) => format!("{fell}, {}", class_word(recovery)),
        None => fell,
    }
}

fn row_cells(row: &Row, streams: &[Stream]) -> Vec<String> {
    let percent = |fraction: f64| format!("{:.2} %", fraction * 100.0);
    let stream = streams.iter().find(|stream| stream.name == row.stream);
    let cell = stream.and_then(|stream| stream.cell.clone());
    let plane = match stream {
        Some(stream) if stream.role == Role::Control => "prober",
        Some(stream) => stream.plane.word(),
        // A row over all users of an entrypoint is no stream of its own.
        None => Plane::Entrypoint.word(),
    };
    let window = match row.window {
        Window::Fault => "fault",
        Window::After => "after",
    };
    vec![
        cell.unwrap_or_else(|| "-".to_string()),
        plane.to_string(),
        row.stream.clone(),
        window.to_string(),
        class_word(row.class).to_string(),
        format!("{}/{}", row.bad, row.total),
        format!("{}/{}", row.base_bad, row.base_total),
        percent(row.d),
        percent(row.l),
        percent(row.u),
        row.notes.join("; "),
    ]
}

pub fn class_word(class: Class) -> &'static str {
    match class {
        Class::Degraded => "DEGRADED",
        Class::Inconclusive => "inconclusive",
        Class::Isolated => "isolated",
        Class::Effective => "degraded (target)",
        Class::Ineffective => "INEFFECTIVE",
        Class::Recovered => "recovered",
        Class::NotRecovered => "NOT RECOVERED",
        Class::Sound => "sound",
        Class::Unsound => "UNSOUND",
        Class::Reported => "reported",
    }
}

pub fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Pass => "PASS",
        Outcome::Fail => "FAIL",
        Outcome::Inconclusive => "INCONCLUSIVE",
        Outcome::Ineffective => "INEFFECTIVE",
        Outcome::Aborted => "ABORTED",
        Outcome::Residue => "RESIDUE",
    }
}
