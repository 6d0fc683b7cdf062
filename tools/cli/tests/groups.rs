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
    for (args, told) in [
        ("group remove nobody", "there is no group"),
        ("group remove audit", "only group"),
        ("group create audit", "exists already"),
        ("group remove", "NAME"),
        ("group remove audit --start newest", "--start"),
    ] {
        let said = place.lanelog(args, "").ends_with(2);
        assert!(said.err.contains(told) && said.err.trim().lines().count() == 1, "{args}: {}", said.err);
    }
    let said = place.lanelog("work --until-empty -- true", "").ends_with(2);
    assert!(said.err.contains("there is no group \"default\""), "{}", said.err);
}
