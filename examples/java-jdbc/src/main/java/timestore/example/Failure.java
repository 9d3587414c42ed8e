package timestore.example;

import java.sql.SQLException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Why there is no answer. The driver hides the details of an error, but the server's message, which starts with the
 * kind, is that of a cause; the message of the SQLException itself has the text of the query before it.
 */
record Failure(String kind, String message) {
  private static final Pattern KIND = Pattern.compile("^\\[([a-z_]+)\\] ");

  static Failure of(SQLException failure) {
    for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
      Matcher found = KIND.matcher(String.valueOf(cause.getMessage()));
      if (found.find()) {
        return new Failure(found.group(1), cause.getMessage());
      }
    }
    return new Failure("error", failure.getMessage());
  }
}
