//! The binary: flags, logs, runtime, [`kubelet::run::run`], exit code.

use kubelet::{options, run};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    daemon::panics::end_the_process();
    daemon::install_crypto();
    let (options, ignored) = daemon::flags::parse_with::<options::Options>(options::WITHOUT_EFFECT);
    if let Err(error) = options.logging.clone().with_file(std::path::Path::new(&options.config)).init() {
        tracing::error!(error = format!("initialize logging: logging.{error}"), "command failed");
        return std::process::ExitCode::FAILURE;
    }
    daemon::absent::warn_of_flags(ignored);
    match start(options) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => daemon::failure::exit(&*error),
    }
}

fn start(options: options::Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let shutdown = daemon::shutdown::signals()?;
        run::run(options, shutdown).await
    })
}
