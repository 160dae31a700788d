//! What is said to be readable is read by an implementation that is not ours. Needs MAINSTEM_PYTHON, a Python with PyPI `fastavro`.
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use formats::{AvroSchema, incompatibilities};
use proptest::{
    strategy::{Strategy as _, ValueTree as _},
    test_runner::{Config, RngAlgorithm, RngSeed, TestRunner},
};
use serde_json::{Value, json};

use crate::random_schemas::any_pair;

const PAIRS: usize = 3000;

/// The lines that the script answers with, one for each case.
fn read_with_fastavro(cases: &[Value]) -> Vec<Value> {
    let python = std::env::var_os("MAINSTEM_PYTHON")
        .expect("these tests read with another implementation: set MAINSTEM_PYTHON to a Python that has PyPI `fastavro`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_with_fastavro.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let lines: String = cases.iter().map(|case| format!("{case}\n")).collect();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "the script failed");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_compatible_is_read_by_fastavro() {
    let seed = std::env::var("MAINSTEM_SEED").ok().map_or_else(rand_seed, |seed| seed.parse().unwrap());
    println!("MAINSTEM_SEED={seed}");
    let config = Config { rng_algorithm: RngAlgorithm::ChaCha, rng_seed: RngSeed::Fixed(seed), ..Config::default() };
    let mut runner = TestRunner::new(config);
    let parse = |schema: &Value| AvroSchema::parse_new(&schema.to_string(), &[]).unwrap();
    let mut cases = Vec::new();
    let mut changed = 0;
    for number in 0..PAIRS {
        let pair = any_pair().new_tree(&mut runner).unwrap().current();
        if incompatibilities(&parse(&pair.reader), &parse(&pair.writer)).unwrap().is_empty() {
            changed += usize::from(pair.reader != pair.writer);
            cases.push(json!({ "writer": pair.writer, "reader": pair.reader, "seed": number }));
        }
    }
    assert!(changed > PAIRS / 10 && cases.len() < PAIRS, "{changed} changed pairs and {} altogether", cases.len());
    let answers = read_with_fastavro(&cases);
    assert_eq!(answers.len(), cases.len());
    let values: u64 = answers.iter().filter_map(|answer| answer["read"].as_u64()).sum();
    let failed: Vec<_> = cases.iter().zip(&answers).filter(|(_, answer)| !answer["error"].is_null()).collect();
    if let Some((case, answer)) = failed.first() {
        panic!(
            "{} of {} pairs, the first: {answer}\nwriter {}\nreader {}",
            failed.len(),
            cases.len(),
            case["writer"],
            case["reader"]
        );
    }
    assert!(values > cases.len() as u64, "{values} values");
}

fn rand_seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}
