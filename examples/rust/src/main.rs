//! Append an Arrow stream file exactly once, and read a dataset back, with nothing but Arrow's own Rust library.
//!
//! ```text
//! cargo run -- put meters june.arrows --idempotency-key meters/june --key site=12
//! cargo run -- get meters all.arrows
//! ```

mod connect;
mod failure;
mod get;
mod options;
mod put;

use arrow_flight::error::FlightError;
use options::Options;

#[tokio::main]
async fn main() {
    let options = Options::of_the_command_line().unwrap_or_else(|complaint| exit(&complaint));
    if let Err(error) = run(&options).await {
        let (kind, _) = failure::details(&error);
        let kind = kind.unwrap_or_else(|| "error".to_string());
        exit(&format!("failed ({kind}): {}", failure::message(&error)));
    }
}

async fn run(options: &Options) -> Result<(), FlightError> {
    if options.command == "get" {
        return get::get(options).await;
    }
    let receipt = failure::until_answered(options.deadline, || put::put_once(options)).await?;
    println!("{receipt}");
    Ok(())
}

fn exit(complaint: &str) -> ! {
    eprintln!("{complaint}");
    std::process::exit(1)
}
