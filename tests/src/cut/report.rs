//! What a replay found.
use std::{collections::BTreeMap, fmt, time::Duration};

/// How many violations a report prints.
const PRINTED: usize = 8;

/// A state that is wrong.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which state: repeatable with the same strategy.
    pub state: String,
    /// What the checker said.
    pub message: String,
}

/// All states of a replay and what the checker said of them.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// How many states were shown.
    pub states: usize,
    /// Those that were wrong.
    pub violations: Vec<Violation>,
    /// What the checker called the others, and how many there were of each: a replay that saw only one outcome tested little.
    pub outcomes: BTreeMap<String, usize>,
    /// How long it took.
    pub elapsed: Duration,
    /// The strategy with its seed.
    pub strategy: String,
}

impl Report {
    /// No state was wrong, and there were some.
    pub fn is_clean(&self) -> bool {
        self.states > 0 && self.violations.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let each = self.elapsed.as_secs_f64() * 1000.0 / self.states.max(1) as f64;
        writeln!(f, "{}: {} states, {} wrong, {each:.1} ms a state", self.strategy, self.states, self.violations.len())?;
        for (outcome, count) in &self.outcomes {
            writeln!(f, "  {count:5} × {outcome}")?;
        }
        for violation in self.violations.iter().take(PRINTED) {
            writeln!(f, "  wrong at {}: {}", violation.state, violation.message)?;
        }
        Ok(())
    }
}
