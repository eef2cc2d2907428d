//! The command line: one file per command.
//!
//! Owns what is typed, what is printed, and exit codes. Must not decide: `run` and `witness` start
//! the runtime, everything else asks the running agent or reads what it wrote down.
//! Start reading at [`Cli`].

mod ask;
mod brakes;
mod check;
mod completions;
mod config;
mod demo;
mod dns;
mod dsn;
mod exit;
mod explain;
mod failover;
mod follow;
mod gate;
mod guard;
mod journal;
mod man;
mod metrics;
mod output;
mod run;
mod service;
mod settings;
pub mod socket;
mod status;
mod witness;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use ask::LocalAgent;
pub use exit::{Exit, Failure};

/// Fails a whole site over: fences the old PostgreSQL primary, promotes the standby, rewrites app
/// config, moves DNS, and keeps a journal of it.
#[derive(Debug, Parser)]
#[command(name = "agent", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// The settings file.
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        default_value = "/etc/agent/agent.toml"
    )]
    config: PathBuf,
    /// Which site this is; overrides the key `site` of the settings file.
    #[arg(long, global = true, value_name = "SITE")]
    site: Option<String>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Witness(witness::Arguments),
    Check(check::Arguments),
    Status(status::Arguments),
    Metrics(metrics::Arguments),
    Failover(failover::Arguments),
    Gate(gate::Arguments),
    Pause(brakes::PauseArguments),
    Resume(brakes::ResumeArguments),
    Ack(brakes::AckArguments),
    Journal(journal::Arguments),
    Dns(dns::Arguments),
    Dsn(dsn::Arguments),
    Config(config::Arguments),
    Explain(explain::Arguments),
    Demo(demo::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    #[command(hide = true)]
    Guard(guard::Arguments),
}

/// Reads environment variables. Passed in, so that nothing but `main` looks at the process's own.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// What a command knows beside its own arguments.
struct Context<'a> {
    global: &'a Global,
    env: Environment<'a>,
}

/// The command line as clap knows it, with exit codes in the help of every command.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
        .after_help(exit::CODES)
        .mut_subcommands(|command| {
            let below = command.mut_subcommands(|command| command.after_help(exit::CODES));
            below.after_help(exit::CODES)
        })
}

/// Whether JSON was asked for, also when the rest of the command line is not understood.
#[must_use]
pub fn wants_json(arguments: impl IntoIterator<Item = OsString>) -> bool {
    let mut options = arguments.into_iter().take_while(|word| word != "--");
    options.any(|word| word == "--json")
}

impl Cli {
    /// Reads the command line.
    ///
    /// # Errors
    /// What clap says: a mistake, or the help or version that was asked for.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// True for commands that run for ever and log what they do.
    #[must_use]
    pub fn is_service(&self) -> bool {
        matches!(self.command, Command::Run(_) | Command::Witness(_))
    }

    /// True when what is told is for programs: results, failures, and the logs of services.
    #[must_use]
    pub fn tells_json(&self) -> bool {
        self.global.json
    }

    /// Runs the guard, if that was asked for, with the arguments as they were given: it needs no
    /// async runtime, and must not have its threads.
    ///
    /// # Errors
    /// [`Failure`], with the exit code that fits.
    pub fn run_guard(
        &self,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Option<Result<Exit, Failure>> {
        let Command::Guard(guard) = &self.command else {
            return None;
        };
        let given: Vec<_> = arguments.into_iter().skip(1).collect();
        Some(guard::run(guard, &given))
    }

    /// Does what was asked.
    ///
    /// # Errors
    /// [`Failure`], with the exit code that fits.
    pub async fn run(&self, env: Environment<'_>) -> Result<Exit, Failure> {
        let context = Context {
            global: &self.global,
            env,
        };
        match &self.command {
            Command::Run(arguments) => run::run(&context, arguments).await,
            Command::Witness(arguments) => witness::run(&context, arguments).await,
            Command::Check(arguments) => check::run(&context, arguments).await,
            Command::Status(arguments) => status::run(&context, arguments).await,
            Command::Metrics(arguments) => metrics::run(&context, arguments).await,
            Command::Failover(arguments) => failover::run(&context, arguments).await,
            Command::Gate(arguments) => gate::run(&context, arguments).await,
            Command::Pause(arguments) => brakes::pause(&context, arguments).await,
            Command::Resume(arguments) => brakes::resume(&context, arguments).await,
            Command::Ack(arguments) => brakes::ack(&context, arguments).await,
            Command::Journal(arguments) => journal::run(&context, arguments).await,
            Command::Dns(arguments) => dns::run(&context, arguments).await,
            Command::Dsn(arguments) => dsn::run(&context, arguments),
            Command::Config(arguments) => config::run(&context, arguments).await,
            Command::Explain(arguments) => explain::run(&context, arguments),
            Command::Demo(arguments) => demo::run(&context, arguments).await,
            Command::Completions(arguments) => completions::run(&context, arguments),
            Command::Man(arguments) => man::run(&context, arguments),
            // Without a runtime: see `run_guard`.
            Command::Guard(_) => Err(Failure::text(Exit::Usage, "the guard runs by itself")),
        }
    }
}
