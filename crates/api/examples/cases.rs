#![allow(clippy::unwrap_used)]
use api::decode::*;
fn main() {
    let mut n = 0;
    let mut bad = 0;
    for line in std::fs::read_to_string("/tmp/apiw/cases.jsonl").unwrap().lines() {
        let c: api::Tree = serde_json::from_str(line).unwrap();
        n += 1;
        let e = Expected {
            group: c["g"].as_str().unwrap(),
            version: c["v"].as_str().unwrap(),
            kind: c["k"].as_str().unwrap(),
        };
        let r = object(c["body"].as_str().unwrap().as_bytes(), Format::Json, e, Strictness::Strict);
        let want = if c["code"] == 400 && c["reason"] == "BadRequest" {
            c["message"].as_str().unwrap_or("").to_owned()
        } else {
            "ok".into()
        };
        let got = match &r {
            Ok(_) => "ok".to_owned(),
            Err(s) => s.message.clone(),
        };
        if want != got {
            bad += 1;
            println!("want {want}\n got {got}\n     {}", c["code"]);
        }
    }
    println!("{n} cases, {bad} differ");
}
