//! The command line.

use std::time::Duration;

use serde_json::{Map, Value};

const USAGE: &str =
    "usage: put|get DATASET FILE [--idempotency-key KEY] [--key NAME=VALUE]... [--deadline SECONDS]
       [--url grpc://HOST:PORT or grpc+tls://HOST:PORT] [--token-file FILE] [--tls-root FILE]";

pub struct Options {
    pub command: String,
    pub dataset: String,
    pub file: String,
    pub idempotency_key: String,
    pub key: Map<String, Value>,
    pub deadline: Duration,
    pub url: String,
    pub token_file: Option<String>,
    pub tls_root: Option<String>,
}

impl Options {
    pub fn of_the_command_line() -> Result<Self, String> {
        let mut words = std::env::args().skip(1);
        let mut word = || words.next().ok_or(USAGE.to_string());
        let mut options = Options {
            command: word()?,
            dataset: word()?,
            file: word()?,
            idempotency_key: String::new(),
            key: Map::new(),
            deadline: Duration::from_secs(60),
            url: "grpc://127.0.0.1:8815".to_string(),
            token_file: None,
            tls_root: None,
        };
        if !["put", "get"].contains(&options.command.as_str()) {
            return Err(USAGE.to_string());
        }
        while let Ok(name) = word() {
            options.set(&name, word()?)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        match name {
            "--idempotency-key" => self.idempotency_key = value,
            "--key" => {
                let (part, value) = value.split_once('=').ok_or("--key: expected NAME=VALUE")?;
                self.key.insert(part.to_string(), value.into());
            }
            "--deadline" => {
                let seconds = value.parse().map_err(|_| "--deadline: expected seconds")?;
                self.deadline = Duration::try_from_secs_f64(seconds)
                    .map_err(|_| "--deadline: expected seconds")?;
            }
            "--url" => self.url = value,
            "--token-file" => self.token_file = Some(value),
            "--tls-root" => self.tls_root = Some(value),
            _ => return Err(format!("{name} is no option\n{USAGE}")),
        }
        Ok(())
    }
}
