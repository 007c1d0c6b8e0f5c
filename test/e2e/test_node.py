"""A Node application behind `portcullis proxy`: uploads and downloads byte for byte, WebSocket, server-sent events."""
import base64
import hashlib
import json
import os
import shutil
import subprocess
import time

import pytest

from client import Client, tls_context
from gateway import ROOT, SOAK, Gateway

NODE = shutil.which('node')
RELEASE = os.path.join(ROOT, 'build', 'portcullis')
BLOCKS = 1024 if SOAK else 128  # MiB
BLOCK = bytes((i * 7 + (i >> 8)) & 255 for i in range(1 << 20))

pytestmark = [pytest.mark.skipif(not NODE, reason='no node on this machine'),
              pytest.mark.skipif(not os.access(RELEASE, os.X_OK), reason='the release build is not here')]


class App:
    def __init__(self, **env):
        self.process = subprocess.Popen([NODE, os.path.join(ROOT, 'test/e2e/app.js')], stdout=subprocess.PIPE,
                                        text=True, env={**os.environ, **env})
        self.port = int(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope='module')
def gateway():
    """The release build: memory is measured."""
    with App() as app:
        with Gateway(command=['proxy', f'127.0.0.1:{app.port}', '--listen', '127.0.0.1:{port}'],
                     executable=RELEASE) as one:
            one.tls = tls_context(one.root())
            yield one


def memory_of_workers(gateway):
    def private(pid):
        with open(f'/proc/{pid}/smaps_rollup', encoding='ascii') as file:
            return sum(int(line.split()[1]) for line in file if line.startswith('Private_')) * 1024
    return sum(private(pid) for pid in gateway.pids('worker'))


def test_hello(gateway):
    with Client(gateway.port, gateway.tls) as client:
        response = client.get('/x')
        assert (response.status, response.body) == (200, b'hello /x')


@pytest.mark.soak
def test_a_big_upload(gateway):
    before, peak, digest = memory_of_workers(gateway), 0, hashlib.sha256()
    with Client(gateway.port, gateway.tls) as client:
        client.send(f'POST /upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BLOCKS << 20}\r\n\r\n'.encode())
        for i in range(BLOCKS):
            digest.update(BLOCK)
            client.send(BLOCK)
            if i % 16 == 0:
                peak = max(peak, memory_of_workers(gateway))
        response = client.response()
    assert response.status == 200
    assert json.loads(response.body) == {'digest': digest.hexdigest(), 'length': BLOCKS << 20}
    assert peak - before < 20 << 20


@pytest.mark.soak
def test_a_big_download(gateway):
    before, peak, count = memory_of_workers(gateway), 0, 0
    got, wanted = hashlib.sha256(), hashlib.sha256()
    for _ in range(BLOCKS):
        wanted.update(BLOCK)
    done = subprocess.Popen(['curl', '-sN', '--cacert', gateway.root(),
                             f'https://localhost:{gateway.port}/download?blocks={BLOCKS}'], stdout=subprocess.PIPE)
    while part := done.stdout.read(1 << 20):
        got.update(part)
        count += len(part)
        peak = max(peak, memory_of_workers(gateway)) if count >> 20 & 15 == 0 else peak
    assert done.wait() == 0 and count == BLOCKS << 20
    assert got.hexdigest() == wanted.hexdigest()
    assert peak - before < 20 << 20


def test_a_websocket(gateway):
    with Client(gateway.port, gateway.tls) as client:
        key = base64.b64encode(os.urandom(16)).decode()
        client.send(('GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
                     f'Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n').encode())
        head = client.head()
        assert head.status == 101
        accept = base64.b64encode(hashlib.sha1((key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').encode()).digest())
        assert head.get('Sec-WebSocket-Accept') == accept.decode()
        for text in (b'one', b'two' * 30, os.urandom(20000)):
            mask = os.urandom(4)
            size = bytes([128 | len(text)]) if len(text) < 126 else bytes([254]) + len(text).to_bytes(2, 'big')
            client.send(b'\x82' + size + mask + bytes(b ^ mask[i & 3] for i, b in enumerate(text)))
            frame = client.exactly(2)
            length = frame[1] if frame[1] < 126 else int.from_bytes(client.exactly(2), 'big')
            assert frame[0] == 0x82 and client.exactly(length) == text


def test_server_sent_events_come_one_by_one(gateway):
    name = os.urandom(4).hex()
    with Client(gateway.port, gateway.tls) as stream, Client(gateway.port, gateway.tls) as control:
        stream.request('GET', f'/events?name={name}')
        assert stream.head().status == 200
        for i in range(5):
            text = b''
            while b'\n\n' not in text:
                size = int(stream.line(), 16)
                text += stream.exactly(size)
                stream.line()
            assert f'data: event {i}\n'.encode() in text
            last = '&last' if i == 4 else ''
            assert control.get(f'/acknowledge?name={name}{last}').body == b'ok'


@pytest.mark.soak
def test_an_origin_that_closes_idle_connections():
    """Requests spaced around the origin's keep-alive time meet a closing connection again and again."""
    count = 2000 if SOAK else 60
    with App(KEEP_ALIVE_MS='1000') as app:
        with Gateway(command=['proxy', f'127.0.0.1:{app.port}', '--listen', '127.0.0.1:{port}'],
                     executable=RELEASE) as one:
            tls, bad = tls_context(one.root()), []
            clients = [Client(one.port, tls) for _ in range(4)]
            for i in range(count // 4):
                for client in clients:
                    response = client.get(f'/{i}')
                    if response.status != 200:
                        bad.append(response.status)
                time.sleep(0.97 + (i % 7) * 0.01)
            for client in clients:
                client.close()
            assert not bad
