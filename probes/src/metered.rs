//! Streams that nobody probes for: real requests from counters, and gauges, scraped on a grid.
//!
//! A scraper tells one `Scraped` at the end of every block, whatever became of its scrapes: what could
//! not be read is a block without evidence. A scrape that begins late or fails costs its block; what
//! the counters counted meanwhile comes with the next scrape, so no request is lost and none is twice.

use std::collections::BTreeMap;
use std::time::Duration;

use scenarios::asks::{cell_values, fill};
use scenarios::fleet::Fleet;
use scenarios::history::{BadSample, Block, Counts, Stream, Volume};
use scenarios::selector::Selector;
use scenarios::traffic::{self, GAUGE_SCRAPES, Gauge, Traffic};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::BLOCK_MS;
use crate::counters::{Counter, Growth};
use crate::kinds::ProbeError;
use crate::scrape::Source;
use crate::target::Target;

/// A scrape that begins so much later than it should is the prober's fault.
const LATE: Duration = Duration::from_millis(250);

/// One block of each stream of one scraper.
#[derive(Debug)]
pub struct Scraped {
    pub end_ms: u64,
    pub blocks: Vec<Block>,
    pub samples: Vec<BadSample>,
    pub volume: Option<Volume>,
}

/// The scrapers of a drill; dropping it ends them.
pub struct Scrapers(Vec<JoinHandle<()>>);

impl Drop for Scrapers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// What one scraper tells, block after block.
pub struct Told {
    block_ms: u64,
    /// The end of its first block.
    first_ms: u64,
    scraped: mpsc::UnboundedReceiver<Scraped>,
}

impl Told {
    /// What there is of the block that ends with the second that ends at `end_ms`; waits for a scrape
    /// that is under way.
    pub async fn at(&mut self, end_ms: u64) -> Option<Scraped> {
        if !end_ms.is_multiple_of(self.block_ms) || end_ms < self.first_ms {
            return None;
        }
        loop {
            let scraped = self.scraped.recv().await?;
            if scraped.end_ms >= end_ms {
                return Some(scraped);
            }
        }
    }
}

/// Starts a scraper for every cell and traffic or gauge that has a stream.
///
/// # Errors
/// If a stream is not of this fleet, or its metrics cannot be asked for; nothing was sent then.
pub fn start(
    fleet: &Fleet,
    streams: &[Stream],
    origin: Instant,
    first_second: u64,
) -> Result<(Scrapers, Vec<Told>), ProbeError> {
    let mut jobs: BTreeMap<(String, String), Job> = BTreeMap::new();
    for stream in streams {
        let name = stream.probe.split('.').next().unwrap_or_default();
        let unknown = || ProbeError::UnknownStream {
            name: stream.name.clone(),
        };
        let cell = stream.cell.clone().ok_or_else(unknown)?;
        let key = (cell.clone(), name.to_owned());
        match stream.basis.counts {
            Counts::Probes | Counts::Slow { .. } => continue,
            Counts::Requests => {
                let traffic = fleet.traffic.get(name).ok_or_else(unknown)?;
                let job = match jobs.entry(key) {
                    std::collections::btree_map::Entry::Occupied(job) => job.into_mut(),
                    std::collections::btree_map::Entry::Vacant(free) => {
                        free.insert(Job::Traffic(TrafficJob::new(fleet, &cell, name, traffic)?))
                    }
                };
                if let Job::Traffic(job) = job {
                    job.streams.push(stream.clone());
                }
            }
            Counts::Gauge { .. } => {
                let gauge = fleet.gauges.get(name).ok_or_else(unknown)?;
                let job = GaugeJob::new(fleet, &cell, stream, gauge)?;
                jobs.insert(key, Job::Gauge(job));
            }
        }
    }
    let (mut tasks, mut told) = (Vec::new(), Vec::new());
    for job in jobs.into_values() {
        let block_ms = job.block_ms().max(BLOCK_MS);
        let start_ms = (first_second * BLOCK_MS).div_ceil(block_ms) * block_ms;
        let (out, scraped) = mpsc::unbounded_channel();
        let grid = Grid {
            origin,
            start_ms,
            block_ms,
        };
        tasks.push(match job {
            Job::Traffic(job) => tokio::spawn(job.run(grid, out)),
            Job::Gauge(job) => tokio::spawn(job.run(grid, out)),
        });
        told.push(Told {
            block_ms,
            first_ms: start_ms + block_ms,
            scraped,
        });
    }
    Ok((Scrapers(tasks), told))
}

/// The source of one cell's series, with its selectors restricted to the cell.
fn source(
    fleet: &Fleet,
    cell: &str,
    stream: &str,
    source: &traffic::Source,
    every: Duration,
) -> Result<(Source, impl Fn(&Selector) -> Selector + use<>), ProbeError> {
    let failed = |url: &str| {
        let (stream, url) = (stream.to_owned(), url.to_owned());
        move |why| ProbeError::Url { stream, url, why }
    };
    let (source, label) = match source {
        traffic::Source::Endpoint(url) => {
            let values = fleet.cells.get(cell).map(|of| cell_values(cell, of));
            let url = fill(url, &values.unwrap_or_default());
            let target = Target::parse(&url).map_err(failed(&url))?;
            (Source::Endpoint(target), None)
        }
        traffic::Source::Prometheus { url, cell_label } => {
            let server = Target::parse(url).map_err(failed(url))?;
            let reach = every * 2 + Duration::from_secs(1);
            (
                Source::Prometheus { server, reach },
                Some(cell_label.clone()),
            )
        }
    };
    let cell = cell.to_owned();
    let restricted = move |selector: &Selector| match &label {
        Some(label) => selector.clone().with(label, &cell),
        None => selector.clone(),
    };
    Ok((source, restricted))
}

/// When blocks begin and end.
#[derive(Clone, Copy)]
struct Grid {
    origin: Instant,
    start_ms: u64,
    block_ms: u64,
}

impl Grid {
    fn at(&self, ms: u64) -> Instant {
        self.origin + Duration::from_millis(ms)
    }
}

enum Job {
    Traffic(TrafficJob),
    Gauge(GaugeJob),
}

impl Job {
    fn block_ms(&self) -> u64 {
        let block = match self {
            Job::Traffic(job) => job.traffic.every,
            Job::Gauge(job) => job.gauge.block(),
        };
        u64::try_from(block.as_millis()).unwrap_or(u64::MAX)
    }
}

struct TrafficJob {
    cell: String,
    name: String,
    traffic: Traffic,
    /// total, bad, and the volume if it has a counter of its own.
    selectors: Vec<Selector>,
    source: Source,
    streams: Vec<Stream>,
}

impl TrafficJob {
    fn new(fleet: &Fleet, cell: &str, name: &str, traffic: &Traffic) -> Result<Self, ProbeError> {
        let stream = format!("{cell}/{name}");
        let (source, restricted) = source(fleet, cell, &stream, &traffic.source, traffic.every)?;
        let selectors = [
            Some(&traffic.total),
            Some(&traffic.bad),
            traffic.volume.as_ref(),
        ];
        Ok(Self {
            cell: cell.to_owned(),
            name: name.to_owned(),
            traffic: traffic.clone(),
            selectors: selectors.into_iter().flatten().map(restricted).collect(),
            source,
            streams: Vec::new(),
        })
    }

    async fn run(self, grid: Grid, out: mpsc::UnboundedSender<Scraped>) {
        let mut counters: Vec<Counter> =
            self.selectors.iter().map(|_| Counter::default()).collect();
        let mut at_ms = grid.start_ms;
        loop {
            let due = grid.at(at_ms);
            sleep_until(due).await;
            let grown = self.scrape(&mut counters, due).await;
            if at_ms > grid.start_ms {
                let scraped = self.block(at_ms - grid.block_ms, at_ms, grown);
                if out.send(scraped).is_err() {
                    return;
                }
            }
            at_ms += grid.block_ms;
        }
    }

    async fn scrape(
        &self,
        counters: &mut [Counter],
        due: Instant,
    ) -> Result<Vec<Option<Vec<Growth>>>, String> {
        if Instant::now().saturating_duration_since(due) > LATE {
            return Err("the prober was late".to_owned());
        }
        let series = self
            .source
            .read(&self.selectors, due + self.traffic.timeout)
            .await?;
        let seen = series.first().is_some_and(|total| !total.is_empty());
        // One process has them all; of several that a Prometheus scrapes one may be new.
        let one = matches!(self.traffic.source, traffic::Source::Endpoint(_));
        if one && (counters.iter().zip(&series)).any(|(counter, series)| counter.went_back(series))
        {
            counters.iter_mut().for_each(Counter::restart);
        }
        let mut all: Vec<Option<Vec<Growth>>> = Vec::new();
        for (counter, series) in counters.iter_mut().zip(series) {
            let total = all.first().into_iter().flatten().flatten();
            if series.is_empty() && total.clone().any(|growth| growth.restarted) {
                counter.begin_anew();
            }
            all.push(counter.take(series, seen));
        }
        Ok(all)
    }

    fn block(
        &self,
        start_ms: u64,
        end_ms: u64,
        grown: Result<Vec<Option<Vec<Growth>>>, String>,
    ) -> Scraped {
        let mut scraped = Scraped {
            end_ms,
            blocks: Vec::new(),
            samples: Vec::new(),
            volume: None,
        };
        // Requests whose errors are not known are no good ones.
        let (counted, volume) = match grown.as_deref() {
            Ok([Some(total), Some(bad)]) => (Some((total, bad)), Some(total)),
            Ok([Some(total), Some(bad), volume]) => (Some((total, bad)), volume.as_ref()),
            _ => (None, None),
        };
        let total = counted.map(|(total, _)| total);
        let strata: BTreeMap<String, Option<String>> =
            self.traffic.streams(&self.name).into_iter().collect();
        for stream in &self.streams {
            let value = strata.get(&stream.probe).cloned().flatten();
            let of = |growths: &[Growth]| self.sum(growths, |one| value.as_deref() == one);
            let mut block = Block::empty(&stream.name, start_ms);
            block.scheduled = expected(stream);
            if let Some((total, bad)) = counted {
                block.valid = count(of(total));
                block.scheduled = block.valid;
                block.bad = count(of(bad)).min(block.valid);
                block.errors = block.bad;
            }
            scraped.blocks.push(block);
        }
        if let (Some(total), Some(volume)) = (total, volume) {
            scraped.volume = Some(self.volume(start_ms, total, volume));
        }
        let restarted = total.into_iter().flatten().any(|growth| growth.restarted);
        let what = match (&grown, restarted) {
            (Err(why), _) => why.clone(),
            (Ok(_), true) => "a counter went back: its process was started anew".to_owned(),
            (Ok(_), false) if total.is_none() => "no sample that was not known already".to_owned(),
            (Ok(_), false) => return scraped,
        };
        scraped.samples.push(BadSample {
            stream: format!("{}/{}", self.cell, self.name),
            vantage: None,
            at_ms: end_ms,
            what,
        });
        scraped
    }

    /// What the series grew by whose stratum is wanted; without strata all of them are.
    fn sum(&self, growths: &[Growth], wanted: impl Fn(Option<&str>) -> bool) -> f64 {
        let Some(strata) = &self.traffic.strata else {
            return growths.iter().map(|growth| growth.by).sum();
        };
        let wanted = |growth: &&Growth| {
            let value = growth.labels.get(&strata.label);
            wanted(Some(value.map_or("", String::as_str)))
        };
        growths.iter().filter(wanted).map(|growth| growth.by).sum()
    }

    fn volume(&self, start_ms: u64, total: &[Growth], volume: &[Growth]) -> Volume {
        let requests: f64 = volume.iter().map(|growth| growth.by).sum();
        let covered = match &self.traffic.strata {
            None => total.iter().map(|growth| growth.by).sum(),
            Some(strata) => {
                let known = |value: &str| {
                    let mut values = strata.judged.values().chain(strata.probed.values());
                    values.any(|known| known == value)
                };
                self.sum(total, |value| value.is_some_and(known))
            }
        };
        let requests = requests.max(0.0).round() as u64;
        Volume {
            traffic: self.name.clone(),
            cell: self.cell.clone(),
            start_ms,
            requests,
            // Two counters are not read at one instant: no more is covered than there was.
            covered: (covered.max(0.0).round() as u64).min(requests),
        }
    }
}

struct GaugeJob {
    stream: Stream,
    gauge: Gauge,
    selector: Selector,
    source: Source,
}

impl GaugeJob {
    fn new(fleet: &Fleet, cell: &str, stream: &Stream, gauge: &Gauge) -> Result<Self, ProbeError> {
        let (source, restricted) = source(fleet, cell, &stream.name, &gauge.source, gauge.every)?;
        Ok(Self {
            stream: stream.clone(),
            selector: restricted(&gauge.gauge),
            gauge: gauge.clone(),
            source,
        })
    }

    async fn run(self, grid: Grid, out: mpsc::UnboundedSender<Scraped>) {
        let mut start_ms = grid.start_ms;
        let mut newest = None;
        loop {
            let mut block = Block::empty(&self.stream.name, start_ms);
            block.scheduled = GAUGE_SCRAPES;
            let mut samples = Vec::new();
            for scrape in 0..GAUGE_SCRAPES {
                let due = grid.at(start_ms) + self.gauge.every * scrape;
                sleep_until(due).await;
                match self.scrape(due, &mut newest).await {
                    Ok(value) => block.values.push(value),
                    Err(what) if samples.is_empty() => samples.push(BadSample {
                        stream: self.stream.name.clone(),
                        vantage: None,
                        at_ms: start_ms,
                        what,
                    }),
                    Err(_) => {}
                }
            }
            block.valid = u32::try_from(block.values.len()).unwrap_or(0);
            let scraped = Scraped {
                end_ms: start_ms + grid.block_ms,
                blocks: vec![block],
                samples,
                volume: None,
            };
            if out.send(scraped).is_err() {
                return;
            }
            start_ms += grid.block_ms;
        }
    }

    /// The greatest value of all series that were scraped anew.
    async fn scrape(&self, due: Instant, newest: &mut Option<f64>) -> Result<f64, String> {
        if Instant::now().saturating_duration_since(due) > LATE.min(self.gauge.every) {
            return Err("the prober was late".to_owned());
        }
        // The next scrape is due when this one must be over.
        let deadline = due + self.gauge.timeout.min(self.gauge.every);
        let selectors = std::slice::from_ref(&self.selector);
        let series = self.source.read(selectors, deadline).await?.concat();
        let scraped = series.iter().filter_map(|series| series.scraped);
        let scraped = scraped.fold(None, |newest: Option<f64>, at| {
            Some(newest.map_or(at, |newest| newest.max(at)))
        });
        if scraped.is_some() && scraped == *newest {
            return Err("no sample that was not known already".to_owned());
        }
        *newest = scraped;
        let values = series.iter().map(|series| series.value);
        values
            .reduce(|a, b| if b > a || b.is_nan() { b } else { a })
            .filter(|value| value.is_finite())
            .ok_or_else(|| format!("no series {}", self.selector))
    }
}

/// Requests that a block should have had, at the least.
fn expected(stream: &Stream) -> u32 {
    let seconds = stream.block_ms(BLOCK_MS) as f64 / 1000.0;
    count(stream.rate * seconds).max(1)
}

/// Never negative, never more than fits.
fn count(requests: f64) -> u32 {
    requests.round() as u32
}
