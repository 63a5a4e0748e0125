//! The kernel's command line: words separated by blanks. The kernel reads `log=LEVEL`; the first program gets all
//! of it.

use log::LevelFilter;

/// A copy of the command line.
pub(crate) struct CommandLine {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl CommandLine {
    /// How much is kept; the rest is cut off.
    pub(crate) const CAPACITY: usize = quire_abi::startup::MAX_ARGUMENTS;

    /// A line without any word.
    pub(crate) const fn empty() -> Self {
        Self { bytes: [0; Self::CAPACITY], len: 0 }
    }

    /// Appends a byte if it fits.
    pub(crate) fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// The line.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The value of the last word that begins with `name=`.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let words = self.bytes().split(|byte| byte.is_ascii_whitespace());
        let value = words.filter_map(|word| word.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next_back()?;
        core::str::from_utf8(value).ok()
    }

    /// The most verbose level of messages to print: `log=off|error|warn|info|debug|trace`.
    pub(crate) fn log_level(&self) -> LevelFilter {
        self.value("log").and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::Info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> CommandLine {
        let mut line = CommandLine::empty();
        text.bytes().for_each(|byte| line.push(byte));
        line
    }

    #[test]
    fn the_last_word_of_a_name_counts() {
        assert_eq!(line("log=debug x log=error").log_level(), LevelFilter::Error);
        assert_eq!(line("log=off").log_level(), LevelFilter::Off);
    }

    #[test]
    fn an_absent_or_unknown_level_is_info() {
        assert_eq!(line("").log_level(), LevelFilter::Info);
        assert_eq!(line("log=loud catalog=trace log").log_level(), LevelFilter::Info);
    }

    #[test]
    fn a_value_that_is_no_text_is_no_value() {
        let mut line = line("a=");
        line.push(0xff);
        assert_eq!(line.value("a"), None);
    }

    #[test]
    fn what_does_not_fit_is_cut_off() {
        let long = line(&std::string::String::from_iter(core::iter::repeat_n('x', CommandLine::CAPACITY + 10)));
        assert_eq!(long.bytes().len(), CommandLine::CAPACITY);
    }
}
