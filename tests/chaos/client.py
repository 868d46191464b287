"""A client as reevectl is one: it sends a call again, with the same operation id, until it knows."""
import os
import socket
import time

import varlink

CHANGING = {"Start", "Stop", "Restart", "Kill", "Scale", "Reset", "Reload"}


def ask(path, method, timeout=30.0, **parameters):
    """The answer, over any number of deaths of the manager; TimeoutError when there is none. A call
    that has a time limit of its own gets that long to say so."""
    timeout += parameters.get("timeout_ms", 0) / 1000
    if method in CHANGING:
        parameters.setdefault("op", os.urandom(16).hex())
    end = time.monotonic() + timeout
    while True:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"{method} {parameters} was not answered within {timeout} s")
        try:
            with varlink.Client(path, left) as client:
                return client.call(method, parameters)
        except varlink.Refused as error:
            if error.name != "Failed" or "cannot be handed" not in str(error):
                raise
        except socket.timeout:
            continue
        except (OSError, EOFError):
            time.sleep(.005)


def workers(path, timeout=30.0):
    """name → Worker over any number of deaths."""
    end = time.monotonic() + timeout
    while True:
        try:
            found = {}
            with varlink.Client(path, timeout) as client:
                for part in client.stream("List"):
                    found.update({w["worker"]: w for w in part.get("workers", [])})
            return found
        except (OSError, EOFError):
            if time.monotonic() > end:
                raise
            time.sleep(.005)
