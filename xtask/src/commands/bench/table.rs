//! Results: read from what the benchmark prints, put side by side.

use serde_json::{Value, json};

/// One benchmark on one system.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// Instructions for one operation: the least of all rounds.
    pub(super) instructions: f64,
}

/// One benchmark on both systems; `None` where it could not run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct JoinedRow {
    name: String,
    linux: Option<f64>,
    quire: Option<f64>,
}

impl JoinedRow {
    fn ratio(&self) -> Option<f64> {
        Some(self.quire? / self.linux.filter(|instructions| *instructions > 0.0)?)
    }
}

/// The results in what the benchmark printed; its complaints go to standard error.
pub(super) fn parse(system: &str, text: &str) -> Vec<Row> {
    for line in text.lines().filter(|line| line.starts_with("UBERR")) {
        eprintln!("{system}: {line}");
    }
    text.lines().filter_map(row).collect()
}

/// A line such as `UB getpid n=100 ns_min=95.250 ns_med=…`.
fn row(line: &str) -> Option<Row> {
    let (_, result) = line.split_once("UB ")?;
    let mut words = result.split_whitespace();
    let name = words.next()?.to_owned();
    let instructions = words.find_map(|word| word.strip_prefix("ns_min="))?.parse().ok()?;
    Some(Row { name, instructions })
}

/// Puts both systems side by side, in the order of the first.
pub(super) fn join(linux: &[Row], quire: &[Row]) -> Vec<JoinedRow> {
    let find = |rows: &[Row], name: &str| rows.iter().find(|row| row.name == name).map(|row| row.instructions);
    let only_quire = quire.iter().filter(|row| find(linux, &row.name).is_none());
    let names = linux.iter().chain(only_quire).map(|row| row.name.clone());
    names.map(|name| JoinedRow { linux: find(linux, &name), quire: find(quire, &name), name }).collect()
}

/// Prints the table.
pub(super) fn print(rows: &[JoinedRow]) {
    println!("{:<12} {:>14} {:>14} {:>8}", "name", "linux", "quire", "ratio");
    for row in rows {
        println!("{:<12} {:>14} {:>14} {:>8}", row.name, cell(row.linux, 0), cell(row.quire, 0), cell(row.ratio(), 2));
    }
    println!("(instructions of the guest for one operation; quire / linux)");
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The results as JSON, for other programs.
pub(super) fn to_json(rows: &[JoinedRow], native: &[(String, u64)]) -> String {
    let posix: Vec<Value> = rows
        .iter()
        .map(|row| json!({ "name": row.name, "linux": row.linux, "quire": row.quire, "ratio": row.ratio() }))
        .collect();
    let native: Vec<Value> =
        native.iter().map(|(name, instructions)| json!({ "name": name, "instructions": instructions })).collect();
    format!("{:#}\n", json!({ "unit": "guest instructions", "posix": posix, "native": native }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_joined_by_name() {
        let linux = parse(
            "Linux",
            "UBHDR x\n[ 1.0] UB getpid     n=16 ns_min=100.500 ns_med=101.000\nUB fork n=1 ns_min=2.000",
        );
        let quire = parse("Quire", "UB getpid n=16 ns_min=50.250 ns_med=1.000\n");
        let rows = join(&linux, &quire);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].ratio(), Some(0.5));
        assert_eq!(rows[1], JoinedRow { name: "fork".into(), linux: Some(2.0), quire: None });
    }
}
