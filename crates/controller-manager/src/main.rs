//! The binary: flags, logs, runtime, [`controller_manager::run`], exit code.

use controller_manager::{Options, options, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    daemon::panics::end_the_process();
    daemon::install_crypto();
    let (options, ignored) = daemon::flags::parse_with::<Options>(&options::WITHOUT_EFFECT);
    if let Err(error) = options.logging.init() {
        return daemon::failure::exit(&error);
    }
    daemon::absent::warn_of_flags(ignored);
    match start(options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => daemon::failure::exit(&*error),
    }
}

fn start(options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = daemon::shutdown::signals()?;
        run(options, shutdown).await?;
        Ok(())
    })
}
