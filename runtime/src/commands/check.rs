use std::{collections::BTreeMap, process::ExitCode};

use connector_api::{Finding, Severity, SourcePosition};
use log_core::Log;

use crate::{
    Connectors,
    cli::CheckArgs,
    commands::environment,
    definition::{self, Pipeline},
    supervisor::sink_context,
};

/// `mainstem check`: exit code 1 if anything would keep a pipeline from running.
pub(crate) async fn run(args: CheckArgs, connectors: Connectors) -> anyhow::Result<ExitCode> {
    let pipelines = definition::load(&args.files, &connectors, &environment())?;
    let positions = stored_positions(&args)?;
    let mut errors = 0;
    for pipeline in &pipelines {
        println!("{} ({}): settings are good", pipeline.name, pipeline.file);
        if args.offline {
            continue;
        }
        errors += check_source(pipeline, positions.get(&pipeline.name)).await;
        errors += check_sinks(pipeline, &args).await;
    }
    Ok(ExitCode::from(u8::from(errors > 0)))
}

fn stored_positions(args: &CheckArgs) -> anyhow::Result<BTreeMap<String, SourcePosition>> {
    if args.offline || !args.data.data_dir.exists() {
        return Ok(BTreeMap::new());
    }
    let log = Log::open_read_only(&args.data.data_dir)?;
    let position = |name: &String| log.position(name).map(|stored| SourcePosition::new(stored.position.to_vec()));
    Ok(log.pipelines().into_iter().filter_map(|name| Some((name.clone(), position(&name)?))).collect())
}

async fn check_source(pipeline: &Pipeline, position: Option<&SourcePosition>) -> usize {
    let Some(source) = &pipeline.source else { return 0 };
    let findings = match source.check(&pipeline.name, position).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::error(error.to_string())],
    };
    print("source", &findings)
}

async fn check_sinks(pipeline: &Pipeline, args: &CheckArgs) -> usize {
    let mut errors = 0;
    for sink in &pipeline.sinks {
        let context = sink_context(&args.data.data_dir, &pipeline.name, &sink.name, &uuid::Uuid::new_v4().to_string());
        let findings = match sink.connector.check(context).await {
            Ok(findings) => findings,
            Err(error) => vec![Finding::error(error.to_string())],
        };
        errors += print(&sink.name, &findings);
    }
    errors
}

/// Prints findings and counts the errors among them.
fn print(part: &str, findings: &[Finding]) -> usize {
    if findings.is_empty() {
        println!("  {part}: ok");
    }
    for finding in findings {
        let severity = match finding.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        println!("  {part}: {severity}: {}", finding.message);
        for line in finding.remedy.iter().flat_map(|remedy| remedy.lines()) {
            println!("      {line}");
        }
    }
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}
