//! Processes and groups that a drill stops, freezes or kills, and what others do to them meanwhile.

use agent::changes::{self, Error, Hands, Management, Place, Undo};
use agent::journal::{self, Armed, FORMAT, Journal, Permit};
use agent::kernel::nft::Gate;
use nix::sys::signal::Signal;
use scenarios::change::{Change, ProcessAct, ProcessChange, Processes};

use crate::support::*;

fn of_pids(pids: &[u32], act: ProcessAct) -> Change {
    Change::Process(ProcessChange {
        processes: Processes::Pids(pids.to_vec()),
        act,
    })
}

fn of_group(group: &Group, act: ProcessAct) -> Change {
    Change::Process(ProcessChange {
        processes: Processes::Cgroup(group.path()),
        act,
    })
}

fn firing(host: &Host, change: Change, lasts: &str) -> Changing {
    let mut changing = host.change("d", &[change], lasts);
    assert!(changing.says("in force"), "{:?}", changing.ends());
    changing
}

fn stopped(host: &Host, sleeper: &Sleeper, lasts: &str) -> Changing {
    let changing = firing(host, of_pids(&[sleeper.pid()], ProcessAct::Freeze), lasts);
    until("it is stopped", || sleeper.state() == 'T');
    changing
}

fn frozen(host: &Host, group: &Group, lasts: &str) -> Changing {
    let changing = firing(host, of_group(group, ProcessAct::Freeze), lasts);
    until("it is frozen", || group.is_frozen());
    changing
}

/// What a drill says that must alter nothing.
fn refusal(change: Change) -> String {
    let host = Host::new();
    let (code, text) = host.change("d", &[change], "5s").ends();
    assert_eq!(code, Some(70), "{text}");
    text
}

/// A change in this very process, with what its methods want.
struct Bench {
    host: Host,
}

impl Bench {
    fn new() -> Self {
        Self { host: Host::new() }
    }

    fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Hands, &Place, &Permit) -> T + Send + 'static,
    ) -> T {
        let directory = journal::directory(&self.host.state());
        self.host.run(move || {
            let armed = Armed {
                format: FORMAT,
                drill: "bench".into(),
                conductor: "c".into(),
                plan_sha256: String::new(),
                boot_id: String::new(),
                expires: agent::boottime::Boottime::now(),
            };
            let (_journal, permit) = Journal::create(&directory, armed, &[]).unwrap();
            let place = Place {
                drill: "bench".into(),
                step: 0,
                index: 0,
                state: directory,
                management: Management::none(),
            };
            job(&mut Hands::closed(None), &place, &permit)
        })
    }
}

fn gate() -> Gate {
    Gate::new(std::time::Duration::from_secs(5))
}

#[test]
#[ignore = "needs root: signals"]
fn a_stopped_process_goes_on_when_its_time_is_over() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    stopped(&host, &sleeper, "300ms").ends_clean();
    assert_eq!(sleeper.state(), 'S');
}

#[test]
#[ignore = "needs root: signals, control groups"]
fn what_stands_still_goes_on_when_the_agent_is_killed() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    stopped(&host, &sleeper, "60s").crash();
    host.closes("d");
    assert_eq!(sleeper.state(), 'S');
    for group in Group::freezers() {
        let (host, sleeper) = (Host::new(), Sleeper::new());
        group.put(sleeper.pid());
        frozen(&host, &group, "60s").crash();
        host.closes("d");
        assert!(!group.is_frozen());
    }
}

#[test]
#[ignore = "needs root: signals, control groups"]
fn with_the_guardian_dead_too_revert_lets_it_go_on() {
    for group in Group::freezers() {
        let (host, sleeper, member) = (Host::new(), Sleeper::new(), Sleeper::new());
        group.put(member.pid());
        let changes = [
            of_pids(&[sleeper.pid()], ProcessAct::Freeze),
            of_group(&group, ProcessAct::Freeze),
        ];
        let mut changing = host.change("d", &changes, "60s");
        assert!(changing.says("in force"), "{:?}", changing.ends());
        until("both", || sleeper.state() == 'T' && group.is_frozen());
        changing.crash_with_guardian();
        assert!(
            sleeper.state() == 'T' && group.is_frozen(),
            "nobody is left to end it"
        );
        host.revert_clean();
        assert!(sleeper.state() == 'S' && !group.is_frozen());
        host.revert_clean();
    }
}

#[test]
#[ignore = "needs root: signals"]
fn what_must_not_or_cannot_be_stopped_is_refused() {
    let freeze = |pid| refusal(of_pids(&[pid], ProcessAct::Freeze));
    assert!(freeze(1).contains("process 1 is among them"));
    let kernel = procs().find(|pid| {
        let stat = agent::kernel::procfs::stat(*pid).unwrap();
        stat.is_some_and(|stat| stat.is_kernel_thread)
    });
    if let Some(kernel) = kernel {
        assert!(freeze(kernel).contains("the kernel's own"));
    }
    let sleeper = Sleeper::new();
    sleeper.signal(Signal::SIGSTOP);
    until("stopped by someone else", || sleeper.state() == 'T');
    assert!(freeze(sleeper.pid()).contains("stopped already"));
    assert_eq!(sleeper.state(), 'T', "and it stays so");
    let thread = nix::unistd::gettid().as_raw() as u32;
    assert!(freeze(thread).contains("is a thread of process"));
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    until("it has ended", || state_of(gone.id()) == 'Z');
    assert!(freeze(gone.id()).contains("has ended already"));
    gone.wait().unwrap();
    assert!(freeze(gone.id()).contains("there is no process"));

    let (host, other) = (Host::new(), Sleeper::new());
    let changing = stopped(&host, &other, "60s");
    let guardian = guardian_of(changing.pid()).as_raw() as u32;
    for ours in [changing.pid(), guardian] {
        assert!(freeze(ours).contains("this agent or its guardian"));
        assert_ne!(state_of(ours), 'T');
    }
}

fn procs() -> impl Iterator<Item = u32> {
    agent::kernel::procfs::pids().unwrap().into_iter()
}

#[test]
#[ignore = "needs root: control groups"]
fn a_group_that_stands_still_or_holds_the_agent_is_refused() {
    for group in Group::freezers() {
        let freeze = || refusal(of_group(&group, ProcessAct::Freeze));
        let sleeper = Sleeper::new();
        group.put(sleeper.pid());
        group.freeze(true);
        until("frozen", || group.is_frozen());
        assert!(freeze().contains("frozen already"));
        let below = group.below();
        assert!(refusal(of_group(&below, ProcessAct::Freeze)).contains("frozen already"));
        assert!(group.is_frozen());
        group.freeze(false);

        let (host, other) = (Host::new(), Sleeper::new());
        let changing = stopped(&host, &other, "60s");
        below.put(changing.pid());
        assert!(freeze().contains("this agent or its guardian"));
        assert!(!group.is_frozen());
    }
    let folder = Change::Process(ProcessChange {
        processes: Processes::Cgroup("/usr".into()),
        act: ProcessAct::Freeze,
    });
    assert!(refusal(folder).contains("no control group"));
}

#[test]
#[ignore = "needs root: signals"]
fn a_target_that_comes_back_with_another_pid_is_left_alone_and_told() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    let mut changing = stopped(&host, &sleeper, "1500ms");
    drop(sleeper);
    let next = Sleeper::new();
    let (code, text) = changing.ends();
    assert_eq!((code, next.state()), (Some(0), 'S'), "{text}");
    assert!(text.contains("has ended or went on early"), "{text}");
}

#[test]
#[ignore = "needs root: signals"]
fn what_someone_else_has_continued_is_told() {
    let (host, sleeper) = (Host::new(), Sleeper::new());
    let mut changing = stopped(&host, &sleeper, "1500ms");
    sleeper.signal(Signal::SIGCONT);
    let (code, text) = changing.ends();
    assert_eq!((code, sleeper.state()), (Some(0), 'S'), "{text}");
    assert!(text.contains("has ended or went on early"), "{text}");
}

#[test]
#[ignore = "needs root: control groups"]
fn a_group_that_was_made_again_is_not_thawed() {
    for group in Group::freezers() {
        let (host, sleeper) = (Host::new(), Sleeper::new());
        group.put(sleeper.pid());
        let mut changing = frozen(&host, &group, "2s");
        group.replace();
        let theirs = Sleeper::new();
        group.put(theirs.pid());
        group.freeze(true);
        until("frozen by its new owner", || group.is_frozen());
        let (code, text) = changing.ends();
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("removed or thawed early"), "{text}");
        assert!(group.is_frozen(), "it is not ours");
    }
}

#[test]
#[ignore = "needs root: control groups"]
fn a_group_below_one_that_others_froze_is_given_back_and_told() {
    for parent in Group::freezers() {
        let child = parent.below();
        let (host, sleeper) = (Host::new(), Sleeper::new());
        child.put(sleeper.pid());
        let mut changing = frozen(&host, &child, "1500ms");
        parent.freeze(true);
        let (code, text) = changing.ends();
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains("drifted") && text.contains("by someone else"),
            "{text}"
        );
        assert!(parent.is_frozen() && child.is_frozen(), "theirs stays");
        parent.freeze(false);
        until("nothing of ours was left below", || !child.is_frozen());
    }
}

#[test]
#[ignore = "needs root: signals"]
fn what_was_stopped_between_arm_and_fire_is_not_ours() {
    let (bench, sleeper) = (Bench::new(), Sleeper::new());
    let pid = sleeper.pid();
    let error = bench.run(move |hands, place, permit| {
        let change = of_pids(&[pid], ProcessAct::Freeze);
        let undo = changes::capture(&change, hands, place).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGSTOP).unwrap();
        until("stopped", || state_of(pid) == 'T');
        changes::apply(&change, &undo, hands, gate(), permit).unwrap_err()
    });
    assert!(matches!(error, Error::NotApplied { .. }), "{error}");
    assert_eq!(sleeper.state(), 'T');
}

/// The agent may die between its SIGSTOP and the moment when the process takes it.
#[test]
#[ignore = "needs root: v1 freezer"]
fn a_stop_that_is_still_on_its_way_is_taken_back_needs_v1() {
    let group = Group::new("freezer").expect("a v1 freezer");
    let (bench, sleeper) = (Bench::new(), Sleeper::new());
    let pid = sleeper.pid();
    let undo = bench.run(move |hands, place, _| {
        changes::capture(&of_pids(&[pid], ProcessAct::Freeze), hands, place).unwrap()
    });
    group.put(pid);
    group.freeze(true);
    until("frozen", || group.read("freezer.state") == "FROZEN");
    sleeper.signal(Signal::SIGSTOP);
    assert_ne!(sleeper.state(), 'T', "it cannot take it yet");
    let bench = Bench::new();
    bench.run(move |hands, _, permit| undo.undo(hands, permit).unwrap());
    group.freeze(false);
    until("it runs", || !group.is_frozen());
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(sleeper.state(), 'S');
}

#[test]
#[ignore = "needs root: signals, control groups"]
fn what_is_killed_has_ended_and_nothing_else() {
    let (host, sleeper, other) = (Host::new(), Sleeper::new(), Sleeper::new());
    let mut changing = firing(&host, of_pids(&[sleeper.pid()], ProcessAct::Kill), "300ms");
    changing.ends_clean();
    assert_eq!((sleeper.state(), other.state()), ('Z', 'S'));
    let groups: Vec<Group> = ["cpu", "v2"].into_iter().filter_map(Group::new).collect();
    assert!(!groups.is_empty(), "this machine has no control groups");
    for group in groups {
        let below = group.below();
        let (first, second, outside) = (Sleeper::new(), Sleeper::new(), Sleeper::new());
        group.put(first.pid());
        let change = of_group(&group, ProcessAct::Kill);
        let late = second.pid();
        Bench::new().run(move |hands, place, permit| {
            let undo = changes::capture(&change, hands, place).unwrap();
            // Whoever joins after arm is meant as well.
            below.put(late);
            changes::apply(&change, &undo, hands, gate(), permit).unwrap();
            assert!(undo.undo(hands, permit).unwrap().is_empty());
        });
        assert_eq!(
            (first.state(), second.state(), outside.state()),
            ('Z', 'Z', 'S')
        );
        assert!(refusal(of_group(&group, ProcessAct::Kill)).contains("there is no process"));
    }
}

#[test]
fn a_way_back_that_was_written_is_read_again() {
    let text = r#"{"process":{"stopped":[{"pid":7,"started":9}]}}"#;
    let undo: Undo = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_string(&undo).unwrap(), text);
}
