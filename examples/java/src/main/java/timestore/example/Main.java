package timestore.example;

import java.io.IOException;
import org.apache.arrow.flight.FlightClient;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.RootAllocator;

/**
 * Append an Arrow stream file exactly once, and read a dataset back, with nothing but Arrow's own Java library.
 *
 * <pre>
 * mvn package
 * java -jar target/append.jar put meters june.arrows --idempotency-key meters/june --key site=12
 * java -jar target/append.jar get meters all.arrows
 * </pre>
 */
public final class Main {
  public static void main(String[] arguments) throws Exception {
    Options options = Options.parse(arguments);
    try (BufferAllocator allocator = new RootAllocator();
        FlightClient client = Connection.open(options, allocator)) {
      if (options.command().equals("get")) {
        new Get(client, allocator, options).run();
      } else {
        Put put = new Put(client, allocator, options);
        System.out.println(Retrying.untilAnswered(options.deadline(), put::once));
      }
    } catch (Failure failure) {
      exit(failure.kind(), failure);
    } catch (IOException | IllegalArgumentException failure) { // of the file
      exit("error", failure);
    }
  }

  private static void exit(String kind, Exception failure) {
    System.err.printf("failed (%s): %s%n", kind, failure.getMessage());
    System.exit(1);
  }
}
