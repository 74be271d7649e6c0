//! `kube-apiserver`.

use apiserver::options::{Options, UNSUPPORTED};
use apiserver::server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    daemon::panics::end_the_process();
    daemon::install_crypto();
    let (options, ignored) = daemon::flags::parse_with::<Options>(UNSUPPORTED);
    if let Err(error) = options.logging.init() {
        return daemon::failure::exit(&error);
    }
    daemon::absent::warn_of_flags(ignored);
    daemon::limits::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        runtime.block_on(async {
            let shutdown = daemon::shutdown::signals()?;
            server::run(options, shutdown).await.map_err(anyhow::Error::from)
        })
    });
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => daemon::failure::exit(&*error),
    }
}
