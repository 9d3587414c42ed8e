//! Read a whole dataset, as it is now, into an Arrow stream file.

use std::fs::File;

use arrow_flight::FlightDescriptor;
use arrow_flight::error::FlightError;
use arrow_ipc::writer::StreamWriter;
use futures::TryStreamExt;
use serde_json::json;

use crate::connect::connect;
use crate::options::Options;

/// All endpoints of the answer show one version, so they are parts of one table.
pub async fn get(options: &Options) -> Result<(), FlightError> {
    let mut client = connect(options).await?;
    let command = json!({"v": 1, "dataset": options.dataset}).to_string();
    let info = client
        .get_flight_info(FlightDescriptor::new_cmd(command))
        .await?;
    let file =
        File::create(&options.file).map_err(|error| FlightError::protocol(error.to_string()))?;
    let mut writer = StreamWriter::try_new(file, &info.clone().try_decode_schema()?)?;
    for ticket in info
        .endpoint
        .into_iter()
        .filter_map(|endpoint| endpoint.ticket)
    {
        let mut batches = client.do_get(ticket).await?;
        while let Some(batch) = batches.try_next().await? {
            writer.write(&batch)?;
        }
    }
    Ok(writer.finish()?)
}
