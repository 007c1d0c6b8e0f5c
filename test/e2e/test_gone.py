"""Clients that end their half, or leave, while an origin still thinks (docs/decisions/0012)."""
import contextlib
import socket
import ssl
import threading

import pytest

from client import Client, Truncated, tls_context
from gateway import Gateway
from origin import Origin, describe

SITE = '''
listen 127.0.0.1:{port} plain serve
listen 127.0.0.1:{port2}
site localhost { proxy 127.0.0.1:ORIGIN }
'''
SWITCH = 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n'
BEHAVIOUR = {}


class Thinker:
    """An origin's answer that waits for `go`, and notices when its connection ends before."""

    def __init__(self, path):
        self.arrived, self.go, self.gone = threading.Event(), threading.Event(), threading.Event()
        BEHAVIOUR[path] = self

    def __call__(self, exchange):
        exchange.read_body()
        self.arrived.set()
        exchange.connection.settimeout(0.02)
        while not self.go.is_set():
            with contextlib.suppress(TimeoutError):
                if not exchange.connection.recv(1):
                    self.gone.set()
                    return False
        exchange.connection.settimeout(60)
        return exchange.reply(200, 'thought')


class Memory:
    """TLS over a socket whose halves end one by one: Python's own cannot."""

    def __init__(self, port):
        self.socket = socket.create_connection(('127.0.0.1', port), 30)
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = tls_context().wrap_bio(self.into, self.out, server_hostname='localhost')
        self.do(self.tls.do_handshake)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        if self.out.pending:
            self.socket.sendall(self.out.read())

    def do(self, call, *arguments):
        while True:
            try:
                return call(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                data = self.socket.recv(65536)
                if data:
                    self.into.write(data)
                else:
                    self.into.write_eof()
            finally:
                self.flush()

    def send(self, data):
        self.do(self.tls.write, data)

    def close_notify(self):
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.flush()

    def read(self):
        """To the end; Truncated without a close_notify."""
        got = []
        while True:
            try:
                data = self.do(self.tls.read, 65536)
            except ssl.SSLZeroReturnError:
                return b''.join(got)
            except (ssl.SSLError, OSError) as error:
                raise Truncated(str(error), b''.join(got)) from error
            if not data:
                return b''.join(got)
            got.append(data)


@pytest.fixture(scope='module')
def gateway():
    def behave(exchange):
        return BEHAVIOUR.get(exchange.target, describe)(exchange)
    with Origin(behave) as origin, Gateway(SITE.replace('ORIGIN', str(origin.port))) as one:
        yield one


def request(path, more=b''):
    return b'GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n' % (path.encode(), more)


@pytest.mark.parametrize('name, count', [('one', 1), ('pipelined', 3)])
def test_the_end_of_a_half_without_tls(gateway, name, count):
    """As `printf … | nc -N` does: everything that was asked is answered, then the connection ends."""
    thinkers = [Thinker(f'/half/{name}/{i}') for i in range(count)]
    with Client(gateway.port) as client:
        client.send(b''.join(request(f'/half/{name}/{i}') for i in range(count)))
        client.socket.shutdown(socket.SHUT_WR)
        for thinker in thinkers:
            assert thinker.arrived.wait(30)
            thinker.go.set()
            assert client.response().text == 'thought'
        client.expect_end()
    for i in range(count):
        assert gateway.record(f'/half/{name}/{i}')['end'] == 'ok'


def test_the_end_of_a_half_within_a_body(gateway):
    """What was not sent whole is not answered, whoever still reads."""
    with Client(gateway.port) as client:
        client.request('POST', '/half/body', 'Content-Length: 100000')
        client.send(b'a' * 70000)
        client.socket.shutdown(socket.SHUT_WR)
        client.expect_end()
    assert gateway.record('/half/body')['end'] == 'client-gone'


@pytest.mark.parametrize('way', ['plain-reset', 'tls-reset', 'tls-close', 'tls-fin'])
@pytest.mark.parametrize('when', ['head', 'body'])
def test_a_client_that_leaves(gateway, way, when):
    """The origin is let go of at once, not when somebody writes."""
    path = f'/leaves/{way}/{when}'
    thinker = Thinker(path)
    if when == 'body':
        def behave(exchange):
            exchange.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n')
            return thinker(exchange)
        BEHAVIOUR[path] = behave
    before = gateway.counter('client-gone', 'worker', 'ends')
    with Client(gateway.port) if way == 'plain-reset' else Memory(gateway.ports[1]) as client:
        client.send(request(path))
        assert thinker.arrived.wait(30)
        if when == 'body':
            got = b''
            while b'hello' not in got:
                got += client.socket.recv(65536) if way == 'plain-reset' else client.do(client.tls.read, 65536)
        if way.endswith('reset'):
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
        elif way == 'tls-close':
            client.close_notify()
    assert thinker.gone.wait(30)
    record = gateway.record(path)
    assert (record['end'], record['status']) == ('client-gone', 200 if when == 'body' else 0)
    assert gateway.counter('client-gone', 'worker', 'ends') == before + 1


def test_close_notify_alone_is_the_end_of_a_half(gateway):
    thinker = Thinker('/notify')
    with Memory(gateway.ports[1]) as client:
        client.send(request('/notify'))
        assert thinker.arrived.wait(30)
        client.close_notify()
        thinker.go.set()
        assert client.read().endswith(b'thought')
    assert gateway.record('/notify')['end'] == 'ok'


@pytest.mark.parametrize('first', ['client', 'origin'])
def test_a_tunnel_over_tls_that_ends_by_halves(gateway, first):
    """close_notify passes on as the end of one half."""
    heard, ended = [], threading.Event()

    def behave(exchange):
        def rest():
            while True:
                data = exchange.connection.recv(65536)
                if not data:
                    return
                heard.append(data)
        exchange.send(SWITCH)
        if first == 'client':
            rest()
        for _ in range(32):
            exchange.send(b'b' * 65536)
        exchange.connection.shutdown(socket.SHUT_WR)
        if first == 'origin':
            rest()
        ended.set()
        return False
    BEHAVIOUR[f'/tunnel/{first}'] = behave
    with Memory(gateway.ports[1]) as client:
        client.send(request(f'/tunnel/{first}', b'Connection: Upgrade\r\nUpgrade: websocket\r\n'))
        if first == 'client':
            client.send(b'a' * 100000)
            client.close_notify()
        got = client.read()
        assert got.startswith(b'HTTP/1.1 101 ') and len(got.partition(b'\r\n\r\n')[2]) == 32 * 65536
        if first == 'origin':
            client.send(b'a' * 100000)
            client.close_notify()
        assert ended.wait(30) and len(b''.join(heard)) == 100000
    assert gateway.record(f'/tunnel/{first}')['end'] == 'ok'


def test_a_tunnel_over_tls_that_is_cut(gateway):
    """Without close_notify it is no clean end: the origin is not told that it was."""
    switched, ends = threading.Event(), []

    def behave(exchange):
        exchange.send(SWITCH)
        switched.set()
        try:
            while exchange.connection.recv(65536):
                pass
            ends.append('end')
        except OSError:
            ends.append('reset')
        return False
    BEHAVIOUR['/tunnel/cut'] = behave
    with Memory(gateway.ports[1]) as client:
        client.send(request('/tunnel/cut', b'Connection: Upgrade\r\nUpgrade: websocket\r\n'))
        assert switched.wait(30)
    assert gateway.record('/tunnel/cut')['end'] == 'client-gone'
