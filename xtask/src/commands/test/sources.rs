//! The Rust sources of a crate, read line by line for the checks.

use anyhow::{Context as _, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// A source file.
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl Source {
    /// The lines that are code, with their numbers from 1 on: without comments and without what is in quotes.
    pub(super) fn code_lines(&self) -> impl Iterator<Item = (usize, String)> {
        self.text.lines().map(code_of).enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// All `.rs` files below a directory, sorted.
pub(super) fn below(directory: &Path) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Result<Source> {
    let text = fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    Ok(Source { path, text })
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("can't list {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

/// A line without its comment and its string literals. Literals over several lines are not recognised, which is good
/// enough for looking up a keyword.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut in_string = false;
    let mut previous = ' ';
    for character in line.chars() {
        match character {
            '"' if previous != '\\' && previous != '\'' => in_string = !in_string,
            '/' if previous == '/' && !in_string => {
                code.pop();
                break;
            }
            _ if in_string => {}
            other => code.push(other),
        }
        previous = character;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        assert_eq!(code_of("let a = 1; // unsafe"), "let a = 1; ");
        assert_eq!(code_of("say(\"unsafe // here\");"), "say();");
        assert_eq!(code_of("/// unsafe"), "");
    }
}
