//! Medians, ratios, and the page that they are printed on.

use std::{fmt::Write, process::Command};

use crate::{options::Options, process::Cost};

/// The costs of one case, a run a round.
#[derive(Debug, Clone, Default)]
pub struct Runs(pub Vec<Cost>);

impl Runs {
    fn sorted(&self, of: impl Fn(&Cost) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.0.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median of a figure.
    pub fn median(&self, of: impl Fn(&Cost) -> f64) -> f64 {
        let values = self.sorted(of);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// Median wall time in seconds.
    pub fn wall(&self) -> f64 {
        self.median(|cost| cost.wall)
    }

    fn range(&self) -> (f64, f64) {
        let values = self.sorted(|cost| cost.wall);
        (values.first().copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0))
    }

    /// The highest peak of memory in MiB.
    pub fn peak(&self) -> f64 {
        self.sorted(|cost| cost.peak_mib).last().copied().unwrap_or(0.0)
    }
}

/// The cases of a section: the name of each, its runs, and the case that it is measured against.
#[derive(Debug, Default)]
pub struct Cases(Vec<(String, Runs, Option<usize>)>);

impl Cases {
    /// The rate of a case in units of the case that it is measured against.
    pub fn ratio(&self, case: usize) -> f64 {
        let (_, runs, reference) = &self.0[case];
        reference.map_or(f64::NAN, |reference| self.0[reference].1.wall() / runs.wall())
    }

    /// Median processor seconds of the client per million rows.
    pub fn client_seconds(&self, case: usize, rows: u64) -> f64 {
        self.0[case].1.median(|cost| cost.client) / (rows as f64 / 1e6)
    }

    /// The median of any figure of a case's runs.
    pub fn median(&self, case: usize, figure: impl Fn(&Cost) -> f64) -> f64 {
        self.0[case].1.median(figure)
    }

    /// The highest peak of a case's memory in MiB.
    pub fn peak(&self, case: usize) -> f64 {
        self.0[case].1.peak()
    }
}

/// What a figure should be.
pub enum Target {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

/// The page in the making: a section for each thing that is measured, with its targets at its end.
pub struct Report {
    /// When, on which machine, of which commit.
    measured: String,
    rows: u64,
    rounds: String,
    sections: Vec<Section>,
}

struct Section {
    title: String,
    text: String,
    targets: String,
}

impl Report {
    pub fn new(options: &Options) -> Self {
        let measured = format!(
            "{}, {}, at commit {}",
            output("date", &["-u", "+%-d %B %Y"]),
            machine(),
            output("git", &["rev-parse", "--short=10", "HEAD"]),
        );
        let rounds = format!("{} round{}", options.rounds, if options.rounds == 1 { "" } else { "s" });
        Self { measured, rows: options.rows, rounds, sections: Vec::new() }
    }

    /// A heading and a sentence or two, for cases of a backlog of rows. What is added later stands under the last heading.
    pub fn section(&mut self, title: &str, about: &str) {
        let how = format!("{} row events a backlog, medians of {} [fastest..slowest]", self.rows, self.rounds);
        self.begin(title, about, &how);
    }

    /// As [`section`](Self::section), for cases of the log alone.
    pub fn log_section(&mut self, title: &str, about: &str) {
        let how = format!("Medians of {} [lowest..highest], the highest of peaks", self.rounds);
        self.begin(title, about, &how);
    }

    fn begin(&mut self, title: &str, about: &str, how: &str) {
        println!("\n== {title}");
        let text = format!("{about}\n\n*{}. {how}, cases in turns.*\n\n", self.measured);
        self.sections.push(Section { title: title.to_owned(), text, targets: String::new() });
    }

    fn add(&mut self, text: &str) {
        if let Some(section) = self.sections.last_mut() {
            section.text += text;
        }
    }

    /// Runs all cases once a round, one after the other. Each is given by its name and the case that it is measured against.
    pub fn in_turns(&self, options: &Options, cases: &[(&str, Option<usize>)], mut run: impl FnMut(usize) -> Cost) -> Cases {
        let mut costs = Cases(cases.iter().map(|&(name, reference)| (name.to_owned(), Runs::default(), reference)).collect());
        for round in 0..options.rounds {
            for (case, (name, runs, _)) in costs.0.iter_mut().enumerate() {
                let cost = run(case);
                println!("   round {}: {name}: {:.2} s", round + 1, cost.wall);
                runs.0.push(cost);
            }
        }
        costs
    }

    /// A table of cases, each with its rate against the one that it is measured against.
    pub fn table(&mut self, rows: u64, cases: &Cases) {
        let mut table = "| case | wall s | rows/s | ratio | client CPU s per million | server CPU s per million | peak MiB |\n|---|---|---|---|---|---|---|\n".to_owned();
        for (case, (name, runs, reference)) in cases.0.iter().enumerate() {
            let (low, high) = runs.range();
            let ratio = reference.map_or_else(String::new, |_| format!("{:.2}", cases.ratio(case)));
            let million = rows as f64 / 1e6;
            let line = format!(
                "| {name} | {:.2} [{low:.2}..{high:.2}] | {:.0} k | {ratio} | {:.2} | {:.2} | {:.0} |\n",
                runs.wall(),
                rows as f64 / runs.wall() / 1e3,
                runs.median(|cost| cost.client) / million,
                runs.median(|cost| cost.server) / million,
                runs.peak()
            );
            print!("{line}");
            table += &line;
        }
        table.push('\n');
        self.add(&table);
    }

    /// A table of any figures.
    pub fn grid(&mut self, head: &[&str], lines: impl Iterator<Item = Vec<String>>) {
        let mut table = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
        for line in lines {
            let _ = writeln!(table, "| {} |", line.join(" | "));
        }
        println!("{table}");
        table.push('\n');
        self.add(&table);
    }

    /// A sentence under the last table.
    pub fn note(&mut self, text: &str) {
        println!("{text}");
        self.add(&format!("{text}\n\n"));
    }

    /// A figure with its target.
    pub fn target(&mut self, what: &str, value: f64, unit: &str, target: &Target) {
        let (wanted, met) = match target {
            Target::AtLeast(limit) => (format!("≥ {limit} {unit}"), value >= *limit),
            Target::AtMost(limit) => (format!("≤ {limit} {unit}"), value <= *limit),
        };
        let digits = if value < 10.0 { 2 } else { 0 };
        println!("   {what}: {value:.digits$} {unit} ({wanted}) {}", if met { "met" } else { "NOT MET" });
        if let Some(section) = self.sections.last_mut() {
            let met = if met { "met" } else { "**not met**" };
            let _ = writeln!(section.targets, "| {what} | {value:.digits$} {unit} | {wanted} | {met} |");
        }
    }

    /// The whole page: the sections of `before` that were not measured now stay as they are.
    pub fn finish(self, before: &str) -> String {
        let mut sections: Vec<(String, String)> = before
            .split("\n## ")
            .skip(1)
            .filter_map(|section| section.split_once('\n'))
            .map(|(title, text)| (title.to_owned(), text.trim().to_owned()))
            .collect();
        for Section { title, mut text, targets } in self.sections {
            if !targets.is_empty() {
                text += "| figure | measured | target | |\n|---|---|---|---|\n";
                text += &targets;
            }
            let text = text.trim().to_owned();
            match sections.iter_mut().find(|(known, _)| *known == title) {
                Some(section) => section.1 = text,
                None => sections.push((title, text)),
            }
        }
        let mut page = "# Benchmarks\n\nWritten by `make bench`; a section is written anew when its part is measured. Processor seconds are those of the whole run; the server's \
             are of all its processes. Nothing is kept from run to run but the server's caches.\n"
            .to_owned();
        for (title, text) in sections {
            let _ = write!(page, "\n## {title}\n\n{text}\n");
        }
        page
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn machine() -> String {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory =
        field("/proc/meminfo", "MemTotal").split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0);
    format!(
        "{cores} cores of {}, {:.0} GiB, Linux {}",
        field("/proc/cpuinfo", "model name"),
        memory / (1 << 20) as f64,
        output("uname", &["-r"])
    )
}
