use super::*;
use crate::engine::Durability;

/// A row as a run gives it: every figure there, the spread 4 % around the rate.
pub fn row(workload: &str, engine: &str, tasks_per_s: f64) -> Row {
    let curve: [(f64, u64); 7] = [
        (0.0, 20_000),
        (50.0, 270_000),
        (90.0, 830_000),
        (99.0, 1_000_000),
        (99.9, 1_018_000),
        (99.99, 1_019_800),
        (100.0, 1_020_000),
    ];
    Row {
        workload: workload.to_owned(),
        engine: engine.to_owned(),
        version: "1.2.3".to_owned(),
        settings: "as it comes".to_owned(),
        durability: Durability::Power,
        payload: 1024,
        producers: 1,
        consumers: 0,
        batch: 1,
        outstanding: 1,
        rounds: 5,
        cant: None,
        tasks_per_s,
        tasks_per_s_min: tasks_per_s * 0.96,
        tasks_per_s_max: tasks_per_s * 1.04,
        bytes_per_s: tasks_per_s * 1024.0,
        p50_ns: curve[1].1,
        p99_ns: curve[3].1,
        p999_ns: curve[4].1,
        p9999_ns: curve[5].1,
        max_ns: 5_000_000,
        curve: curve.to_vec(),
        cpu_s: 1.5,
        cpu_ns_per_task: 2_345.0,
        peak_anon_bytes: 12_345_678,
        device_bytes_per_task: 1_100.0,
        syncs_per_task: 0.0156,
        disk_bytes: 45_000_000,
        faults_per_task: 0.25,
        verified: true,
        to_lanelog: Some(0.5),
        to_limit: None,
    }
}

/// A row without figures.
pub fn cant(workload: &str, engine: &str, reason: &str) -> Row {
    let mut row = row(workload, engine, 0.0);
    (row.rounds, row.tasks_per_s_min, row.tasks_per_s_max, row.bytes_per_s) = (0, 0.0, 0.0, 0.0);
    (row.p50_ns, row.p99_ns, row.p999_ns, row.p9999_ns, row.max_ns) = (0, 0, 0, 0, 0);
    (row.curve, row.cant, row.verified, row.to_lanelog) = (Vec::new(), Some(reason.to_owned()), false, None);
    row
}

fn title() -> Title {
    Title { command: "bench run <all>".to_owned(), machine: "2 × \"cpu\" & disk".to_owned(), when: "today".to_owned() }
}

/// Every kind of chart, and the rows that are easiest to get wrong.
fn rows() -> Vec<Row> {
    let engines = ["lanelog", "limit", "redb", "<b>evil</b> & 'co'"];
    let mut rows = Vec::new();
    for workload in ["append", "flow", "handoff", "open-loop", "reopen"] {
        for (producers, factor) in [(1, 1.0), (8, 5.0)] {
            for (engine, rate) in engines.into_iter().zip([4e5, 9e7, 1.2e3, 0.4]) {
                rows.push(Row { producers, ..row(workload, engine, rate * factor) });
            }
        }
        rows.push(cant(workload, "yaque", "never syncs"));
        rows.push(cant(workload, "walrus", "void: 3 < 4 came"));
    }
    rows.push(row("memory-copy", "limit", 9e6));
    let odd = row("lanes", "redb", f64::NAN);
    rows.push(Row { to_lanelog: Some(f64::INFINITY), cpu_ns_per_task: f64::NAN, ..odd });
    rows.push(Row { curve: vec![(50.0, 0), (100.0, 0)], p50_ns: 0, max_ns: 0, ..row("ping-pong", "redb", 1.0) });
    rows
}

/// Tags that were opened and not closed, or closed and not opened.
fn unbalanced(page: &str) -> Vec<String> {
    let (mut open, mut wrong): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let body = page.split_once("</style>").map(|(before, after)| format!("{before}</style>{after}")).unwrap();
    let without_style = body.split_once("<style>").unwrap().0.to_owned() + body.split_once("</style>").unwrap().1;
    for tag in without_style.split('<').skip(1).map(|part| part.split_once('>').unwrap_or((part, "")).0) {
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        match tag {
            _ if tag.starts_with('!') || tag.ends_with('/') => {}
            _ if tag.starts_with('/') && open.last().is_some_and(|last| last == name) => drop(open.pop()),
            _ if tag.starts_with('/') => wrong.push(tag.to_owned()),
            _ => open.push(name.to_owned()),
        }
    }
    wrong.extend(open);
    wrong
}

#[test]
fn page_is_well_formed_and_shows_numbers_only() {
    for rows in [rows(), Vec::new()] {
        let page = page(&title(), &rows);
        assert_eq!(unbalanced(&page), Vec::<String>::new());
        assert!(!page.contains("NaN") && !page.contains(">inf") && !page.contains("inf%"));
    }
}

#[test]
fn page_refers_to_nothing_outside_of_itself_and_runs_nothing() {
    let page = page(&title(), &rows());
    for reference in ["http", "src=", "@import", "url(", "<script", "<link"] {
        assert!(!page.contains(reference), "{reference}");
    }
}

#[test]
fn text_is_escaped_wherever_it_stands() {
    let page = page(&title(), &rows());
    assert!(!page.contains("<b>evil") && !page.contains("<all>") && !page.contains("3 < 4"));
    assert!(page.contains("&lt;b&gt;evil&lt;/b&gt; &amp; &#39;co&#39;") && page.contains("&quot;cpu&quot;"));
}

#[test]
fn engine_that_cant_appears_in_words_only() {
    let rows = [row("append", "lanelog", 900.0), cant("append", "yaque", "never syncs")];
    let page = page(&title(), &rows);
    let words = "<b>yaque</b> can&#39;t: never syncs";
    assert!(page.contains(words));
    assert!(!page.contains("<span class=\"name\">yaque") && !page.contains("</svg>yaque"));
}

#[test]
fn void_row_is_not_said_to_be_unable() {
    let page = page(&title(), &rows());
    assert!(page.contains("<b>walrus</b> void: 3 &lt; 4 came"));
}

#[test]
fn limit_far_beyond_does_not_flatten_the_engines() {
    let rows = [row("append", "lanelog", 900.0), row("append", "limit", 9e7)];
    let page = page(&title(), &rows);
    let bars = page.split("<ol>").nth(1).unwrap();
    assert!(bars.contains("class=\"limit cut\"") && bars.contains("width:83.61%"), "{bars}");
}

#[test]
fn what_the_machine_does_alone_is_no_section_of_engines() {
    let page = page(&title(), &rows());
    assert!(page.contains("<dt>memory-copy</dt>") && !page.contains("id=\"memory-copy\""));
}

#[test]
fn single_latency_is_a_bar_and_many_are_a_curve() {
    let flat = Row { curve: vec![(50.0, 7_000), (99.0, 7_000), (100.0, 7_000)], ..row("reopen", "lanelog", 1.0) };
    let page_of = |row: Row| page(&title(), &[row]);
    let (flat, curved) = (page_of(flat), page_of(row("handoff", "lanelog", 1.0)));
    assert!(flat.contains("<ol>") && !flat.contains("<figure"));
    assert!(!curved.contains("<ol>") && curved.contains("<figure"));
}

#[test]
fn colour_of_an_engine_goes_by_the_order_of_names() {
    let rows = ["redb", "lanelog", "fjall", "limit"].map(|engine| row("append", engine, 1.0));
    let palette = Palette::of(&rows);
    let classes = ["fjall", "redb", "lanelog", "limit"].map(|engine| palette.class(engine));
    assert_eq!(classes, ["e0", "e1", "self", "limit"]);
}
