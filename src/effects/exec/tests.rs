//! Programs that end well, badly, late and not at all.

use super::*;

#[test]
fn long_output_keeps_both_ends() {
    let mut kept = Kept::default();
    kept.push(b"begin");
    for _ in 0..100_000 {
        kept.push(b"0123456789");
    }
    kept.push(b"end");
    assert!(kept.tail.len() <= 2 * OUTPUT_END_MAX);
    let text = kept.into_text();
    assert!(text.starts_with("begin0123") && text.ends_with("789end"));
    let left_out = 1_000_008 - 2 * OUTPUT_END_MAX;
    assert!(
        text.contains(&format!("[{left_out} bytes left out]")),
        "{left_out}"
    );
}

#[test]
fn short_output_is_kept_whole() {
    let mut kept = Kept::default();
    kept.push(&[b'a'; OUTPUT_END_MAX]);
    kept.push(&[b'b'; OUTPUT_END_MAX]);
    let text = kept.into_text();
    assert_eq!(
        text,
        "a".repeat(OUTPUT_END_MAX) + &"b".repeat(OUTPUT_END_MAX)
    );
}

#[test]
fn user_is_read_from_its_passwd_line() {
    let passwd = "root:x:0:0:root:/root:/bin/sh\n\
                  broken\n\
                  db:x:101:104:Database,,,:/var/lib/db:/bin/bash\n";
    let user = find_user(passwd, |user| user.uid == 101).unwrap();
    assert_eq!((user.name.as_deref(), user.gid), (Some("db"), 104));
    assert_eq!(user.home, Some(PathBuf::from("/var/lib/db")));
    assert_eq!(find_user(passwd, |user| user.uid == 7), None);
}

#[test]
fn debug_output_hides_values_of_variables() {
    let spec = CommandSpec::new("psql", Duration::from_secs(1)).env("PGPASSWORD", "hush");
    let text = format!("{spec:?} {spec}");
    assert!(
        text.contains("PGPASSWORD") && !text.contains("hush"),
        "{text}"
    );
}
