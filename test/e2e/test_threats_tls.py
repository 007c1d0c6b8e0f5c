"""Threats under TLS: one test for each that applies so far. Each has its counter and its reason in the log,
and somebody who did nothing is served throughout."""
import contextlib
import os
import re
import socket
import ssl
import subprocess

import pytest

import rawtls
from client import Client, get, tls_context
from gateway import SOAK, Gateway, wait_until
from rawtls import RawTls

pytestmark = pytest.mark.soak  # here with small counts, there with full ones
SITE = '''
listen 127.0.0.1:{port}
site localhost { respond 200 "local" }
site www.test *.wild.test { respond 200 "www" }
site strict.test { tls min 1.3; respond 200 "strict" }
'''
MANY = 2000 if SOAK else 200


@pytest.fixture(scope='module')
def gateway():
    with Gateway(SITE) as one:
        one.root()
        yield one


@pytest.fixture(autouse=True)
def bystander(gateway):
    """One with a connection from before, and a new one: both are answered when the test is over, as they were
    before it, and no process has died."""
    pids = gateway.roles()
    with Client(gateway.port, tls_context()) as client:
        assert client.get('/').text == 'local'
        yield client
        assert client.get('/').text == 'local'
        assert get(gateway.port, '/', tls=tls_context()).text == 'local'
    assert gateway.roles() == pids


def s_client(gateway, *arguments, say=b''):
    done = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{gateway.port}', *arguments], input=say,
                          capture_output=True, timeout=60, check=False)
    return (done.stdout + done.stderr).decode(errors='replace')


def test_client_renegotiation(gateway):
    before = gateway.counter('handshakes')
    said = s_client(gateway, '-servername', 'localhost', '-tls1_2', say=b'R\n')
    assert 'RENEGOTIATING' in said and re.search('no renegotiation|renegotiation disabled|alert|unexpected eof', said), said
    assert gateway.counter('handshakes') == before + 1, 'no second handshake on the connection'


@pytest.mark.parametrize('suite', ['AES128-SHA', 'AES256-SHA', 'AES128-GCM-SHA256', 'AES256-SHA256'])
def test_robot(gateway, suite):
    """No key exchange by RSA encryption at all: no oracle can be asked."""
    before = gateway.counter('handshakes_failed')
    said = s_client(gateway, '-servername', 'localhost', '-tls1_2', '-cipher', suite + ':@SECLEVEL=0')
    assert 'alert handshake failure' in said and 'Cipher is (NONE)' in said, said
    assert gateway.counter('handshakes_failed') == before + 1
    assert gateway.event('no-certificate') or gateway.event('cipher')


@pytest.mark.parametrize('protocol', ['ftp', 'smtp', 'h2', 'h2c', 'http/1.0'])
def test_alpaca(gateway, protocol):
    """A protocol of others finds no one here, so no answer of ours can be passed off as theirs."""
    events = len([e for e in gateway.events if e.get('tls', {}).get('failure') == 'alpn'])
    with pytest.raises(ssl.SSLError, match='(?i)no.application.protocol'):
        Client(gateway.port, tls_context(alpn=[protocol]))
    gateway.event('alpn', events + 1)


def test_alpaca_unknown_name(gateway):
    before = gateway.counter('handshakes_failed')
    with pytest.raises(ssl.SSLError, match='(?i)unrecognized.name'):
        Client(gateway.port, tls_context(), 'nobody.test')
    assert gateway.counter('handshakes_failed') == before + 1
    assert gateway.event('unknown-name')[-1]['tls']['sni'] == 'nobody.test'


@pytest.mark.parametrize('sni, host, status', [
    ('localhost', 'localhost', 200), ('www.test', 'www.test', 200), ('www.test', 'a.wild.test', 200), ('b.wild.test', 'www.test', 200),
    ('localhost', 'www.test', 421), ('localhost', 'strict.test', 421), ('strict.test', 'localhost', 421), ('www.test', 'localhost', 421),
    ('www.test', 'nobody.test', 421), ('localhost', 'nobody.test', 421), ('strict.test', 'www.test', 421)])
def test_sni_is_not_host(gateway, sni, host, status):
    path = f'/{sni}/{host}'
    with Client(gateway.port, tls_context(), sni) as client:
        assert client.get(path, host=host).status == status
    record = gateway.record(path)
    assert (record['status'], record['end']) == (status, 'ok' if status == 200 else 'misdirected')


def hello(name='localhost', alpn=('http/1.1',), most=None):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = tls_context(alpn=alpn, most=most).wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def connect(gateway, count):
    found = []
    for _ in range(count):
        one = socket.create_connection(('127.0.0.1', gateway.port), 30)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.append(one)
    return found


def read_to_end(one):
    got = b''
    with contextlib.suppress(ConnectionError):
        while True:
            data = one.recv(65536)
            if not data:
                break
            got += data
    return got


@pytest.fixture
def held():
    found = []
    yield found
    for one in found:
        one.close()


def test_slow_handshake(test_build, gateway, held, bystander):
    """A byte now and then buys no time: the deadline is the whole handshake's."""
    whole, before = hello(), gateway.limit('handshake')
    held += connect(gateway, MANY)
    for at in range(3):
        for one in held:
            one.sendall(whole[at:at + 1])
        gateway.move_clock(2)
        assert bystander.get('/').text == 'local'
    wait_until(lambda: sum(row['connections'] for row in gateway.status()) >= MANY, 'all of them to be there')
    assert gateway.limit('handshake') == before, 'not before its time'
    gateway.move_clock(5)
    for one in held:
        assert read_to_end(one) == b''
    assert gateway.limit('handshake') == before + MANY
    gateway.event('limit:handshake', MANY)


def test_handshake_flood(test_build, gateway, held, bystander):
    """Hellos whose senders never go on: each costs a signature and is let go of in time; others shake hands."""
    before, whole = gateway.limit('handshake'), hello()
    for start in range(0, MANY, 20):
        some = connect(gateway, 20)
        for one in some:
            one.sendall(whole)
        held += some
        assert bystander.get('/').text == 'local'
        assert get(gateway.port, '/', tls=tls_context()).text == 'local', f'behind {start} half-open ones'
    for one in held:
        assert one.recv(5, socket.MSG_WAITALL)[:1] == b'\x16'
    gateway.move_clock(11)
    for one in held:
        read_to_end(one)
    assert gateway.limit('handshake') == before + MANY


def in_records(data, cuts):
    message = data[5:]
    edges = [0, *cuts, len(message)]
    return b''.join(data[:3] + (b - a).to_bytes(2, 'big') + message[a:b] for a, b in zip(edges, edges[1:]))


def sized_hello(size):
    """A hello whose message (with its head) has this size, by an extension of nothing at its end."""
    data = hello()
    more = size - (len(data) - 5)
    extension = b'\xfa\xfa' + (more - 4).to_bytes(2, 'big') + bytes(more - 4)
    at = 5 + 4 + 2 + 32
    at += 1 + data[at]
    at += 2 + int.from_bytes(data[at:at + 2], 'big')
    at += 1 + data[at]
    block = int.from_bytes(data[at:at + 2], 'big') + more
    message = data[5:6] + (size - 4).to_bytes(3, 'big') + data[9:at] + block.to_bytes(2, 'big') + data[at + 2:] + extension
    assert len(message) == size
    return data[:3] + size.to_bytes(2, 'big') + message


def answer_to(gateway, data):
    with socket.create_connection(('127.0.0.1', gateway.port), 30) as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(data)
        return one.recv(7)


ODD = {
    # name: what is sent at the limit, and one above it, the limit, its alert
    'hello-size': (lambda over: in_records(sized_hello(16384 + over), [8000]), b'\x15\3\3\0\2\2\x2f'),
    'hello-records': (lambda over: (lambda h: in_records(h, [20 * i for i in range(1, 10 + over)]))(hello()), b'\x15\3\3\0\2\2\x2f'),
}


@pytest.mark.parametrize('name', ODD)
def test_clienthello_oddities(gateway, name):
    make, alert = ODD[name]
    for over in (-1, 0, 1):
        before = gateway.limit(name)
        got = answer_to(gateway, make(over))
        if over > 0:
            assert got == alert
            gateway.event('limit:' + name)
        else:
            assert got[:1] == b'\x16', got
        assert gateway.limit(name) == before + (over > 0)


def test_clienthello_oddities_of_a_handshake(gateway):
    """handshake-size: TLS 1.2 lets a message come in records of a byte: 16 KB of it are 96 KB."""
    before = gateway.limit('handshake-size')
    with socket.create_connection(('127.0.0.1', gateway.port), 30) as one:
        one.sendall(hello(most=ssl.TLSVersion.TLSv1_2))
        assert one.recv(5, socket.MSG_WAITALL)[:1] == b'\x16'
        message = b'\x10\0\x3e\x80' + bytes(16000)
        records = [b'\x16\3\3\0\1' + message[i:i + 1] for i in range(len(message))]
        one.sendall(b''.join(records[:7000]))
        assert get(gateway.port, '/', tls=tls_context()).text == 'local'
        assert gateway.limit('handshake-size') == before, 'it is not over yet'
        with contextlib.suppress(ConnectionError):
            for at in range(7000, 10000, 500):  # in reads of their own
                one.sendall(b''.join(records[at:at + 500]))
                assert get(gateway.port, '/', tls=tls_context()).text == 'local'
        read_to_end(one)
    assert gateway.limit('handshake-size') == before + 1
    gateway.event('limit:handshake-size')


@pytest.mark.parametrize('data', [
    b'\x16\3\1\0\0' * 50, b'\x16\3\1\0\4\1\0\0\0', b'\x15\3\1\0\2\1\0' * 50, b'\x14\3\1\0\1\1' * 50, b'\x17\3\3\0\1a' * 50, b'\x80\x2e\1\3\1' + bytes(60),
    hello()[:60] + b'\xff' * 200, b'\x16\3\1\x3f\xff\1\0\x3f\xfb\3\3' + bytes(32) + b'\0\0\2\x13\1\1\0\x3f\xcf' + b'\xfa\xfa\0\0' * 4083 + bytes(7)],
    ids=['empty', 'short', 'warnings', 'changes', 'data', 'ssl2', 'garbage', 'thousands-of-extensions'])
def test_clienthello_oddities_die_alone(gateway, data):
    before = gateway.counter('handshakes_failed')
    with socket.create_connection(('127.0.0.1', gateway.port), 30) as one:
        with contextlib.suppress(ConnectionError):
            one.sendall(data)
            one.shutdown(socket.SHUT_WR)
        assert read_to_end(one)[:1] in (b'', b'\x15')
    assert gateway.counter('handshakes_failed') >= before


REQUEST = b'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'
FLOODS = {
    # name: one record of it, how many in a row are let pass
    'empty-record': (rawtls.DATA, b'', 32),
    'key-update': (rawtls.HANDSHAKE, rawtls.KEY_UPDATE, 32),
    'warning-alert': (rawtls.ALERT, rawtls.WARNING, 4),
}


@pytest.mark.parametrize('name', FLOODS)
def test_record_floods(gateway, name):
    """empty-records: as many in a row as are let pass, then a request: answered. One more: closed."""
    kind, content, most = FLOODS[name]
    for count in (most - 1, most):
        with RawTls(gateway.port) as raw:
            for _ in range(2):
                raw.send(kind, *[content] * count)
                raw.send(rawtls.DATA, REQUEST)
                assert raw.answer().startswith(b'HTTP/1.1 200 '), count
    before, events = gateway.limit('empty-records'), len(gateway.events)
    with RawTls(gateway.port) as raw:
        raw.send(kind, *[content] * (most + 1))
        with contextlib.suppress(ConnectionError):
            raw.send(rawtls.DATA, REQUEST)
        assert raw.answer() is None and raw.is_closed()
    assert gateway.limit('empty-records') == before + 1
    gateway.event('limit:empty-records')
    assert len(gateway.events) > events


def test_record_floods_of_one_byte(gateway):
    """Records that carry a byte each carry something: they are served, at the price of a record each."""
    with RawTls(gateway.port) as raw:
        for _ in range(20):
            raw.send(rawtls.DATA, *[REQUEST[i:i + 1] for i in range(len(REQUEST))])
            assert raw.answer().startswith(b'HTTP/1.1 200 ')


def test_old_protocols(gateway):
    for version in ('-tls1', '-tls1_1'):
        before = gateway.counter('handshakes_failed')
        said = s_client(gateway, '-servername', 'localhost', version, '-cipher', 'ALL:@SECLEVEL=0')
        assert 'Cipher is (NONE)' in said, said
        assert gateway.counter('handshakes_failed') == before + 1


@pytest.mark.parametrize('algorithms', ['ECDSA+SHA1', 'RSA+SHA1', 'ECDSA+SHA1:RSA+SHA1'])
def test_weak_signatures(gateway, algorithms):
    """A client that can verify nothing but SHA-1 gets no signature of ours."""
    before = gateway.counter('handshakes_failed')
    said = s_client(gateway, '-servername', 'localhost', '-tls1_2', '-sigalgs', algorithms, '-cipher', 'ALL:@SECLEVEL=0')
    assert 'Cipher is (NONE)' in said and 'BEGIN CERTIFICATE' not in said, said
    assert gateway.counter('handshakes_failed') >= before


def test_early_data_replay(gateway, folder):
    """0-RTT is off: tickets grant none, and what is sent early all the same is no request."""
    ticket, early = os.path.join(folder, 'ticket'), os.path.join(folder, 'early')
    with open(early, 'w', encoding='utf-8') as file:
        file.write('GET /early HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')
    request = b'GET /late HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n'
    arguments = ['-servername', 'localhost', '-tls1_3', '-ign_eof']
    s_client(gateway, *arguments, '-sess_out', ticket, say=request)
    assert os.path.exists(ticket)
    said = subprocess.run(['openssl', 'sess_id', '-in', ticket, '-noout', '-text'], capture_output=True, text=True, check=True).stdout
    assert re.search(r'Max Early Data: 0\b', said), said
    for _ in range(20):
        said = s_client(gateway, *arguments, '-sess_in', ticket, '-early_data', early, say=request)
        assert 'Early data was not sent' in said or 'Early data was rejected' in said, said
    gateway.record('/late', 20)
    assert not [r for r in gateway.records if r.get('path') == '/early']


def test_ticket_of_another_policy(gateway):
    """CVE-2025-23419: what was proven to one site counts at no other."""
    context = tls_context()
    with Client(gateway.port, context, 'www.test') as client:
        client.get('/')
        ticket = client.socket.session
    for _ in range(MANY // 10):
        for name, resumed in (('strict.test', False), ('localhost', False), ('www.test', True)):
            with Client(gateway.port, context, name, session=ticket) as client:
                assert client.socket.session_reused == resumed, name
