//! Snapshot of MySQL and MariaDB: a table through a C program and through Mainstem, over one connection and over two.

use mainstem_tests::Flavor;

use super::{COLUMNS, insert, lake, make_numbers, once, pipeline, reference::CClient, server};
use crate::{
    options::Options,
    process::run,
    report::{Report, Target},
    stream::check,
};

/// Measures both servers.
pub fn measure(options: &Options, report: &mut Report) {
    let client = CClient::compile();
    for flavor in Flavor::ALL {
        let server = server(flavor, false);
        let database = server.create_database("bench");
        println!("   making a table of {} rows", options.rows);
        database.exec(&format!("CREATE TABLE orders {COLUMNS}"));
        make_numbers(&database);
        insert(&database, 1, options.rows);
        database.exec("ANALYZE TABLE orders");
        report.section(
            &format!("Snapshot of {flavor:?}"),
            "A table of ten columns over as many connections as are said, unix socket. The reference is a C program that fetches each connection's part with an unbuffered \
             `SELECT` and throws it away. Over two connections the server alone has work for both processors.",
        );
        let cases = report.in_turns(
            options,
            &[
                ("C client, rows thrown away, one connection", None),
                ("Mainstem to its log, one connection", Some(0)),
                ("C client, rows thrown away, two connections", None),
                ("Mainstem to its log, two connections", Some(2)),
                ("Mainstem to its log and Parquet, two connections", Some(2)),
            ],
            |case| {
                let part = |condition: &str| client.select(&server, &format!("SELECT * FROM bench.orders {condition}"));
                let half = |which: &str| part(&format!("WHERE id {which} {}", options.rows / 2));
                match case {
                    0 => return run(vec![part("")], server.pid()),
                    2 => return run(vec![half("<="), half(">")], server.pid()),
                    _ => {}
                }
                let dir = tempfile::tempdir().expect("temporary folder");
                let sinks = if case == 4 { lake(dir.path()) } else { String::new() };
                let connections = if case == 1 { 1 } else { 2 };
                let source = format!("    snapshot: {{ connections: {connections} }}\n");
                let file = pipeline(dir.path(), &server, &database, &source, &sinks);
                let cost = run(vec![once(options, &file, &dir.path().join("data"))], server.pid());
                check(options, options.rows, dir.path());
                cost
            },
        );
        report.table(options.rows, &cases);
        for (connections, case) in [("one connection", 1), ("two connections", 3)] {
            let what = format!("Snapshot of {flavor:?} to the log, {connections}");
            report.target(&what, cases.ratio(case), "× the C program", &Target::AtLeast(0.8));
            report.target(&format!("{what}: peak memory"), cases.peak(case), "MiB", &Target::AtMost(150.0));
        }
    }
}
