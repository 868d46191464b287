#!/usr/bin/env python3
"""An HTTP worker that needs nothing but the standard library.

All workers of the group accept on one socket, which Reeve holds open and passes as fd 3: while one
worker is restarted the others, or the kernel's queue, take the requests.
"""
import http.server
import os
import signal
import socket
import threading
import time

LISTEN_FDS_START = 3


def notify(text):
    """sd_notify(3) in four lines."""
    if "NOTIFY_SOCKET" in os.environ:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.served += 1
        body = (f"{os.environ['REEVE_WORKER']} (pid {os.getpid()}, incarnation "
                f"{os.environ['REEVE_INCARNATION']}) answers its request {self.server.served}\n")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())
        notify(f"STATUS={self.server.served} requests served")

    def log_message(self, format, *args):
        print("request from", self.client_address[0], format % args, flush=True)


def main():
    server = http.server.ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=LISTEN_FDS_START)
    # A sibling may have been quicker: accept must not wait then.
    server.socket.setblocking(False)
    server.served = 0
    # shutdown() waits for the loop that this handler interrupts, hence the thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    time.sleep(0.3)  # something to load, so that `starting` can be seen
    notify("READY=1\nSTATUS=waiting for the first request")
    server.serve_forever()
    print("no new requests, the last one is answered", flush=True)


main()
