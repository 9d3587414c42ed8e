//! One put: a stream that says where it ends, and its receipt.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor};
use arrow_ipc::reader::StreamReader;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::connect::connect;
use crate::options::Options;

const BATCHES_READ_AHEAD: usize = 2;

/// Send one stream and return the receipt.
pub async fn put_once(options: &Options) -> Result<Value, FlightError> {
    let mut client = connect(options).await?;
    let file =
        File::open(&options.file).map_err(|error| FlightError::protocol(error.to_string()))?;
    let batches = StreamReader::try_new(BufReader::new(file), None)?;
    let (start, may_start) = oneshot::channel();
    let mut answers = client.do_put(messages(options, batches, may_start)).await?;

    let mut last = answers.try_next().await?; // ready, or committed
    let _ = start.send(()); // else the server has refused the stream, and no data need travel
    while let Some(answer) = answers.try_next().await? {
        last = Some(answer);
    }
    let answer =
        serde_json::from_slice(&last.unwrap_or_default().app_metadata).unwrap_or(Value::Null);
    if answer["type"] != "receipt" {
        return Err(tonic::Status::unavailable("the stream ended without a receipt").into());
    }
    Ok(answer)
}

/// The schema at once, all batches when the server is ready, and the number of their rows to say that they are all.
fn messages(
    options: &Options,
    batches: StreamReader<BufReader<File>>,
    may_start: oneshot::Receiver<()>,
) -> impl Stream<Item = Result<FlightData, FlightError>> + Send + 'static {
    let descriptor = json!({
        "v": 1, "dataset": options.dataset, "key": options.key, "idempotency_key": options.idempotency_key,
    });
    let schema = batches.schema();
    let mut batches = Some(batches); // taken once: there is one start
    let rows = Arc::new(AtomicUsize::new(0));
    let counted = rows.clone();
    let data = stream::once(may_start)
        .flat_map(move |_| read_in_a_thread(batches.take()))
        .inspect_ok(move |batch: &RecordBatch| {
            _ = counted.fetch_add(batch.num_rows(), Ordering::Relaxed)
        });
    FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_flight_descriptor(Some(FlightDescriptor::new_cmd(descriptor.to_string())))
        .with_dictionary_handling(DictionaryHandling::Resend) // the default sends them plain
        .build(data)
        .chain(stream::once(async move {
            Ok(end_marker(rows.load(Ordering::Relaxed)))
        }))
}

fn end_marker(rows: usize) -> FlightData {
    FlightData::new().with_app_metadata(json!({"end": true, "rows": rows}).to_string())
}

/// Read files where waiting for them holds up nothing else.
fn read_in_a_thread(
    batches: Option<StreamReader<BufReader<File>>>,
) -> impl Stream<Item = Result<RecordBatch, FlightError>> + Send {
    let (sender, receiver) = mpsc::channel(BATCHES_READ_AHEAD);
    std::thread::spawn(move || {
        for batch in batches.into_iter().flatten() {
            if sender
                .blocking_send(batch.map_err(FlightError::from))
                .is_err()
            {
                break; // the stream has ended before the file
            }
        }
    });
    stream::unfold(receiver, async |mut receiver| {
        Some((receiver.recv().await?, receiver))
    })
}
