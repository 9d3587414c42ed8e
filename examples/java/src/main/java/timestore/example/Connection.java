package timestore.example;

import java.io.IOException;
import java.io.InputStream;
import java.net.URISyntaxException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.apache.arrow.flight.CallOption;
import org.apache.arrow.flight.FlightCallHeaders;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.flight.HeaderCallOption;
import org.apache.arrow.flight.Location;
import org.apache.arrow.memory.BufferAllocator;

/** Connections: TLS for grpc+tls://, and the bearer token for every call. */
final class Connection {
  static FlightClient open(Options options, BufferAllocator allocator) throws IOException, URISyntaxException {
    FlightClient.Builder builder = FlightClient.builder(allocator, new Location(options.url()));
    if (options.tlsRoot().isEmpty()) {
      return builder.build();
    }
    try (InputStream roots = Files.newInputStream(Path.of(options.tlsRoot().get()))) {
      return builder.trustedCertificates(roots).build();
    }
  }

  /** What every call is made with. */
  static CallOption[] headers(Options options) throws IOException {
    FlightCallHeaders headers = new FlightCallHeaders();
    if (options.tokenFile().isPresent()) {
      String token = Files.readString(Path.of(options.tokenFile().get())).strip();
      headers.insert("authorization", "Bearer " + token);
    }
    return new CallOption[] {new HeaderCallOption(headers)};
  }
}
