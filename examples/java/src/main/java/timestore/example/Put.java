package timestore.example;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedInputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.arrow.flight.CallStatus;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.PutResult;
import org.apache.arrow.flight.SyncPutListener;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.ipc.ArrowReader;

/** One put: a stream that says where it ends, and its receipt. */
final class Put {
  private static final ObjectMapper JSON = new ObjectMapper();

  private final FlightClient client;
  private final BufferAllocator allocator;
  private final Options options;

  Put(FlightClient client, BufferAllocator allocator, Options options) {
    this.client = client;
    this.allocator = allocator;
    this.options = options;
  }

  /** Send one stream and return the receipt. */
  String once() throws Exception {
    try (InputStream file = new BufferedInputStream(new FileInputStream(options.file()));
        ArrowReader batches = new OneDictionaryReader(file, allocator);
        SyncPutListener answers = new SyncPutListener()) {
      boolean more = batches.loadNextBatch(); // and the dictionaries, which go with the schema
      FlightClient.ClientStreamListener stream =
          client.startPut(descriptor(), batches.getVectorSchemaRoot(), batches, answers, Connection.headers(options));
      try {
        discard(next(answers)); // ready, or committed; throws if the server refuses the stream
        send(stream, batches, more, answers);
      } catch (IOException | RuntimeException unfinished) {
        stream.error(unfinished); // cancels: half a file must not look like a whole one
        throw unfinished;
      }
      return receipt(answers);
    }
  }

  private FlightDescriptor descriptor() throws IOException {
    return FlightDescriptor.command(
        JSON.writeValueAsBytes(
            Map.of(
                "v", 1,
                "dataset", options.dataset(),
                "key", options.key(),
                "idempotency_key", options.idempotencyKey())));
  }

  /** Send all batches, and the number of their rows to say that they are all. */
  private void send(
      FlightClient.ClientStreamListener stream, ArrowReader batches, boolean more, SyncPutListener answers)
      throws IOException, InterruptedException {
    long rows = 0;
    while (more) {
      stream.putNext(); // waits while the server is slower
      rows += batches.getVectorSchemaRoot().getRowCount();
      discard(now(answers)); // throws if the server has given up
      more = batches.loadNextBatch();
    }
    byte[] end = JSON.writeValueAsBytes(Map.of("end", true, "rows", rows));
    ArrowBuf marker = allocator.buffer(end.length);
    marker.writeBytes(end);
    stream.putMetadata(marker);
    stream.completed();
  }

  /** Read answers to their end: the status of the call comes after them. */
  private static String receipt(SyncPutListener answers) throws IOException, InterruptedException {
    String last = "{}";
    for (PutResult answer = next(answers); answer != null; answer = next(answers)) {
      ArrowBuf metadata = answer.getApplicationMetadata();
      byte[] text = new byte[(int) metadata.readableBytes()];
      metadata.readBytes(text);
      last = new String(text, StandardCharsets.UTF_8);
      answer.close();
    }
    if (!JSON.readTree(last).path("type").asText().equals("receipt")) {
      throw CallStatus.UNAVAILABLE.withDescription("the stream ended without a receipt").toRuntimeException();
    }
    return last;
  }

  private static PutResult next(SyncPutListener answers) throws InterruptedException {
    try {
      return answers.read();
    } catch (ExecutionException failed) {
      throw reason(failed);
    }
  }

  private static PutResult now(SyncPutListener answers) throws InterruptedException {
    try {
      return answers.poll(0, TimeUnit.MILLISECONDS);
    } catch (ExecutionException failed) {
      throw reason(failed);
    }
  }

  private static FlightRuntimeException reason(ExecutionException failed) {
    if (failed.getCause() instanceof FlightRuntimeException answered) {
      return answered;
    }
    return CallStatus.INTERNAL.withCause(failed.getCause()).toRuntimeException();
  }

  private static void discard(PutResult answer) {
    if (answer != null) {
      answer.close();
    }
  }
}
