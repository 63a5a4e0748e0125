//! `cargo xtask exec`: one program in a guest, as if it ran here.

use super::TIMED_OUT;
use super::run::build_for;
use crate::guest::{Ending, Guest, Input, Program, Service, Stream};
use crate::options::ExecOptions;
use crate::{FAILURE, libraries, progress, setup};
use anyhow::{Context as _, Result, ensure};
use posix_protocol::host_link::ExitStatus;
use std::io::{self, Write as _};
use std::path::Path;

/// What is added to the number of the signal that ended the program, as shells do.
const SIGNAL_BASE: u8 = 128;

/// Runs a program in a guest, and gives its status.
pub(crate) fn run(options: ExecOptions) -> Result<u8> {
    // Our standard error is the program's.
    progress::only_to_terminals();
    setup::for_guests()?;
    let mut guest = Guest { service: Service::Line, ..Guest::default() }.with(options.guest);
    let mut program = program(&options.program, &options.arguments)?;
    program.trace = options.trace;
    if let Some(file) = &program.host_file {
        let libraries = libraries::needed_by(file)?;
        // What the user adds wins.
        guest.additions.splice(0..0, libraries);
    }
    let artifacts = build_for(&guest)?;
    let finished = guest.exec(&artifacts, &program, Input::Inherited, &mut hand_on)?;
    let limit = guest.timeout.unwrap_or_default();
    match finished.ending {
        Ending::Program(ExitStatus::Code(code)) => Ok(code),
        Ending::Program(ExitStatus::Signal(signal)) => Ok(SIGNAL_BASE.saturating_add(signal)),
        Ending::TimedOut => {
            eprintln!("xtask: {} did not end within {limit:?}; the last lines of the kernel log:", options.program);
            eprintln!("{}", finished.tail);
            Ok(TIMED_OUT)
        }
        Ending::Died(end) => {
            eprintln!(
                "xtask: the guest died before {} ended: {end}; the last lines of the kernel log:",
                options.program
            );
            eprintln!("{}", finished.tail);
            Ok(FAILURE)
        }
    }
}

/// A file of the host; or, if there is none of this name, a program of the guest: by its path, or by its name in `/bin`.
fn program(name: &str, arguments: &[String]) -> Result<Program> {
    let path = Path::new(name);
    if path.is_file() {
        return Program::of_host(path, arguments);
    }
    let guest_path = if name.contains('/') { name.to_owned() } else { format!("/bin/{name}") };
    ensure!(guest_path.starts_with('/'), "{name} is no file of the host, nor an absolute path of the guest");
    let command: Vec<_> = std::iter::once(guest_path.as_str()).chain(arguments.iter().map(String::as_str)).collect();
    Ok(Program::of_guest(&command))
}

/// Hands on what the program wrote. That our reader is gone is no reason to end the program without its status.
fn hand_on(stream: Stream, bytes: &[u8]) -> Result<()> {
    let written = match stream {
        Stream::Output => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Stream::Error | Stream::Trace => io::stderr().write_all(bytes),
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("handing on the program's output")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_host_comes_first_then_the_guests_programs() {
        let command = |name: &str| program(name, &["-x".to_owned()]).map(|program| program.command).ok();
        let own = std::env::current_exe().unwrap();
        let (path, file) = (own.to_str().unwrap(), own.file_name().unwrap().to_str().unwrap());
        assert_eq!(command(path), Some(vec![format!("/host/{file}"), "-x".to_owned()]));
        assert_eq!(command("no-such-program"), Some(vec!["/bin/no-such-program".to_owned(), "-x".to_owned()]));
        assert_eq!(command("/no/such/program"), Some(vec!["/no/such/program".to_owned(), "-x".to_owned()]));
        assert_eq!(command("no/such/program"), None);
    }
}
