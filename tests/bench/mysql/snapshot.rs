//! Snapshot of MySQL and MariaDB: a table through a C program over two connections, and through Mainstem over two connections.

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
            "A table of ten columns over two connections, unix socket. The reference is a C program that fetches each half with an unbuffered `SELECT` and throws it away, both at \
             the same time.",
        );
        let cases = report.in_turns(
            options,
            &[("C client, rows thrown away", None), ("Mainstem to its log", Some(0)), ("Mainstem to its log and Parquet", Some(0))],
            |case| {
                if case == 0 {
                    let half = |which: &str| {
                        client.select(&server, &format!("SELECT * FROM bench.orders WHERE id {which} {}", options.rows / 2))
                    };
                    return run(vec![half("<="), half(">")], server.pid());
                }
                let dir = tempfile::tempdir().expect("temporary folder");
                let sinks = if case == 2 { lake(dir.path()) } else { String::new() };
                let file = pipeline(dir.path(), &server, &database, "    snapshot: { connections: 2 }\n", &sinks);
                let cost = run(vec![once(options, &file, &dir.path().join("data"))], server.pid());
                check(options, options.rows, dir.path());
                cost
            },
        );
        report.table(options.rows, &cases);
        let what = format!("Snapshot of {flavor:?} to the log");
        report.target(&what, cases.ratio(1), "× the C program", &Target::AtLeast(0.8));
        report.target(&format!("{what}: peak memory"), cases.peak(1), "MiB", &Target::AtMost(150.0));
    }
}
