import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import grpc from '@grpc/grpc-js';
import protobuf from 'protobufjs';

const FIRST_WAIT_S = 0.1;
const LONGEST_WAIT_S = 5;

// What the reference says of errors: these four codes, and no other.
const MAY_BE_REPEATED = new Set([
  grpc.status.UNAVAILABLE,
  grpc.status.CANCELLED,
  grpc.status.DEADLINE_EXCEEDED,
  grpc.status.INTERNAL,
]);

const rpc = new protobuf.Root();
rpc.loadSync(fileURLToPath(new URL('status.proto', import.meta.url)), { keepCase: true });
const [Status, ErrorInfo, RetryInfo] = ['Status', 'ErrorInfo', 'RetryInfo'].map((name) =>
  rpc.lookupType(`google.rpc.${name}`),
);

/** The kind of an error, and for how many seconds the server asks us to wait. */
export function details(error) {
  const found = { kind: undefined, delayS: 0 };
  const [trailer] = error.metadata?.get('grpc-status-details-bin') ?? [];
  for (const detail of trailer ? Status.decode(trailer).details : []) {
    if (detail.type_url.endsWith('/google.rpc.ErrorInfo')) {
      found.kind = ErrorInfo.decode(detail.value).reason;
    } else if (detail.type_url.endsWith('/google.rpc.RetryInfo')) {
      const { seconds, nanos } = RetryInfo.decode(detail.value).retry_delay;
      found.delayS = Number(seconds) + nanos / 1e9;
    }
  }
  return found;
}

/**
 * Call until it succeeds, fails for good, or the deadline has passed: with longer pauses each time, by a random part,
 * and never shorter than the server asks for.
 */
export async function untilAnswered(deadlineS, call) {
  const end = performance.now() + 1000 * deadlineS;
  for (let waitS = FIRST_WAIT_S; ; waitS = Math.min(2 * waitS, LONGEST_WAIT_S)) {
    try {
      return await call();
    } catch (error) {
      const pauseMs = 1000 * Math.max(details(error).delayS, waitS * (0.5 + Math.random() / 2));
      if (!MAY_BE_REPEATED.has(error.code) || performance.now() + pauseMs > end) {
        throw error;
      }
      await pause(pauseMs);
    }
  }
}
