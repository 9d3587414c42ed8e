//! What an error means, and what to do about it.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use arrow_flight::error::FlightError;
use tonic::Code;
use tonic_types::StatusExt;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The kind of an error, and how long the server asks us to wait.
pub fn details(error: &FlightError) -> (Option<String>, Duration) {
    let FlightError::Tonic(status) = error else {
        return (None, Duration::ZERO);
    };
    let details = status.get_error_details();
    let delay = details.retry_info().and_then(|retry| retry.retry_delay);
    (
        details.error_info().map(|info| info.reason.clone()),
        delay.unwrap_or_default(),
    )
}

pub fn message(error: &FlightError) -> String {
    match error {
        FlightError::Tonic(status) => status.message().to_string(),
        other => other.to_string(),
    }
}

/// What the reference says of errors: these four codes, and no other.
fn may_be_repeated(error: &FlightError) -> bool {
    let FlightError::Tonic(status) = error else {
        return false;
    };
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Internal
    )
}

/// Call until it succeeds, fails for good, or the deadline has passed: with longer pauses each time, by a random part,
/// and never shorter than the server asks for.
pub async fn until_answered<T>(
    deadline: Duration,
    call: impl AsyncFn() -> Result<T, FlightError>,
) -> Result<T, FlightError> {
    let (end, mut wait) = (Instant::now() + deadline, FIRST_WAIT);
    loop {
        let error = match call().await {
            Err(error) if may_be_repeated(&error) => error,
            outcome => return outcome,
        };
        let (_, delay) = details(&error);
        let pause = delay.max(wait.mul_f64(0.5 + random() / 2.0));
        if Instant::now() + pause > end {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
        wait = LONGEST_WAIT.min(2 * wait);
    }
}

/// A number from 0 to 1; the standard library has no other source of chance.
fn random() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}
