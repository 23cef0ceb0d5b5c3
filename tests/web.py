"""GET, for tests that look again and again.

`httpx.get` makes a client for each call, and that a TLS context: 29 ms of CPU time, which engines
beside it lack. Connections are not kept, since what is asked is killed and frozen.
"""

import httpx

_client = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0))  # noqa: S501
get = _client.get
