//! Cases in turns, each with any figures, and their medians.

use crate::{log::tool::Figures, options::Options};

/// The runs of one case.
#[derive(Debug)]
pub struct Case {
    /// As the table has it.
    pub name: String,
    runs: Vec<Figures>,
}

impl Case {
    fn sorted(&self, of: impl Fn(&Figures) -> f64) -> Vec<f64> {
        let mut values: Vec<f64> = self.runs.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    /// The median of what is made of each run's figures.
    pub fn median(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        let values = self.sorted(of);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    }

    /// The highest.
    pub fn highest(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        self.sorted(of).last().copied().unwrap_or(f64::NAN)
    }

    /// The median, with the lowest and the highest behind it.
    pub fn shown(&self, digits: usize, of: impl Fn(&Figures) -> f64) -> String {
        let values = self.sorted(of);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        format!("{:.digits$} [{:.digits$}..{:.digits$}]", at(values.len() / 2), at(0), at(values.len().saturating_sub(1)))
    }
}

/// Runs all cases once a round, one after the other.
pub fn in_turns(options: &Options, names: &[String], mut run: impl FnMut(usize) -> Figures) -> Vec<Case> {
    let mut cases: Vec<Case> = names.iter().map(|name| Case { name: name.clone(), runs: Vec::new() }).collect();
    for round in 0..options.rounds {
        for (number, case) in cases.iter_mut().enumerate() {
            let figures = run(number);
            println!("   round {}: {}: {figures}", round + 1, case.name);
            case.runs.push(figures);
        }
    }
    cases
}
