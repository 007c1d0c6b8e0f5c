"""How exchanges end: one test for each word of docs/errors.md that a peer can bring about."""
import contextlib
import os
import re
import signal
import socket
import threading
import time

import pytest

from client import Client, Truncated, get, tls_context
from gateway import ROOT, Gateway, free_port, new_folder, wait_until
from origin import Origin, describe

SITE = '''
listen 127.0.0.1:{port} plain serve
listen 127.0.0.1:{port2}
limits { first-byte 1s response-gap 1s body-gap 1s header-time 1s connect 1s tunnel 1s send-gap 1s }
site localhost {
    proxy 127.0.0.1:ORIGIN on /origin/*
    proxy 127.0.0.1:CLOSED on /refused
    proxy unix:{folder}/missing.sock on /missing-socket
    proxy no-such-name.invalid:80 on /no-name
    proxy 127.0.0.1:FULL on /full
    limits on /origin/queue { origin-connections 1 origin-queue 1 first-byte 20s }
    limits on /small { body 10B }
    limits on /site/* { send-gap 30s }
    proxy 127.0.0.1:ORIGIN on /small
    files {folder}/site on /site/*
    respond 200 "ok" on /ok
}
'''
ENDS = {}  # path: what the origin does


def behave(exchange):
    return ENDS.get(exchange.target, describe)(exchange)


@pytest.fixture(scope='module')
def gateway():
    folder = new_folder()
    os.makedirs(folder + '/site/site')
    with open(folder + '/site/site/large.bin', 'wb') as file:
        file.truncate(64 << 20)
    # A listener whose queue is full: the kernel drops what comes, as an unreachable host would.
    with Origin(behave) as origin, socket.socket() as full:
        full.bind(('127.0.0.1', 0))
        full.listen(0)
        held = [socket.socket() for _ in range(4)]
        for one in held:
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(full.getsockname())
        text = SITE.replace('ORIGIN', str(origin.port)).replace('CLOSED', str(free_port())).replace('FULL', str(full.getsockname()[1]))
        with Gateway(text, folder=folder) as gateway:
            yield gateway
        for one in held:
            one.close()


def raw(*parts, close=True):
    """An origin's answer, bytes as they are."""
    def answer(exchange):
        exchange.read_body()
        for part in parts:
            if isinstance(part, (int, float)):
                time.sleep(part)
            elif part is None:
                return exchange.reset()
            else:
                exchange.send(part)
        return not close
    return answer


HEAD = b'HTTP/1.1 200 OK\r\n'
WHOLE_ANSWERS = [
    # name, what the origin does, status, end
    ('closed', raw(), 502, 'origin-closed'),
    ('reset', raw(None), 502, 'origin-closed'),
    ('half-head', raw(HEAD + b'Content-Le'), 502, 'origin-closed'),
    ('garbage', raw(b'I am no HTTP\r\n\r\n'), 502, 'origin-malformed:bad-status-line'),
    ('two-lengths', raw(HEAD + b'Content-Length: 1\r\nContent-Length: 2\r\n\r\nab'), 502, 'origin-malformed:content-length-twice'),
    ('both', raw(HEAD + b'Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n'), 502, 'origin-malformed:length-and-transfer-coding'),
    ('folded', raw(HEAD + b'X: 1\r\n 2\r\n\r\n'), 502, 'origin-malformed:folded-field'),
    ('unasked', raw(b'HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'), 502, 'origin-malformed:unasked-101'),
    ('interims', raw(b'HTTP/1.1 102 Processing\r\n\r\n' * 9 + HEAD + b'Content-Length: 0\r\n\r\n'), 502, 'origin-malformed:too-many-interim-responses'),
    ('silent', raw(3), 504, 'origin-first-byte-timeout'),
    ('half-a-line', raw(HEAD, 3, b'Content-Length: 0\r\n\r\n'), 504, 'origin-timeout'),
]


@pytest.mark.parametrize('name, answer, status, end', WHOLE_ANSWERS, ids=[row[0] for row in WHOLE_ANSWERS])
def test_before_the_head(gateway, name, answer, status, end):
    path = f'/origin/{name}'
    ENDS[path] = answer
    with Client(gateway.port) as client:
        response = client.get(path, method='POST', body=b'x')
        assert response.status == status
        assert client.get('/ok').text == 'ok', 'the client keeps its connection'
    record = gateway.record(path)
    assert (record['status'], record['end']) == (status, end)
    assert record['request_id'] in response.text


AFTER_HEAD = [
    ('short', raw(HEAD + b'Content-Length: 1000\r\n\r\nshort'), 'origin-truncated'),
    ('short-chunk', raw(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\nhalf'), 'origin-truncated'),
    ('no-last-chunk', raw(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'), 'origin-truncated'),
    ('reset-within', raw(HEAD + b'Content-Length: 1000\r\n\r\nshort', 0.2, None), 'origin-truncated'),
    ('bad-chunk', raw(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n'), 'origin-malformed:bad-chunk-size'),
    ('stalled', raw(HEAD + b'Content-Length: 1000\r\n\r\nshort', 3), 'origin-timeout'),
    ('stalled-chunk', raw(HEAD + b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', 3), 'origin-timeout'),
]


@pytest.mark.parametrize('version', ['HTTP/1.1', 'HTTP/1.0'])
@pytest.mark.parametrize('name, answer, end', AFTER_HEAD, ids=[row[0] for row in AFTER_HEAD])
def test_after_the_head(gateway, name, answer, end, version):
    """A short body never looks whole. (HTTP/1.0 without a length: only a reset can say so.)"""
    path = f'/origin/{name}-{version[-1]}'
    ENDS[path] = answer
    with Client(gateway.port) as client:
        client.request('GET', path, version=version)
        with pytest.raises(Truncated):
            response = client.response()
            assert response.status == 502, 'whole'
            raise Truncated('a whole answer that says so')
    assert gateway.record(path)['end'].startswith(end)


@pytest.mark.parametrize('path, status, end', [
    ('/refused', 502, 'origin-refused'), ('/missing-socket', 502, 'origin-unreachable'), ('/no-name', 502, 'origin-dns'),
    ('/full', 504, 'origin-connect-timeout')])
def test_no_connection(gateway, path, status, end):
    assert get(gateway.port, path).status == status
    assert gateway.record(path)['end'].partition(':')[0] == end


def test_client_timeout(gateway):
    with Client(gateway.port) as client:
        client.request('POST', '/origin/slow-body', 'Content-Length: 10')
        client.send(b'abc')
        assert client.response().status == 408
        client.expect_end()
    assert gateway.record('/origin/slow-body')['end'] == 'client-timeout:body-gap'


def test_client_gone_within_its_body(gateway):
    with Client(gateway.port) as client:
        client.request('POST', '/origin/half-body', 'Content-Length: 10')
        client.send(b'abc')
    assert gateway.record('/origin/half-body')['end'] == 'client-gone'


def test_client_gone_while_the_origin_thinks(gateway):
    arrived, go = threading.Event(), threading.Event()

    def answer(exchange):
        arrived.set()
        go.wait(20)
        return exchange.reply(200)
    ENDS['/origin/thinks'] = answer
    with Client(gateway.port) as client:
        client.request('GET', '/origin/thinks')
        assert arrived.wait(20)
        client.reset()
    record = gateway.record('/origin/thinks')
    go.set()
    assert record['end'] == 'client-gone'


def test_limit(gateway):
    assert get(gateway.port, '/small', method='POST', body=b'a' * 11).status == 413
    assert gateway.record('/small')['end'] == 'limit:body'


def test_limit_of_a_chunked_body(gateway):
    with Client(gateway.port) as client:
        client.send(b'POST /small?2 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n' + b'a' * 20 + b'\r\n0\r\n\r\n')
        assert client.response().status == 413


def test_loop():
    """A gateway in front of itself."""
    port = free_port()
    with Gateway(f'listen 127.0.0.1:{port} plain serve\nsite localhost {{ proxy 127.0.0.1:{port} }}') as gateway:
        assert get(port, '/round').status == 508
        assert 'loop' in {r['end'] for r in gateway.record('/round', 2)}


def test_queue_full(gateway):
    arrived, go, answers = threading.Semaphore(0), threading.Event(), []

    def answer(exchange):
        arrived.release()
        go.wait(20)
        return exchange.reply(200, 'in time')
    ENDS['/origin/queue'] = answer
    workers = len(gateway.pids('worker'))
    threads = [threading.Thread(target=lambda: answers.append(get(gateway.port, '/origin/queue').status)) for _ in range(12 * workers)]
    for thread in threads:
        thread.start()
    assert arrived.acquire(timeout=20)
    end = time.monotonic() + 20
    while 503 not in answers and time.monotonic() < end:
        time.sleep(0.02)
    go.set()
    for thread in threads:
        thread.join(30)
    assert set(answers) == {200, 503}
    assert 'queue-full' in {r['end'].partition(':')[0] for r in gateway.record('/origin/queue', 12 * workers)}


def test_files_changed(gateway):
    path = gateway.folder + '/site/site/large.bin'
    with Client(gateway.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.request('GET', '/site/large.bin')
        assert client.head().get('Content-Length') == str(64 << 20)
        os.truncate(path, 1000)
        with pytest.raises(Truncated):
            client.exactly(64 << 20, sink=lambda data: None)
    assert gateway.record('/site/large.bin')['end'] == 'files-changed'


def test_client_timeout_of_a_reader(gateway):
    ENDS['/origin/unread'] = raw(HEAD + b'Content-Length: 80000000\r\n\r\n' + b'a' * 80000000)
    with Client(gateway.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.request('GET', '/origin/unread')
        assert gateway.record('/origin/unread')['end'] == 'client-timeout:send-gap'


def test_tunnel_timeout(gateway):
    def answer(exchange):
        exchange.send('HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
        exchange.connection.recv(10)
        return False
    ENDS['/origin/tunnel'] = answer
    with Client(gateway.port) as client:
        client.request('GET', '/origin/tunnel', 'Connection: Upgrade', 'Upgrade: websocket')
        assert client.head().status == 101
        client.expect_end()
    assert gateway.record('/origin/tunnel')['end'] == 'tunnel-timeout'


def test_helper_gone():
    """Lost twice: 503, and it says so."""
    with Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { proxy 127.0.0.1:{port2} on /a; respond 200 }') as gateway:
        pids, over, answers = set(), threading.Event(), []

        def stop_dialers():
            while not over.wait(0.005):
                for pid in set(gateway.pids('dialer')) - pids:
                    with contextlib.suppress(OSError):
                        os.kill(pid, signal.SIGSTOP)
                    pids.add(pid)
        os.kill(gateway.pid('dialer'), signal.SIGSTOP)
        stopper = threading.Thread(target=stop_dialers)
        stopper.start()
        try:
            answers.append(get(gateway.port, '/a').status)
        finally:
            over.set()
            stopper.join()
            for pid in pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        record = gateway.record('/a')
        # Which of them it is depends on who was faster; each is the truth.
        assert record['status'] == answers[0]
        assert (record['status'], record['end'].partition(':')[0]) in ((503, 'helper-gone'), (502, 'origin-refused'), (504, 'origin-connect-timeout'))


def test_client_tls(gateway):
    """Bytes that are no TLS within a request: the connection broke, and the log says how."""
    with Client(gateway.ports[1], tls=tls_context()) as client:
        client.request('POST', '/origin/torn', 'Content-Length: 100000')
        client.send(b'a' * 1000)
        raw_socket = socket.socket(fileno=os.dup(client.socket.fileno()))
        raw_socket.sendall(b'\x17\x03\x03\x00\x20' + b'x' * 32)  # sealed by nobody
        with contextlib.suppress(Truncated):
            client.expect_end()
        raw_socket.close()
    record = gateway.record('/origin/torn')
    assert record['end'].startswith('client-tls:') and record['status'] == 0


def test_drain(test_build):
    """What a stop does not wait for: the client is told, also where the clock jumps over the deadline, and only
    then is the worker over."""
    arrived, go = threading.Event(), threading.Event()

    def answer(exchange):
        arrived.set()
        go.wait(30)
        return False
    with Origin(answer) as origin, Gateway(f'listen 127.0.0.1:{{port}} plain serve\nsite localhost {{ proxy 127.0.0.1:{origin.port} }}') as gateway:
        with Client(gateway.port) as client:
            client.request('GET', '/late')
            assert arrived.wait(20)
            began = time.monotonic()
            gateway.signal(signal.SIGTERM)
            wait_until(lambda: row_is_draining(gateway), 'the drain')
            # Over the deadline of what is under way, and not over the supervisor's, who waits a second longer.
            gateway.move_clock(30.05 - (time.monotonic() - began))
            assert client.response().status == 503
            assert gateway.record('/late')['end'] == 'drain'
        assert gateway.wait() == 0
        go.set()


def row_is_draining(gateway):
    """Nobody accepts any more."""
    try:
        socket.create_connection(('127.0.0.1', gateway.port), 5).close()
    except OSError:
        return True
    return False


# What no peer brings about: test/unit/edge/test_ends.c plays the helpers and the faults.
UNIT = {'internal', 'no-room', 'files-failed', 'origin-forbidden'}
# What cannot happen yet: the table says so.
LATER = set()


def test_every_word_is_tried():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(ROOT, 'docs/errors.md'), encoding='utf-8') as file:
        rows = dict(re.findall(r'^\| `([a-z-]+)` \|(.*)', file.read().partition('## Details')[0], re.M))
    text = ''
    for name in os.listdir(here):
        if name.startswith('test_'):
            with open(os.path.join(here, name), encoding='utf-8') as file:
                text += file.read()
    with open(os.path.join(ROOT, 'test/unit/edge/test_ends.c'), encoding='utf-8') as file:
        unit = file.read()
    tried = {word for word in rows if re.search(f"['/]{word}[:']", text.partition('UNIT = ')[0] + text.partition('LATER = ')[2].partition('\n')[2])}
    tried |= {word for word in UNIT if re.search(f'"{word}[:"]', unit)}
    assert len(rows) > 20 and set(rows) - tried == LATER
    assert all('no answer yet' in rows[word] for word in LATER)
