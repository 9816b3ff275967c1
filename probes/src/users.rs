//! One request of a user of a region: whom it asks, what it does when that fails, where it is booked.
//!
//! Every probe asks DNS, so that DNS is judged at the full rate; whose address is asked is up to the
//! client whose turn it is. A client that keeps an address does not wait for DNS. DNS is judged by
//! its answers, the cell that was asked by what came back, and the user by how it ended for him.

use std::net::IpAddr;
use std::time::Duration;

use scenarios::effects::ClientKind;
use scenarios::history::FOREIGN;
use tokio::time::{Instant, timeout_at};

use crate::ask::Errand;
use crate::board::{Ticket, UserTicket};
use crate::clients::Client;
use crate::dns::Answer;
use crate::entrypoint::{Attributed, EntrypointProbe, Pointed};
use crate::expect::judge;
use crate::outcome::Outcome;

/// Answers that a client draws to find another address; DNS may give the same one again.
const DRAWS: u32 = 4;

/// A user's request under way.
struct User<'a> {
    errand: &'a Errand<'a>,
    probe: &'a EntrypointProbe,
    client: &'a Client,
    booked: Option<UserTicket>,
    deadline: Instant,
}

/// A cell that is asked, and the place of the answer in its books.
struct Door<'a> {
    address: IpAddr,
    cell: &'a Attributed,
    ticket: Ticket,
}

impl Errand<'_> {
    /// What users of a region see.
    pub async fn entrypoint(&self, probe: &EntrypointProbe) {
        let Some(client) = probe.clients.of(self.k) else {
            return self.end(Outcome::Invalid);
        };
        let user = User {
            errand: self,
            probe,
            client,
            booked: self
                .shared
                .board()
                .user(self.ticket, client.kind, self.intended),
            deadline: self.intended + probe.timeout,
        };
        match client.kept(Instant::now()) {
            Some(address) => user.knows(address).await,
            None => user.asks_first().await,
        }
    }
}

impl User<'_> {
    /// DNS is asked beside it, and by nobody waited for.
    async fn knows(&self, address: IpAddr) {
        let dns = async {
            if let Some(answer) = self.resolve().await {
                self.book(&answer);
            }
        };
        let served = async {
            match self.door(address) {
                Some(door) => self.served(door).await,
                None => self.end(Outcome::Invalid),
            }
        };
        tokio::join!(dns, served);
    }

    /// From the intended time on, as a user waits. An answer of DNS that came later than the
    /// threshold has used up the user's patience: it is bad for DNS, and no cell is asked, or DNS
    /// would make cells look ill.
    async fn asks_first(&self) {
        let Some(answer) = self.resolve().await else {
            return self.end(Outcome::Timeout("dns".to_owned()));
        };
        let Some(address) = self.book(&answer) else {
            return self.end(Outcome::Error("dns".to_owned()));
        };
        let now = Instant::now();
        let ttl = Duration::from_secs(answer.ttl_s.into());
        self.client.keep(address, now, ttl);
        let tau = self.errand.shared.board().tau(self.errand.ticket.stream);
        let late = now.saturating_duration_since(self.errand.intended);
        if late > tau.unwrap_or(self.probe.timeout) {
            return self.end(Outcome::Timeout("dns".to_owned()));
        }
        match self.door(address) {
            Some(door) => self.served(door).await,
            None => self.end(Outcome::Invalid),
        }
    }

    /// `None`: DNS failed, which is booked.
    async fn resolve(&self) -> Option<Answer> {
        match self.probe.lookup.resolve(self.deadline).await {
            Ok(answer) => Some(answer),
            Err(outcome) => {
                self.errand.end(outcome);
                None
            }
        }
    }

    /// Books an answer of DNS; the address in it, if it is a cell's.
    fn book(&self, answer: &Answer) -> Option<IpAddr> {
        let at = Instant::now();
        let ticket = self.errand.ticket;
        let mut board = self.errand.shared.board();
        match self.probe.pointed(&answer.addresses) {
            Pointed::Nowhere => {
                let why = Outcome::Error("dns: an answer without an address".to_owned());
                board.end(ticket, at, why);
                None
            }
            Pointed::Foreign(address) => {
                let why = format!("dns: {address} is no address of a cell of this entrypoint");
                board.answer(ticket, FOREIGN, answer.ttl_s);
                board.end(ticket, at, Outcome::Error(why));
                None
            }
            Pointed::Cell(address, cell) => {
                board.answer(ticket, &cell.cell, answer.ttl_s);
                board.end(ticket, at, Outcome::Answered);
                Some(address)
            }
        }
    }

    /// Books a question to the cell of an address; `None` if its second is closed.
    fn door(&self, address: IpAddr) -> Option<Door<'_>> {
        let Pointed::Cell(address, cell) = self.probe.pointed(&[address]) else {
            return None;
        };
        let mut board = self.errand.shared.board();
        let ticket = board.schedule(cell.stream, self.errand.intended)?;
        Some(Door {
            address,
            cell,
            ticket,
        })
    }

    async fn served(&self, door: Door<'_>) {
        if self.client.kind != ClientKind::Retries {
            return self.end(self.first(&door).await);
        }
        let tau = self.errand.shared.board().tau(self.errand.ticket.stream);
        let patience = tau.unwrap_or(self.probe.timeout / 2) / 2;
        let mut first = std::pin::pin!(self.first(&door));
        match timeout_at(self.errand.intended + patience, &mut first).await {
            Ok(Outcome::Answered) => self.end(Outcome::Answered),
            Ok(_) => self.end(self.elsewhere(door.address).await),
            // The first question goes on: it is a probe of its cell, and may still be answered.
            Err(_) => {
                let mut second = std::pin::pin!(self.elsewhere(door.address));
                tokio::select! {
                    outcome = &mut first => self.end(match outcome {
                        Outcome::Answered => Outcome::Answered,
                        _ => second.await,
                    }),
                    outcome = &mut second => match outcome {
                        Outcome::Answered => {
                            self.end(Outcome::Answered);
                            first.await;
                        }
                        _ => self.end(first.await),
                    },
                }
            }
        }
    }

    /// Asks the cell, and books what came of it with the cell.
    async fn first(&self, door: &Door<'_>) -> Outcome {
        let outcome = self.ask(door.address, door.cell).await;
        let mut board = self.errand.shared.board();
        board.end(door.ticket, Instant::now(), outcome.clone());
        outcome
    }

    async fn ask(&self, address: IpAddr, cell: &Attributed) -> Outcome {
        let (question, expect) = match self.probe.question(address, &self.errand.id()) {
            Ok(question) => question,
            Err(outcome) => return outcome,
        };
        let (fresh, progress) = (self.errand.is_fresh(), &self.errand.progress);
        let asked = cell.connections.ask(&question, fresh, progress);
        match timeout_at(self.deadline, asked).await {
            Ok(Ok(reply)) => judge(&expect, &reply).err().unwrap_or(Outcome::Answered),
            Ok(Err(outcome)) => outcome,
            Err(_) => {
                let stage = format!("{}: {}", question.target.address, progress.text());
                self.errand.late(&stage, self.deadline)
            }
        }
    }

    /// Asks DNS for another address, and a cell there. It is the user's way out and no probe: the
    /// cell could not have answered in time, for the user came late.
    async fn elsewhere(&self, but: IpAddr) -> Outcome {
        for _ in 0..DRAWS {
            let answer = match self.probe.lookup.resolve(self.deadline).await {
                Ok(answer) => answer,
                Err(outcome) => return outcome,
            };
            let mut others = answer.addresses.iter().filter(|address| **address != but);
            if let Some(address) = others.next()
                && let Pointed::Cell(address, cell) = self.probe.pointed(&[*address])
            {
                return self.ask(address, cell).await;
            }
        }
        Outcome::Error(format!("dns: no other address than {but}"))
    }

    fn end(&self, outcome: Outcome) {
        if let Some(booked) = self.booked {
            let mut board = self.errand.shared.board();
            board.end_user(booked, Instant::now(), outcome);
        }
    }
}
