//! The `agent` program: reads the command line, prepares the process, calls a surface, and turns
//! its end into an exit code.

use std::process::ExitCode;
use std::time::Duration;

use failover_agent::surfaces::cli::{self, Cli, Exit, Failure};
use tracing_subscriber::EnvFilter;

/// The runtime's threads: the work is waiting, so that more would only be memory.
const THREADS_MAX: usize = 4;

/// What still runs on blocking threads at the end gets this long.
const LEFTOVERS_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(said) => {
            Failure::tell_usage(&said, cli::wants_json(std::env::args_os()));
            let exit = if said.use_stderr() {
                Exit::Usage
            } else {
                Exit::Fine
            };
            return exit.into();
        }
    };
    match run(&cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.tell(cli.tells_json());
            failure.exit.into()
        }
    }
}

fn run(cli: &Cli) -> Result<Exit, Failure> {
    if let Some(ended) = cli.run_guard(std::env::args_os()) {
        return ended;
    }
    // Everything that speaks TLS uses the process's one provider. A second one is impossible here.
    let installed = rustls::crypto::ring::default_provider().install_default();
    debug_assert!(installed.is_ok());
    if cli.is_service() {
        start_tracing(cli.tells_json());
    }
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(THREADS_MAX))
        .enable_all()
        .build()
        .map_err(|error| anyhow::Error::new(error).context("cannot start the runtime"))?;
    let ended = runtime.block_on(cli.run(&environment));
    // A disk that hangs must not keep a stopped agent from being replaced; a fence that is under
    // way has its time.
    runtime.shutdown_timeout(LEFTOVERS_MAX);
    ended
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where the process's environment is read; it is passed on from here"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Logs go to standard error, where systemd takes them; `AGENT_LOG` chooses how much.
fn start_tracing(json: bool) {
    let wanted = environment("AGENT_LOG").unwrap_or_default();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::INFO.into())
        .parse_lossy(wanted);
    let colours = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    match json {
        true => log.json().init(),
        false => log.init(),
    }
}
