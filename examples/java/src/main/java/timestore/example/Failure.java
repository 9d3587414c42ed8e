package timestore.example;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import com.google.rpc.Status;
import java.time.Duration;
import java.util.EnumSet;
import java.util.Set;
import org.apache.arrow.flight.ErrorFlightMetadata;
import org.apache.arrow.flight.FlightRuntimeException;
import org.apache.arrow.flight.FlightStatusCode;

/** What the server answered, or why nobody did. */
final class Failure extends Exception {
  private static final long serialVersionUID = 1L;

  // What the reference says of errors: these four, and no other.
  private static final Set<FlightStatusCode> MAY_BE_REPEATED =
      EnumSet.of(
          FlightStatusCode.UNAVAILABLE,
          FlightStatusCode.CANCELLED,
          FlightStatusCode.TIMED_OUT,
          FlightStatusCode.INTERNAL);

  private final FlightStatusCode code;
  private String kind = "error";
  private Duration retryAfter = Duration.ZERO;

  Failure(FlightRuntimeException error) {
    super(error.getMessage(), error);
    code = error.status().code();
    ErrorFlightMetadata trailers = error.status().metadata();
    if (trailers != null && trailers.containsKey("grpc-status-details-bin")) {
      readDetails(trailers.getByte("grpc-status-details-bin"));
    }
  }

  private void readDetails(byte[] status) {
    try {
      for (Any detail : Status.parseFrom(status).getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          kind = detail.unpack(ErrorInfo.class).getReason();
        } else if (detail.is(RetryInfo.class)) {
          com.google.protobuf.Duration delay = detail.unpack(RetryInfo.class).getRetryDelay();
          retryAfter = Duration.ofSeconds(delay.getSeconds(), delay.getNanos());
        }
      }
    } catch (InvalidProtocolBufferException unreadable) {
      addSuppressed(unreadable); // code and message still tell what to do
    }
  }

  /** The stable name of what happened. */
  String kind() {
    return kind;
  }

  boolean mayBeRepeated() {
    return MAY_BE_REPEATED.contains(code);
  }

  /** How long the server asks us to wait. */
  Duration retryAfter() {
    return retryAfter;
  }
}
