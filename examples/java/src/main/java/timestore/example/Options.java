package timestore.example;

import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/** The command line. */
record Options(
    String command,
    String dataset,
    String file,
    String idempotencyKey,
    Map<String, String> key,
    Duration deadline,
    String url,
    Optional<String> tokenFile,
    Optional<String> tlsRoot) {

  private static final String USAGE =
      """
      usage: put|get DATASET FILE [--idempotency-key KEY] [--key NAME=VALUE]... [--deadline SECONDS]
             [--url grpc://HOST:PORT or grpc+tls://HOST:PORT] [--token-file FILE] [--tls-root FILE]""";

  static Options parse(String[] words) {
    if (words.length < 3 || words.length % 2 == 0 || !words[0].matches("put|get")) {
      throw exit(USAGE);
    }
    Map<String, String> given = new TreeMap<>();
    Map<String, String> key = new TreeMap<>();
    for (int at = 3; at < words.length; at += 2) {
      if (words[at].equals("--key")) {
        String[] part = words[at + 1].split("=", 2);
        key.put(part[0], part.length == 2 ? part[1] : "");
      } else {
        given.put(words[at], words[at + 1]);
      }
    }
    return new Options(
        words[0],
        words[1],
        words[2],
        given.getOrDefault("--idempotency-key", ""),
        key,
        Duration.ofMillis((long) (1000 * Double.parseDouble(given.getOrDefault("--deadline", "60")))),
        given.getOrDefault("--url", "grpc://127.0.0.1:8815"),
        Optional.ofNullable(given.get("--token-file")),
        Optional.ofNullable(given.get("--tls-root")));
  }

  private static RuntimeException exit(String complaint) {
    System.err.println(complaint);
    System.exit(2);
    return new IllegalStateException("unreachable");
  }
}
