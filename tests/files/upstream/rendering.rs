//! What is written, and that real proxies take it.

use std::fs;
use std::path::Path;
use std::process::Command;

use failover_agent::config::settings::{ProxyFormat, Upstream};
use failover_agent::effects::app_config::block::{Block, read};
use failover_agent::effects::app_config::upstream::render::{places, render};
use failover_agent::model::upstream::Place;

use super::ground::Ground;
use crate::golden;

const MEMBERS: &str = r#"
members = [
  { address = "10.0.0.1:8080", weight = 3, max_conns = 200 },
  { address = "10.0.0.2:8080" },
  { address = "[2001:db8::1]:8080" },
  { address = "10.0.0.3:8080", backup = true, weight = 1 },
  { address = "10.0.0.4:8080", backup = true },
]
"#;

fn group(format: ProxyFormat, servers_only: bool) -> Upstream {
    let config = Ground::new().config(MEMBERS, "block = \"shop_app\"\n");
    let mut group = config.upstreams[0].clone();
    group.file.format = format;
    group.file.servers_only = servers_only;
    group
}

const PLACES: [Place; 5] = [Place::In, Place::Out, Place::In, Place::In, Place::Out];

/// The text of a file of its own, or of a block between two lines of `around`.
fn text_of(block: &Block, around: &str) -> String {
    String::from_utf8(block.put_into(around.as_bytes()).unwrap()).unwrap()
}

fn accepted(program: &str, arguments: &[&str], file: &Path) {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg(file).output();
    let output = output.expect("the proxy is installed: packaging/setup");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

#[test]
fn nginx_takes_what_is_rendered_for_it() {
    let own = text_of(&render(&group(ProxyFormat::Nginx, false), &PLACES), "");
    golden::check("upstream/nginx-block.conf", &own);
    let around = "upstream mine {\n    least_conn;\n    # agent: upstream shop begins\n    \
                  # agent: upstream shop ends\n}\n";
    let mixed = text_of(&render(&group(ProxyFormat::Nginx, true), &PLACES), around);
    golden::check("upstream/nginx-servers.conf", &mixed);
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("error.log");
    let pid = dir.path().join("nginx.pid");
    let whole = format!(
        "pid {};\nerror_log {};\nevents {{}}\nhttp {{\naccess_log off;\n{own}{mixed}}}\n",
        pid.display(),
        log.display()
    );
    let file = dir.path().join("nginx.conf");
    fs::write(&file, whole).unwrap();
    let log = log.to_str().unwrap();
    accepted("/usr/sbin/nginx", &["-t", "-q", "-e", log, "-c"], &file);
}

#[test]
fn haproxy_takes_what_is_rendered_for_it() {
    let own = text_of(&render(&group(ProxyFormat::Haproxy, false), &PLACES), "");
    golden::check("upstream/haproxy-block.cfg", &own);
    let around = "backend mine\n    balance leastconn\n    # agent: upstream shop begins\n    \
                  # agent: upstream shop ends\n    option allbackups\n";
    let mixed = text_of(&render(&group(ProxyFormat::Haproxy, true), &PLACES), around);
    golden::check("upstream/haproxy-servers.cfg", &mixed);
    let defaults = "defaults\n    mode http\n    timeout connect 1s\n    timeout client 1s\n    \
                    timeout server 1s\nfrontend front\n    bind 127.0.0.1:8080\n    \
                    default_backend shop_app\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("haproxy.cfg");
    fs::write(&file, format!("{defaults}{own}{mixed}")).unwrap();
    accepted("/usr/sbin/haproxy", &["-c", "-q", "-f"], &file);
}

#[test]
fn every_set_of_places_is_read_back_as_it_was_written() {
    for format in [ProxyFormat::Nginx, ProxyFormat::Haproxy] {
        for servers_only in [false, true] {
            let group = group(format, servers_only);
            for bits in 0..32_u32 {
                let wanted: Vec<Place> = (0..5)
                    .map(|bit| match bits >> bit & 1 {
                        0 => Place::In,
                        _ => Place::Out,
                    })
                    .collect();
                let text = text_of(&render(&group, &wanted), "");
                let lines = read(text.as_bytes(), "shop").unwrap().unwrap();
                assert_eq!(places(&group, &lines), wanted, "{text}");
            }
        }
    }
}

#[test]
fn member_that_the_file_does_not_name_takes_no_requests() {
    let group = group(ProxyFormat::Nginx, false);
    let lines = ["server 10.0.0.2:8080 max_fails=3;".to_owned()];
    let mut expected = [Place::Out; 5];
    expected[1] = Place::In;
    assert_eq!(places(&group, &lines), expected);
}
