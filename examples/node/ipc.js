// Arrow's messages, as streams frame them and as Flight carries them.

import { Message, Table, tableToIPC } from 'apache-arrow';

const PREFIX_BYTES = 8; // 0xFFFFFFFF, then the length of the metadata

/** The message that says what the columns are. */
export function schemaMessage(schema) {
  return messagesOf(tableToIPC(new Table(schema), 'stream'))[0];
}

/** The messages of a batch, its dictionaries first. */
export function batchMessages(batch) {
  return messagesOf(tableToIPC(new Table([batch]), 'stream')).slice(1); // without the schema
}

/** Cut an Arrow stream into its messages, as Flight sends them. */
function messagesOf(stream) {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  const messages = [];
  for (let at = 0; at + PREFIX_BYTES <= stream.length; ) {
    const body = at + PREFIX_BYTES + view.getInt32(at + 4, true);
    if (body === at + PREFIX_BYTES) {
      break; // the end of the stream
    }
    const data_header = stream.subarray(at + PREFIX_BYTES, body);
    at = body + Message.decode(data_header).bodyLength;
    messages.push({ data_header, data_body: stream.subarray(body, at) });
  }
  return messages;
}

/** Frame a message from Flight as a stream has it. */
export function framed({ data_header, data_body }) {
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeInt32LE(-1, 0);
  prefix.writeInt32LE(data_header.length, 4);
  return Buffer.concat([prefix, data_header, data_body]);
}

/** How a stream ends. */
export const END_OF_STREAM = framed({ data_header: Buffer.alloc(0), data_body: Buffer.alloc(0) });
