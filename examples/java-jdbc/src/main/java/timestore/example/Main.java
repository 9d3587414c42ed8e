package timestore.example;

import java.io.IOException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.logging.LogManager;

/**
 * Ask in SQL with nothing but JDBC, and print each row of the answer as a line of JSON.
 *
 * <pre>
 * mvn package
 * java -jar target/query.jar sql 'SELECT count(*) AS n FROM meters'
 * java -jar target/query.jar tables
 * </pre>
 */
public final class Main {
  public static void main(String[] arguments) {
    Options options = Options.parse(arguments);
    LogManager.getLogManager().reset(); // the driver logs; silence is enough here
    try (Connection connection = DriverManager.getConnection(Address.of(options), Address.properties(options));
        Statement statement = connection.createStatement();
        ResultSet rows = answer(options, statement)) {
      while (rows.next()) {
        System.out.println(Row.json(rows));
      }
    } catch (SQLException failure) {
      exit(Failure.of(failure));
    } catch (IOException | IllegalArgumentException failure) { // of files and the command line
      exit(new Failure("error", failure.getMessage()));
    }
  }

  private static ResultSet answer(Options options, Statement statement) throws SQLException {
    if (options.command().equals("sql")) {
      return statement.executeQuery(options.query());
    }
    return statement.getConnection().getMetaData().getTables(null, null, "%", null);
  }

  private static void exit(Failure failure) {
    System.err.printf("failed (%s): %s%n", failure.kind(), failure.message());
    System.exit(1);
  }
}
