"""As much of a Varlink client as the bench needs: one call, one reply, raw bytes on request."""
import json
import socket


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(60)
        self.socket.connect(path)

    def close(self):
        self.socket.close()

    def exchange(self, request):
        self.socket.sendall(request)
        parts = []
        while not parts or not parts[-1].endswith(b"\0"):
            part = self.socket.recv(1 << 20)
            if not part:
                raise ConnectionError("the daemon has closed the connection")
            parts.append(part)
        return b"".join(parts)


def request(method, parameters=None):
    call = {"method": "org.reeve.Control." + method, "parameters": parameters or {}}
    return json.dumps(call).encode() + b"\0"


def call(path, method, parameters=None):
    client = Client(path)
    try:
        reply = json.loads(client.exchange(request(method, parameters))[:-1])
    finally:
        client.close()
    if "error" in reply:
        raise RuntimeError(f"{method}: {reply['error']} {reply.get('parameters')}")
    return reply.get("parameters", {})
