package timestore.example;

import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;

/** The command line. */
record Options(String command, String query, String url, Optional<String> tokenFile, Optional<String> tlsRoot) {
  private static final String USAGE =
      """
      usage: sql QUERY | tables
             [--url grpc://HOST:PORT or grpc+tls://HOST:PORT] [--token-file FILE] [--tls-root FILE]""";

  static Options parse(String[] words) {
    String command = words.length > 0 ? words[0] : "";
    int first = command.equals("sql") ? 2 : 1; // where the options start
    if (!command.matches("sql|tables") || words.length < first || (words.length - first) % 2 != 0) {
      System.err.println(USAGE);
      System.exit(2);
    }
    Map<String, String> given = new TreeMap<>();
    for (int at = first; at < words.length; at += 2) {
      given.put(words[at], words[at + 1]);
    }
    return new Options(
        command,
        words[first - 1],
        given.getOrDefault("--url", "grpc://127.0.0.1:8815"),
        Optional.ofNullable(given.get("--token-file")),
        Optional.ofNullable(given.get("--tls-root")));
  }
}
