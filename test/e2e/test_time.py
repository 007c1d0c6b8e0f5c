"""Silence that is meant, and clocks that jump."""
import contextlib
import datetime
import subprocess
import threading

import pytest

from client import Client, get, tls_context
from gateway import SOAK, Gateway, wait_until
from origin import Origin

HOUR = 3600
YEARS = 10 * 365 * 24 * HOUR


class Script:
    """An origin whose answers wait for the test: /events and /socket say nothing until `go` is set."""

    def __init__(self):
        self.go, self.arrived = threading.Event(), threading.Semaphore(0)

    def __call__(self, exchange):
        if exchange.target == '/events':
            exchange.send('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n')
            assert self.go.wait(120)
            exchange.send('6\r\nhello\n\r\n0\r\n\r\n')
        elif exchange.target == '/socket':
            exchange.send('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
            exchange.send(exchange.buffer or exchange.connection.recv(100))
            return False
        elif exchange.target == '/slow':
            self.arrived.release()
            assert self.go.wait(120)
            return exchange.reply(200, 'slow')
        else:
            return exchange.reply(200, 'quick')
        return True


def open_socket(client):
    client.request('GET', '/socket', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13',
                   'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
    assert client.head().status == 101


def still_open(client):
    client.send(b'are you there?')
    assert client.exactly(14) == b'are you there?'


@pytest.mark.soak
def test_silence_that_is_meant(test_build):
    """A WebSocket and an event stream say nothing for 20 times the limit after which a kept-alive connection is closed:
    they live on, that one does not. The limit is a second; in the soak the seconds are real."""
    script = Script()
    with Origin(script) as origin, \
            Gateway('listen 127.0.0.1:{port} plain serve\nlimits { idle 1s }\n'
                    f'site localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway, \
            Client(gateway.port) as tunnel, Client(gateway.port) as events, Client(gateway.port) as idle:
        open_socket(tunnel)
        events.request('GET', '/events')
        assert events.head().get('Content-Type') == 'text/event-stream'
        for _ in range(20):
            assert idle.get('/').text == 'quick'
            if SOAK:
                idle.expect_end()
            else:
                gateway.move_clock(1.5)
                idle.expect_end()
            idle.__init__(gateway.port)
        still_open(tunnel)
        script.go.set()
        assert events.chunks()[0] == b'hello\n'


# ---- Clocks that jump

class Dates:
    """Of the certificate that is served."""

    def __init__(self, gateway):
        with Client(gateway.ports[1], tls_context()) as client:
            der = client.socket.getpeercert(binary_form=True)
        said = subprocess.run(['openssl', 'x509', '-inform', 'DER', '-noout', '-startdate', '-enddate', '-dateopt', 'iso_8601'],
                              input=der, check=True, capture_output=True).stdout.decode().split('\n')
        self.start, self.end = (datetime.datetime.fromisoformat(line.partition('=')[2].rstrip('Z')).replace(
            tzinfo=datetime.timezone.utc).timestamp() for line in said[:2])


def root_key(gateway):
    return subprocess.run(['openssl', 'x509', '-in', gateway.root(), '-noout', '-pubkey'], check=True, capture_output=True).stdout


def resumes(gateway):
    """Two connections, the second with the first's ticket."""
    context = tls_context()
    with Client(gateway.ports[1], context) as client:
        assert client.get('/').text == 'quick'
        ticket = client.socket.session
    with Client(gateway.ports[1], context, session=ticket) as client:
        assert client.get('/').text == 'quick'
        return client.socket.session_reused


@pytest.mark.parametrize('jumps', [(HOUR, -HOUR), (-HOUR, HOUR), (YEARS, -YEARS), (-YEARS, YEARS)],
                         ids=['an-hour-on-and-back', 'an-hour-back-and-on', 'ten-years-on-and-back', 'ten-years-back-and-on'])
def test_the_clock_jumps(test_build, jumps):
    """What runs by timers does not notice: kept-alive connections, a tunnel, a request under way. Tickets and the local
    CA's certificates are right for the new time soon after, with the same processes."""
    script, moved = Script(), 0
    text = 'listen 127.0.0.1:{port} plain serve\nlisten 127.0.0.1:{port2}\nsite localhost { certificate internal; proxy 127.0.0.1:ORIGIN }'
    with Origin(script) as origin, Gateway(text.replace('ORIGIN', str(origin.port))) as gateway, contextlib.ExitStack() as stack:
        assert resumes(gateway)
        roles, root = gateway.roles(), root_key(gateway)
        kept, secure, tunnel, slow = (stack.enter_context(Client(port, context)) for port, context in (
            (gateway.port, None), (gateway.ports[1], tls_context()), (gateway.port, None), (gateway.port, None)))
        assert kept.get('/').text == 'quick' and secure.get('/').text == 'quick'
        open_socket(tunnel)
        slow.request('GET', '/slow')
        assert script.arrived.acquire(timeout=30)
        for jump in jumps:
            gateway.move_wall_clock(jump)
            moved += jump
            assert kept.get('/').text == 'quick' and secure.get('/').text == 'quick'
            wait_until(lambda: resumes(gateway), 'tickets')

            def is_valid():
                dates, now = Dates(gateway), datetime.datetime.now().timestamp() + moved
                return dates.start <= now <= dates.end
            wait_until(is_valid, lambda: f'a valid certificate ({Dates(gateway).__dict__}, {gateway.stderr[-5:]})')
            # A second is a second: neither a burst of what is due, nor a rest until then.
            assert get(gateway.port, '/').text == 'quick'
        script.go.set()
        assert slow.response().text == 'slow'
        tunnel.send(b'are you there?')
        assert tunnel.exactly(14) == b'are you there?'
        assert gateway.roles() == roles
        assert root_key(gateway) == root, 'who trusted the root before would not any more'
