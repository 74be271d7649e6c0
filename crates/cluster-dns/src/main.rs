//! The cluster's DNS server.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::panics::end_the_process();
    daemon::install_crypto();
    let options = daemon::flags::parse::<cluster_dns::options::Options>();
    if let Err(error) = options.logging.init() {
        return daemon::failure::exit(&error);
    }
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async { cluster_dns::run(options, daemon::shutdown::signals()?).await })
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => daemon::failure::exit(&*error),
    }
}
