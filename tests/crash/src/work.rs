//! Which world meets which points: each scene's are dealt to several worlds, so that one can wait while
//! another works.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::choose::{self, Counts};
use crate::inside::{Answer, Ask};
use crate::outside::Outside;
use crate::point::Point;
use crate::report::Report;

/// As many points one world meets; a new one takes a few seconds to come to rest.
const BATCH: usize = 250;

pub struct Work<'a> {
    pub agent: &'a Path,
    /// Counts the system calls in its place.
    pub counted_by: Option<&'a Path>,
    pub seed: u64,
    /// So many points of each scene; none: all.
    pub sample: Option<usize>,
    pub until_residue: bool,
    pub report: &'a Report,
}

/// One scene's points, and how many of them were met.
struct Scene {
    name: String,
    points: Vec<Point>,
    met: AtomicUsize,
}

/// Takes what is to be done from a queue, so many at a time.
fn each<T: Send>(jobs: usize, queue: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
    let queue = Mutex::new(queue.into_iter().collect::<VecDeque<T>>());
    let next = || queue.lock().map_or(None, |mut queue| queue.pop_front());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(one) = next() {
                    work(one);
                }
            });
        }
    });
}

impl Work<'_> {
    fn over(&self) -> bool {
        self.until_residue && self.report.residue() > 0
    }

    /// Counts the calls of every scene, then meets its points.
    pub fn play(&self, scenes: Vec<String>, jobs: usize) {
        let counted = Mutex::new(Vec::new());
        each(jobs, scenes, |name| match self.points(&name) {
            Ok(points) => {
                let met = AtomicUsize::new(0);
                let scene = Scene { name, points, met };
                if let Ok(mut all) = counted.lock() {
                    all.push(scene);
                }
            }
            Err(why) => self.report.failed(&name, &why),
        });
        let counted = counted.into_inner().unwrap_or_default();
        self.deal(&counted, jobs);
    }

    /// These points, without counting.
    pub fn meet_all(&self, name: &str, points: Vec<Point>) {
        let (name, met) = (name.to_owned(), AtomicUsize::new(0));
        self.deal(&[Scene { name, points, met }], 1);
    }

    fn deal(&self, scenes: &[Scene], jobs: usize) {
        let batches = scenes.iter().flat_map(|scene| {
            let batches = scene.points.chunks(BATCH);
            batches.map(move |batch| (scene, batch))
        });
        each(jobs, batches, |(scene, batch)| {
            if let Err(why) = self.meet(scene, batch) {
                self.report.failed(&scene.name, &why);
            }
        });
    }

    fn meet(&self, scene: &Scene, batch: &[Point]) -> Result<(), String> {
        if self.over() {
            return Ok(());
        }
        let mut world = Outside::start(&scene.name, self.agent)?;
        for point in batch {
            if self.over() {
                return Ok(());
            }
            let begun = Instant::now();
            let answer = world.ask(&Ask::Meet(point.clone()));
            let meeting = match answer {
                Ok(Answer::Met(meeting)) => meeting,
                Ok(other) => return Err(format!("{}; at {point}", words(other))),
                Err(why) => return Err(format!("{why}; at {point}")),
            };
            self.report.met(point, &meeting, begun.elapsed());
            if !meeting.residue.is_empty() {
                // What was left would be found again by every later comparison.
                drop(world);
                world = Outside::start(&scene.name, self.agent)?;
            }
        }
        let met = scene.met.fetch_add(batch.len(), Ordering::Relaxed) + batch.len();
        self.report.note(&format!(
            "{}: {met} of {} points, residue in all scenes {}",
            scene.name,
            scene.points.len(),
            self.report.residue()
        ));
        Ok(())
    }

    /// In a world of its own. None if not even an undisturbed run leaves nothing.
    fn points(&self, scene: &str) -> Result<Vec<Point>, String> {
        if self.over() {
            return Ok(Vec::new());
        }
        let mut world = Outside::start(scene, self.counted_by.unwrap_or(self.agent))?;
        match world.ask(&Ask::Count)? {
            Answer::Counted(counts) => Ok(self.choose(scene, &counts)),
            Answer::Met(meeting) => {
                self.report.undisturbed(scene, &meeting);
                Ok(Vec::new())
            }
            other => Err(words(other)),
        }
    }

    fn choose(&self, scene: &str, counts: &Counts) -> Vec<Point> {
        self.report.note(&format!(
            "{scene}: the fault bites; system calls: agent {} (armed at {}, in force at {}), guardian {}, \
             its take-over {}",
            counts.agent.len(),
            counts.armed,
            counts.in_force,
            counts.guardian,
            counts.take_over
        ));
        match self.sample {
            Some(points) => choose::sample(scene, counts, points, self.seed),
            None => choose::all(scene, counts, self.seed),
        }
    }
}

fn words(answer: Answer) -> String {
    match answer {
        Answer::Failed(why) => why,
        other => format!("an answer to another question: {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_a_queue_is_worked_on_once() {
        let done = Mutex::new(Vec::new());
        each(3, 0..100, |number| done.lock().unwrap().push(number));
        let mut done = done.into_inner().unwrap();
        done.sort_unstable();
        assert_eq!(done, (0..100).collect::<Vec<_>>());
    }
}
