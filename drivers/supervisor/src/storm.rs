//! Programs to which something happens again and again, to see whether anybody notices: `kill=virtio-blk,files kill_ms=1000` on the kernel's
//! command line has each of them killed after about so long, half as long at least and half as long again at most. With `hang=` it stops
//! instead, and with `spin=` it takes all the time that it gets, until somebody notices.

/// How long a program lives unless said otherwise, in ms.
const DEFAULT_MS: u64 = 1000;
const NS_PER_MS: u64 = 1_000_000;

/// What happens to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It ends.
    Killed,
    /// It does nothing any more.
    Hangs,
    /// It does one and the same without end.
    Spins,
}

/// What has something happen to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    /// What.
    pub fate: Fate,
    average_ns: u64,
}

impl Storm {
    /// The storm over the program of this name, if the command line wants one.
    pub fn over(name: &str, arguments: &str) -> Option<Self> {
        let fates = [("kill", Fate::Killed), ("hang", Fate::Hangs), ("spin", Fate::Spins)];
        let is_meant =
            |order: &str| word(arguments, order).is_some_and(|names| names.split(',').any(|victim| victim == name));
        let (_, fate) = fates.into_iter().find(|(order, _)| is_meant(order))?;
        let average_ms = word(arguments, "kill_ms").and_then(|ms| ms.parse().ok()).unwrap_or(DEFAULT_MS);
        Some(Self { fate, average_ns: u64::saturating_mul(average_ms, NS_PER_MS) })
    }

    /// How long a program that begins at `now_ns` is left alone, in ns: who knows.
    pub fn respite_ns(&self, now_ns: u64) -> u64 {
        let random = now_ns.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407) >> 33;
        self.average_ns / 2 + random % self.average_ns.max(1)
    }
}

/// The value of `name=value` among the words of the command line.
fn word<'a>(arguments: &'a str, name: &str) -> Option<&'a str> {
    arguments.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_the_victims() {
        let line = "log=info kill_ms=300 kill=virtio-blk,files hang=nvme spin=swap,serial";
        let storm = Storm::over("files", line).unwrap();
        assert_eq!(storm, Storm { fate: Fate::Killed, average_ns: 300 * NS_PER_MS });
        assert_eq!(Storm::over("virtio-blk", line), Some(storm));
        assert_eq!(Storm::over("nvme", line), Some(Storm { fate: Fate::Hangs, ..storm }));
        assert_eq!(Storm::over("serial", line), Some(Storm { fate: Fate::Spins, ..storm }));
        assert_eq!(Storm::over("file", line), None);
        assert_eq!(Storm::over("files", "kill="), None);
        assert_eq!(Storm::over("a", "kill=a"), Some(Storm { fate: Fate::Killed, average_ns: DEFAULT_MS * NS_PER_MS }));
        for now_ns in 0..1000 {
            let respite_ns = storm.respite_ns(now_ns * 1_000_003);
            assert!((150 * NS_PER_MS..450 * NS_PER_MS).contains(&respite_ns));
        }
        assert_eq!(Storm { average_ns: 0, ..storm }.respite_ns(5), 0);
    }
}
