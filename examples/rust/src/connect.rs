//! Connections: TLS for grpc+tls://, and the bearer token on every call.

use std::fs;

use arrow_flight::FlightClient;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::options::Options;

pub async fn connect(options: &Options) -> Result<FlightClient, FlightError> {
    let channel = endpoint(options)?.connect().await.map_err(unreachable)?;
    let inner = FlightServiceClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut client = FlightClient::new_from_inner(inner);
    if let Some(path) = &options.token_file {
        let token = read(path)?;
        client.add_header("authorization", &format!("Bearer {}", token.trim()))?;
    }
    Ok(client)
}

fn endpoint(options: &Options) -> Result<Endpoint, FlightError> {
    let url = options
        .url
        .replace("grpc+tls://", "https://")
        .replace("grpc://", "http://");
    let endpoint = Endpoint::from_shared(url).map_err(external)?;
    if !options.url.starts_with("grpc+tls://") {
        return Ok(endpoint);
    }
    let tls = match &options.tls_root {
        Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    endpoint.tls_config(tls).map_err(external)
}

fn read(path: &str) -> Result<String, FlightError> {
    fs::read_to_string(path).map_err(|error| FlightError::protocol(format!("{path}: {error}")))
}

/// No server answers: the same as if it had said that it is not available.
fn unreachable(error: tonic::transport::Error) -> FlightError {
    FlightError::Tonic(Box::new(tonic::Status::from_error(Box::new(error))))
}

fn external(error: tonic::transport::Error) -> FlightError {
    FlightError::from_external_error(Box::new(error))
}
