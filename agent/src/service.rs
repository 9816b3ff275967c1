//! The gRPC face of the agent: who may ask for what, and errors that say how the host is now.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use scenarios::plan::Plan;
use sha2::{Digest, Sha256};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};
use wire::agent_server::Agent;
use wire::{
    ArmReply, ArmRequest, Event, FireReply, FireRequest, HaltReply, HaltRequest, PROTOCOL,
    PlanReply, PlanRequest, PlannedChange, RenewReply, RenewRequest, ResumeReply, ResumeRequest,
    RevertReply, RevertRequest, StatusReply, StatusRequest, VantageRequest, WatchRequest,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::boottime::{Boottime, boot_id};
use crate::datapath::{self, Watcher};
use crate::drill::{Error as DrillError, Order};
use crate::guardian::Protection;
use crate::guards::{self, Identity};
use crate::hex;
use crate::owner::{Handle, Refusal, Request as Ask, Reverted};
use crate::policy::{self, Policy};
use crate::vantage::{Seen, Vantage};

/// Plans of this size are read; 60,000 prefixes for each of a dozen cells are about 15 MB.
pub const PLAN_BYTES_MOST: usize = 64 << 20;
/// Whoever asks for a vantage says in this time what it shall look at.
const FIRST_ORDER: Duration = Duration::from_secs(5);

pub struct Service {
    me: Identity,
    policy_file: PathBuf,
    /// As last read: reverting must not depend on a file that someone is editing.
    last_policy: Mutex<Option<Policy>>,
    owner: Handle,
    datapath: Watcher,
    vantage: Vantage,
}

impl Service {
    pub fn new(
        me: Identity,
        policy_file: PathBuf,
        owner: Handle,
        protection: Protection,
        vantage: Vantage,
    ) -> Self {
        let service = Self {
            me,
            policy_file,
            last_policy: Mutex::new(None),
            owner,
            datapath: Watcher::begin(protection),
            vantage,
        };
        let _ = service.read_policy();
        service
    }

    fn read_policy(&self) -> Result<Policy, policy::Error> {
        let policy = Policy::read(&self.policy_file)?;
        if let Ok(mut last) = self.last_policy.lock() {
            *last = Some(policy.clone());
        }
        Ok(policy)
    }

    fn known_policy(&self) -> Result<Policy, policy::Error> {
        let last = self.last_policy.lock().ok().and_then(|last| last.clone());
        last.map_or_else(|| self.read_policy(), Ok)
    }

    /// The caller's common name, if it may call at all. Without a policy it may look only.
    fn caller<T>(
        &self,
        request: &Request<T>,
        protocol: u32,
        policy: &Result<Policy, policy::Error>,
        looks_only: bool,
    ) -> Result<String, Status> {
        if protocol != PROTOCOL {
            return Err(Status::failed_precondition(format!(
                "the conductor speaks protocol {protocol}, this agent speaks {PROTOCOL}; nothing \
                 was altered; use matching versions"
            )));
        }
        let name = common_name(request)
            .ok_or_else(|| Status::unauthenticated("the client certificate has no common name"))?;
        match policy {
            Ok(policy) if policy.clients.contains(&name) => Ok(name),
            Ok(_) => Err(Status::permission_denied(format!(
                "`{name}` is not among this agent's clients; nothing was altered"
            ))),
            Err(_) if looks_only => Ok(name),
            Err(error) => Err(Status::failed_precondition(format!(
                "{error}; nothing was altered"
            ))),
        }
    }

    /// Fire and Renew belong to the conductor that holds the drill.
    fn holder_only(&self, caller: &str, drill: &str) -> Result<(), Status> {
        let snapshot = self.owner.snapshot.borrow();
        match &snapshot.claim {
            Some(claim) if snapshot.drill == drill && claim.conductor != caller => {
                Err(Status::permission_denied(format!(
                    "drill {drill} is held by conductor {}, not by {caller}",
                    claim.conductor
                )))
            }
            _ => Ok(()),
        }
    }

    async fn checked(
        &self,
        bytes: &[u8],
        policy: &Result<Policy, policy::Error>,
    ) -> (Option<Plan>, Vec<String>) {
        let plan = match guards::parse(bytes) {
            Ok(plan) => plan,
            Err(refusal) => return (None, vec![refusal]),
        };
        let mut refusals = match policy {
            Ok(policy) => guards::refusals(&plan, policy, &self.me),
            Err(error) => vec![error.to_string()],
        };
        refusals.extend(self.owner.halt.refusal());
        match self.owner.ask(Ask::Probe).await {
            Ok(missing) => refusals.extend(missing),
            Err(refusal) => refusals.push(refusal.to_string()),
        }
        (Some(plan), refusals)
    }

    fn planned(&self, plan: &Plan) -> Vec<PlannedChange> {
        let mine = plan.changes_for(&self.me.cell, &self.me.node);
        mine.map(|(step, change)| PlannedChange {
            step: step.id,
            kind: change.kind().to_owned(),
            summary: change.summary(),
            ends_by: plan
                .ends_by(change)
                .iter()
                .map(ToString::to_string)
                .collect(),
        })
        .collect()
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<Event, Status>> + Send>>;

#[tonic::async_trait]
impl Agent for Service {
    type WatchStream = Events;
    type VantageStream = Seen;

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusReply>, Status> {
        let policy = self.read_policy();
        self.caller(&request, request.get_ref().protocol, &policy, true)?;
        let datapath = self.datapath.report();
        let now = self.owner.snapshot.borrow().clone();
        let left = |until: Option<Boottime>| {
            until.map_or(0, |until| {
                u64::try_from(until.left().as_millis()).unwrap_or(u64::MAX)
            })
        };
        let halted = self.owner.halt.reason();
        let boot_id = boot_id().map_err(|cause| Status::internal(format!("boot id: {cause}")))?;
        Ok(Response::new(StatusReply {
            protocol: PROTOCOL,
            // In one piece in the program, where whoever has only the file can find it.
            version: std::hint::black_box(env!("CARGO_PKG_VERSION")).to_owned(),
            cell: self.me.cell.clone(),
            node: self.me.node.clone(),
            boot_id,
            state: now.state.into(),
            drill: now.drill,
            claim: now.claim,
            lease_left_ms: left(now.lease_ends),
            deadline_left_ms: left(now.deadline),
            policy: policy.is_ok(),
            pid: std::process::id(),
            policy_error: policy
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default(),
            residue: now.residue,
            datapath: Some(datapath),
            halted: halted.is_some(),
            halt_reason: halted.unwrap_or_default(),
            since_boottime_ns: now.since.0,
            boottime_ns: Boottime::now().0, // last, so that the offset is measured well
        }))
    }

    async fn plan(&self, request: Request<PlanRequest>) -> Result<Response<PlanReply>, Status> {
        let policy = self.read_policy();
        self.caller(&request, request.get_ref().protocol, &policy, true)?;
        let (plan, refusals) = self.checked(&request.get_ref().plan, &policy).await;
        let changes = plan.map(|plan| self.planned(&plan)).unwrap_or_default();
        Ok(Response::new(PlanReply {
            changes,
            refusals,
            datapath: Some(self.datapath.report()),
        }))
    }

    async fn arm(&self, request: Request<ArmRequest>) -> Result<Response<ArmReply>, Status> {
        let policy = self.read_policy();
        let caller = self.caller(&request, request.get_ref().protocol, &policy, false)?;
        let policy = policy.map_err(|error| Status::failed_precondition(error.to_string()))?;
        let request = request.into_inner();
        if !guards::is_word(&request.drill) {
            return Err(refuse(
                "the drill's id is not a word of [a-z0-9-], 63 at most",
            ));
        }
        let claim = request.claim.unwrap_or_default();
        if claim.conductor != caller {
            return Err(Status::permission_denied(format!(
                "the claim names conductor `{}`, the certificate `{caller}`; nothing was altered",
                claim.conductor
            )));
        }
        let digest = Sha256::digest(&request.plan);
        if digest.as_slice() != request.plan_sha256 {
            return Err(refuse("the plan is not the one that its SHA-256 names"));
        }
        let armed_most = policy.longest;
        let pod_namespaces = policy.pod_namespaces;
        let (plan, refusals) = self.checked(&request.plan, &Ok(policy)).await;
        let plan = match plan {
            Some(plan) if refusals.is_empty() => plan,
            _ => return Err(refuse(&refusals.join("; "))),
        };
        let mut reply = ArmReply {
            changes: self.planned(&plan),
            lease_ms: plan.lease_ms.unwrap_or_default(),
            ..ArmReply::default()
        };
        let plan_sha256 = hex::encode(&digest);
        let order = Order {
            drill: request.drill,
            plan,
            plan_sha256,
            claim,
            armed_most,
            pod_namespaces,
        };
        let arm = self.owner.ask(|reply| Ask::Arm(Box::new(order), reply));
        let proof = arm.await.map_err(status)?;
        reply.ways = datapath::ways(&proof);
        for change in &mut reply.changes {
            change.summary = format!("{} ({})", change.summary, reply.ways.join("; "));
        }
        self.datapath.proved(proof);
        reply.datapath = Some(self.datapath.report());
        Ok(Response::new(reply))
    }

    async fn fire(&self, request: Request<FireRequest>) -> Result<Response<FireReply>, Status> {
        let policy = self.known_policy();
        let caller = self.caller(&request, request.get_ref().protocol, &policy, false)?;
        let FireRequest {
            drill,
            at_boottime_ns,
            ..
        } = request.into_inner();
        self.holder_only(&caller, &drill)?;
        let at = Boottime(at_boottime_ns);
        let fire = self.owner.ask(|reply| Ask::Fire(drill, at, reply));
        let deadline = fire.await.map_err(status)?;
        Ok(Response::new(FireReply {
            deadline_boottime_ns: deadline.0,
        }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewReply>, Status> {
        let policy = self.known_policy();
        let caller = self.caller(&request, request.get_ref().protocol, &policy, false)?;
        let drill = request.into_inner().drill;
        self.holder_only(&caller, &drill)?;
        self.owner
            .ask(|reply| Ask::Renew(drill, reply))
            .await
            .map_err(status)?;
        let now = self.owner.snapshot.borrow();
        let left = now.lease_ends.map_or(0, |ends| ends.left().as_millis());
        let lease_left_ms = u64::try_from(left).unwrap_or(u64::MAX);
        Ok(Response::new(RenewReply {
            state: now.state.into(),
            lease_left_ms,
        }))
    }

    /// Any allowed client may revert: ending a fault is never a privilege of its holder.
    async fn revert(
        &self,
        request: Request<RevertRequest>,
    ) -> Result<Response<RevertReply>, Status> {
        let policy = self.known_policy();
        self.caller(&request, request.get_ref().protocol, &policy, false)?;
        let drill = request.into_inner().drill;
        let reverted = self.owner.ask(|reply| Ask::Revert(drill, reply)).await;
        let Reverted { outcome, ended } = reverted.map_err(status)?;
        let (cause, at) = ended.unwrap_or((String::new(), Boottime(0)));
        Ok(Response::new(RevertReply {
            verified: outcome.verified,
            residue: outcome.residue(),
            drifted: outcome.drifted,
            cause,
            ended_boottime_ns: at.0,
        }))
    }

    /// Any allowed client may halt, and end a halt.
    async fn halt(&self, request: Request<HaltRequest>) -> Result<Response<HaltReply>, Status> {
        let policy = self.known_policy();
        let caller = self.caller(&request, request.get_ref().protocol, &policy, false)?;
        let reason = request.into_inner().reason;
        tracing::warn!(caller, reason, "halt");
        let halted = self.owner.ask(|reply| Ask::Halt(reason, reply)).await;
        let halted = halted.map_err(status)?;
        Ok(Response::new(HaltReply {
            drill: halted.drill.unwrap_or_default(),
            verified: halted.outcome.verified,
            residue: halted.outcome.residue(),
            drifted: halted.outcome.drifted,
            not_durable: halted.not_durable.unwrap_or_default(),
        }))
    }

    async fn resume(
        &self,
        request: Request<ResumeRequest>,
    ) -> Result<Response<ResumeReply>, Status> {
        let policy = self.known_policy();
        let caller = self.caller(&request, request.get_ref().protocol, &policy, false)?;
        let reason = self.owner.ask(Ask::Resume).await.map_err(status)?;
        tracing::warn!(caller, reason, "resume");
        Ok(Response::new(ResumeReply {
            was_halted: reason.is_some(),
            reason: reason.unwrap_or_default(),
        }))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Events>, Status> {
        let policy = self.known_policy();
        self.caller(&request, request.get_ref().protocol, &policy, false)?;
        // Subscribed before the present state is read: a change may come twice, never not at all.
        let later = BroadcastStream::new(self.owner.events.subscribe());
        let now = self.owner.snapshot.borrow().event();
        let later = later.map(|event| {
            event.map_err(|_| Status::data_loss("this watcher was too slow; ask for the status"))
        });
        Ok(Response::new(Box::pin(
            tokio_stream::once(Ok(now)).chain(later),
        )))
    }

    async fn vantage(
        &self,
        mut request: Request<Streaming<VantageRequest>>,
    ) -> Result<Response<Seen>, Status> {
        let policy = self.read_policy();
        let first = tokio::time::timeout(FIRST_ORDER, request.get_mut().message());
        let first = first
            .await
            .map_err(|_| Status::deadline_exceeded("no order came"))?;
        let first = first?.unwrap_or_default();
        self.caller(&request, first.protocol, &policy, false)?;
        if !policy.is_ok_and(|policy| policy.vantage) {
            return Err(Status::permission_denied(
                "the policy of this node allows no vantage (`vantage: true`); nothing was started",
            ));
        }
        let begun = self.vantage.begin(first.input, request.into_inner());
        begun.map(Response::new).map_err(Status::from)
    }
}

fn refuse(why: &str) -> Status {
    Status::failed_precondition(format!("{why}; nothing was altered"))
}

fn status(refusal: Refusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        Refusal::Ending => Status::unavailable(text),
        Refusal::Resume(_) => Status::internal(text),
        Refusal::NotArmed(_) => Status::not_found(text),
        Refusal::Drill(DrillError::Instant { .. }) => Status::out_of_range(text),
        Refusal::Drill(DrillError::Journal { .. } | DrillError::Load { .. }) => {
            Status::internal(text)
        }
        _ => Status::failed_precondition(text),
    }
}

/// Of the certificate that TLS has verified; none if it has no single common name in UTF-8.
fn common_name<T>(request: &Request<T>) -> Option<String> {
    let certificates = request.peer_certs()?;
    let (_, certificate) = X509Certificate::from_der(certificates.first()?).ok()?;
    let mut names = certificate.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?.to_owned();
    (names.next().is_none() && !name.is_empty()).then_some(name)
}
