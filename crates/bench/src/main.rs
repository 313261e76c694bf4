//! The `bench` command: parses, plans, prints. The work is in the libraries.

use std::process::ExitCode;

use clap::Parser;
use debias_bench::cli::Args;
use debias_bench::exit::Exit;
use debias_bench::failure::classify;
use debias_bench::printer::OutputClosed;

fn main() -> ExitCode {
    let args = Args::parse();
    let printer = args.printer();
    let exit = args.execute().unwrap_or_else(|error| {
        if error.is::<OutputClosed>() {
            return Exit::Done;
        }
        let (exit, help) = classify(&error);
        printer.error(&error, help.as_deref());
        exit
    });
    exit.into()
}
