package timestore.example;

import java.io.IOException;
import java.net.URI;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/** What the driver wants to know: a URL of its own, TLS and the bearer token. */
final class Address {
  static String of(Options options) {
    return "jdbc:arrow-flight-sql://" + URI.create(options.url()).getAuthority();
  }

  static Properties properties(Options options) throws IOException {
    Properties properties = new Properties();
    properties.put("useEncryption", Boolean.toString(options.url().startsWith("grpc+tls:")));
    if (options.tlsRoot().isPresent()) {
      properties.put("useSystemTrustStore", "false");
      properties.put("tlsRootCerts", options.tlsRoot().get());
    }
    if (options.tokenFile().isPresent()) {
      properties.put("token", Files.readString(Path.of(options.tokenFile().get())).strip());
    }
    return properties;
  }
}
