import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const definition = loadSync(fileURLToPath(new URL('flight.proto', import.meta.url)), { keepCase: true, defaults: true });
const { FlightService } = grpc.loadPackageDefinition(definition).arrow.flight.protocol;

/** A client, and a function that makes the headers of a call: TLS for grpc+tls://, and the bearer token. */
export function connect(options) {
  const { protocol, host } = new URL(options.url);
  const roots = options['tls-root'] ? readFileSync(options['tls-root']) : null; // null: those that Node trusts
  const transport = protocol === 'grpc+tls:' ? grpc.credentials.createSsl(roots) : grpc.credentials.createInsecure();
  const client = new FlightService(host, transport, { 'grpc.max_receive_message_length': -1 });
  return { client, headers: () => headers(options['token-file']) };
}

function headers(tokenFile) {
  const metadata = new grpc.Metadata();
  if (tokenFile) {
    metadata.set('authorization', `Bearer ${readFileSync(tokenFile, 'utf8').trim()}`);
  }
  return metadata;
}
