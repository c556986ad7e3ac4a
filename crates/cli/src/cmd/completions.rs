//! `vlc completions`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{Cli, error::CliError, output::Output};

/// Print the completion script of a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  vlc completions bash > ~/.local/share/bash-completion/completions/vlc
  vlc completions zsh > \"${fpath[1]}/_vlc\"
  vlc completions fish > ~/.config/fish/completions/vlc.fish")]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: Args, out: &Output) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "vlc", &mut script);
    out.text(&String::from_utf8_lossy(&script))
}
