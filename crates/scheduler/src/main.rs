//! The binary: flags, logs, runtime, [`scheduler::run`], exit code.

use scheduler::options::{Options, WITHOUT_EFFECT};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    daemon::panics::end_the_process();
    daemon::install_crypto();
    let (options, ignored) = daemon::flags::parse_with::<Options>(WITHOUT_EFFECT);
    if let Err(error) = options.logging.init() {
        // printed as upstream's does, before logging is set up
        eprintln!("{error}");
        return std::process::ExitCode::FAILURE;
    }
    daemon::absent::warn_of_flags(ignored);
    match start(options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => daemon::failure::exit(&*error),
    }
}

fn start(options: Options) -> anyhow::Result<()> {
    // One thread schedules, another speaks to the API server.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let shutdown = daemon::shutdown::signals()?;
        scheduler::run(options, shutdown).await
    })
}
