# SPDX-License-Identifier: Apache-2.0
"""Health check of a container: asks ``/live`` of the daemon where its streams.yaml says that it is served.

Exit code 0: it is live, or the file has no section ``server`` and nothing can be asked. 1: anything else, in one line.
"""

from __future__ import annotations

import http.client
import ssl
import sys
from pathlib import Path
from typing import Any

import yaml

LISTEN = "127.0.0.1:8080"
"""What the server has where the file names none."""
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
TIMEOUT_S = 4.0


def connection(server: dict[str, Any]) -> http.client.HTTPConnection:
    """To the server of this section, from the machine that it runs on; nothing is sent yet."""
    host, _, port = str(server.get("listen", LISTEN)).rpartition(":")
    host = host.strip("[]")
    host = ANYWHERE.get(host, host)
    if server.get("tls") is None:
        return http.client.HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    # The certificate names the machine as others call it, and nothing secret is sent or believed.
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(host, int(port), timeout=TIMEOUT_S, context=context)


def main(path: str) -> int:
    """Ask once; ``path`` is the streams.yaml."""
    try:
        server = yaml.safe_load(Path(path).read_text(encoding="utf-8")).get("server")
        if server is None:
            print(f"{path} has no section server: nothing to ask")
            return 0
        asked = connection(server)
        asked.request("GET", "/live")
        answer = asked.getresponse()
        print(answer.status, answer.read(100).decode("ascii", "replace").strip())
    except (OSError, http.client.HTTPException, yaml.YAMLError, AttributeError, ValueError) as error:
        print(f"{type(error).__name__}: {' '.join(str(error).split())}")
        return 1
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "/etc/pipeline/streams.yaml"))
