import { once } from 'node:events';
import { createReadStream } from 'node:fs';

import grpc from '@grpc/grpc-js';
import { RecordBatchReader } from 'apache-arrow';

import { batchMessages, schemaMessage } from './ipc.js';

/** Send one stream and return the receipt. */
export async function putOnce({ client, headers }, descriptor, path) {
  const batches = await RecordBatchReader.from(createReadStream(path));
  await batches.open();
  const call = client.DoPut(headers());
  const answers = call[Symbol.asyncIterator]();
  const ended = new AbortController();
  call.once('status', () => ended.abort()); // the server has answered for good: nobody reads what is still sent
  const send = (message) => write(call, message, ended.signal);
  try {
    await send({
      ...schemaMessage(batches.schema),
      flight_descriptor: { type: 'CMD', cmd: Buffer.from(JSON.stringify(descriptor)) },
    });
    await answers.next(); // ready, or committed; throws if the server refuses the stream
    const rows = await sendAll(send, batches);
    await send({ app_metadata: Buffer.from(JSON.stringify({ end: true, rows })) });
    call.end();
  } catch (error) {
    if (error.name !== 'AbortError') {
      call.cancel(); // half a file must not look like a whole one
      throw error;
    }
  }
  return receiptOf(answers); // throws what the server answered
}

async function sendAll(send, batches) {
  let rows = 0;
  for await (const batch of batches) {
    for (const message of batchMessages(batch)) {
      await send(message);
    }
    rows += batch.numRows;
  }
  return rows;
}

/** Send a message, and wait while the server is slower. */
async function write(call, message, signal) {
  if (!call.write(message)) {
    await once(call, 'drain', { signal });
  }
}

/** Read answers to their end: the status of the call comes after them. */
async function receiptOf(answers) {
  let last = {};
  for (let answer = await answers.next(); !answer.done; answer = await answers.next()) {
    last = JSON.parse(answer.value.app_metadata);
  }
  if (last.type !== 'receipt') {
    throw Object.assign(new Error('the stream ended without a receipt'), { code: grpc.status.UNAVAILABLE });
  }
  return last;
}
