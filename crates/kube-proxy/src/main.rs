//! kube-proxy, the service proxy of a node.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use kube_proxy::options::{self, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    daemon::panics::end_the_process();
    daemon::install_crypto();
    let (options, ignored) = daemon::flags::parse_with::<Options>(options::UNSUPPORTED);
    if let Err(error) =
        options.logging.clone().with_file(options.config.as_deref().unwrap_or(Path::new(""))).init()
    {
        tracing::error!(error = format!("initialize logging: logging.{error}"), "command failed");
        return ExitCode::FAILURE;
    }
    daemon::absent::warn_of_flags(ignored);
    let filter = Arc::new(packetfilter::Nft);
    let result = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                if options.cleanup {
                    return kube_proxy::program::clean_up(&*filter).await;
                }
                kube_proxy::run(options.configuration()?, filter, daemon::shutdown::signals()?).await
            })
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => daemon::failure::exit(&*error),
    }
}
