//! Seeded bugs: each patch in `tests/seeded` must turn its named test red, or the test proves nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// One seeded bug.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seed {
    /// File name without `.patch`.
    pub name: String,
    /// What is wrong, in one sentence.
    pub bug: String,
    /// Package, target (`lib` or an integration test) and name of the test that must go red.
    pub test: [String; 3],
    /// The patch file.
    pub patch: PathBuf,
}

/// What became of a seeded bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The named test failed with the bug in: as it must be.
    Caught,
    /// The named test passed: it proves nothing about this bug.
    Missed,
    /// The patch no longer applies, the code with it does not build, or no test of that name ran.
    Stale,
}

/// The seeds in `dir`, by name.
pub fn seeds(dir: &Path) -> std::io::Result<Vec<Seed>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let patch = entry?.path();
        if patch.extension().is_none_or(|e| e != "patch") {
            continue;
        }
        let text = std::fs::read_to_string(&patch)?;
        let line = |key: &str| text.lines().find_map(|l| l.strip_prefix(key)).map(|l| l.trim().to_owned());
        let words: Vec<String> = line("Test:").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let (Some(bug), Ok(test)) = (line("Bug:"), <[String; 3]>::try_from(words)) else {
            return Err(std::io::Error::other(format!("{}: wants a `Bug:` line and `Test: PACKAGE TARGET NAME`", patch.display())));
        };
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.push(Seed { name, bug, test, patch });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Applies `seed` to a checkout of HEAD in `tree` (made when missing, cleaned when there) and runs its test.
pub fn try_seed(project: &Path, tree: &Path, seed: &Seed) -> std::io::Result<Outcome> {
    let git = |dir: &Path, args: &[&str]| Command::new("git").arg("-C").arg(dir).args(args).status().map(|s| s.success());
    if !tree.exists() {
        let path = tree.to_string_lossy();
        git(project, &["worktree", "prune"])?;
        if !git(project, &["worktree", "add", "--quiet", "--detach", &path, "HEAD"])? {
            return Err(std::io::Error::other("git worktree add failed"));
        }
    }
    // The project's HEAD of now, not of when the checkout was made.
    let head = Command::new("git").arg("-C").arg(project).args(["rev-parse", "HEAD"]).output()?;
    let head = String::from_utf8_lossy(&head.stdout).trim().to_owned();
    if !git(tree, &["checkout", "--quiet", "--force", "--detach", &head])? {
        return Err(std::io::Error::other(format!("git checkout {head} failed")));
    }
    if !git(tree, &["apply", &seed.patch.to_string_lossy()])? {
        return Ok(Outcome::Stale);
    }
    let [package, target, name] = &seed.test;
    // One place for what is built, kept between runs: only the crates of the workspace are made again.
    let built = project.join("target/seeded");
    let cargo = || {
        let mut command = Command::new("cargo");
        command.current_dir(tree).env("CARGO_TARGET_DIR", &built);
        command
    };
    let mut command = cargo();
    command.args(["test", "-q", "-p", package]);
    match target.as_str() {
        "lib" => command.arg("--lib"),
        other => command.args(["--test", other]),
    };
    let build = command.arg("--no-run").status()?;
    if !build.success() {
        return Ok(Outcome::Stale);
    }
    let args: Vec<_> = command.get_args().filter(|a| *a != "--no-run").map(std::ffi::OsStr::to_owned).collect();
    let out = cargo().args(args).arg(name).output()?;
    git(tree, &["checkout", "--quiet", "--force", "HEAD"])?;
    let text = String::from_utf8_lossy(&out.stdout);
    let ran = text.contains("1 passed") || text.contains("1 failed") || !text.contains("0 passed; 0 failed");
    Ok(match (ran, out.status.success()) {
        (false, _) => Outcome::Stale,
        (true, true) => Outcome::Missed,
        (true, false) => Outcome::Caught,
    })
}

/// Tries every seed (or the one called `only`) and prints a line for each; `true` when all are caught.
pub fn run(project: &Path, only: Option<&str>) -> std::io::Result<bool> {
    let tree = project.join("target/seeded-tree");
    let mut all = true;
    let mut count = 0;
    for seed in seeds(&project.join("tests/seeded"))?.iter().filter(|s| only.is_none_or(|o| o == s.name)) {
        let outcome = try_seed(project, &tree, seed)?;
        println!("{:7} {:32} {}  [{}]", format!("{outcome:?}"), seed.name, seed.bug, seed.test.join(" "));
        all &= outcome == Outcome::Caught;
        count += 1;
    }
    println!("{count} seeded bugs, {}", if all { "each caught" } else { "NOT each caught" });
    Ok(all && count > 0)
}
