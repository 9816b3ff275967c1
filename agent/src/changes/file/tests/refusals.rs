//! What is not altered, because there would be no way back.

use super::*;

fn refused(mut case: Case, words: &str) {
    let before = case.inventory();
    let error = case.capture().unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!(case.inventory(), before);
}

/// A file that is moved away from another place than the usual one.
fn at(place: fn(&Case) -> String) -> Case {
    let mut case = Case::new(FileAct::MoveAway);
    case.change.path = place(&case);
    case
}

#[test]
fn what_is_no_file_of_others_is_refused_at_arm() {
    refused(at(|_| "etc/passwd".into()), "absolute");
    refused(at(|c| format!("{}/", c.path().display())), "absolute");
    refused(at(|c| format!("{}x", c.path().display())), "not there");
    refused(at(|_| "/nowhere/at/all".into()), "there is no");
    refused(at(|c| c.folder.path().to_str().unwrap().into()), "regular");
    refused(
        at(|c| {
            symlink("app.conf", c.folder.path().join("soft")).unwrap();
            format!("{}/soft", c.folder.path().display())
        }),
        "a link is not followed",
    );
    refused(
        at(|c| {
            std::fs::write(c.sidecar(), "").unwrap();
            c.sidecar().to_str().unwrap().into()
        }),
        "cellwall made it",
    );
    refused(
        at(|c| format!("{}/journal/d.journal", c.state.path().display())),
        "agent's own state",
    );
    refused(
        at(|c| format!("{}/policy.yaml", c.state.path().display())),
        "agent's own state",
    );
}

#[test]
fn what_would_do_nothing_or_too_much_is_refused_at_arm() {
    refused(Case::new(FileAct::Chmod { mode: 0o640 }), "already");
    refused(Case::new(FileAct::Chmod { mode: 0o10000 }), "no mode");
    refused(
        Case::new(FileAct::Truncate { bytes: 36 }),
        "nothing would be cut",
    );
    let mut case = Case::new(FileAct::Truncate { bytes: 0 });
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(case.path())
        .unwrap();
    file.set_len((1 << 30) + 1).unwrap();
    let error = case.capture().unwrap_err().to_string();
    assert!(error.contains("1073741824 at most"), "{error}");
}

#[test]
fn what_a_drill_that_nobody_holds_keeps_beside_it_is_refused_at_arm() {
    let kept = |name: &str| {
        let case = Case::new(FileAct::Chmod { mode: 0 });
        std::fs::write(case.folder.path().join(name), "kept").unwrap();
        case
    };
    refused(
        kept(".cellwall_old_0_0"),
        "drill old, which no agent here holds",
    );
    let mut case = kept(".cellwall_old_0_0.part");
    case.capture().unwrap();
}
