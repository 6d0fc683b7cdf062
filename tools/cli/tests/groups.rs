//! Groups from the shell: made, listed, removed.

mod support;

use support::place;

#[test]
fn groups_are_made_listed_and_removed() {
    let place = place();
    place.lanelog("enqueue", "a\nb\n").ends_with(0);
    place.lanelog("group create audit", "").ends_with(0);
    place.lanelog("group create late --start newest", "").ends_with(0);
    assert_eq!(place.lanelog("group list", "").ends_with(0).text(), "default\naudit\nlate\n");
    place.lanelog("group remove late", "").ends_with(0);
    place.lanelog("group remove default", "").ends_with(0);
    assert_eq!(place.lanelog("group list", "").ends_with(0).text(), "audit\n");
    let calls = [
        ("group remove nobody", "there is no group"),
        ("group remove audit", "only group"),
        ("group create audit", "exists already"),
        ("group remove", "NAME"),
        ("group remove audit --start newest", "--start"),
    ];
    place.refuses(&calls, "");
    let said = place.lanelog("work --until-empty -- true", "").ends_with(2);
    assert!(said.err.contains("there is no group \"default\""), "{}", said.err);
}

#[test]
fn what_a_group_may_have_left_is_bounded_and_told() {
    let place = place();
    place.lanelog("enqueue", "a\nb\nc\n").ends_with(0);
    place.lanelog("group create audit --keep-tasks 2 --keep-for 7d", "").ends_with(0);
    let told = place.lanelog("stats", "").ends_with(0).text();
    assert!(told.contains("group audit has 3 tasks"), "{told}");
    assert!(told.contains("2 tasks, 604800000 ms old; beyond: report"), "{told}");
    place.lanelog("group retain audit --keep-tasks 2 --beyond drop", "").ends_with(0);
    // Whoever opens the queue keeps it within the bounds.
    assert_eq!(place.lanelog("work --until-empty -- echo {}", "").ends_with(0).text(), "a\nb\nc\n");
    let told: serde_json::Value = serde_json::from_str(&place.lanelog("stats --json", "").ends_with(0).text()).unwrap();
    let audit = &told["groups"][1];
    assert_eq!((&audit["name"], &audit["retention"]["beyond"]), (&"audit".into(), &"drop".into()));
    assert_eq!(audit["left"]["tasks"], 2);
    for args in ["group remove audit --keep-tasks 2", "group list --beyond drop"] {
        assert!(place.lanelog(args, "").ends_with(2).err.contains("--keep"), "{args}");
    }
}

#[test]
fn what_pins_space_is_named() {
    let place = place();
    place.lanelog("enqueue", "a\nb\n").ends_with(0);
    place.lanelog("group create audit", "").ends_with(0);
    place.lanelog("work --until-empty -- true", "").ends_with(0);
    let id = place.records()[0]["id"].as_str().unwrap().to_owned();
    let told = place.lanelog("stats --pins", "").ends_with(0).text();
    assert!(told.contains("group audit, lane 0 keeps") && told.contains(&format!("from {id} on")), "{told}");
    assert!(!told.contains("group default, lane 0 keeps"), "{told}");
    let told: serde_json::Value =
        serde_json::from_str(&place.lanelog("stats --pins --json", "").ends_with(0).text()).unwrap();
    let pin = &told["pins"][0];
    assert_eq!((&pin["group"], &pin["oldest"]["id"], &pin["segments"]), (&"audit".into(), &id.into(), &1.into()));
    assert_eq!((&pin["oldest"]["state"]["state"], &pin["bytes"]), (&"waiting".into(), &pin["alone_bytes"]));
    let told: serde_json::Value = serde_json::from_str(&place.lanelog("stats --json", "").ends_with(0).text()).unwrap();
    assert!(told.get("pins").is_none());
}
