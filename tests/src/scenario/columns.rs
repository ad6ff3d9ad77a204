//! One test for each column of a scenario, and the table of what each took.

use super::ScenarioError;
use crate::image::Column;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

/// Names the file that gets a line for each scenario that passed: `scenario,column,seconds`.
const TABLE: &str = "AST_LAB_TABLE";

/// `scenario` runs in the column of that name (`efi214`, `bios206_gap`); that it passed is noted if the environment asks for it.
pub fn in_column(name: &str, column: &str, scenario: fn(Column)) {
    let column: Column = column.replace('_', "-").parse().unwrap_or_else(|e| panic!("{e}"));
    let start = Instant::now();
    scenario(column);
    let Some(path) = std::env::var_os(TABLE) else { return };
    let line = format!("{name},{column},{}\n", start.elapsed().as_secs());
    let file = std::fs::File::options().create(true).append(true).open(path);
    file.and_then(|mut f| f.write_all(line.as_bytes())).unwrap_or_else(|e| panic!("{TABLE}: {e}"));
}

/// Those lines as a table for people: a scenario a line, a column a column, seconds in it. What did not pass has a dash.
pub fn table(path: &Path) -> Result<String, ScenarioError> {
    let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Io { path: path.into(), source })?;
    let mut rows: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for line in text.lines() {
        if let [name, column, seconds] = line.split(',').collect::<Vec<_>>()[..] {
            rows.entry(name).or_default().insert(column, seconds);
        }
    }
    let columns = Column::ALL.map(Column::name);
    let head = "# What each scenario took in each column\n\nSeconds, as `./dev test --full` measured them when it was last run (two machines at a time, on two cores, emulated). \
                A dash: did not pass, or was not run. What the scenarios and columns are: `scenarios.md`.\n\n";
    let mut out = format!("{head}| scenario | {} |\n|---|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
    for (name, times) in rows {
        let cells = columns.map(|c| times.get(c).copied().unwrap_or("–"));
        let _ = writeln!(out, "| `{name}` | {} |", cells.join(" | "));
    }
    Ok(out)
}

/// A module of the scenario's name with a test for each column: those of `test` decide over a landing; with those of `full`, which
/// `./dev test --full` runs too, every column sees every fault.
///
/// ```ignore
/// columns!(scenario_05_panic_before_init(|column| falls_back(column)); test: efi214; full: bios214_raw, bios206_gap, efi206);
/// ```
#[macro_export]
macro_rules! columns {
    ($name:ident($run:expr) $(; test: $($here:ident),+)? $(; full: $($full:ident),+)?) => {
        mod $name {
            use super::*;

            fn run(column: &str) {
                $crate::scenario::in_column(stringify!($name), column, $run);
            }

            $($(#[test]
            fn $here() {
                run(stringify!($here));
            })+)?

            $($(#[test]
            #[ignore = "another column decides; ./dev test --full runs this one too"]
            fn $full() {
                run(stringify!($full));
            })+)?
        }
    };
}
