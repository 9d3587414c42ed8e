"""The client: append Arrow data exactly once, read it back, query it, look at manifests.

client = timestore.connect("grpc://127.0.0.1:8815")
receipt = client.append("cpu", table, key={"region": "eu"}, idempotency_key="upload-17")
"""

from timestore.client.append_many import Append, AppendResult
from timestore.client.async_client import AsyncClient, connect_async
from timestore.client.client import Client, connect
from timestore.client.put_call import Progress

__all__ = ["Append", "AppendResult", "AsyncClient", "Client", "Progress", "connect", "connect_async"]
