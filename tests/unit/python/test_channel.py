"""The codec: everything comes back as it went, and nothing else is accepted."""
import struct

from rig import Case, Channel, Message, Tag, Type, os, socket, unittest
from reeve import _channel
from reeve._protocol import FORMS, SHAPES, Limit, ProtocolError

HEADER = struct.Struct("=HHIII")
RECORD = struct.Struct("=HHI")


def packet(kind, records=b"", request=0, flags=0, zero=0, size=None):
    size = HEADER.size + len(records) if size is None else size
    return HEADER.pack(kind, flags, size, request, zero) + records


def record(tag, data, flags=0, size=None, pad=b"\0"):
    size = len(data) if size is None else size
    return RECORD.pack(tag, flags, size) + data + pad * (-len(data) % 8)


class Codec(unittest.TestCase):
    def test_round_trip(self):
        sent = Message(Type.FORK, 7, [
            (Tag.NAME, "web:3"), (Tag.INDEX, 3), (Tag.COUNT, 4), (Tag.INCARNATION, 1),
            (Tag.GENERATION, 2), (Tag.ARG, b"\xff\xfe"), (Tag.ENV, b"A=\xc3\xa4"), (Tag.ENV, b"B="),
            (Tag.CWD, b"/"), (Tag.UMASK, 0o22), (Tag.NICE, -5),
            (Tag.LIMIT, Limit(7, 1024, (1 << 64) - 1)), (Tag.FD_MAP, (-1, 0, 1, 2, 5))])
        got = _channel.decode(_channel.encode(sent))
        self.assertEqual((got.type, got.request, got.records),
                         (sent.type, sent.request, sent.records))

    def test_layout(self):
        """Byte for byte, as the manual says."""
        self.assertEqual(
            _channel.encode(Message(Type.LOADING, 0, [(Tag.TEXT, "numpy")])),
            struct.pack("=HHIII", 2, 0, 32, 0, 0) + struct.pack("=HHI", 12, 0, 5) + b"numpy\0\0\0")

    def test_every_tag_has_a_form(self):
        self.assertEqual(set(FORMS), set(Tag))
        self.assertEqual(set(SHAPES), set(Type))

    def test_bytes_that_are_no_text_survive(self):
        got = _channel.decode(packet(Type.LOADING, record(Tag.TEXT, b"a\xff")))
        self.assertEqual(_channel.encode(got), packet(Type.LOADING, record(Tag.TEXT, b"a\xff")))

    def test_lone_surrogate_does_not_raise(self):
        _channel.encode(Message(Type.LOADING, 0, [(Tag.TEXT, "\ud800 \0")]))

    def test_optional_tag_is_skipped(self):
        got = _channel.decode(packet(Type.QUIT, record(999, b"abc", flags=1)))
        self.assertEqual(got.records, [])

    def test_bad_packets(self):
        text = record(Tag.TEXT, b"numpy")
        bad = {
            "empty": b"", "short": b"\1\0", "too long": bytes(70000),
            "unknown type": packet(99), "type 0": packet(0),
            "flags": packet(2, text, flags=1), "zero": packet(2, text, zero=1),
            "length below": packet(2, text, size=16), "length beyond": packet(2, text, size=1 << 31),
            "trailing bytes": packet(2, text + b"\0\0\0\0"),
            "record beyond": packet(2, record(Tag.TEXT, b"abcdefgh", size=9)),
            "huge record": packet(2, record(Tag.TEXT, b"abcdefgh", size=0xFFFFFFFF)),
            "padding": packet(2, record(Tag.TEXT, b"numpy", pad=b"x")),
            "record flags": packet(2, record(Tag.TEXT, b"numpy", flags=2)),
            "unknown tag": packet(10, record(99, b"")),
            "tag of another type": packet(10, text),
            "twice": packet(2, text + text), "missing": packet(2),
            "NUL": packet(2, record(Tag.TEXT, b"a\0b")),
            "wrong size": packet(5, record(Tag.PID, b"\1\0\0"), request=1),
            "no request": packet(8), "a request": packet(2, text, request=3),
            "map": packet(4, record(Tag.FD_MAP, b"\1\0\0"), request=1),
            "limit": packet(4, record(Tag.LIMIT, struct.pack("=IIQQ", 7, 1, 1, 1)), request=1),
        }
        for name, data in bad.items():
            with self.subTest(name), self.assertRaises(ProtocolError):
                _channel.decode(data)

    def test_every_cut_is_refused(self):
        whole = _channel.encode(Message(Type.FAILED, 3, [
            (Tag.STAGE, "fork"), (Tag.ERRNO, 11), (Tag.TEXT, "no")]))
        for n in range(len(whole)):
            with self.assertRaises(ProtocolError):
                _channel.decode(whole[:n])

    def test_too_big_to_send(self):
        with self.assertRaises(ProtocolError):
            _channel.encode(Message(Type.LOADING, 0, [(Tag.TEXT, "x" * 65536)]))


class Ends(Case):
    def pair(self):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pair = Channel(ours.detach()), Channel(theirs.detach())
        for channel in pair:
            self.addCleanup(channel.close)
        return pair

    def fork(self, fds):
        return (Type.FORK, (Tag.NAME, "a:0"), (Tag.INDEX, 0), (Tag.COUNT, 1), (Tag.INCARNATION, 1),
                (Tag.GENERATION, 1), (Tag.FD_MAP, tuple(range(-1, len(fds) - 1))))

    def test_fds_travel_and_are_closed_on_exec(self):
        a, b = self.pair()
        with open("/dev/null", "rb") as null:
            a.send(*self.fork([0, 0]), request=1, fds=[null.fileno(), null.fileno()])
        message = b.receive()
        self.assertEqual([os.get_inheritable(fd) for fd in message.fds], [False, False])
        message.close_fds()

    def test_fds_of_a_bad_packet_are_closed(self):
        a, b = self.pair()
        before = os.listdir("/proc/self/fd")
        socket.send_fds(a.socket, [b"garbage"], [0, 0, 0])
        with self.assertRaises(ProtocolError):
            b.receive()
        socket.send_fds(a.socket, [_channel.encode(Message(Type.QUIT))], [0])
        with self.assertRaises(ProtocolError):
            b.receive()
        self.assertEqual(os.listdir("/proc/self/fd"), before)

    def test_the_end(self):
        a, b = self.pair()
        with self.assertRaises(BlockingIOError):
            b.receive(wait=False)
        a.close()
        self.assertIsNone(b.receive())

    def test_hidden_number(self):
        a, b = self.pair()
        hidden = Channel.hidden(b.socket.detach())
        self.assertGreaterEqual(hidden.fileno(), 200)
        self.assertFalse(os.get_inheritable(hidden.fileno()))
        a.send(Type.QUIT)
        self.assertEqual(hidden.receive().type, Type.QUIT)
        hidden.close()

    def test_soft_limit_below_the_hidden_number(self):
        from rig import resource
        a, b = self.pair()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        hidden = Channel.hidden(b.socket.detach())
        self.assertGreater(hidden.fileno(), 2)
        hidden.close()
