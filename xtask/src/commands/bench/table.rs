//! Results: read from what the benchmark prints, put side by side.

use serde_json::{Value, json};

/// One benchmark on one system.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    /// What one operation took at least, in nanoseconds of the guest's clock, or instructions.
    pub(super) least: f64,
}

/// The least of several boots of one system, in the order of the first boot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Best {
    rows: Vec<Row>,
}

/// One way to measure, on both systems.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sides {
    pub(super) linux: Best,
    pub(super) quire: Best,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    pub(super) instructions: Sides,
    /// In nanoseconds.
    pub(super) wall: Sides,
    /// The object API, for which there is no other side: instructions.
    pub(super) native: Best,
}

/// Figures of one benchmark; `None` where it could not run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pair {
    linux: Option<f64>,
    quire: Option<f64>,
}

impl Best {
    /// Takes in what another boot gave.
    pub(super) fn add(&mut self, rows: Vec<Row>) {
        for row in rows {
            match self.rows.iter_mut().find(|known| known.name == row.name) {
                Some(known) => known.least = known.least.min(row.least),
                None => self.rows.push(row),
            }
        }
    }

    fn of(&self, name: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.name == name).map(|row| row.least)
    }
}

impl Sides {
    fn of(&self, name: &str) -> Pair {
        Pair { linux: self.linux.of(name), quire: self.quire.of(name) }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.linux.rows.iter().chain(&self.quire.rows).map(|row| row.name.as_str())
    }
}

impl Pair {
    fn ratio(self) -> Option<f64> {
        Some(self.quire? / self.linux.filter(|least| *least > 0.0)?)
    }
}

/// What a benchmark is on whose ratio nobody works: it only shows that both sides are measured alike.
fn is_calibration(name: &str) -> bool {
    ["cpu", "memcpy64k"].contains(&name)
}

impl Comparison {
    /// The benchmarks, in the order in which they ran, each with instructions and wall time.
    fn rows(&self) -> Vec<(&str, Pair, Pair)> {
        let mut rows: Vec<(&str, Pair, Pair)> = Vec::new();
        for name in self.instructions.names().chain(self.wall.names()) {
            if rows.iter().all(|(known, ..)| *known != name) {
                rows.push((name, self.instructions.of(name), self.wall.of(name)));
            }
        }
        rows
    }

    /// Prints the table, and what it comes to.
    pub(super) fn print(&self) {
        println!("{:<12} {:>40}   {:>40}", "", "instructions", "wall time (ns)");
        println!(
            "{:<12} {:>15} {:>15} {:>8}   {:>15} {:>15} {:>8}",
            "name", "linux", "quire", "ratio", "linux", "quire", "ratio"
        );
        let rows = self.rows();
        for (name, instructions, wall) in &rows {
            let cells = |pair: &Pair| {
                format!("{:>15} {:>15} {:>8}", cell(pair.linux, 0), cell(pair.quire, 0), cell(pair.ratio(), 2))
            };
            println!("{name:<12} {}   {}", cells(instructions), cells(wall));
        }
        let ratios = |pick: fn(&(&str, Pair, Pair)) -> Pair| {
            rows.iter().filter(|row| !is_calibration(row.0)).filter_map(|row| pick(row).ratio()).collect()
        };
        println!("instructions: {}", summary(ratios(|row| row.1)));
        println!("wall time:    {}", summary(ratios(|row| row.2)));
        for row in &self.native.rows {
            println!("{}: {:.0} instructions", row.name, row.least);
        }
    }

    /// The results as JSON, for other programs.
    pub(super) fn to_json(&self) -> String {
        let pair = |pair: Pair| json!({ "linux": pair.linux, "quire": pair.quire, "ratio": pair.ratio() });
        let posix: Vec<Value> = self
            .rows()
            .into_iter()
            .map(|(name, instructions, wall)| {
                json!({ "name": name, "instructions": pair(instructions), "wall_ns": pair(wall) })
            })
            .collect();
        let native: Vec<Value> =
            self.native.rows.iter().map(|row| json!({ "name": row.name, "instructions": row.least })).collect();
        format!("{:#}\n", json!({ "posix": posix, "native": native }))
    }
}

/// How many ratios are below 1, and the one in the middle.
fn summary(mut ratios: Vec<f64>) -> String {
    ratios.sort_by(f64::total_cmp);
    let below = ratios.iter().filter(|ratio| **ratio < 1.0).count();
    let median = ratios.get(ratios.len() / 2).copied();
    format!("{below} of {} rows below 1, median {} (quire / linux)", ratios.len(), cell(median, 2))
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
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
    let least = words.find_map(|word| word.strip_prefix("ns_min="))?.parse().ok()?;
    Some(Row { name, least })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: &str = "UBHDR x\n[ 1.0] UB getpid     n=16 ns_min=100.500 ns_med=101.000\nUB fork n=1 ns_min=2.000";

    #[test]
    fn results_are_joined_by_name() {
        let mut sides = Sides::default();
        sides.linux.add(parse("Linux", LINUX));
        sides.quire.add(parse("Quire", "UB getpid n=16 ns_min=50.250 ns_med=1.000\n"));
        let comparison = Comparison { instructions: sides, ..Comparison::default() };
        let rows = comparison.rows();
        assert_eq!(rows.iter().map(|row| row.0).collect::<Vec<_>>(), ["getpid", "fork"]);
        assert_eq!(rows[0].1.ratio(), Some(0.5));
        assert_eq!(rows[1].1, Pair { linux: Some(2.0), quire: None });
        assert_eq!(rows[1].1.ratio(), None);
    }

    #[test]
    fn the_least_of_all_boots_counts() {
        let mut best = Best::default();
        best.add(parse("Linux", LINUX));
        best.add(parse("Linux", "UB getpid n=16 ns_min=90\nUB fork n=1 ns_min=3"));
        assert_eq!((best.of("getpid"), best.of("fork"), best.of("open")), (Some(90.0), Some(2.0), None));
    }

    #[test]
    fn a_summary_counts_what_is_below_one() {
        assert_eq!(summary(vec![2.0, 0.5, 0.25]), "2 of 3 rows below 1, median 0.50 (quire / linux)");
        assert_eq!(summary(Vec::new()), "0 of 0 rows below 1, median - (quire / linux)");
    }
}
