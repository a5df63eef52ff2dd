//! A plan comes from a file that anybody may have written: whatever it says, it is run, or refused in words.

use holdfast_crashlab::draw::{Choice, plan};
use holdfast_crashlab::{Plan, run};
use holdfast_sim::testing::plan::Plan as ApplicationPlan;
use holdfast_workloads::Random;
use serde_json::{Value, json};

const MUTATIONS: u64 = 2000;

/// The places of a plan, each by the way from its root.
fn places(value: &Value, way: &str, found: &mut Vec<String>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, inner)| (name.clone(), inner)).collect(),
        Value::Array(elements) => {
            elements.iter().enumerate().map(|(at, inner)| (at.to_string(), inner)).collect()
        }
        _ => Vec::new(),
    };
    for (name, inner) in inner {
        let way = format!("{way}/{}", name.replace('~', "~0").replace('/', "~1"));
        places(inner, &way, found);
        found.push(way);
    }
}

/// A plan in which one thing is another, mostly a number; and what was done.
fn mutated(plan: &Value, random: &mut Random) -> (Value, String) {
    let (mut mutated, mut found) = (plan.clone(), Vec::new());
    places(plan, "", &mut found);
    // Scripts are long: without this nearly nothing else would be struck.
    if random.one_in(2) {
        found.retain(|way| !way.starts_with("/script/clients/") && !way.starts_with("/steps/"));
    }
    let way = random.of(&found).clone();
    let (outer, name) = way.rsplit_once('/').expect("each way has a root");
    let is_number = plan.pointer(&way).is_some_and(Value::is_number);
    let numbers = [
        json!(0),
        json!(1),
        json!(2),
        json!(-1),
        json!(255),
        json!(65_535),
        json!(u32::MAX),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.5),
        json!(1e300),
    ];
    let others =
        [json!(null), json!("text"), json!([]), json!({}), json!([[[]]]), json!(true), json!({"no": 1})];
    let outer = mutated.pointer_mut(outer).expect("it was found there");
    let done = match random.below(10) {
        0 => {
            match outer {
                Value::Object(fields) => drop(fields.remove(name)),
                Value::Array(elements) => drop(elements.remove(name.parse().expect("a place in a list"))),
                _ => {}
            }
            "gone".to_owned()
        }
        1 => {
            let again = outer.pointer(&format!("/{name}")).cloned().unwrap_or_default();
            match outer {
                Value::Object(fields) => drop(fields.insert("unknown".to_owned(), again)),
                Value::Array(elements) => elements.push(again),
                _ => {}
            }
            "there twice".to_owned()
        }
        choice => {
            let value = if is_number && choice < 9 { random.of(&numbers) } else { random.of(&others) };
            *outer.pointer_mut(&format!("/{name}")).expect("it was found there") = value.clone();
            value.to_string()
        }
    };
    (mutated, format!("{way} is {done}"))
}

#[test]
fn whatever_a_plan_says_it_is_run_or_refused_in_words() {
    let choice = Choice { operations: 60, ..Choice::default() };
    let plans: Vec<Value> =
        (0..25).map(|seed| serde_json::to_value(plan(seed, &choice)).expect("plain data")).collect();
    let (mut random, mut ran) = (Random::new(1), 0);
    for _ in 0..MUTATIONS {
        let (mutated, done) = mutated(&plans[random.below(plans.len() as u64) as usize], &mut random);
        match Plan::from_text(&mutated.to_string()) {
            Ok(plan) => {
                ran += 1;
                let violations = run(&plan).violations;
                assert!(violations.is_empty(), "seed {}, {done}: {violations:?}", plan.seed);
            }
            Err(refusal) => assert!(refusal.len() > 10, "{done}: {refusal}"),
        }
    }
    assert!((MUTATIONS / 10..MUTATIONS * 9 / 10).contains(&ran), "{ran} of {MUTATIONS} were run");
}

#[test]
fn whatever_the_plan_of_an_application_says_it_is_read_or_refused_in_words() {
    let plan = json!({
        "schema": 1,
        "test": {"package": "shop", "name": "sells", "binary": "/shop", "directory": "/"},
        "seed": 17,
        "settings": {
            "production": false, "memtable_kib": 4, "segment_kib": 64, "table_kib": 16, "block_bytes": 256,
            "level0_tables": 2, "compress": false, "direct": true,
        },
        "rare_one_in": 16,
        "disk": {"like": "ext4", "delayed_allocation": false, "copy_on_write": false, "full_in_sync": false},
        "steps": {"till 0": [0, 1, 2], "till 1": [0]},
        "crashes": [{"at": {"step": {"of": "till 0", "number": 2}}, "calls": 5, "kind": "power_loss"}],
        "faults": [{"class": "sync_error", "at": {"life": 1}, "on": "log", "nth": 3}],
        "schedule": [[1200, 1], [1300, 0]],
    });
    assert!(ApplicationPlan::from_text(&plan.to_string()).is_ok());
    let (mut random, mut read) = (Random::new(2), 0);
    for _ in 0..MUTATIONS {
        let (mutated, done) = mutated(&plan, &mut random);
        match ApplicationPlan::from_text(&mutated.to_string()) {
            Ok(_) => read += 1,
            Err(refusal) => assert!(refusal.len() > 10, "{done}: {refusal}"),
        }
    }
    assert!((MUTATIONS / 20..MUTATIONS * 9 / 10).contains(&read), "{read} of {MUTATIONS} were read");
}

#[test]
fn a_refusal_names_the_field_its_value_and_the_limit() {
    let seed = (0..).find(|seed| {
        let plan = plan(*seed, &Choice::default());
        !plan.faults.is_empty() && !plan.settings.production && plan.replacements.len() == 1
    });
    let whole = plan(seed.expect("one of all"), &Choice::default());
    let whole = serde_json::to_value(whole).expect("plain data");
    for (way, value, words) in [
        ("/disk/iops_max", json!(99), ["disk.iops_max is 99", "between 100 and 1000000"]),
        ("/wall_drift_ppm", json!(-1_000_001), ["wall_drift_ppm is -1000001", "between -1000000 and"]),
        ("/crashes/1/calls", json!(u64::MAX), ["crashes[1].calls is 18446744073709551615", "4294967296"]),
        ("/faults/0/room_kib", json!(1), ["faults[0].room_kib is 1", "only no_space"]),
        ("/replacements/0/opening", json!(0), ["replacements[0].opening is 0", "between 1 and"]),
        ("/schedule", json!([[4, 1], [4, 0]]), ["schedule[1] is of choice 4", "behind 4"]),
        (
            "/settings/memtable_kib",
            json!(u64::MAX),
            ["memtable_bytes is 18446744073709551615", "between 4096"],
        ),
        ("/settings/segment_kib", json!(1), ["log_segment_bytes_max is 1024", "between 65536"]),
        ("/script/keys", json!(0), ["script.keys is 0", "at least 1"]),
        (
            "/script/clients/0/0",
            json!({"call": {"wait": u32::MAX}}),
            ["script.clients[0] come to 4", "only come to 600000000"],
        ),
    ] {
        let mut changed = whole.clone();
        let (outer, name) = way.rsplit_once('/').expect("each way has a root");
        let outer = changed.pointer_mut(outer).expect("every plan has it");
        match outer {
            Value::Array(elements) => elements[name.parse::<usize>().expect("a place in a list")] = value,
            fields => fields[name] = value,
        }
        // Of another class a number of its own would be refused first.
        if name == "room_kib" {
            changed["faults"][0]["class"] = json!("read_error");
        }
        let refusal = Plan::from_text(&changed.to_string()).expect_err(way);
        assert!(words.iter().all(|words| refusal.contains(words)), "{way}: {refusal}");
    }
}

#[test]
fn every_seed_draws_a_plan_that_is_taken() {
    for seed in 0..1000 {
        let drawn = plan(seed, &Choice::default());
        assert_eq!(Plan::from_text(&drawn.to_text()), Ok(drawn));
    }
}
