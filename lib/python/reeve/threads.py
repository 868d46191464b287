"""
`python3 -m reeve.threads`: one process, a thread for each slot of the group.

The main thread owns the channel and does nothing but listen; slots speak through it under a lock and
never wait for the daemon: what must arrive is queued, what is only news is dropped when the socket is
full. A slot that hangs cannot be ended by itself: the process is the unit of crash and signal.
"""
from __future__ import annotations

import collections
import errno
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional

from . import _libc, _load, _notify, _run, template
from ._channel import Channel, Message, Record
from ._hooks import hooks
from ._protocol import ProtocolError, Tag, Type, name_of
from ._worker import Nobody, context


class Slot(Nobody):
    """A worker that is a thread; what `reeve` means in that thread."""

    def __init__(self, host: "Host", start: Message) -> None:
        super().__init__()
        self.host, self.request = host, start.request
        self.name = start.need(Tag.NAME)
        self.index, self.incarnation = start.need(Tag.INDEX), start.need(Tag.INCARNATION)
        own = (pair.partition(b"=") for pair in start.all(Tag.ENV))
        self.environ: Mapping[str, str] = {
            **os.environ, "REEVE_WORKER": self.name, "REEVE_INDEX": str(self.index),
            "REEVE_INCARNATION": str(self.incarnation),
            **{os.fsdecode(key): os.fsdecode(value) for key, _, value in own}}
        self.state = "started"
        self._jobs = 0
        self._pace = _notify.Pace(self.environ.get("WATCHDOG_USEC"))

    def message(self, state: str, *records: Record, request: int = 0) -> Message:
        return Message(Type.SLOT, request, [(Tag.INDEX, self.index),
                                            (Tag.INCARNATION, self.incarnation),
                                            (Tag.STATE, state), *records])

    def say(self, state: str, *records: Record, keep: bool = False) -> bool:
        return self.host.post(self.message(state, *records), keep)

    def ready(self) -> bool:
        self.state = "ready"
        return self.say("ready", keep=True)

    def beat(self) -> bool:
        return not self._pace.due() or (self.say("beat") and self._pace.said())

    def status(self, text: str) -> bool:
        return self.say(self.state, (Tag.TEXT, _notify.one_line(text)[:1024]))

    def progress(self, done: int, total: int) -> bool:
        return self.say(self.state, (Tag.PROGRESS, (int(done), int(total))))

    def jobs(self, count: int) -> bool:
        self._jobs += int(count)
        if not self.say(self.state, (Tag.JOBS, self._jobs)):
            return False
        self._jobs = 0
        return True

    def busy(self, value: bool) -> bool:
        return self.say(self.state, (Tag.BUSY, int(bool(value))))

    def stopping(self) -> bool:
        return self.stop.is_set()

    def run(self, function: Callable[[], Any]) -> None:
        """The thread: from "started" to "ended"."""
        context.local.me = self
        _libc.set_name(self.name)
        self.host.post(self.message("started", request=self.request), True)
        code, text, _ = _named(self.name)(function)
        if text is not None:
            _load.say(f"reeve: {self.name} failed\n{text}")
        records: List[Record] = [(Tag.CODE, code)]
        if text is not None:
            records.append((Tag.TEXT, text[-8192:]))
        self.host.ended(self, self.message("ended", *records))


def _named(name: str) -> Callable[[Callable[[], Any]], Any]:
    """
    _run.call with the slot's name as the function's: a crash dump of faulthandler and every tool
    that shows stacks name the slot then.
    """
    def slot(function: Callable[[], Any]) -> Any:
        return _run.call(function)
    slot.__code__ = slot.__code__.replace(co_name=f"slot {name}")
    return slot


class Host(Nobody):
    """The process; also what `reeve` means in threads that are no slots."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self.channel = channel
        self.slots: Dict[int, Slot] = {}
        self.last: Dict[int, Message] = {}  # what became of each slot's last incarnation
        self._lock = threading.Lock()
        self._queue: Deque[Message] = collections.deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.draining = False
        self.function: Optional[Callable[[], Any]] = None

    def stopping(self) -> bool:
        return self.draining

    def wake(self) -> None:
        try:
            os.write(self._wake_write, b"\1")
        except OSError:
            pass

    def post(self, message: Message, keep: bool) -> bool:
        """Send without waiting. What is to be kept is sent as soon as there is room, in order."""
        with self._lock:
            return self._post(message, keep)

    def _post(self, message: Message, keep: bool) -> bool:
        if not self._queue and self._send(message):
            return True
        if keep:
            self._queue.append(message)
            self.wake()
        return keep

    def _send(self, message: Message) -> bool:
        try:
            self.channel.send_now(message)
            return True
        except BlockingIOError:
            return False
        except OSError:
            return True  # nobody is there: the end of the channel will be seen

    def flush(self) -> None:
        with self._lock:
            while self._queue and self._send(self._queue[0]):
                self._queue.popleft()

    def ended(self, slot: Slot, last: Message) -> None:
        """The slot is free before the daemon can know of it, and its end is said before ours."""
        with self._lock:
            self.slots.pop(slot.index, None)
            self.last[slot.index] = last
            self._post(last, True)
        self.wake()

    def drain(self, *_: Any) -> None:
        """Also the handler of SIGTERM: all slots are asked to end, then the process does."""
        self.draining = True
        for slot in list(self.slots.values()):
            slot.stop.set()
        self.wake()

    def hear_signals(self) -> None:
        """poll() ends for one that came right before it, or to another thread, too."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self.drain)

    def serve(self) -> int:
        poll = select.poll()
        poll.register(self._wake_read, select.POLLIN)
        channel: int = self.channel.fileno()
        while not (self.draining and not self.slots and not self._queue):
            poll.register(channel, select.POLLIN | (select.POLLOUT if self._queue else 0))
            for fd, what in poll.poll():
                if fd == self._wake_read:
                    os.read(fd, 4096)
                elif what & ~select.POLLOUT and not self.hear():
                    return self.orphaned()
            self.flush()
        return 0

    def orphaned(self) -> int:
        """The daemon is gone: let the slots end."""
        self._queue.clear()
        self.drain()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and not thread.daemon:
                thread.join()
        return 0

    def hear(self) -> bool:
        """Act on one message; False at the end of the channel."""
        message = self.channel.receive()
        if message is None:
            return False
        if message.type == Type.QUIT:
            self.drain()
        elif message.type == Type.PING:
            self.post(Message(Type.PONG, message.request, template.measures()), True)
        elif message.type == Type.START:
            self.start(message)
        elif message.type == Type.STOP:
            self.stop_slot(message)
        else:
            raise ProtocolError(f"{name_of(message.type)} is not for a threads host")
        return True

    def asked_again(self, message: Message) -> bool:
        """
        A START that was seen before: the daemon's manager has died since, and may not have heard
        what has become of it.
        """
        index, incarnation = message.need(Tag.INDEX), message.need(Tag.INCARNATION)
        with self._lock:
            slot, last = self.slots.get(index), self.last.get(index)
            if slot is not None and slot.incarnation == incarnation:
                self._post(slot.message(slot.state, request=message.request), True)
            elif last is not None and last.need(Tag.INCARNATION) == incarnation:
                self._post(last, True)
            else:
                return False
        return True

    def start(self, message: Message) -> None:
        if self.asked_again(message):
            return
        slot = Slot(self, message)
        try:
            if slot.index in self.slots:
                raise OSError(errno.EBUSY, f"{self.slots[slot.index].name} still runs")
            if self.draining:
                raise OSError(errno.ESHUTDOWN, "the host is ending")
            self.slots[slot.index] = slot
            threading.Thread(target=slot.run, args=(self.function,), name=slot.name).start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            if self.slots.get(slot.index) is slot:
                del self.slots[slot.index]
            self.post(Message(Type.FAILED, message.request, [
                (Tag.STAGE, "thread"), (Tag.ERRNO, _load.errno_of(error) or errno.EAGAIN),
                (Tag.TEXT, getattr(error, "strerror", None) or str(error))]), True)

    def stop_slot(self, message: Message) -> None:
        """Without an index: all. An incarnation that is over is none of ours."""
        index = message.get(Tag.INDEX)
        if index is None:
            self.drain()
            return
        slot = self.slots.get(index)
        if slot is not None and message.get(Tag.INCARNATION) in (None, slot.incarnation):
            slot.stop.set()


def host(channel: Channel, hello: Message) -> int:
    """Load, and be the host."""
    begin = time.monotonic()
    made = Host(channel)
    context.worker = made  # type: ignore[assignment]
    template.ignore_interrupts()
    faulthandler.enable()
    _run.line_buffered()
    done = template.load(channel, hello, single=False)
    good = template.say_ready(channel, begin, hello, done)
    entry = hello.need(Tag.ENTRY)
    if not good and (hello.get(Tag.PRELOAD_ERRORS, "fail") != "warn" or done[-1].error):
        return 1
    sys.argv[:] = [entry]
    made.function = _load.resolve(entry)
    hooks.run_after()
    made.hear_signals()
    code = made.serve()
    _run.end(code)


def main(argv: List[str]) -> int:
    return template.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
