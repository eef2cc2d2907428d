//! The journal against real files: torn, rotten, full disk, two agents (S11).

#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test code: a failure is the answer, and mount(8) fills a small disk"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use failover_agent::model::journal::{JournalEntry, JournalLine, PlanEnd};
use failover_agent::model::plan::{Cause, Plan, PlanKind};
use failover_agent::model::{Epoch, PlanId};
use failover_agent::runtime::journal::{Journal, JournalError, read_all};

fn remark(text: &str) -> JournalEntry {
    JournalEntry::Remark {
        text: text.to_owned(),
    }
}

fn planned(id: &str) -> JournalEntry {
    JournalEntry::Planned {
        plan: Plan {
            id: PlanId::new(id),
            kind: PlanKind::Fence,
            epoch: Epoch(3),
            cause: Cause::RecordMoved,
            steps: Vec::new(),
        },
        record: None,
        evidence: vec!["a \"quoted\" line\nand another".to_owned()],
    }
}

fn ended(id: &str) -> JournalEntry {
    JournalEntry::PlanEnded {
        plan: PlanId::new(id),
        end: PlanEnd::Completed,
    }
}

/// A journal of three lines, closed again.
fn three_lines(dir: &Path) -> Vec<JournalLine> {
    let (mut journal, lines, warnings) = Journal::open(dir).unwrap();
    assert!(lines.is_empty() && warnings.is_empty());
    let mut written = journal.append(&[remark("one"), planned("a-1")]).unwrap();
    written.extend(journal.append(&[ended("a-1")]).unwrap());
    written
}

fn last_line_start(bytes: &[u8]) -> usize {
    let body = &bytes[..bytes.len() - 1];
    body.iter().rposition(|byte| *byte == b'\n').unwrap() + 1
}

#[test]
fn lines_come_back_in_order_without_gaps() {
    let dir = tempfile::tempdir().unwrap();
    let written = three_lines(dir.path());
    assert_eq!(
        written.iter().map(|line| line.number).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let (mut journal, lines, warnings) = Journal::open(dir.path()).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(lines, written);
    assert_eq!(read_all(dir.path()).unwrap(), written);
    assert_eq!(journal.append(&[remark("four")]).unwrap()[0].number, 4);
    assert!(journal.append(&[]).unwrap().is_empty());
}

#[test]
fn last_line_torn_at_any_byte_is_moved_aside_and_the_rest_kept() {
    let source = tempfile::tempdir().unwrap();
    let written = three_lines(source.path());
    let whole = fs::read(source.path().join("journal")).unwrap();
    let start = last_line_start(&whole);
    for end in start + 1..whole.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal"), &whole[..end]).unwrap();
        assert_eq!(
            read_all(dir.path()).unwrap(),
            written[..2],
            "reader, cut at {end}"
        );
        let (mut journal, lines, warnings) = Journal::open(dir.path()).unwrap();
        assert_eq!(lines, written[..2], "cut at {end}");
        assert_eq!(warnings.len(), 1, "cut at {end}");
        let aside = fs::read(dir.path().join("journal.torn-1")).unwrap();
        assert_eq!(aside, &whole[start..end]);
        let next = journal.append(&[remark("after")]).unwrap();
        assert_eq!(next[0].number, 3);
        drop(journal);
        let (_, lines, warnings) = Journal::open(dir.path()).unwrap();
        assert_eq!((lines.len(), warnings.len()), (3, 0));
        assert_eq!(lines[2], next[0]);
    }
}

#[test]
fn last_line_replaced_by_zeros_or_garbage_is_torn() {
    let source = tempfile::tempdir().unwrap();
    let written = three_lines(source.path());
    let whole = fs::read(source.path().join("journal")).unwrap();
    let start = last_line_start(&whole);
    for tail in [
        vec![0; 300],
        vec![0xff; 300],
        b"0123456789abcdef 2 {}\n".to_vec(),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = whole[..start].to_vec();
        bytes.extend(&tail);
        fs::write(dir.path().join("journal"), &bytes).unwrap();
        // A second torn tail must not overwrite the first one that was kept.
        fs::write(dir.path().join("journal.torn-1"), "earlier").unwrap();
        let (_, lines, warnings) = Journal::open(dir.path()).unwrap();
        assert_eq!((lines.as_slice(), warnings.len()), (&written[..2], 1));
        assert_eq!(
            fs::read(dir.path().join("journal.torn-1")).unwrap(),
            b"earlier"
        );
        assert_eq!(fs::read(dir.path().join("journal.torn-2")).unwrap(), tail);
    }
}

#[test]
fn flipped_byte_before_the_last_line_is_an_error_and_nothing_is_changed() {
    let dir = tempfile::tempdir().unwrap();
    three_lines(dir.path());
    let path = dir.path().join("journal");
    let whole = fs::read(&path).unwrap();
    for index in 0..last_line_start(&whole) {
        let mut flipped = whole.clone();
        flipped[index] ^= 1;
        fs::write(&path, &flipped).unwrap();
        let expected_line = 1 + whole[..index].iter().filter(|byte| **byte == b'\n').count();
        match Journal::open(dir.path()) {
            Err(JournalError::Damaged { line, .. }) => {
                assert_eq!(line, expected_line, "byte {index}");
            }
            other => panic!("byte {index}: {other:?}"),
        }
        assert!(read_all(dir.path()).is_err());
        assert_eq!(fs::read(&path).unwrap(), flipped, "byte {index}");
        assert!(!dir.path().join("journal.torn-1").exists());
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(Journal::open(dir.path()).unwrap().1.len(), 3);
}

#[test]
fn missing_line_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    three_lines(dir.path());
    let path = dir.path().join("journal");
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.split_inclusive('\n').collect();
    fs::write(&path, format!("{}{}", lines[0], lines[2])).unwrap();
    assert!(matches!(
        Journal::open(dir.path()),
        Err(JournalError::Damaged { line: 2, .. })
    ));
}

#[test]
fn second_agent_of_a_site_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _, _) = Journal::open(dir.path()).unwrap();
    match Journal::open(dir.path()) {
        Err(JournalError::Locked { holder, .. }) => {
            assert_eq!(holder, format!("process {}", std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    assert!(read_all(dir.path()).unwrap().is_empty());
    drop(first);
    Journal::open(dir.path()).unwrap();
}

#[test]
fn long_journal_is_moved_aside_between_plans_but_never_within_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _, _) = Journal::open_rotating_above(dir.path(), 2000).unwrap();
    journal.append(&[planned("a-1")]).unwrap();
    for _ in 0..40 {
        journal
            .append(&[remark("within the plan, well beyond the bound")])
            .unwrap();
    }
    assert!(!dir.path().join("journal.1").exists());
    journal.append(&[ended("a-1")]).unwrap();
    for _ in 0..400 {
        journal.append(&[remark("after the plan")]).unwrap();
    }
    drop(journal);
    assert!(dir.path().join("journal.3").exists());
    assert!(!dir.path().join("journal.4").exists());
    let current = fs::metadata(dir.path().join("journal")).unwrap().len();
    assert!(current < 3000, "{current}");
    let (_, lines, warnings) = Journal::open_rotating_above(dir.path(), 2000).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert!(
        lines
            .windows(2)
            .all(|pair| pair[0].number + 1 == pair[1].number)
    );
    assert_eq!(lines, read_all(dir.path()).unwrap());
}

#[test]
fn crash_while_a_new_file_is_begun_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let written = three_lines(dir.path());
    let path = dir.path().join("journal");
    fs::hard_link(&path, dir.path().join("journal.1")).unwrap();
    fs::write(dir.path().join("journal.new"), "half a li").unwrap();
    let (mut journal, lines, warnings) = Journal::open_rotating_above(dir.path(), 10).unwrap();
    assert_eq!((&lines, warnings.len()), (&written, 0));
    assert_eq!(read_all(dir.path()).unwrap(), written);
    journal.append(&[remark("next")]).unwrap();
    let lines = read_all(dir.path()).unwrap();
    assert_eq!(
        lines.len(),
        5,
        "three lines, the remark of the new file, and the next"
    );
    assert!(
        lines
            .windows(2)
            .all(|pair| pair[0].number + 1 == pair[1].number)
    );
}

#[test]
fn damaged_older_file_is_told_but_does_not_stop_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _, _) = Journal::open_rotating_above(dir.path(), 300).unwrap();
    for _ in 0..12 {
        journal
            .append(&[remark("something to fill the file with")])
            .unwrap();
    }
    drop(journal);
    let older = dir.path().join("journal.1");
    let mut bytes = fs::read(&older).unwrap();
    bytes[3] ^= 1;
    fs::write(&older, bytes).unwrap();
    let (mut journal, lines, warnings) = Journal::open(dir.path()).unwrap();
    assert!(!warnings.is_empty());
    let last = lines.last().unwrap().number;
    assert_eq!(journal.append(&[remark("on")]).unwrap()[0].number, last + 1);
}

/// A file system of 64 KiB, unmounted when it goes out of scope.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "none"])
            .arg(dir.path())
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

#[test]
fn full_disk_fails_the_append_cleanly_and_it_works_again_once_there_is_space() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("SKIPPED: filling a disk needs the right to mount a file system (run as root)");
        return;
    };
    let dir = disk.0.path();
    let (mut journal, _, _) = Journal::open(dir).unwrap();
    let mut written = journal.append(&[remark("before")]).unwrap();
    let ballast = dir.join("ballast");
    // Leaves a page or two, so that the long entry fits in part: the write tears.
    fs::write(&ballast, vec![1; 48 * 1024]).unwrap();
    let long = remark(&"x".repeat(30_000));
    let before = fs::read(journal.path()).unwrap();
    for _ in 0..3 {
        match journal.append(&[remark("goes with the long one"), long.clone()]) {
            Err(JournalError::Io { source, .. }) => {
                assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read(journal.path()).unwrap(), before);
    }
    fs::remove_file(&ballast).unwrap();
    written.extend(journal.append(&[long]).unwrap());
    assert_eq!(read_all(dir).unwrap(), written);
    drop(journal);
    let (journal, lines, warnings) = Journal::open(dir).unwrap();
    assert_eq!((lines, warnings.len()), (written, 0));
    drop(journal);
}
