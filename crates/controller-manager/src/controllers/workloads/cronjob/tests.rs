use std::sync::Arc;

use controllers::views::{CronJob, Job};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustc_hash::FxHashSet;
use serde_json::{Value, json};

use super::plan::{Input, Plan, plan, until_next};

fn at(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().unwrap()
}

fn cron_job(spec: Value, status: Value) -> CronJob {
    let mut object = json!({
        "metadata": {"name": "c", "namespace": "d", "creationTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {"schedule": "*/10 * * * *", "concurrencyPolicy": "Allow"},
        "status": status,
    });
    json_patch::merge(&mut object["spec"], &spec);
    serde_json::from_value(object).unwrap()
}

fn job(name: &str, condition: &str, start: &str) -> Arc<Job> {
    let conditions = json!([{"type": condition, "status": "True"}]);
    let conditions = if condition.is_empty() { json!([]) } else { conditions };
    let status = json!({"conditions": conditions, "startTime": at(start).to_string(), "completionTime": at(start).to_string()});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "status": status})).unwrap(),
    )
}

fn planned(cron_job: &CronJob, jobs: &[Arc<Job>], now: &str) -> Plan {
    let known: FxHashSet<_> = jobs.iter().map(|job| job.metadata.uid.clone()).collect();
    let active = cron_job.status.active.iter().map(|active| active.uid.clone());
    let gone = active.filter(|uid| !known.contains(uid)).collect();
    plan(&Input { cron_job, jobs, gone: &gone, zone: TimeZone::UTC, now: at(now) })
}

fn reasons(plan: &Plan) -> Vec<&str> {
    plan.events.iter().map(|(_, reason, _)| *reason).collect()
}

#[test]
fn a_job_is_started_for_the_last_time_that_is_due() {
    let check = |spec: Value, status: Value, now: &str, expect: Option<&str>, said: &[&str]| {
        let plan = planned(&cron_job(spec.clone(), status), &[], now);
        assert_eq!(plan.start, expect.map(at), "{spec} at {now}");
        assert_eq!(reasons(&plan), said, "{spec} at {now}");
    };
    let none = || json!({});
    check(none(), none(), "00:09:59", None, &[]);
    check(none(), none(), "00:10:00", Some("00:10:00"), &[]);
    check(none(), none(), "00:10:05", Some("00:10:00"), &[]);
    check(none(), none(), "00:59:00", Some("00:50:00"), &[]);
    check(none(), json!({"lastScheduleTime": "2026-01-01T00:50:00Z"}), "00:59:00", None, &[]);
    check(json!({"schedule": "* * * * *"}), none(), "02:30:10", Some("02:30:00"), &["TooManyMissedTimes"]);
    check(json!({"startingDeadlineSeconds": 30}), none(), "00:11:00", None, &[]);
    check(json!({"startingDeadlineSeconds": 90}), none(), "00:11:00", Some("00:10:00"), &[]);
    check(json!({"suspend": true}), none(), "00:11:00", None, &[]);
    check(json!({"schedule": "x"}), none(), "00:11:00", None, &["UnparseableSchedule"]);
    check(json!({"timeZone": "No/Where"}), none(), "00:11:00", None, &["UnknownTimeZone"]);
    check(json!({"schedule": "0 9 * * *", "timeZone": "Asia/Tokyo"}), none(), "00:11:00", None, &[]);
    check(
        json!({"schedule": "5 9 * * *", "timeZone": "Asia/Tokyo"}),
        none(),
        "00:11:00",
        Some("00:05:00"),
        &[],
    );
}

#[test]
fn policies_of_concurrency() {
    let active = json!({"active": [{"name": "c-1", "uid": "c-1"}]});
    let check = |policy: &str, start: bool, replaced: usize, said: &[&str]| {
        let cron_job = cron_job(json!({"concurrencyPolicy": policy}), active.clone());
        let plan = planned(&cron_job, &[job("c-1", "", "00:00:40")], "00:10:00");
        assert_eq!((plan.start.is_some(), plan.replace.len()), (start, replaced), "{policy}");
        assert_eq!(reasons(&plan), said);
    };
    check("Allow", true, 0, &[]);
    check("Replace", true, 1, &[]);
    check("Forbid", false, 0, &["JobAlreadyActive"]);
}

#[test]
fn ended_jobs_are_accounted_for_and_forgotten() {
    let status = json!({"active": [{"name": "a", "uid": "a"}, {"name": "b", "uid": "b"}, {"name": "x", "uid": "x"}], "lastScheduleTime": "2026-01-01T00:10:00Z"});
    let spec = json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0});
    let jobs = [
        job("a", "Complete", "00:02:00"),
        job("b", "", "00:03:00"),
        job("c", "Complete", "00:01:00"),
        job("d", "Failed", "00:01:00"),
        job("e", "", "00:04:00"),
    ];
    let plan = planned(&cron_job(spec, status), &jobs, "00:11:00");
    let names = |jobs: &[Arc<Job>]| jobs.iter().map(|job| job.metadata.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&plan.forget), ["c", "d"]);
    assert_eq!(plan.status.active.len(), 1);
    assert_eq!(plan.status.last_successful_time.as_ref().unwrap().0, at("00:02:00"));
    assert_eq!(reasons(&plan), ["SawCompletedJob", "UnexpectedJob", "MissingJob"]);
}

#[test]
fn it_is_looked_at_again_at_the_next_time() {
    let cron_job = cron_job(json!({}), json!({"lastScheduleTime": "2026-01-01T00:10:00Z"}));
    let schedule = super::plan::schedule(&cron_job, TimeZone::UTC).unwrap();
    let wait = |now| until_next(&cron_job, &cron_job.status, &schedule, at(now)).as_millis();
    assert_eq!([wait("00:10:00"), wait("00:19:59"), wait("00:20:00")], [600_100, 1_100, 600_100]);
}
