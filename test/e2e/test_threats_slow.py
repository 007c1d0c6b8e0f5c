"""Threats of exhaustion and slowness: one test for each that applies so far (bans come later). Counts are
small here and full under PORTCULLIS_SOAK. Each has its counter and its reason in the log, and somebody who
did nothing is served throughout."""
import contextlib
import os
import random
import resource
import socket
import threading
import time

import pytest

from client import Client, get
from gateway import ROOT, SOAK, Gateway, Process, is_sanitized, program, wait_until

pytestmark = pytest.mark.soak  # here with small counts, there with full ones
# The clocks are moved by 60 % of what a limit allows, and later by as much again: what is left, half a minute, is for the test itself.
SITE = '''
listen 127.0.0.1:{port} plain serve
log access stdout
limits { header-time 100s body-grace 100s send-gap 100s idle 100s }
site localhost {
    files {folder}/site on /large.bin
    respond 200 "ok"
}
'''
RELEASE = os.path.join(ROOT, 'build/portcullis')
MANY = 5000 if SOAK else 300


@pytest.fixture(scope='module')
def gateway(tmp_path_factory):
    del tmp_path_factory
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * MANY + 1000), hard))
    one = Gateway(SITE)
    os.makedirs(one.folder + '/site')
    with open(one.folder + '/site/large.bin', 'wb') as file:
        file.truncate(64 << 20)
    with one:
        yield one
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Bystander:
    """Asks all the time, on a kept connection and on new ones."""

    def __init__(self, port):
        self.port, self.over, self.done, self.failed = port, threading.Event(), 0, []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        client = Client(self.port)
        while not self.over.wait(0.02):
            try:
                assert client.get('/bystander').text == 'ok'
                assert get(self.port, '/bystander').text == 'ok'
                self.done += 1
            except Exception as error:  # whatever it was, it was not served
                self.failed.append(f'{type(error).__name__} {error}')
                client = Client(self.port)
        client.close()

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: self.done, 'a first answer')
        return self

    def __exit__(self, kind, *_):
        done = self.done
        if kind is None:
            wait_until(lambda: self.done > done + 2 or self.failed, 'answers at the end')
        self.over.set()
        self.thread.join(30)
        assert not self.failed and self.done > 3, self.failed[:5]


@pytest.fixture(autouse=True)
def bystander(gateway):
    pids = gateway.roles()
    with Bystander(gateway.port) as one:
        yield one
    assert gateway.roles() == pids


@pytest.fixture
def held():
    found = []
    yield found
    for one in found:
        one.close()


def connect(gateway, count, held, receive=None):
    for _ in range(count):
        one = socket.socket()
        if receive:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        one.settimeout(30)
        one.connect(('127.0.0.1', gateway.port))
        held.append(one)


def connections(gateway):
    return sum(row['connections'] for row in gateway.status())


def read_to_end(one):
    got = b''
    with contextlib.suppress(ConnectionError):
        while True:
            data = one.recv(65536)
            if not data:
                break
            got += data
    return got


def test_slowloris(test_build, gateway, held):
    """A field now and then buys no time."""
    before = gateway.limit('header-time')
    connect(gateway, MANY, held)
    for one in held:
        one.sendall(b'GET /slowloris HTTP/1.1\r\nHost: localhost\r\n')
    wait_until(lambda: connections(gateway) >= MANY, 'all of them')
    for _ in range(3):
        gateway.move_clock(20)
        for one in held:
            one.sendall(b'X: y\r\n')
    assert gateway.limit('header-time') == before
    gateway.move_clock(50)
    for one in held:
        assert read_to_end(one).startswith(b'HTTP/1.1 408 ')
    assert gateway.limit('header-time') == before + MANY
    wait_until(lambda: sum(r['end'] == 'client-timeout:header-time' for r in gateway.records) >= MANY, 'their records')


def test_slow_post(test_build, gateway, held):
    """A byte a second is a read, but no body."""
    before = gateway.limit('body-rate')
    connect(gateway, MANY, held)
    for one in held:
        one.sendall(b'POST /slow-post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n')
    wait_until(lambda: connections(gateway) >= MANY, 'all of them')
    for _ in range(3):
        gateway.move_clock(20)
        for one in held:
            one.sendall(b'x')
    assert gateway.limit('body-rate') == before
    gateway.move_clock(50)
    for one in held:
        assert read_to_end(one).startswith(b'HTTP/1.1 408 ')
    assert gateway.limit('body-rate') == before + MANY
    for record in gateway.record('/slow-post', MANY):
        assert (record['status'], record['end']) == (408, 'client-timeout:body-rate')


def test_slow_read(test_build, gateway, held):
    """send-gap: who reads nothing is let go of; who reads a little now and then is not."""
    count, before = max(20, MANY // 10), gateway.limit('send-gap')
    connect(gateway, count + 1, held, receive=4096)
    for one in held:
        one.sendall(b'GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n')
    reader = held[0]
    wait_until(lambda: connections(gateway) >= count, 'all of them')
    time.sleep(0.5)  # until the sockets are full
    gateway.move_clock(60)
    assert gateway.limit('send-gap') == before
    for _ in range(40):
        reader.recv(1 << 18)
    time.sleep(0.2)
    gateway.move_clock(50)
    wait_until(lambda: gateway.limit('send-gap') >= before + count, 'their ends')
    assert gateway.limit('send-gap') == before + count
    ends = [r['end'] for r in gateway.record('/large.bin', count)]
    assert set(ends) == {'client-timeout:send-gap'} and len(ends) == count
    assert reader.recv(1000)


def test_connection_flood(test_build, gateway, held):
    """Connections that ask nothing cost little and end when their time is over."""
    count, before = 4 * MANY, gateway.limit('idle')
    connect(gateway, count, held)
    wait_until(lambda: connections(gateway) >= count, 'all of them')
    gateway.move_clock(60, 20)
    assert gateway.limit('idle') == before
    gateway.move_clock(50)
    for one in held:
        assert read_to_end(one) == b''
    assert gateway.limit('idle') >= before + count


def test_pipelining_flood(gateway):
    """In order, and what waits is bounded whatever is sent."""
    count = 10000
    workers = gateway.pids('worker')

    def memory():
        total = 0
        for pid in workers:
            with open(f'/proc/{pid}/statm', encoding='utf-8') as file:
                total += int(file.read().split()[1]) * 4096
        return total
    with Client(gateway.port) as client:
        client.get('/warm')
        before = memory()
        sender = threading.Thread(target=client.send, daemon=True, args=(
            b''.join(b'GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n' % i for i in range(count)),))
        sender.start()
        most = 0
        for i in range(count):
            assert client.response().text == 'ok'
            if i % 500 == 0:
                most = max(most, memory())
        sender.join(30)
        client.request('GET', '/last')
        assert client.response().text == 'ok'
    if not is_sanitized():
        assert most - before < 1 << 20, (before, most)
    paths = [r['path'] for r in gateway.records if r.get('path', '/').strip('/').isdigit()]
    wait_until(lambda: gateway.record('/last'), 'the last record')
    paths = [r['path'] for r in gateway.records if r.get('path', '/').strip('/').isdigit()]
    assert paths == [f'/{i}' for i in range(count)]


def test_cardinality(gateway):
    """Names of strangers make no counters: status has as many members as before."""
    def members():
        return [(row['process'], row['slot'], sorted(row['counters']), sorted(row['limits'])) for row in gateway.status()]
    with Client(gateway.port) as client:
        assert client.get('/x', host='nobody.test').status == 421
        gateway.settle()
        before = members()
        for i in range(MANY):
            assert client.get(f'/{random.random()}', host=f'host{i}.test').status == 421
    assert members() == before


def test_descriptors():
    """256 descriptors and 400 clients: who is there is served, nothing spins, and room is used again."""
    prefix = ['prlimit', '--nofile=256:256', '--']
    with Gateway(SITE.replace('files {folder}/site on /large.bin', ''), prefix=prefix) as gateway, Client(gateway.port) as kept:
        assert kept.get('/').text == 'ok'
        pids, held = gateway.roles(), []
        try:
            for _ in range(400 * len(gateway.pids('worker'))):
                one = socket.socket()
                one.settimeout(30)
                one.connect(('127.0.0.1', gateway.port))
                held.append(one)
            assert kept.get('/').text == 'ok'
            turns, started = gateway.counter('turns', 'worker'), time.monotonic()
            for _ in range(20):
                assert kept.get('/').text == 'ok'
                time.sleep(0.05)
            turns, lasted = gateway.counter('turns', 'worker') - turns, time.monotonic() - started
            assert turns < 400 * len(gateway.pids('worker')) * max(1, lasted), f'{turns} turns in {lasted:.1f} s'
            assert gateway.limit('connections') + gateway.limit('descriptors-reserve') > 0
        finally:
            for one in held:
                one.close()
        wait_until(lambda: get(gateway.port, '/').text == 'ok', 'room')
        for _ in range(50):
            assert get(gateway.port, '/').text == 'ok'
        assert gateway.roles() == pids


def test_memory():
    """A budget of 8 MB and a flood that wants far more, of bodies that no origin takes, of half heads and of idle
    connections: who asks for little is served, and no worker grows by more than its budget and some slack."""
    budget, slack = 8 << 20, 4 << 20
    executable = RELEASE if os.access(RELEASE, os.X_OK) else program()  # sanitizers take memory of their own
    with socket.create_server(('127.0.0.1', 0), backlog=128) as silent:
        text = SITE.replace('files {folder}/site on /large.bin', f'proxy 127.0.0.1:{silent.getsockname()[1]} on /origin')
        with Gateway(text.replace('limits {', 'limits { worker-memory 8MB connect 300s'), executable=executable) as gateway:
            for _ in range(50):
                assert get(gateway.port, '/').text == 'ok'
            pids, held = gateway.roles(), []
            workers = [Process(pid) for pid in gateway.pids('worker')]
            before, most = [one.memory_bytes() for one in workers], [0] * len(workers)
            body = b'POST /origin HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n' + b'x' * 0x40000
            head = b'GET / HTTP/1.1\r\nHost: localhost\r\nX: ' + b'x' * 20000
            try:
                for i in range(400 * len(workers)):
                    one = socket.socket()
                    held.append(one)
                    one.settimeout(1)
                    with contextlib.suppress(OSError):  # nobody takes it: then it waits, or does not
                        one.connect(('127.0.0.1', gateway.port))
                        one.setblocking(False)
                        one.send((body, head, b'')[i % 3])
                    if i % 20 == 0:
                        assert get(gateway.port, '/bystander').text == 'ok'
                        most = [max(m, one.memory_bytes()) for m, one in zip(most, workers)]
                assert gateway.limit('worker-memory') > 0
                assert gateway.limit('body-memory') > 0
                for _ in range(20):
                    assert get(gateway.port, '/bystander').text == 'ok'
                most = [max(m, one.memory_bytes()) for m, one in zip(most, workers)]
            finally:
                for one in held:
                    # A reset: nobody reads on to an end behind a body that has no room.
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
                    one.close()
            if executable == RELEASE or not is_sanitized():
                assert all(m - b < budget + slack for m, b in zip(most, before)), (before, most)
            wait_until(lambda: connections(gateway) == 0, 'the end of all')
            assert get(gateway.port, '/').text == 'ok'
            assert gateway.roles() == pids
