// Append an Arrow stream file exactly once, and read a dataset back, with apache-arrow and gRPC.
//
//   npm ci
//   node main.js put meters june.arrows --idempotency-key meters/june --key site=12
//   node main.js get meters all.arrows

import { parseArgs } from 'node:util';

import { connect } from './connect.js';
import { details, untilAnswered } from './failure.js';
import { get } from './get.js';
import { putOnce } from './put.js';

const USAGE = 'usage: put|get DATASET FILE [--idempotency-key KEY] [--key NAME=VALUE]... [--deadline SECONDS]\n'
  + '       [--url grpc://HOST:PORT or grpc+tls://HOST:PORT] [--token-file FILE] [--tls-root FILE]';

const text = { type: 'string' };
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'idempotency-key': text,
    key: { type: 'string', multiple: true, default: [] },
    deadline: { type: 'string', default: '60' },
    url: { type: 'string', default: 'grpc://127.0.0.1:8815' },
    'token-file': text,
    'tls-root': text,
  },
});
const [command, dataset, file] = positionals;
if (positionals.length !== 3 || !['put', 'get'].includes(command)) {
  console.error(USAGE);
  process.exit(2);
}

const connection = connect(values);
try {
  if (command === 'get') {
    await get(connection, dataset, file);
  } else {
    const descriptor = {
      v: 1,
      dataset,
      key: Object.fromEntries(values.key.map((part) => part.split(/=(.*)/s, 2))),
      idempotency_key: values['idempotency-key'],
    };
    const receipt = await untilAnswered(Number(values.deadline), () => putOnce(connection, descriptor, file));
    console.log(JSON.stringify(receipt));
  }
} catch (error) {
  console.error(`failed (${details(error).kind ?? 'error'}): ${error.details ?? error.message}`);
  process.exitCode = 1;
} finally {
  connection.client.close();
}
