//! The fuzz targets as they are, over their seeds: `fuzz/` is a workspace of its own that no check
//! builds, and a name that changes here would break it unseen.
#![expect(
    clippy::duplicate_mod,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    unused_attributes,
    reason = "the targets are written for libFuzzer: they fail by panics, have no main, and take \
              what they share each for itself"
)]

#[path = "../../fuzz/fuzz_targets/conninfo.rs"]
pub(crate) mod conninfo;
#[path = "../../fuzz/fuzz_targets/dotenv.rs"]
mod dotenv;
#[path = "../../fuzz/fuzz_targets/ini.rs"]
mod ini;
#[path = "../../fuzz/fuzz_targets/json.rs"]
mod json;
#[path = "../../fuzz/fuzz_targets/properties.rs"]
mod properties;
#[path = "../../fuzz/fuzz_targets/template.rs"]
mod template;
#[path = "../../fuzz/fuzz_targets/toml.rs"]
mod toml;
#[path = "../../fuzz/fuzz_targets/url.rs"]
pub(crate) mod url;
#[path = "../../fuzz/fuzz_targets/yaml.rs"]
mod yaml;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

type Run = fn(&[u8]);

const TARGETS: [(&str, Run); 9] = [
    ("conninfo", conninfo::run),
    ("dotenv", dotenv::run),
    ("ini", ini::run),
    ("json", json::run),
    ("properties", properties::run),
    ("template", template::run),
    ("toml", toml::run),
    ("url", url::run),
    ("yaml", yaml::run),
];

/// So many first bytes draw every key and every kind of edit that the formats' targets know.
const DRAWN: u8 = 16;

fn of_the_project(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every seed, cut at every place, with every edit: an edit changes its value and nothing else.
#[test]
fn every_seed_keeps_the_contract_of_its_target() {
    for (name, run) in TARGETS {
        let mut seeds = 0;
        let folder = of_the_project("fuzz/seeds").join(name);
        for seed in fs::read_dir(folder).unwrap() {
            let path = seed.unwrap().path();
            println!("{}", path.display());
            let seed = fs::read(&path).unwrap();
            run(&seed);
            for end in 1..=seed.len() {
                let mut text = seed[..end].to_vec();
                run(&text);
                for drawn in 0..DRAWN {
                    text[0] = drawn;
                    run(&text);
                }
            }
            seeds += 1;
        }
        assert!(seeds > 0, "{name} has no seed");
    }
}

/// A target that is not in the table above would be compiled by nobody.
#[test]
fn every_target_is_run_here_and_by_make_fuzz() {
    let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let files = fs::read_dir(of_the_project("fuzz/fuzz_targets")).unwrap();
    let files: BTreeSet<_> = files
        .map(|file| file.unwrap().path())
        .filter(|path| fs::read_to_string(path).unwrap().contains("fuzz_target!("))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(files, known);

    let makefile = fs::read_to_string(of_the_project("Makefile")).unwrap();
    let named = makefile
        .lines()
        .find_map(|line| line.strip_prefix("FUZZ_TARGETS := "));
    let named: BTreeSet<_> = named.unwrap().split(' ').map(str::to_owned).collect();
    assert_eq!(named, known);

    let manifest = fs::read_to_string(of_the_project("fuzz/Cargo.toml")).unwrap();
    let manifest: ::toml::Table = ::toml::from_str(&manifest).unwrap();
    let bins = manifest["bin"].as_array().unwrap();
    let bins: BTreeSet<_> = bins
        .iter()
        .map(|bin| bin["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(bins, known);
}
