"""
A model server: each worker answers `GET /N` with the rows of a table that are most like row N. The
table is made once by the template and shared, copy on write; under spawn each worker makes its own.
All workers accept on one socket, which Reeve holds.
"""
import select

import numpy
import reeve

ROWS, COLUMNS = 40000, 256
table = numpy.zeros((0, COLUMNS), numpy.float32)


@reeve.preload
def load():
    """40 MB. It is only read afterwards, and an array has no reference counts inside."""
    global table
    table = numpy.random.default_rng(7).random((ROWS, COLUMNS), dtype=numpy.float32)
    table.flags.writeable = False


def answer(path):
    try:
        row = int(path.strip("/"))
        distance = ((table - table[row]) ** 2).sum(axis=1)
    except (ValueError, IndexError):
        return 404, f"GET /0 to /{ROWS - 1}"
    nearest = numpy.argpartition(distance, 4)[:4]
    return 200, " ".join(str(n) for n in nearest[numpy.argsort(distance[nearest])])


def serve(connection):
    connection.settimeout(5)
    request = connection.recv(4096).split()
    code, text = answer(request[1].decode()) if len(request) > 1 else (400, "GET /N")
    body = f"{reeve.name()}: {text}\n".encode()
    head = f"HTTP/1.0 {code} OK\r\nContent-Length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)


def main():
    listener = reeve.sockets()["http"]
    listener.setblocking(False)
    reeve.ready()
    served = 0
    while not reeve.stopping():
        if listener not in select.select([listener, reeve.stop_fd], [], [])[0]:
            continue
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # another worker was faster
            continue
        with connection:
            try:
                serve(connection)
            except OSError:  # the client went away
                pass
        served += 1
        reeve.status(f"{served} requests")
