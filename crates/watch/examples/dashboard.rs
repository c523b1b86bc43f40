//! A server with a live page: the backend changes, and traffic floods it.
//!
//! ```sh
//! cargo run --release -p tower-load-leveling-watch --example dashboard             # until ctrl-c
//! cargo run --release -p tower-load-leveling-watch --example dashboard -- --smoke  # three seconds
//! ```
//!
//! Open the address that it prints. A cycle takes two minutes: some forty seconds of calm, then a
//! flood of four times as much, in the midst of which the backend loses most of its servers.

#[path = "dashboard/scene.rs"]
mod scene;

use std::{env, time::Duration};

use axum::Router;
use tokio::net::TcpListener;
use tower::BoxError;

use self::scene::Scene;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Prints the events of the levelers, such as the begin and the end of overload.
    tracing_subscriber::fmt().init();
    let is_smoke = env::args().any(|arg| arg == "--smoke");
    let scene = Scene::new()?;
    let port = if is_smoke { 0 } else { 3001 };
    // For you alone. Elsewhere, mount the page behind your authentication.
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;
    println!("http://{address}/leveler");

    let app = Router::new().nest_service("/leveler", scene.dashboard());
    let levelers = scene.handles();
    let told = scene.handles();
    let stop = async move {
        if is_smoke {
            tokio::time::sleep(Duration::from_secs(3)).await;
        } else {
            drop(tokio::signal::ctrl_c().await);
        }
        // Open pages hold up nothing: their streams end now.
        levelers.iter().for_each(|leveler| leveler.close());
    };
    let traffic = tokio::spawn(scene.play());
    axum::serve(listener, app).with_graceful_shutdown(stop).await?;
    traffic.abort();

    for leveler in told {
        println!("{}: {}", leveler.name(), leveler.stats());
        if is_smoke && leveler.stats().succeeded == 0 {
            return Err(format!("nothing was done by {}", leveler.name()).into());
        }
    }
    Ok(())
}
