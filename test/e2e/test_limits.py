"""How often a client may ask: all workers together, over reloads and deaths, and who the client is."""
import os
import signal
import socket
import subprocess

import pytest

from client import Client
from gateway import Gateway, free_ports, wait_until
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
    assert {r.get('rules') for r in records if r['status'] == 429} == {'limit requests 10/h per ip on /few*'}
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
    os.kill(gateway.process.pid, signal.SIGKILL)
    gateway.wait()
    gateway.start()
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
