use super::*;

/// test-daemon
#[derive(clap::Parser, Debug)]
#[command(name = "test-daemon")]
struct Options {
    #[arg(long, default_value_t = 6443)]
    secure_port: u16,
    #[arg(long)]
    allow_privileged: bool,
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    profiling: bool,
    #[arg(long, value_delimiter = ',')]
    etcd_servers: Vec<String>,
    #[arg(long, default_value = "1m0s")]
    request_timeout: Duration,
    #[command(flatten)]
    logging: Logging,
}

const OTHER: &[Unsupported] = &[
    Unsupported { name: "contention-profiling", boolean: true },
    Unsupported { name: "audit-log-path", boolean: false },
];

fn run(arguments: &[&str]) -> Outcome<Options> {
    parse_from(arguments.iter().map(|argument| (*argument).to_owned()), OTHER)
}

fn options(arguments: &[&str]) -> Options {
    match run(arguments) {
        Outcome::Run { options, .. } => options,
        other => panic!("{other:?}"),
    }
}

fn failure(arguments: &[&str]) -> String {
    match run(arguments) {
        Outcome::Fail(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn habits_of_pflag() {
    let got = options(&[
        "--secure_port=1",
        "--secure-port",
        "2",
        "--allow-privileged",
        "--profiling=false",
        "-v=4",
        "--etcd-servers=a,b",
        "--etcd-servers",
        "c",
        "--request-timeout=1m30s",
    ]);
    assert_eq!(got.secure_port, 2);
    assert!(got.allow_privileged && !got.profiling);
    assert_eq!(got.etcd_servers, ["a", "b", "c"]);
    assert_eq!(got.request_timeout.as_secs(), 90);
    assert_eq!(got.logging.verbosity, 4);
    let got = options(&["-v", "2", "--allow-privileged=f"]);
    assert!(!got.allow_privileged && got.profiling && got.logging.verbosity == 2);
    assert_eq!(options(&["-v6"]).logging.verbosity, 6);
}

#[test]
fn texts_of_errors() {
    assert_eq!(failure(&["--foo"]), "unknown flag: --foo");
    assert_eq!(failure(&["-z"]), "unknown shorthand flag: 'z' in -z");
    assert_eq!(failure(&["pos"]), "\"test-daemon\" does not take any arguments, got [\"pos\"]");
    assert_eq!(failure(&["--etcd-servers"]), "flag needs an argument: --etcd-servers");
    assert_eq!(
        failure(&["--secure-port=abc"]),
        "invalid argument \"abc\" for \"--secure-port\" flag: strconv.ParseInt: parsing \"abc\": invalid syntax"
    );
    assert_eq!(
        failure(&["--allow-privileged=maybe"]),
        "invalid argument \"maybe\" for \"--allow-privileged\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax"
    );
    assert_eq!(
        failure(&["--request-timeout=5"]),
        "invalid argument \"5\" for \"--request-timeout\" flag: time: missing unit in duration \"5\""
    );
    for (text, expect) in [
        ("-1", "missing unit in duration \"-1\""),
        ("-", "invalid duration \"-\""),
        ("-1x", "unknown unit \"x\" in duration \"-1x\""),
    ] {
        assert_eq!(text.parse::<Duration>().unwrap_err().to_string(), format!("time: {expect}"));
    }
}

#[test]
fn flags_without_effect_are_named() {
    let Outcome::Run { ignored, .. } = run(&["--contention-profiling", "--audit-log-path", "x"]) else {
        panic!()
    };
    assert_eq!(ignored, ["contention-profiling", "audit-log-path"]);
    assert!(matches!(run(&["--version"]), Outcome::Print(text) if text == "Kubernetes v1.37.1"));
}

#[test]
fn durations_as_go_writes_them() {
    for (text, millis, back) in [
        ("1h2m3.5s", 3_723_500, "1h2m3.5s"),
        ("100ms", 100, "100ms"),
        ("0", 0, "0s"),
        ("5m0s", 300_000, "5m0s"),
    ] {
        let duration: Duration = text.parse().unwrap();
        assert_eq!(duration.as_millis(), millis);
        assert_eq!(duration.to_string(), back);
    }
}

#[test]
fn a_file_says_how_to_log_where_flags_do_not() {
    let path = std::env::temp_dir().join(format!("daemon-logging-{}.yaml", std::process::id()));
    std::fs::write(&path, "logging: {format: json, verbosity: 4}\n").unwrap();
    let logging = |arguments: &[&str]| {
        #[derive(Parser)]
        struct Only {
            #[command(flatten)]
            logging: Logging,
        }
        let logging = Only::parse_from(arguments).logging.with_file(&path);
        (logging.logging_format, logging.verbosity)
    };
    assert_eq!(logging(&["x"]), ("json".to_owned(), 4));
    assert_eq!(logging(&["x", "--v=2"]), ("json".to_owned(), 2));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(logging(&["x"]), ("text".to_owned(), 0));
}

#[test]
fn values_are_those_in_effect() {
    let Outcome::Run { values, .. } =
        run(&["--etcd-servers=a,b", "--audit-log-path=-", "--allow-privileged"])
    else {
        panic!("not parsed")
    };
    for (name, value) in [
        ("etcd-servers", "[a,b]"),
        ("audit-log-path", "-"),
        ("allow-privileged", "true"),
        ("profiling", "true"),
        ("request-timeout", "1m0s"),
        ("secure-port", "6443"),
        ("logging-format", "text"),
        ("v", "0"),
        ("help", "false"),
    ] {
        assert_eq!(values.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!values.contains_key("contention-profiling"));
    let Outcome::Run { values, .. } = run(&[]) else { panic!("not parsed") };
    assert_eq!(values["etcd-servers"], "[]");
}
