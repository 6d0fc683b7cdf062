//! The house rule on docs: what README and ARCHITECTURE point at is there, and `.ci/run` finds what it runs.
#![expect(clippy::unwrap_used, reason = "a helper fails the test that called it")]

use std::path::Path;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Targets of `[text](target)`, without those on the web and those inside the page.
fn links(page: &str) -> Vec<&str> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    targets.filter(|target| !target.contains("://") && !target.starts_with('#')).collect()
}

#[test]
fn links_lead_to_files_that_are_there() {
    for page in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        for target in links(&read(page)) {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
            assert!(path.exists(), "{page} links to {target}");
        }
    }
}

#[test]
fn links_are_found() {
    assert_eq!(links("a [b](src/lib.rs), [c](https://x.y) and [d](#e) [f](g.md)"), ["src/lib.rs", "g.md"]);
}

#[test]
fn every_promise_test_is_named_in_the_readme() {
    let readme = read("README.md");
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let house_rule = ["layers.rs", "readme.rs", "support", "RELIABILITY.md"].contains(&name.as_str());
        assert!(house_rule || readme.contains(&format!("(tests/{name})")), "README has no promise for tests/{name}");
    }
}

#[test]
fn commands_that_ci_runs_are_marked() {
    let readme = read("README.md");
    for name in ["main-job", "test"] {
        let marker = format!("<!-- ci: {name} -->\n```sh\n");
        assert_eq!(readme.matches(&marker).count(), 1, "a block of shell behind the marker {name}");
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = read("ARCHITECTURE.md");
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let link =
            if entry.path().is_dir() { format!("[{name}/](src/{name}/mod.rs)") } else { format!("(src/{name})") };
        assert!(map.contains(&link), "ARCHITECTURE.md does not show src/{name}");
    }
}
