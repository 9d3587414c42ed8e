"""A connection to a server that shows the client's token with every call."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.flight as flight

from timestore.client.access import Access, check_token
from timestore.errors import error


class Connection:
    """The calls of Flight that the client makes. Thread safe.

    Each also raises what the function raises that gives tokens. (It is not asked by middleware of Flight: there an
    exception is printed, and the call goes on without a token.)
    """

    def __init__(self, url: str, access: Access) -> None:
        """Make a connection, which the first call opens; raises ``descriptor_invalid``."""
        self._token = access.token
        try:
            self._flight = flight.FlightClient(
                url,
                tls_root_certs=access.tls_root_certs,
                cert_chain=access.tls_client_cert,
                private_key=access.tls_client_key,
            )
        except pa.ArrowException as exc:
            raise error(
                "descriptor_invalid",
                f"{url!r} is no server's URL like grpc://127.0.0.1:8815 or grpc+tls://host:8815 ({exc})",
            ) from exc

    def close(self) -> None:
        self._flight.close()

    def do_put(
        self, descriptor: flight.FlightDescriptor, schema: pa.Schema
    ) -> tuple[flight.FlightStreamWriter, flight.FlightMetadataReader]:
        writer, answers = self._flight.do_put(descriptor, schema, self._options())
        return writer, answers

    def do_get(self, ticket: flight.Ticket) -> flight.FlightStreamReader:
        return self._flight.do_get(ticket, self._options())

    def do_action(self, action: flight.Action) -> flight.ResultIterator:
        return self._flight.do_action(action, self._options())

    def get_flight_info(self, descriptor: flight.FlightDescriptor) -> flight.FlightInfo:
        return self._flight.get_flight_info(descriptor, self._options())

    def get_schema(self, descriptor: flight.FlightDescriptor) -> flight.SchemaResult:
        return self._flight.get_schema(descriptor, self._options())

    def _options(self) -> flight.FlightCallOptions:
        if self._token is None:
            return flight.FlightCallOptions()
        token = self._token if isinstance(self._token, str) else check_token(self._token())
        return flight.FlightCallOptions(headers=[(b"authorization", f"Bearer {token}".encode())])
