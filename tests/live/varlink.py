"""A Varlink client of a few lines: JSON objects with a NUL behind each, over a Unix socket."""
import json
import socket

INTERFACE = "org.reeve.Control"


class Refused(Exception):
    """An error reply; `name` without the interface."""

    def __init__(self, reply):
        self.name = reply["error"].rpartition(".")[2]
        self.full_name = reply["error"]
        self.parameters = reply.get("parameters") or {}
        super().__init__(f"{self.name} {json.dumps(self.parameters)[:500]}")


class Client:
    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise
        self.buffer = b""

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, method, parameters=None, **flags):
        name = method if "." in method else f"{INTERFACE}.{method}"
        call = {"method": name, "parameters": parameters or {}, **flags}
        self.sock.sendall(json.dumps(call).encode() + b"\0")

    def receive(self):
        """The next reply as it came; EOFError when the other side has closed."""
        while b"\0" not in self.buffer:
            data = self.sock.recv(1 << 18)
            if not data:
                raise EOFError("connection closed by the daemon")
            self.buffer += data
        text, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(text)

    def reply(self):
        answer = self.receive()
        if answer.get("error"):
            raise Refused(answer)
        return answer.get("parameters") or {}

    def call(self, method, parameters=None):
        self.send(method, parameters)
        return self.reply()

    def stream(self, method, parameters=None):
        """All replies to a call with `more`."""
        self.send(method, parameters, more=True)
        while True:
            answer = self.receive()
            if answer.get("error"):
                raise Refused(answer)
            yield answer.get("parameters") or {}
            if not answer.get("continues"):
                return
