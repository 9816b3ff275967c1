//! A host outside every cloud that always answers, so that the prober itself can be judged.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;

use crate::ShopError;
use crate::listen;

#[derive(clap::Args)]
pub struct Options {
    /// Where it answers; repeat for several addresses
    #[arg(long, required = true, value_name = "IP:PORT")]
    listen: Vec<SocketAddr>,
}

pub async fn run(options: Options) -> Result<(), ShopError> {
    let router = Router::new().route("/", get(|| async { "reference\n" }));
    Ok(listen::serve(&options.listen, router).await?)
}
