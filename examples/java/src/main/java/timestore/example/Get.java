package timestore.example;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.channels.Channels;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.FlightDescriptor;
import org.apache.arrow.flight.FlightEndpoint;
import org.apache.arrow.flight.FlightInfo;
import org.apache.arrow.flight.FlightStream;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.VectorLoader;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.VectorUnloader;
import org.apache.arrow.vector.dictionary.DictionaryProvider;
import org.apache.arrow.vector.dictionary.DictionaryProvider.MapDictionaryProvider;
import org.apache.arrow.vector.ipc.ArrowStreamWriter;
import org.apache.arrow.vector.ipc.WriteChannel;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.arrow.vector.ipc.message.IpcOption;
import org.apache.arrow.vector.ipc.message.MessageSerializer;
import org.apache.arrow.vector.types.pojo.Schema;

/** Reads a whole dataset, as it is now, into an Arrow stream file. */
final class Get {
  private final FlightClient client;
  private final BufferAllocator allocator;
  private final Options options;

  Get(FlightClient client, BufferAllocator allocator, Options options) {
    this.client = client;
    this.allocator = allocator;
    this.options = options;
  }

  /** All endpoints of the answer show one version, so they are parts of one table. */
  void run() throws Exception {
    byte[] command = new ObjectMapper().writeValueAsBytes(Map.of("v", 1, "dataset", options.dataset()));
    CallOption[] headers = Connection.headers(options);
    FlightInfo info = Retrying.once(() -> client.getInfo(FlightDescriptor.command(command), headers));
    try (OutputStream file = new BufferedOutputStream(Files.newOutputStream(Path.of(options.file())))) {
      if (info.getEndpoints().isEmpty()) {
        writeSchema(info.getSchemaOptional().orElseThrow(), file);
      } else {
        copy(info.getEndpoints(), headers, file);
      }
    }
  }

  private static void writeSchema(Schema schema, OutputStream file) throws IOException {
    WriteChannel channel = new WriteChannel(Channels.newChannel(file));
    MessageSerializer.serialize(channel, schema);
    ArrowStreamWriter.writeEndOfStream(channel, IpcOption.DEFAULT);
  }

  private void copy(List<FlightEndpoint> endpoints, CallOption[] headers, OutputStream file) throws Exception {
    try (FlightStream first = client.getStream(endpoints.get(0).getTicket(), headers);
        VectorSchemaRoot batch = VectorSchemaRoot.create(first.getRoot().getSchema(), allocator)) {
      MapDictionaryProvider dictionaries = new MapDictionaryProvider();
      learn(first, dictionaries);
      try (ArrowStreamWriter writer = new ArrowStreamWriter(batch, dictionaries, file)) {
        copy(first, batch, dictionaries, writer);
        for (FlightEndpoint endpoint : endpoints.subList(1, endpoints.size())) {
          try (FlightStream stream = client.getStream(endpoint.getTicket(), headers)) {
            copy(stream, batch, dictionaries, writer);
          }
        }
      }
    }
  }

  /** Write what a stream brings, by way of the batch that the writer knows. */
  private static void copy(
      FlightStream stream, VectorSchemaRoot batch, MapDictionaryProvider dictionaries, ArrowStreamWriter writer)
      throws IOException {
    VectorLoader loader = new VectorLoader(batch);
    VectorUnloader unloader = new VectorUnloader(stream.getRoot());
    while (stream.next()) {
      learn(stream, dictionaries); // they may change with every batch
      try (ArrowRecordBatch rows = unloader.getRecordBatch()) {
        loader.load(rows);
      }
      writer.writeBatch();
    }
  }

  private static void learn(FlightStream stream, MapDictionaryProvider dictionaries) {
    DictionaryProvider brought = stream.getDictionaryProvider();
    brought.getDictionaryIds().forEach(id -> dictionaries.put(brought.lookup(id)));
  }
}
