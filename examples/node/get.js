import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { promisify } from 'node:util';

import { RecordBatchReader } from 'apache-arrow';

import { END_OF_STREAM, batchMessages, framed } from './ipc.js';

/**
 * Read a whole dataset, as it is now, into an Arrow stream file. All endpoints of the answer show one version, so they
 * are parts of one table.
 */
export async function get({ client, headers }, dataset, path) {
  const descriptor = { type: 'CMD', cmd: Buffer.from(JSON.stringify({ v: 1, dataset })) };
  const info = await promisify(client.GetFlightInfo.bind(client))(descriptor, headers());
  const file = createWriteStream(path);
  file.write(info.schema); // framed already
  for (const { ticket } of info.endpoint) {
    const batches = await RecordBatchReader.from(frames(client.DoGet(ticket, headers())));
    for await (const batch of batches) {
      for (const message of batchMessages(batch)) {
        await write(file, message);
      }
    }
  }
  file.end(END_OF_STREAM);
  await finished(file);
}

/** The answer of a do_get as an Arrow stream, which apache-arrow can read. */
async function* frames(call) {
  for await (const message of call) {
    if (message.data_header.length > 0) {
      yield framed(message);
    }
  }
  yield END_OF_STREAM;
}

async function write(file, message) {
  if (!file.write(framed(message))) {
    await once(file, 'drain');
  }
}
