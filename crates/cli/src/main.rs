//! `vlc`: the command line of the vector compressor. Data goes to stdout, messages and progress to stderr.

mod args;
mod cmd;
mod data;
mod error;
mod interrupt;
mod logger;
mod output;
mod outputs;
mod progress;
mod report;
mod stores;
mod training;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use vlc::Backend;

use crate::{args::Common, error::CliError, output::Output};

/// Shrink a store of embedding vectors to 2-3 % of its float32 bytes and search the compressed file.
#[derive(Parser)]
#[command(name = "vlc", version, arg_required_else_help = true, max_term_width = 100, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Examples:
  vlc demo                                             see it work on vectors that come with it
  vlc compress base.npy -o base.vlc --queries sample.npy
  vlc eval base.vlc --base base.npy --queries test.npy
  vlc query base.vlc queries.npy -k 10 > hits.tsv
  vlc append base.vlc more.npy

Inputs: .npy (floats of 16, 32 and 64 bits, bfloat16, whole numbers), .fvecs, .bvecs, .fbin
As an output of `query` and `decode`, - is standard output

Exit codes: 0 ok, 1 a backend disagrees with the CPU (test), 2 usage, 3 bad input data,
4 corrupt or unsupported .vlc file, 5 I/O or locked by another process,
6 requested device unavailable, 130 interrupted";

#[derive(Subcommand)]
enum Command {
    Compress(cmd::compress::Args),
    Query(cmd::query::Args),
    Eval(cmd::eval::Args),
    Info(cmd::info::Args),
    Verify(cmd::verify::Args),
    Decode(cmd::decode::Args),
    Append(cmd::append::Args),
    Delete(cmd::delete::Args),
    Compact(cmd::compact::Args),
    Train(cmd::train::Args),
    Merge(cmd::merge::Args),
    Transcode(cmd::transcode::Args),
    Salvage(cmd::salvage::Args),
    Devices(cmd::devices::Args),
    Health(cmd::health::Args),
    Test(cmd::test::Args),
    /// Benchmark the wgpu backend against the CPU (exit 6 when there is none)
    TestGpu(cmd::test::Args),
    /// Benchmark the CUDA backend against the CPU (exit 6 when there is none)
    TestCuda(cmd::test::Args),
    Demo(cmd::demo::Args),
    Completions(cmd::completions::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    quieten_vulkan();
    // A file that another program truncates is an error, not the end.
    vlc::guard_mappings();
    let out = Output::new(cli.common);
    logger::init(cli.common);
    interrupt::install();
    match dispatch(cli.command, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(&out),
    }
}

/// Says what is wrong with the arguments, or prints the help. Arguments may be names of files with anything in them.
fn refuse(error: &clap::Error) -> ExitCode {
    if error.use_stderr() && std::env::args_os().any(|arg| arg.to_string_lossy().contains(vlc::text::is_unprintable))
    {
        output::say(error.render().to_string().trim_end());
    } else {
        // There is nobody to tell when that fails.
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { 2 } else { 0 })
}

/// Mesa's layer for choosing devices looks for a desktop and prints an error where there is none; the choice is ours anyway.
fn quieten_vulkan() {
    const LAYER: &str = "NODEVICE_SELECT";
    if std::env::var_os(LAYER).is_none() {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var(LAYER, "1") };
    }
}

fn dispatch(command: Command, out: &Output) -> Result<(), CliError> {
    match command {
        Command::Compress(args) => cmd::compress::run(args, out),
        Command::Query(args) => cmd::query::run(args, out),
        Command::Eval(args) => cmd::eval::run(args, out),
        Command::Info(args) => cmd::info::run(args, out),
        Command::Verify(args) => cmd::verify::run(args, out),
        Command::Decode(args) => cmd::decode::run(args, out),
        Command::Append(args) => cmd::append::run(args, out),
        Command::Delete(args) => cmd::delete::run(args, out),
        Command::Compact(args) => cmd::compact::run(args, out),
        Command::Train(args) => cmd::train::run(args, out),
        Command::Merge(args) => cmd::merge::run(args, out),
        Command::Transcode(args) => cmd::transcode::run(args, out),
        Command::Salvage(args) => cmd::salvage::run(args, out),
        Command::Devices(args) => cmd::devices::run(args, out),
        Command::Health(args) => cmd::health::run(args, out),
        Command::Test(args) => cmd::test::run(args, None, out),
        Command::TestGpu(args) => cmd::test::run(args, Some(Backend::Wgpu), out),
        Command::TestCuda(args) => cmd::test::run(args, Some(Backend::Cuda), out),
        Command::Demo(args) => cmd::demo::run(args, out),
        Command::Completions(args) => cmd::completions::run(args, out),
    }
}
