//! Somebody else writes to the file, or its folder, while the drill has it.

use super::*;

/// Fire would find another file; nothing of ours stays.
#[test]
fn what_changed_since_arm_is_left_alone() {
    for act in acts() {
        let mut case = Case::new(act.clone());
        let undo = case.capture().unwrap();
        case.load(&undo).unwrap();
        std::fs::write(case.folder.path().join("new"), "theirs").unwrap();
        std::fs::rename(case.folder.path().join("new"), case.path()).unwrap();
        let theirs = case.path().metadata().unwrap();
        let error = case.apply(&undo).unwrap_err();
        assert!(
            matches!(error, Error::NotApplied { .. }),
            "{act:?}: {error}"
        );
        assert_eq!(case.content(), "theirs");
        assert_eq!(case.path().metadata().unwrap().mode(), theirs.mode());
        assert_eq!(
            case.inventory().len(),
            2,
            "the file and the link: {:?}",
            case.inventory()
        );
    }
    for act in [replace(), FileAct::Truncate { bytes: CUT }] {
        let mut case = Case::new(act);
        let undo = case.capture().unwrap();
        case.load(&undo).unwrap();
        append(&case.path(), "and more");
        let with_more = case.inventory();
        let error = case.apply(&undo).unwrap_err();
        assert!(matches!(error, Error::NotApplied { .. }), "{error}");
        assert!(case.content().ends_with("zand more"));
        assert_eq!(
            case.inventory().len(),
            with_more.len() - 1,
            "our part is gone"
        );
    }
}

type Hand = fn(&Case);

const REWRITTEN: Hand = |case| {
    std::fs::write(case.folder.path().join("new"), "theirs").unwrap();
    std::fs::rename(case.folder.path().join("new"), case.path()).unwrap();
};
const WRITTEN: Hand = |case| append(&case.path(), "theirs");
const DELETED: Hand = |case| std::fs::remove_file(case.path()).unwrap();

#[test]
fn a_file_that_somebody_wrote_meanwhile_is_kept_and_so_is_the_original() {
    let truncate = || FileAct::Truncate { bytes: CUT };
    let cases: [(FileAct, Hand); 7] = [
        (replace(), REWRITTEN),
        (replace(), WRITTEN),
        (replace(), DELETED),
        (FileAct::MoveAway, REWRITTEN),
        (truncate(), WRITTEN),
        (truncate(), REWRITTEN),
        (truncate(), DELETED),
    ];
    for (number, (act, hand)) in cases.into_iter().enumerate() {
        let (mut case, undo) = Case::in_force(act.clone());
        hand(&case);
        let disputed = case.inventory();
        for _ in 0..2 {
            let error = case.undo(&undo).unwrap_err();
            assert!(matches!(error, Error::Back { .. }), "{error}");
            let text = error.to_string();
            let kept = case.sidecar().display().to_string();
            assert!(
                text.contains(&format!("kept as {kept}")),
                "{number} {act:?}: {text}"
            );
            assert!(text.contains("revert --all"), "{text}");
            assert_eq!(case.inventory(), disputed, "{number}: nothing was touched");
        }
        // The person decides for what is there now.
        std::fs::remove_file(case.sidecar()).unwrap();
        let drifted = case.undo(&undo).unwrap();
        assert_eq!(drifted.len(), 1, "{number} {act:?}: {drifted:?}");
        assert!(drifted[0].contains("app.conf"), "{drifted:?}");
    }
}

#[test]
fn a_person_may_put_the_original_back() {
    for act in [replace(), FileAct::MoveAway] {
        for put_back in [
            |a: &Path, b: &Path| std::fs::rename(a, b),
            |a: &Path, b: &Path| {
                std::fs::remove_file(b)?;
                std::fs::hard_link(a, b)
            },
        ] {
            let before = Case::new(act.clone()).inventory().len();
            let (mut case, undo) = Case::in_force(act.clone());
            REWRITTEN(&case);
            case.undo(&undo).unwrap_err();
            put_back(&case.sidecar(), &case.path()).unwrap();
            assert_eq!(case.undo(&undo).unwrap(), Vec::<String>::new());
            assert_eq!(case.content(), BEFORE);
            assert_eq!(case.inventory().len(), before);
        }
    }
}

#[test]
fn drift_is_told_and_left() {
    let (mut case, undo) = Case::in_force(FileAct::Chmod { mode: 0o440 });
    std::fs::set_permissions(case.path(), PermissionsExt::from_mode(0o400)).unwrap();
    let drifted = case.undo(&undo).unwrap();
    assert!(drifted[0].contains("mode 0400"), "{drifted:?}");
    assert_eq!(case.path().metadata().unwrap().mode() & 0o7777, 0o400);

    let (mut case, undo) = Case::in_force(FileAct::Chmod { mode: 0o440 });
    REWRITTEN(&case);
    let mode = |case: &Case, name: &str| {
        let path = case.folder.path().join(name);
        path.metadata().unwrap().mode() & 0o7777
    };
    let theirs = mode(&case, "app.conf");
    assert_eq!(mode(&case, "link"), 0o440, "the file that was altered");
    let drifted = case.undo(&undo).unwrap();
    assert!(drifted.is_empty(), "{drifted:?}");
    assert_eq!(
        (mode(&case, "app.conf"), mode(&case, "link")),
        (theirs, 0o640)
    );

    let (mut case, undo) = Case::in_force(FileAct::Chmod { mode: 0o440 });
    REWRITTEN(&case);
    std::fs::remove_file(case.folder.path().join("link")).unwrap();
    assert_eq!(
        case.undo(&undo).unwrap().len(),
        1,
        "it is not in this folder any more"
    );
    assert_eq!(mode(&case, "app.conf"), theirs);

    let (mut case, undo) = Case::in_force(replace());
    std::fs::set_permissions(case.path(), PermissionsExt::from_mode(0o600)).unwrap();
    let drifted = case.undo(&undo).unwrap();
    assert!(drifted[0].contains("had got mode 0600"), "{drifted:?}");
    assert_eq!(mode(&case, "app.conf"), 0o640, "the original has its own");

    // Written before the cut: the tail comes back, the time of their write stays.
    let (mut case, undo) = Case::in_force(FileAct::Truncate { bytes: CUT });
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(case.path())
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"X", 0).unwrap();
    let drifted = case.undo(&undo).unwrap();
    assert!(drifted[0].contains("wrote to it meanwhile"), "{drifted:?}");
    assert_eq!(case.content(), BEFORE.replacen('0', "X", 1));
    assert!(
        case.path()
            .metadata()
            .unwrap()
            .modified()
            .unwrap()
            .elapsed()
            .unwrap()
            .as_secs()
            < 60
    );
}

#[test]
fn what_has_our_name_and_is_not_ours_stays() {
    let cases = [
        (replace(), "theirs"),
        (FileAct::MoveAway, "theirs"),
        (FileAct::Truncate { bytes: CUT }, "theirs"),
    ];
    for (act, theirs) in cases {
        let mut case = Case::new(act);
        let undo = case.capture().unwrap();
        std::fs::write(case.sidecar(), theirs).unwrap();
        let error = case.undo(&undo).unwrap_err().to_string();
        assert!(error.contains("move it away"), "{error}");
        assert_eq!(std::fs::read_to_string(case.sidecar()).unwrap(), theirs);
        assert_eq!(case.content(), BEFORE);
        let taken = case.capture().unwrap_err();
        assert!(matches!(taken, Error::Taken(_)), "{taken}");
    }
}

#[test]
fn a_link_that_is_turned_leads_nobody_astray() {
    for act in acts() {
        let mut case = Case::new(act);
        let before = case.inventory();
        let outside = tempfile::tempdir().unwrap();
        let outer = outside.path().join("current");
        symlink(case.folder.path(), &outer).unwrap();
        case.change.path = outer.join("app.conf").to_str().unwrap().into();
        let undo = case.capture().unwrap();
        case.load(&undo).unwrap();
        case.apply(&undo).unwrap();
        std::fs::remove_file(&outer).unwrap();
        symlink("/", &outer).unwrap();
        assert_eq!(case.undo(&undo).unwrap(), Vec::<String>::new());
        assert_eq!(case.inventory(), before);
    }
}

/// Who may open folders by the kernel's handles.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn a_folder_that_is_gone_is_told() {
    let (mut case, undo) = Case::in_force(replace());
    let gone = case.folder.path().to_owned();
    std::fs::remove_dir_all(&gone).unwrap();
    let drifted = case.undo(&undo).unwrap();
    assert!(
        drifted[0].contains("is gone or is another folder"),
        "{drifted:?}"
    );
    std::fs::create_dir(&gone).unwrap();
    std::fs::write(case.path(), "theirs").unwrap();
    if is_root() && undo.handle.is_some() {
        case.undo(&undo).unwrap();
    } else {
        // Who cannot ask the kernel does not know whether it was moved.
        let error = case.undo(&undo).unwrap_err().to_string();
        assert!(error.contains("find "), "{error}");
    }
    assert_eq!(case.content(), "theirs");
}

/// As where a file system has no handles, and no number for a folder that would stay.
#[test]
fn a_folder_with_another_number_is_known_by_what_is_kept_in_it() {
    for act in acts() {
        let (mut case, mut undo) = Case::in_force(act.clone());
        undo.handle = None;
        undo.folder_id.inode += 1;
        assert_eq!(case.undo(&undo).unwrap(), Vec::<String>::new(), "{act:?}");
        let whole = case.inventory();
        assert_eq!(whole.len(), 2, "{act:?}: {whole:?}");
        assert!(whole[0].contains("mode 100640") && whole[0].contains(BEFORE));
        // Once more, and by then as another file.
        case.undo(&undo).unwrap();
        std::fs::remove_file(case.path()).unwrap();
        std::fs::write(case.path(), "theirs").unwrap();
        let error = case.undo(&undo).unwrap_err().to_string();
        for word in ["find ", &undo.sidecar, "move the journal away"] {
            assert!(error.contains(word), "{error}");
        }
    }
}

/// Mounted again, its device has another number.
#[test]
fn a_folder_on_another_device_is_known_by_the_whole_of_what_is_kept() {
    for act in acts() {
        let (mut case, mut undo) = Case::in_force(act.clone());
        undo.handle = None;
        for id in [&mut undo.folder_id, &mut undo.original.id] {
            id.device += 1 << 40;
        }
        let mut other = undo.clone();
        other.original.uid += 1;
        let error = case.undo(&other).unwrap_err().to_string();
        assert!(error.contains("mount its file system there"), "{error}");
        assert_eq!(case.undo(&undo).unwrap(), Vec::<String>::new(), "{act:?}");
        let whole = case.inventory();
        assert!(whole[0].contains("mode 100640") && whole[0].contains(BEFORE));
    }
}

#[test]
fn a_folder_that_got_another_name_is_found() {
    for act in acts() {
        let (mut case, undo) = Case::in_force(act.clone());
        let (old, new) = (case.folder.path().to_owned(), tempfile::tempdir().unwrap());
        let now = new.path().join("now");
        std::fs::rename(&old, &now).unwrap();
        if is_root() && undo.handle.is_some() {
            let drifted = case.undo(&undo).unwrap();
            let moved = format!("was moved to {}", now.display());
            assert!(drifted[0].contains(&moved), "{act:?}: {drifted:?}");
            std::fs::rename(&now, &old).unwrap();
            let whole = case.inventory();
            assert!(whole.len() == 2 && whole[0].contains(BEFORE), "{whole:?}");
        }
    }
}

#[test]
fn a_failed_chmod_says_what_the_mode_may_be() {
    let (_case, undo) = Case::in_force(FileAct::Chmod { mode: 0o440 });
    let text = settle::failed(&undo, "set its mode", "EROFS").to_string();
    assert!(text.contains("may still be 0440 instead of 0640"), "{text}");
    assert!(!text.contains("holds what is missing"), "{text}");
}
