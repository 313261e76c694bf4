//! The `bench` command: parses, plans, prints. The work is in the libraries.

use std::process::ExitCode;

use clap::Parser;
use debias_bench::cli::Args;
use debias_bench::terminal::exit::Exit;
use debias_bench::terminal::failure::classify;
use debias_bench::terminal::printer::OutputClosed;
use debias_model::device::guard;

/// Tensors are large and short-lived: the system's allocator gives each back to the kernel and
/// asks for zeroed pages again, which costs a fifth of a forward pass.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let printer = args.printer();
    let done = guard(|| args.execute()).unwrap_or_else(|fault| Err(fault.into()));
    let exit = done.unwrap_or_else(|error| {
        if error.is::<OutputClosed>() {
            return Exit::Done;
        }
        let (exit, help) = classify(&error);
        printer.error(&error, help.as_deref());
        exit
    });
    exit.into()
}
