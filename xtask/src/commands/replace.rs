//! `cargo xtask replace NAME`: builds a driver or a server anew, and puts it live into the guest that runs.

use super::SUCCESS;
use crate::build;
use crate::guest::orders::{self, Orders};
use crate::options::ReplaceOptions;
use crate::strip::without_sections;
use anyhow::{Context as _, Result};
use std::fs;
use std::time::Instant;

/// Replaces a program; without a name, tells which there are.
pub(crate) fn run(options: &ReplaceOptions) -> Result<u8> {
    let artifacts = build::artifacts()?;
    let mut orders = Orders::new(orders::find(&artifacts, options.guest)?);
    let Some(name) = &options.name else {
        print!("{}", orders.list()?);
        return Ok(SUCCESS);
    };
    let path = match &options.file {
        Some(file) => file.clone(),
        None => {
            let began = Instant::now();
            build::guest_program(name)?;
            println!("built in {:.1} s", began.elapsed().as_secs_f64());
            artifacts.bare_metal(name)
        }
    };
    let image = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let began = Instant::now();
    let text = orders.replace(name, &without_sections(image))?;
    println!("{text} (handed over and live in {:.2} s)", began.elapsed().as_secs_f64());
    Ok(SUCCESS)
}
