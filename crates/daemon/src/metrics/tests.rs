use super::*;

#[test]
fn names_and_labels_come_out_as_given() {
    let registry = Registry::default();
    let binds = registry.counter_vec("binds", "Bindings.", &["result", "node"]);
    binds.with(&["ok", "a\"b"]).inc();
    binds.with(&["ok", "a\"b"]).add(1.0);
    registry.gauge("depth", "Depth.").set(2.5);
    registry.counter_vec("unused_total", "Nothing yet.", &["a"]);
    let seconds = registry.histogram("seconds", "Time.", &[0.5, 1.0]);
    seconds.observe(0.5);
    seconds.observe(0.7);
    seconds.observe(9.0);
    assert_eq!(
        registry.text(),
        "# HELP binds Bindings.\n# TYPE binds counter\nbinds{result=\"ok\",node=\"a\\\"b\"} 2\n\
         # HELP depth Depth.\n# TYPE depth gauge\ndepth 2.5\n\
         # HELP seconds Time.\n# TYPE seconds histogram\nseconds_bucket{le=\"0.5\"} 1\nseconds_bucket{le=\"1\"} 2\n\
         seconds_bucket{le=\"+Inf\"} 3\nseconds_sum 10.2\nseconds_count 3\n"
    );
}

#[test]
fn a_second_registration_shares_the_first() {
    let registry = Registry::default();
    registry.counter("a_total", "A.").inc();
    registry.counter("a_total", "A.").inc();
    assert!(registry.text().contains("a_total 2\n"));
}

#[test]
fn the_process_is_seen() {
    let text = registry().text();
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(text.contains(&format!("\n{name} ")), "{name} in {text}");
    }
}
