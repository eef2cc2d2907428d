//! Processes told apart, on ones that these tests start.

use super::*;

#[test]
fn stat_line_is_parsed_behind_the_name() {
    let line = "42 (a) Z (b)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 12";
    let process = Process::parse(42, line).unwrap();
    assert_eq!(
        (process.parent, process.state, process.started),
        (7, 'S', 9876)
    );
    let own = Process::read(std::process::id()).unwrap();
    assert_eq!(own.pid, std::process::id());
    assert!(own.started > 0);
}

#[test]
fn zombie_is_not_alive() {
    let line = "42 (postgres) Z 7 42 42 0 -1 0 1 2 3 4 5 6 7 8 20 0 1 0 9876 11 12";
    assert_eq!(Process::parse(42, line), None);
}

#[test]
fn pid_file_is_parsed_also_half_written() {
    let text = "123\n/data\n1700000000\n5432\n/run\nlocalhost\n 18446744071562067968     32769\n\
                ready   \n";
    let file = PidFile::parse(text).unwrap();
    assert_eq!(file.pid, 123);
    assert_eq!(
        file.memory,
        Some(SharedMemory {
            key: 0x8000_0000,
            id: 32769
        })
    );
    assert_eq!(file.status.as_deref(), Some("ready"));
    assert_eq!(
        file.socket_lock,
        Some(PathBuf::from("/run/.s.PGSQL.5432.lock"))
    );

    let half = PidFile::parse("-123\n/data\n").unwrap();
    assert_eq!(
        half,
        PidFile {
            pid: 123,
            socket_lock: None,
            memory: None,
            status: None
        }
    );
    assert_eq!(PidFile::parse(""), None);
    assert_eq!(PidFile::parse("x\n"), None);
}

#[test]
fn memory_counts_as_attached_by_key_and_id() {
    let memory = SharedMemory {
        key: 0xFFFF_FFFE,
        id: 5,
    };
    assert!(memory.is_attached_in("        -2          5   600  56 1 1  3 101 104"));
    assert!(!memory.is_attached_in("        -2          5   600  56 1 1  0 101 104"));
    assert!(!memory.is_attached_in("        -2          6   600  56 1 1  3 101 104"));
    assert!(!memory.is_attached_in("       key      shmid perms size cpid lpid nattch"));
}

#[test]
fn postmaster_without_pid_file_is_the_root_with_children() {
    let process = |pid, parent| Process {
        pid,
        parent,
        state: 'S',
        started: 1,
    };
    let orphan = process(9, 1);
    let all = [orphan, process(12, 10), process(10, 1)];
    assert_eq!(find_postmaster(&all, None), Some(process(10, 1)));
    assert_eq!(find_postmaster(&[orphan], None), None);
    let file = PidFile {
        pid: 9,
        socket_lock: None,
        memory: None,
        status: None,
    };
    assert_eq!(find_postmaster(&[orphan], Some(&file)), Some(orphan));
}

#[test]
fn only_root_and_the_owner_may_look() {
    let id = DirId {
        device: (1, 2),
        inode: 3,
        born: None,
        uid: 101,
        gid: 104,
    };
    may_look(0, &id).unwrap();
    may_look(101, &id).unwrap();
    let error = may_look(102, &id).unwrap_err();
    assert_eq!(error.kind, crate::model::outcome::FailureKind::Permanent);
    assert!(error.hint.is_some());
}

#[test]
fn directory_without_pg_version_is_refused_until_it_was_one() {
    let dir = tempfile::tempdir().unwrap();
    let instance = Instance::new(dir.path());
    instance.identify().unwrap_err();
    fs::write(dir.path().join("PG_VERSION"), "15\n").unwrap();
    let id = instance.identify().unwrap();
    fs::remove_file(dir.path().join("PG_VERSION")).unwrap();
    assert_eq!(instance.identify().unwrap(), id);
    assert_eq!(instance.processes().unwrap(), []);
}
