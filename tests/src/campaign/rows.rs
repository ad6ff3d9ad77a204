//! `docs/campaign.csv`: a line for each state and each machine, appended when it was judged.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::CampaignError;

/// The first line.
const HEAD: &str = "seed,column,method,operation,moment,outcome,seconds";
/// How the outcome of what went wrong begins.
const WRONG: &str = "WRONG";

/// Characters of what was wrong that are kept: a console may have said much.
const LONGEST: usize = 400;

/// One cut and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What repeats the random choices.
    pub seed: u64,
    /// The kind of machine; `native` for states that no machine booted.
    pub column: String,
    /// `replay`: a state made from recorded writes; `replay-repair`: of a repair; `recording`: a whole one; `vm-cut`: a machine.
    pub method: String,
    /// What was under way.
    pub operation: String,
    /// When the power went.
    pub moment: String,
    /// `old` or `new`, or what was wrong.
    pub outcome: String,
    /// How long it took to make and to judge.
    pub seconds: f64,
}

impl Row {
    /// The outcome of something wrong.
    pub fn wrong(what: &str) -> String {
        let line = what.replace(',', ";").replace(['\n', '\r'], " ");
        format!("{WRONG}: {}", line.chars().take(LONGEST).collect::<String>())
    }

    /// Whether it tells of something wrong.
    pub fn is_wrong(&self) -> bool {
        self.outcome.starts_with(WRONG)
    }

    fn line(&self) -> String {
        let Self { seed, column, method, operation, moment, outcome, seconds } = self;
        format!("{seed},{column},{method},{operation},{moment},{outcome},{seconds:.3}\n")
    }

    fn parse(line: &str) -> Option<Self> {
        let [seed, column, method, operation, moment, outcome, seconds] = line.split(',').collect::<Vec<_>>()[..] else { return None };
        let [column, method, operation, moment, outcome] = [column, method, operation, moment, outcome].map(str::to_owned);
        Some(Self { seed: seed.parse().ok()?, column, method, operation, moment, outcome, seconds: seconds.parse().ok()? })
    }
}

/// The file, and what it held when it was opened and got since.
#[derive(Debug)]
pub struct Rows {
    path: PathBuf,
    rows: Vec<Row>,
}

impl Rows {
    /// The rows of `path`; none, if there is no such file.
    ///
    /// Refuses: a file with a line that is none of ours.
    pub fn open(path: &Path) -> Result<Self, CampaignError> {
        let io = |source| CampaignError::Io { path: path.to_owned(), source };
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                std::fs::write(path, format!("{HEAD}\n")).map_err(io)?;
                format!("{HEAD}\n")
            }
            text => text.map_err(io)?,
        };
        let row = |line: &str| Row::parse(line).ok_or_else(|| CampaignError::Row { path: path.to_owned(), line: line.to_owned() });
        let rows = text.lines().filter(|line| *line != HEAD && !line.is_empty()).map(row).collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), rows })
    }

    /// One more, on disk when this returns.
    pub fn append(&mut self, row: Row) -> Result<(), CampaignError> {
        let file = std::fs::File::options().append(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(row.line().as_bytes()));
        written.map_err(|source| CampaignError::Io { path: self.path.clone(), source })?;
        self.rows.push(row);
        Ok(())
    }

    /// All of them.
    pub fn all(&self) -> &[Row] {
        &self.rows
    }

    /// Those of a method.
    pub fn of<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |row| row.method == method)
    }

    /// The moments of a method and seed that are in it.
    pub fn moments(&self, method: &str, seed: u64) -> BTreeSet<String> {
        self.of(method).filter(|row| row.seed == seed).map(|row| row.moment.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("campaign.csv");
        let row = Row {
            seed: 7,
            column: "native".into(),
            method: "replay".into(),
            operation: "seal".into(),
            moment: "flush 3 cut 0 of seed 7".into(),
            outcome: Row::wrong("neither old, nor\nnew"),
            seconds: 0.125,
        };
        Rows::open(&path).unwrap().append(row.clone()).unwrap();
        let rows = Rows::open(&path).unwrap();
        assert_eq!(rows.all(), [row]);
        assert!(rows.all()[0].is_wrong());
        assert!(rows.moments("replay", 7).contains("flush 3 cut 0 of seed 7"));
        std::fs::write(&path, "1,2\n").unwrap();
        assert!(Rows::open(&path).is_err());
    }
}
