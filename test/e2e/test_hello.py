"""However a ClientHello arrives, it gets the same certificate."""
import os
import socket
import ssl

import pytest

from client import tls_context
from gateway import SOAK, Gateway

SITE = '''
listen 127.0.0.1:{port}
site localhost { respond 200 "local" }
site www.test { respond 200 "www" }
'''


@pytest.fixture(scope='module')
def gateway():
    with Gateway(SITE) as one:
        one.root()
        yield one


class Handshake:
    """A TLS client whose bytes are sent as the test likes."""

    def __init__(self, gateway, name, alpn=('http/1.1',)):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = tls_context(os.path.join(gateway.folder, 'root.pem'), alpn)
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.socket = socket.create_connection(('127.0.0.1', gateway.port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_done()
        self.hello = self.outgoing.read()

    @staticmethod
    def step(function, *arguments):
        try:
            return function(*arguments)
        except ssl.SSLWantReadError:
            return None

    def finish(self):
        """The rest of the handshake and one request; its answer."""
        while not self.is_done():
            self.pump()
        self.tls.write(b'GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' % self.tls.server_hostname.encode())
        self.flush()
        got = b''
        while b'\r\n\r\n' not in got or not got.endswith((b'local', b'www')):
            data = self.step(self.tls.read, 65536)
            if data:
                got += data
            elif data is None:
                self.pump()
            else:
                break
        self.socket.close()
        return got.rpartition(b'\r\n\r\n')[2]

    def is_done(self):
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.socket.sendall(data)

    def pump(self):
        self.flush()
        data = self.socket.recv(65536)
        assert data, 'closed within the handshake'
        self.incoming.write(data)


def records(hello, cuts):
    """The hello's message in several records, cut at these places."""
    message = hello[5:]
    edges = [0, *cuts, len(message)]
    return b''.join(hello[:3] + (b - a).to_bytes(2, 'big') + message[a:b] for a, b in zip(edges, edges[1:]))


def test_one_byte_a_write(gateway):
    for name, body in (('localhost', b'local'), ('www.test', b'www')):
        shake = Handshake(gateway, name)
        for byte in shake.hello:
            shake.socket.sendall(bytes([byte]))
        assert shake.finish() == body


@pytest.mark.soak
def test_two_segments_at_every_boundary(gateway):
    length = len(Handshake(gateway, 'www.test').hello)
    step = 1 if SOAK else max(1, length // 40)
    for cut in sorted({1, 2, 3, 4, 5, 6, 9, 10, *range(1, length, step), length - 1}):
        shake = Handshake(gateway, 'www.test')
        shake.socket.sendall(shake.hello[:cut])
        shake.socket.sendall(shake.hello[cut:])
        assert shake.finish() == b'www', cut


@pytest.mark.parametrize('count', [2, 3, 10])
def test_several_records(gateway, count):
    shake = Handshake(gateway, 'www.test')
    size = len(shake.hello) - 5
    shake.socket.sendall(records(shake.hello, [size * i // count for i in range(1, count)]))
    assert shake.finish() == b'www'


def test_records_split_within_the_header(gateway):
    for cut in (1, 2, 3, 4, 5):
        shake = Handshake(gateway, 'www.test')
        shake.socket.sendall(records(shake.hello, [cut]))
        assert shake.finish() == b'www', cut


def test_too_many_records(gateway):
    shake = Handshake(gateway, 'www.test')
    size = len(shake.hello) - 5
    shake.socket.sendall(records(shake.hello, [size * i // 40 for i in range(1, 40)]))
    with pytest.raises((AssertionError, OSError)):
        shake.finish()


@pytest.mark.parametrize('size', [2000, 8000, 15000])
def test_a_large_one(gateway, size):
    """Padded by protocol names, as large as post-quantum ones and beyond."""
    names = [f'{i:0250}' for i in range(size // 251)] + ['http/1.1']
    shake = Handshake(gateway, 'www.test', names)
    assert len(shake.hello) > size
    shake.socket.sendall(shake.hello)
    assert shake.finish() == b'www'


def test_early_data_behind_it(gateway):
    """What follows the hello in the same segment is not lost, whatever it is."""
    shake = Handshake(gateway, 'www.test')
    shake.socket.sendall(shake.hello + b'\x14\x03\x03\x00\x01\x01')
    assert shake.finish() == b'www'
