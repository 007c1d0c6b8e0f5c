"""How often a client may ask: all workers together, over reloads and deaths, and who the client is."""
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from client import Client, Truncated, tls_context
from gateway import Gateway, ROOT, free_ports, is_alive, wait_until
from origin import Origin
from test_real_client import v1

CONFIG = '''
table near {{ 127.0.0.1 ::1 }}
listen 127.0.0.1:{{port}} plain serve
listen [::1]:{{port}} plain serve
listen 127.0.0.1:{{port2}} plain serve {{ proxy-protocol from <near> }}
site a.test default {{
    trust forwarded from <near>
    limit requests 10/h per ip on /few*
    limit requests 3/h per ip on /rare
    respond 200 "{}"
}}
'''


@pytest.fixture(name='gateway')
def started():
    with Gateway(CONFIG.format('one'), ports=free_ports(2)) as gateway:
        yield gateway


def ask(gateway, path='/few', *fields, first=b'', port=None, address='127.0.0.1'):
    with socket.create_connection((address, port or gateway.port), 30) as one:
        one.sendall(first + f'GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n'.encode() +
                    ''.join(f'{field}\r\n' for field in fields).encode() + b'\r\n')
        answer = b''
        while piece := one.recv(65536):
            answer += piece
    return int(answer.split()[1])


def asked_often(gateway, count, *fields):
    return [ask(gateway, '/few', *fields) for _ in range(count)]


def test_all_workers_count_together(gateway):
    """Each connection may come to any worker; exactly ten requests pass, whichever they were."""
    statuses = asked_often(gateway, 40)
    assert statuses == [200] * 10 + [429] * 30
    records = gateway.record('/few', 40)
    assert {record['end'] for record in records} == {'ok', 'limit:request-rate'}
    if len(gateway.pids('worker')) > 1:
        assert len({record['worker'] for record in records}) > 1
    assert {r['rule'].partition(': ')[2] for r in records if r['status'] == 429} == {'limit requests 10/h per ip on /few*'}
    assert gateway.limit('request-rate') == 30


def test_curl_is_told_when(gateway):
    for _ in range(3):
        assert ask(gateway, '/rare') == 200
    done = subprocess.run(['curl', '-si', '-H', 'Host: a.test', f'http://127.0.0.1:{gateway.port}/rare'],
                          capture_output=True, text=True, timeout=30, check=True)
    head = {name.lower(): value for name, value in
            (line.split(': ', 1) for line in done.stdout.split('\n\n')[0].splitlines()[1:] if ': ' in line)}
    assert done.stdout.startswith('HTTP/1.1 429 Too Many Requests')
    assert 0 < int(head['retry-after']) <= 1200
    assert head['ratelimit-policy'] == '"3/h";q=3;w=3600'
    assert head['ratelimit'] == f'"3/h";r=0;t={head["retry-after"]}'
    # And one connection goes on behind a 429.
    with Client(gateway.port, name='a.test') as client:
        assert [client.get('/rare').status, client.get('/else').status] == [429, 200]


def test_who_the_client_is(gateway):
    """The one real address: of the socket, of a PROXY header, or whom a trusted peer names; of IPv6 the /64."""
    assert asked_often(gateway, 12, 'X-Forwarded-For: 203.0.113.1')[8:] == [200, 200, 429, 429]
    assert ask(gateway, '/few', 'X-Forwarded-For: 203.0.113.2') == 200
    assert ask(gateway, '/few') == 200
    assert ask(gateway, '/few', first=v1('203.0.113.1'), port=gateway.ports[1]) == 429
    assert ask(gateway, '/few', first=v1('203.0.113.3'), port=gateway.ports[1]) == 200
    # Whom nobody trusts names himself in vain.
    strangers = [ask(gateway, '/few', f'X-Forwarded-For: 198.51.100.{i}', first=v1('203.0.113.4'), port=gateway.ports[1])
                 for i in range(11)]
    assert strangers == [200] * 10 + [429]
    sixes = [ask(gateway, '/few', f'X-Forwarded-For: 2001:db8:1:2:{i:x}::{i}') for i in range(1, 12)]
    assert sixes == [200] * 10 + [429]
    assert ask(gateway, '/few', 'X-Forwarded-For: 2001:db8:1:3::1') == 200
    assert ask(gateway, '/few', address='::1') == 200


def test_counts_stay(gateway):
    """Over the death of every worker, over reloads, and over the supervisor's kill -9."""
    assert asked_often(gateway, 5) == [200] * 5
    for pid in gateway.pids('worker'):
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda gone=pid: gone not in gateway.pids('worker'), 'the worker to be gone')
    gateway.settle()
    assert asked_often(gateway, 3) == [200] * 3
    gateway.reload_well(CONFIG.format('two'))
    assert asked_often(gateway, 3) == [200, 200, 429]
    orphans = gateway.pids('worker')
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.wait()
    gateway.start()
    # They have the line of before, and accept until they have seen their successors.
    wait_until(lambda: not any(is_alive(pid) for pid in orphans), 'the orphans to be gone')
    assert asked_often(gateway, 2) == [429] * 2
    # A line that changed is another line.
    gateway.reload_well(CONFIG.format('three').replace('10/h', '11/h'))
    assert asked_often(gateway, 12) == [200] * 11 + [429]


def test_time_passes(gateway):
    assert asked_often(gateway, 11) == [200] * 10 + [429]
    gateway.move_clock(360 * 3 + 1)
    # Each process is told of the new time by a message of its own.
    wait_until(lambda: ask(gateway) == 200, 'the first to pass again')
    assert asked_often(gateway, 3) == [200, 200, 429]


# ---- Connections at a time -------------------------------------------------------------------------------

GATE = '''
table near {{ 127.0.0.1 }}
listen 127.0.0.1:{{port}} plain serve
listen 127.0.0.1:{{port2}} plain serve {{ proxy-protocol from <near> }}
listen 127.0.0.1:{{port3}}
firewall {{ limit connections {} per ip }}
site a.test default {{ certificate internal; respond 200 }}
'''


def opened(port, first=b''):
    """A connection that has asked once, or None where it was closed instead."""
    one = socket.create_connection(('127.0.0.1', port), 30)
    try:
        one.sendall(first + b'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n')
        if one.recv(65536):
            return one
    except ConnectionError:
        pass
    one.close()
    return None


def test_connections_of_a_client():
    """All workers together, of the socket's peer or whom a PROXY header names; a dead worker gives its share back, and
    a reload with another number counts on."""
    with Gateway(GATE.format(6), ports=free_ports(3)) as gateway:
        kept = [opened(gateway.port) for _ in range(6)]
        assert all(kept)
        assert opened(gateway.port) is None
        with pytest.raises((OSError, Truncated)):
            Client(gateway.ports[2], name='a.test', tls=tls_context()).get('/')
        assert gateway.limit('client-connections') >= 2
        wait_until(lambda: any(e.get('anomaly', {}).get('failure') == 'limit:client-connections' and e['src_ip'] == '127.0.0.1' and
                               e['anomaly']['rule'].endswith(': limit connections 6 per ip') for e in list(gateway.events)), 'the event')
        # Whom the header names has his own; the balancer's address has none there.
        others = [opened(gateway.ports[1], v1('203.0.113.1')) for _ in range(7)]
        assert [one is not None for one in others] == [True] * 6 + [False]
        assert opened(gateway.ports[1], v1('203.0.113.2'))
        kept.pop().close()
        wait_until(lambda: opened(gateway.port), 'the place of one that left')
        # What a worker had is free when it is dead: the others' go on counting.
        for pid in gateway.pids('worker'):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda gone=pid: gone not in gateway.pids('worker'), 'the worker to be gone')
        gateway.settle()
        for one in kept:
            one.close()
        again = [opened(gateway.port) for _ in range(7)]
        assert [one is not None for one in again] == [True] * 6 + [False]
        gateway.reload_well(GATE.format(7))
        assert opened(gateway.port)
        gateway.reload_well(GATE.format(3))
        assert opened(gateway.port) is None
        for one in again[:4]:
            one.close()
        wait_until(lambda: opened(gateway.port), 'less than three')


def test_connections_of_a_path():
    """Requests under way count, for a line in a site; what is too much gets 429 and the connection ends."""
    config = '''
    listen 127.0.0.1:{port} plain serve
    site www.example.com {
        limit connections 4 per ip on /slow*
        proxy 127.0.0.1:ORIGIN
    }'''

    def answer(exchange):
        if exchange.target.startswith('/slow'):
            seen.append(1)
            held.wait(30)
        exchange.read_body()
        return exchange.reply(200, 'x')

    held, seen = threading.Event(), []
    with Origin(answer) as origin, Gateway(config.replace('ORIGIN', str(origin.port))) as gateway:
        slow = [socket.create_connection(('127.0.0.1', gateway.port), 30) for _ in range(4)]
        for one in slow:
            one.sendall(b'GET /slow HTTP/1.1\r\nHost: www.example.com\r\n\r\n')
        wait_until(lambda: len(seen) == 4, 'all four to be there')
        status, fields, _ = answers(gateway, '/slow/x')
        assert (status, fields['Connection']) == (429, 'close')
        assert answers(gateway, '/fast')[0] == 200
        held.set()
        for one in slow:
            assert one.recv(65536).startswith(b'HTTP/1.1 200')
        # The connections are still there, and count for nothing.
        wait_until(lambda: answers(gateway, '/slow')[0] == 200, 'room')
        records = [r for r in gateway.record('/slow/x', 1)]
        assert records[0]['end'] == 'limit:client-connections'
        assert records[0]['rule'].endswith(': limit connections 4 per ip on /slow*')


# ---- Bandwidth -------------------------------------------------------------------------------------------


def test_bandwidth_of_files_and_origins():
    """Over TLS and without, of a file, an origin and a chunked one: the bytes are the same; and an origin is read no faster than
    its client is sent to."""
    size = 600 * 1024
    body = bytes(range(256)) * (size // 256)
    written = []

    def origin_answer(exchange):
        exchange.read_body()
        if exchange.target == '/endless':
            exchange.send(b'HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n')
            try:
                while sum(written) < 200 << 20:
                    exchange.send(body)
                    written.append(size)
            except OSError:
                pass
            return False
        return exchange.reply(200, body)

    config = '''
    listen 127.0.0.1:{port} plain serve
    listen 127.0.0.1:{port2}
    site www.example.com {
        certificate internal
        limit bandwidth 2MB/s per ip on /origin
        limit bandwidth 1MB/s per connection on /files/*
        limit bandwidth 64KB/s per connection on /endless
        files {folder}/www on /files/*
        proxy 127.0.0.1:ORIGIN
    }'''
    with Origin(origin_answer) as origin:
        gateway = Gateway(config.replace('ORIGIN', str(origin.port)), ports=free_ports(2))
        os.makedirs(os.path.join(gateway.folder, 'www', 'files'))
        with open(os.path.join(gateway.folder, 'www', 'files', 'a.bin'), 'wb') as file:
            file.write(body)
        with gateway:
            for port, tls in ((gateway.port, False), (gateway.ports[1], True)):
                with Client(port, name='www.example.com', tls=tls_context() if tls else None) as client:
                    for path, rate in (('/files/a.bin', 1024), ('/origin', 2048)):
                        begun = time.monotonic()
                        got = client.get(path)
                        assert (got.status, got.body == body) == (200, True), path
                        print(f'figures: {path} over {"TLS" if tls else "TCP"}: {size / 1024 / (time.monotonic() - begun):.0f} KB/s of {rate}')
            assert gateway.limit('bandwidth') >= 4
            with socket.create_connection(('127.0.0.1', gateway.port), 30) as one:
                one.sendall(b'GET /endless HTTP/1.1\r\nHost: www.example.com\r\n\r\n')
                got = 0
                while got < 32 * 1024:
                    got += len(one.recv(65536))
                # What lies between them are buffers of sockets, and not the body.
                assert sum(written) < 32 << 20


# ---- Routes ----------------------------------------------------------------------------------------------


def block_of_the_manual(heading):
    """The first configuration below a heading, without its first line."""
    with open(os.path.join(ROOT, 'docs', 'configuration.md'), encoding='utf-8') as file:
        section = file.read().split(f'\n## {heading}\n')[1].split('\n## ')[0]
    return re.search(r'```\n(portcullis 1\n.*?)```', section, re.S)[1].replace('portcullis 1\n', '')


def describe(exchange):
    exchange.read_body()
    return exchange.reply(200, exchange.target)


def answers(gateway, path, *fields, first=b'', port=None, method='GET'):
    """Status, fields and body of one request."""
    with socket.create_connection(('127.0.0.1', port or gateway.port), 30) as one:
        one.sendall(first + f'{method} {path} HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n'.encode() +
                    ''.join(f'{field}\r\n' for field in fields).encode() + b'\r\n')
        answer = b''
        while piece := one.recv(65536):
            answer += piece
    head, _, body = answer.partition(b'\r\n\r\n')
    lines = head.decode().split('\r\n')
    return int(lines[0].split()[1]), dict(line.split(': ', 1) for line in lines[1:]), body.decode()


def test_maintenance():
    """The manual's block, as it stands there: the office is let through, all others are told when to come back."""
    with Origin(describe) as origin:
        text = block_of_the_manual('Routes, and maintenance').replace('127.0.0.1:3000', f'127.0.0.1:{origin.port}')
        text = ('table front { 127.0.0.1 }\nlisten 127.0.0.1:{port} plain serve { proxy-protocol from <front> }\n' +
                text)
        with Gateway(text) as gateway:
            for office in ('192.0.2.7', '2001:db8:10::5'):
                assert answers(gateway, '/a?b', first=v1(office))[::2] == (200, '/a?b')
            for other in ('192.0.3.7', '2001:db8:11::5'):
                status, fields, body = answers(gateway, '/a?b', first=v1(other))
                assert (status, fields['Retry-After'], body) == (503, '600', 'Back in ten minutes.')
            gateway.reload_well(text.replace('respond 503', 'respond 200'))
            assert answers(gateway, '/', first=v1('192.0.3.7'))[0] == 200


def test_stripped_prefix():
    """The upstream and `files` see the shorter path, the log the whole one; nothing leaves the prefix."""
    config = '''
    listen 127.0.0.1:{port} plain serve
    site www.example.com {
        route /api/* method GET,POST {
            strip-prefix /api
            limit requests 3/h on /rare
            respond 200 "inner" on /inner
            proxy 127.0.0.1:ORIGIN
        }
        route /docs/* { strip-prefix /docs; files {folder}/docs }
        respond 404 "outer"
    }'''
    with Origin(describe) as origin:
        gateway = Gateway(config.replace('ORIGIN', str(origin.port)))
        os.makedirs(os.path.join(gateway.folder, 'docs', 'sub'))
        for path in ('docs/a.txt', 'secret.txt', 'docs/sub/index.html'):
            with open(os.path.join(gateway.folder, path), 'w', encoding='utf-8') as file:
                file.write(path)
        with gateway:
            told = {'/api/x': '/x', '/api/x?a=1&b': '/x?a=1&b', '/api/': '/', '/%61pi/x': '/x', '/api/%78': '/%78',
                    '/api//api/x': '/api/x', '/api/a%20b;c=d/': '/a%20b;c=d/', '/api/b/../x': '/x', '/x/../api/y': '/y',
                    '/api/./%2e/z': '/z'}
            for asked, seen in told.items():
                assert answers(gateway, asked)[::2] == (200, seen), asked
            assert answers(gateway, '/api/inner')[2] == 'inner'
            for outside in ('/api', '/apix', '/API/x', '/api;a/x', '/api/../secret.txt', '/docs/../api'):
                assert answers(gateway, outside)[2] == 'outer', outside
            assert answers(gateway, '/api/x', method='PUT')[2] == 'outer'
            assert answers(gateway, '/api/../../x')[0] == 400
            assert [answers(gateway, '/api/rare')[0] for _ in range(4)] == [200] * 3 + [429]
            ends = [record['end'] for record in gateway.record('/api/rare', 4)]
            assert sorted(ends) == ['limit:request-rate', 'ok', 'ok', 'ok']
            assert answers(gateway, '/docs/a.txt')[::2] == (200, 'docs/a.txt')
            assert answers(gateway, '/docs/sub/')[2] == 'docs/sub/index.html'
            assert answers(gateway, '/docs/sub?q')[1]['Location'] == '/docs/sub/?q'
            for climbing in ('/docs/%2e%2e/secret.txt', '/docs/..%2fsecret.txt', '/docs/x/../../secret.txt'):
                assert 'secret' not in answers(gateway, climbing)[2]


# ---- Error pages -----------------------------------------------------------------------------------------


def test_error_pages():
    """Of the gateway's own answers, by code, site and route; an origin's pass as they are."""
    config = '''
    listen 127.0.0.1:{port} plain serve
    site www.example.com {
        error 502 503 {folder}/down.html
        error 404 429 {folder}/missing.txt
        limit requests 1/h on /once
        route /r/* { error 404 {folder}/inner.json; files {folder}/none }
        respond 503 retry-after 10s on /maintenance
        respond 503 "text" on /text
        respond 500 on /500
        proxy 127.0.0.1:ORIGIN on /origin
        proxy 127.0.0.1:{port3} on /dead
        files {folder}/none
    }'''

    def missing(exchange):
        exchange.read_body()
        return exchange.reply(404, 'of the origin')

    with Origin(missing) as origin:
        gateway = Gateway(config.replace('ORIGIN', str(origin.port)))
        os.mkdir(os.path.join(gateway.folder, 'none'))

        def page(name, text):
            with open(os.path.join(gateway.folder, name), 'w', encoding='utf-8') as file:
                file.write(text)

        page('down.html', '<p>down')
        page('missing.txt', 'missing')
        page('inner.json', '{}')
        with gateway:
            for path, status, kind, body in (
                    ('/dead', 502, 'text/html; charset=utf-8', '<p>down'),
                    ('/maintenance', 503, 'text/html; charset=utf-8', '<p>down'),
                    ('/text', 503, 'text/plain; charset=utf-8', 'text'),
                    ('/nothing', 404, 'text/plain; charset=utf-8', 'missing'),
                    ('/r/nothing', 404, 'application/json', '{}')):
                got = answers(gateway, path)
                assert (got[0], got[1]['Content-Type'], got[2]) == (status, kind, body), path
                assert got[1]['Content-Length'] == str(len(body))
            assert answers(gateway, '/maintenance')[1]['Retry-After'] == '10'
            assert answers(gateway, '/origin')[::2] == (404, 'of the origin')
            assert 'Request' in answers(gateway, '/500')[2]
            head = answers(gateway, '/dead', method='HEAD')
            assert (head[0], head[1]['Content-Length'], head[2]) == (502, '7', '')
            assert answers(gateway, '/dead', 'Range: bytes=0-1')[::2] == (502, '<p>down')
            assert answers(gateway, '/once')[0] == 404
            limited = answers(gateway, '/once')
            assert (limited[0], limited[2]) == (429, 'missing') and 'Retry-After' in limited[1]
            # A changed page comes with a reload, a missing one is refused, and the old configuration serves.
            page('down.html', '<p>still down')
            gateway.reload_well()
            assert answers(gateway, '/dead')[2] == '<p>still down'
            os.unlink(os.path.join(gateway.folder, 'missing.txt'))
            refused = gateway.reload()
            assert refused.returncode == 1 and 'missing.txt: No such file or directory' in refused.stderr
            page('missing.txt', 'x' * 65537)
            refused = gateway.reload()
            assert refused.returncode == 1 and '65537 bytes: the limit `error-page`' in refused.stderr
            assert answers(gateway, '/nothing')[2] == 'missing'
