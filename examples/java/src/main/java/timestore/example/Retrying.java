package timestore.example;

import java.time.Duration;
import java.time.Instant;
import java.util.concurrent.ThreadLocalRandom;
import org.apache.arrow.flight.FlightRuntimeException;

/** Repeat what may be repeated: with longer pauses each time, and never shorter than the server asks for. */
final class Retrying {
  private static final Duration FIRST_WAIT = Duration.ofMillis(100);
  private static final Duration LONGEST_WAIT = Duration.ofSeconds(5);

  interface Call<T> {
    T make() throws Exception;
  }

  /** Call until it succeeds, fails for good, or the deadline has passed. */
  static <T> T untilAnswered(Duration deadline, Call<T> call) throws Exception {
    Instant end = Instant.now().plus(deadline);
    Duration wait = FIRST_WAIT;
    while (true) {
      try {
        return once(call);
      } catch (Failure failure) {
        long jittered = (long) (wait.toMillis() * ThreadLocalRandom.current().nextDouble(0.5, 1));
        long pause = Math.max(failure.retryAfter().toMillis(), jittered);
        if (!failure.mayBeRepeated() || Instant.now().plusMillis(pause).isAfter(end)) {
          throw failure;
        }
        Thread.sleep(pause);
        wait = wait.multipliedBy(2).compareTo(LONGEST_WAIT) < 0 ? wait.multipliedBy(2) : LONGEST_WAIT;
      }
    }
  }

  /** Call, and tell a failure of the call from any other. */
  static <T> T once(Call<T> call) throws Exception {
    try {
      return call.make();
    } catch (FlightRuntimeException error) {
      throw new Failure(error);
    }
  }
}
