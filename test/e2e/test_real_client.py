"""Who the client is: PROXY headers, forwarded fields, and that log and origin are told the same."""
import contextlib
import json
import os
import re
import socket
import ssl
import struct
import subprocess

import pytest

from client import Client, tls_context
from gateway import Gateway, free_port, free_ports, wait_until
from origin import Origin

CONFIG = '''
table trusted { 127.0.0.1 10.0.0.0/8 2001:db8:cafe::/48 ::1 }
table front   { 127.0.0.1 ::1 }
listen 127.0.0.1:{port} plain serve
listen [::1]:{port} plain serve
listen 127.0.0.1:{port2}
listen 127.0.0.1:{port3} plain serve { proxy-protocol from <front> }
listen [::1]:{port3} plain serve { proxy-protocol from <front> }
listen 127.0.0.1:{port4} { proxy-protocol from <front> }
site a.test default { trust forwarded from <trusted>; proxy 127.0.0.1:ORIGIN }
site f.test    { trust forwarded from <trusted> field Forwarded; proxy 127.0.0.1:ORIGIN }
site cf.test   { trust forwarded from <trusted> field CF-Connecting-IP; proxy 127.0.0.1:ORIGIN }
site none.test { proxy 127.0.0.1:ORIGIN }
'''
SIGNATURE = b'\r\n\r\n\0\r\nQUIT\n'


def v1(source, destination='198.51.100.1', port=4567):
    return f'PROXY TCP{6 if ":" in source else 4} {source} {destination if ":" not in source else "2001:db8::f"} {port} 443\r\n'.encode()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def v2(source, destination='198.51.100.1', port=4567, tlvs=b'', command=1, checksum=None):
    """checksum: what is added to the right one; None: no such TLV."""
    family = socket.AF_INET6 if ':' in source else socket.AF_INET
    destination = '2001:db8::f' if ':' in source else destination
    block = socket.inet_pton(family, source) + socket.inet_pton(family, destination) + struct.pack('!HH', port, 443) + tlvs
    kind = 0x21 if family == socket.AF_INET6 else 0x11
    if checksum is None:
        return SIGNATURE + struct.pack('!BBH', 0x20 | command, kind, len(block)) + block
    head = SIGNATURE + struct.pack('!BBH', 0x20 | command, kind, len(block) + 7) + block + b'\3\0\4'
    return head + struct.pack('!I', (crc32c(head + b'\0\0\0\0') + checksum) & 0xffffffff)


class Behind(Client):
    """A client whose connection begins with some bytes, before TLS too, and comes from an address of our choice."""

    def __init__(self, port, first=b'', tls=None, name='a.test', source=None, address='127.0.0.1'):
        self.name, self.port, self.is_tls, self.buffer, self.is_over = name, port, tls is not None, b'', False
        source = source or ('::1' if ':' in address else '127.0.0.1')
        self.socket = socket.create_connection((address, port), 30, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.own_port = self.socket.getsockname()[1]
        try:
            self.send(first)
            if tls:
                self.socket = tls.wrap_socket(self.socket, server_hostname=name)
        except BaseException:
            self.socket.close()
            raise


def describe(exchange):
    exchange.read_body()
    return exchange.reply(200, json.dumps(exchange.fields))


@pytest.fixture(scope='module')
def gateway():
    with Origin(describe) as origin, Gateway(CONFIG.replace('ORIGIN', str(origin.port)), ports=free_ports(4)) as one:
        one.origin = origin
        yield one


# ---- One address: 60 cases -----------------------------------------------------------------------------

PLAIN, TLS, PROXY, PROXY_TLS, SIX = range(5)


class Case:
    """What is sent, and whom log and origin must take for the client.

    client: its address; port: its port, 0 where nobody said it, None for the socket's. via: whom the request passed
    behind it. The defaults are those of somebody who connects from 127.0.0.1 and says nothing."""

    def __init__(self, *fields, site='a.test', way=PLAIN, first=b'', source=None, client='127.0.0.1', port=None, via=(),
                 proto=None, host=None, status=200, end='ok'):
        self.fields, self.site, self.way, self.first, self.source = fields, site, way, first, source
        self.client, self.port, self.via, self.status, self.end = client, port, list(via), status, end
        self.proto = proto or ('https' if way in (TLS, PROXY_TLS) else 'http')
        self.host = host or site


def xff(*values):
    return [f'X-Forwarded-For: {value}' for value in values]


ME, STRANGER = '127.0.0.1', '127.0.0.77'
ONE, TWO, SIXTH = '203.0.113.9', '203.0.113.10', '2001:db8:1::9'
CASES = [
    # Nobody says anything, or nobody who is believed.
    Case(),
    Case(way=TLS),
    Case(way=SIX, client='::1'),
    Case(site='none.test'),
    Case(*xff(ONE), site='none.test'),
    Case('Forwarded: for=203.0.113.9;proto=https', 'X-Forwarded-Proto: https', 'X-Forwarded-Host: evil', site='none.test'),
    Case(*xff(ONE), source=STRANGER, client=STRANGER),
    Case(*xff(ONE), 'X-Forwarded-Proto: https', 'X-Forwarded-Host: evil.test', source=STRANGER, client=STRANGER),
    Case('Forwarded: for=203.0.113.9;proto=https;host=evil', site='f.test', source=STRANGER, client=STRANGER),
    Case('CF-Connecting-IP: 203.0.113.9', site='cf.test', source=STRANGER, client=STRANGER),
    Case(*xff(','.join(['203.0.113.9'] * 33)), source=STRANGER, client=STRANGER),
    # X-Forwarded-For of somebody who is.
    Case(*xff(ONE), client=ONE, port=0, via=[ME]),
    Case(*xff(ONE), way=TLS, client=ONE, port=0, via=[ME]),
    Case(*xff(ONE), way=SIX, client=ONE, port=0, via=['::1']),
    Case(*xff(SIXTH), client=SIXTH, port=0, via=[ME]),
    Case(*xff('6.6.6.6, ' + ONE), client=ONE, port=0, via=[ME]),
    Case(*xff('6.6.6.6', ONE), client=ONE, port=0, via=[ME]),
    Case(*xff(ONE, '10.0.0.1'), client=ONE, port=0, via=['10.0.0.1', ME]),
    Case(*xff('6.6.6.6, ' + ONE, '10.0.0.1, 10.0.0.2'), client=ONE, port=0, via=['10.0.0.1', '10.0.0.2', ME]),
    Case(*xff('6.6.6.6', ONE + ',10.0.0.1', '2001:db8:cafe::1'), client=ONE, port=0, via=['10.0.0.1', '2001:db8:cafe::1', ME]),
    Case(*xff('10.0.0.9, 10.0.0.8'), client='10.0.0.9', port=0, via=['10.0.0.8', ME]),
    Case(*xff('10.0.0.1, ' + ONE + ', 10.0.0.2'), client=ONE, port=0, via=['10.0.0.2', ME]),
    Case(*xff(ONE + ':4711'), client=ONE, port=4711, via=[ME]),
    Case(*xff('[2001:db8:1::9]'), client=SIXTH, port=0, via=[ME]),
    Case(*xff('[2001:db8:1::9]:4711'), client=SIXTH, port=4711, via=[ME]),
    Case(*xff('"[2001:DB8:1:0::9]:4711"'), client=SIXTH, port=4711, via=[ME]),
    Case(*xff('::ffff:203.0.113.9'), client=ONE, port=0, via=[ME]),
    Case(*xff('6.6.6.6, ::ffff:10.0.0.1'), client='6.6.6.6', port=0, via=['10.0.0.1', ME]),
    Case(*xff(ONE + ', 10.0.0.1:80'), client=ONE, port=0, via=['10.0.0.1', ME]),
    Case(*xff(ONE + ', [2001:db8:cafe::7]:443'), client=ONE, port=0, via=['2001:db8:cafe::7', ME]),
    Case(*xff(ONE + ', unknown')),
    Case(*xff(ONE + ', unknown, 10.0.0.1'), client='10.0.0.1', port=0, via=[ME]),
    Case(*xff(ONE + ', _hidden, 10.0.0.1'), client='10.0.0.1', port=0, via=[ME]),
    Case(*xff(ONE + ', garbage here, 10.0.0.1'), client='10.0.0.1', port=0, via=[ME]),
    Case(*xff('unknown, ' + ONE), client=ONE, port=0, via=[ME]),
    Case(*xff('203.0.113.256')),
    Case(*xff('203.0.113.09')),
    Case(*xff('203.0.113.0/24')),
    Case(*xff('')),
    Case(*xff(', ,', ONE + ',,', '  ,'), client=ONE, port=0, via=[ME]),
    Case(*xff('"6.6.6.6, ' + ONE), client=ONE, port=0, via=[ME]),
    Case(*xff(', '.join(['10.0.0.1'] * 32)), client='10.0.0.1', port=0, via=['10.0.0.1'] * 31 + [ME]),
    Case(*xff(', '.join(['10.0.0.1'] * 33)), status=400, end='limit:forwarded-hops'),
    Case(*xff(*['10.0.0.1'] * 33), status=400, end='limit:forwarded-hops'),
    Case(*xff(', '.join(['6.6.6.6'] * 31), TWO + ',' + ONE), status=400, end='limit:forwarded-hops'),
    Case('X-Forwarded_For: 6.6.6.6', 'X_FORWARDED_FOR: 6.6.6.6', *xff(ONE), client=ONE, port=0, via=[ME]),
    Case('Connection: X-Forwarded-For', *xff(ONE), client=ONE, port=0, via=[ME]),
    Case('Forwarded: for=6.6.6.6;proto=https', *xff(ONE), client=ONE, port=0, via=[ME]),
    # Proto and Host.
    Case(*xff(ONE), 'X-Forwarded-Proto: https', 'X-Forwarded-Host: shop.test:8443', client=ONE, port=0, via=[ME], proto='https',
         host='shop.test:8443'),
    Case('X-Forwarded-Proto: HTTPS', proto='https'),
    Case('X-Forwarded-Proto: http', way=TLS, proto='http'),
    Case('X-Forwarded-Proto: gopher', 'X-Forwarded-Host: a b'),
    Case('X-Forwarded-Proto: http', 'X-Forwarded-Proto: http, https', 'X-Forwarded-Host: evil.test, shop.test', proto='https',
         host='shop.test'),
    Case('Forwarded: for=203.0.113.9;proto=https', 'X-Forwarded-Proto: https', site='f.test', client=ONE, port=0, via=[ME],
         proto='https'),
    # Forwarded.
    Case(*xff(ONE), 'X-Forwarded-Proto: https', site='f.test'),
    Case('Forwarded: for=203.0.113.9', site='f.test', client=ONE, port=0, via=[ME]),
    Case('Forwarded: For="[2001:db8:1::9]:4711";Proto=https;Host="shop.test"', site='f.test', client=SIXTH, port=4711, via=[ME],
         proto='https', host='shop.test'),
    Case('Forwarded: for=6.6.6.6;proto=http;host=evil, for=203.0.113.9;proto=https;by=_x', 'Forwarded: for=10.0.0.1;proto=http',
         site='f.test', client=ONE, port=0, via=['10.0.0.1', ME], proto='https'),
    Case('Forwarded: for="6.6.6.6, for=203.0.113.9', site='f.test', client=ONE, port=0, via=[ME]),
    Case('Forwarded: for=203.0.113.9, for=unknown', site='f.test'),
    Case('Forwarded: for=203.0.113.9, for="_gone:_x", for=10.0.0.3', site='f.test', client='10.0.0.3', port=0, via=[ME]),
    Case('Forwarded: 203.0.113.9', site='f.test'),
    Case('Forwarded: for=6.6.6.6;proto=gopher, for=unknown;proto=https;host=shop.test', site='f.test', proto='https',
         host='shop.test'),
    Case('Forwarded: for=10.0.0.1;proto=https;host=shop.test', site='f.test', client='10.0.0.1', port=0, via=[ME], proto='https',
         host='shop.test'),
    Case('Forwarded: proto=https', site='f.test', proto='https'),
    Case('Forwarded: , ,for=10.0.0.1;proto=https', site='f.test', client='10.0.0.1', port=0, via=[ME], proto='https'),
    Case('Forwarded: for=203.0.113.9;proto=https;proto=http', site='f.test'),
    Case('Forwarded: ' + ','.join(['for=10.0.0.1'] * 33), site='f.test', status=400, end='limit:forwarded-hops'),
    # A field of the CDN's own.
    Case('CF-Connecting-IP: 203.0.113.9', *xff('6.6.6.6'), site='cf.test', client=ONE, port=0, via=[ME]),
    Case('CF-Connecting-IP: 2001:db8:1::9', 'X-Forwarded-Proto: https', site='cf.test', client=SIXTH, port=0, via=[ME], proto='https'),
    Case('CF_Connecting_IP: 6.6.6.6', *xff('6.6.6.6'), site='cf.test'),
    # A PROXY header.
    Case(way=PROXY, first=v1(ONE), client=ONE, port=4567),
    Case(way=PROXY, first=v1(SIXTH), client=SIXTH, port=4567),
    Case(way=PROXY, first=v2(ONE), client=ONE, port=4567),
    Case(way=PROXY, first=v2(SIXTH, tlvs=b'\4\0\3abc\2\0\6a.test', checksum=0), client=SIXTH, port=4567),
    Case(way=PROXY_TLS, first=v1(ONE), client=ONE, port=4567),
    Case(way=PROXY_TLS, first=v2(ONE, checksum=0), client=ONE, port=4567),
    Case(way=PROXY_TLS, first=v2('::ffff:203.0.113.9'), client=ONE, port=4567),
    Case(way=PROXY, first=b'PROXY UNKNOWN\r\n'),
    Case(way=PROXY_TLS, first=b'PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n'),
    Case(way=PROXY, first=v2(ONE, command=0)),
    Case(way=PROXY, first=SIGNATURE + b'\x21\0\0\0'),
    Case(way=PROXY_TLS, first=SIGNATURE + b'\x20\0\0\0'),
    Case(*xff('6.6.6.6'), way=PROXY, first=v1(ONE), client=ONE, port=4567),
    Case(*xff('6.6.6.6, ' + ONE), way=PROXY, first=v1('10.0.0.5'), client=ONE, port=0, via=['10.0.0.5']),
    Case(*xff(ONE), way=PROXY_TLS, first=v2('2001:db8:cafe::5'), client=ONE, port=0, via=['2001:db8:cafe::5']),
    Case(*xff(ONE), way=PROXY, first=b'PROXY UNKNOWN\r\n', client=ONE, port=0, via=[ME]),
    Case(*xff(ONE), site='none.test', way=PROXY, first=v1('10.0.0.5'), client='10.0.0.5', port=4567),
]
assert len(CASES) >= 60


def connect(gateway, case):
    port = gateway.ports[{PLAIN: 0, SIX: 0, TLS: 1, PROXY: 2, PROXY_TLS: 3}[case.way]]
    tls = tls_context() if case.way in (TLS, PROXY_TLS) else None
    return Behind(port, case.first, tls, case.site, case.source, '::1' if case.way == SIX else '127.0.0.1')


def node(address):
    return f'for="[{address}]"' if ':' in address else f'for={address}'


def told(case):
    """The fields that an origin must see, by name."""
    forwarded = [f'{node(case.client)};host="{case.host}";proto={case.proto}'] + [node(one) for one in case.via]
    fields = {'x-forwarded-for': [', '.join([case.client, *case.via])], 'x-forwarded-proto': [case.proto],
              'x-forwarded-host': [case.host], 'forwarded': [', '.join(forwarded)]}
    if case.site == 'cf.test':
        fields['cf-connecting-ip'] = [case.client]
    return fields


def check_case(gateway, client, case, path):
    response = client.get(path, *case.fields)
    record = gateway.record(path)
    assert response.status == case.status == record['status'] and record['end'] == case.end, (response.body, record)
    if case.status == 200:
        assert record['client'] == case.client
        assert record.get('client_port', 0) == (client.own_port if case.port is None else case.port)
        names = re.compile(r'(x[-_]forwarded.*|forwarded|cf.connecting.*)$', re.I)
        seen = {}
        for name, value in json.loads(response.body):
            if names.match(name):
                seen.setdefault(name.lower(), []).append(value)
        assert seen == told(case)


@pytest.mark.parametrize('number', range(len(CASES)))
def test_one_address(gateway, number):
    with connect(gateway, CASES[number]) as client:
        check_case(gateway, client, CASES[number], f'/case/{number}')


def test_a_kept_connection_asks_for_many(gateway):
    """Who the client is belongs to a request, not to the connection."""
    for way in (PLAIN, TLS, PROXY, PROXY_TLS):
        rows = [(i, row) for i, row in enumerate(CASES)
                if not row.source and row.site == 'a.test' and row.way == way and row.status == 200]
        first = rows[0][1]
        with connect(gateway, first) as client:
            for number, row in rows:
                if row.first == first.first:
                    check_case(gateway, client, row, f'/kept/{way}/{number}')
    with connect(gateway, CASES[0]) as client:
        client.send(''.join(f'GET /pipelined/{i} HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 203.0.113.{i}\r\n\r\n'
                            for i in range(10)))
        for i in range(10):
            fields = dict(json.loads(client.response().body))
            assert fields['X-Forwarded-For'] == f'203.0.113.{i}, 127.0.0.1'
            assert gateway.record(f'/pipelined/{i}')['client'] == f'203.0.113.{i}'


def test_balancing_goes_by_the_client(gateway):
    """Whoever passes requests on: `ip-hash` means whose they are."""
    def answer(name):
        return lambda exchange: exchange.reply(200, name)
    with Origin(answer('one')) as one, Origin(answer('two')) as two, Gateway(
            'table near { 127.0.0.1 }\nlisten 127.0.0.1:{port} plain serve\n'
            f'upstream app {{ origin 127.0.0.1:{one.port}; origin 127.0.0.1:{two.port}; balance ip-hash }}\n'
            'site a.test { trust forwarded from <near>; proxy app }') as balanced, Behind(balanced.port) as client:
        chosen = {f'203.0.113.{i}': client.get('/', *xff(f'203.0.113.{i}')).text for i in range(20)}
        assert set(chosen.values()) == {'one', 'two'}
        for address, name in chosen.items():
            assert client.get('/', *xff('6.6.6.6, ' + address)).text == name


# ---- PROXY headers -----------------------------------------------------------------------------------------

class LateHello:
    """TLS by hand, for who minds where its bytes are cut: the last ones before it leave with its first."""

    def __init__(self, context, before):
        self.context, self.before, self.tls = context, before, None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()

    def until_done(self, raw, step):
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                done = step()
                raw.sendall(self.outgoing.read())
                return done
            raw.sendall(self.outgoing.read())
            self.incoming.write(raw.recv(1 << 16))

    def wrap_socket(self, raw, server_hostname):
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_hostname=server_hostname)
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        hello = self.outgoing.read()
        raw.sendall(self.before + hello[:1])
        raw.sendall(hello[1:])
        self.until_done(raw, self.tls.do_handshake)
        return raw

    def ask(self, raw, request):
        self.until_done(raw, lambda: self.tls.write(request))
        return self.until_done(raw, lambda: self.tls.read(1 << 16)).decode()


@pytest.mark.parametrize('header', [v1(ONE), v2(SIXTH, tlvs=b'\4\1\0' + bytes(256), checksum=0)])
def test_a_header_in_pieces(gateway, header):
    """However it comes, with the request's first bytes or byte by byte, what stands behind it is whole."""
    want = ONE if header.startswith(b'PROXY') else SIXTH
    request = b'GET /pieces HTTP/1.1\r\nHost: none.test\r\n\r\n'
    for cut in ([1] * len(header), [len(header)], [5, 7, 1], [len(header) + 1], [len(header) + len(request)]):
        with Behind(gateway.ports[2]) as client:
            rest = header + request
            for size in cut:
                client.send(rest[:size])
                rest = rest[size:]
            client.send(rest)
            assert dict(json.loads(client.response().body))['X-Forwarded-For'] == want
    # Behind TLS: the header's last byte comes with the hello's first.
    late = LateHello(tls_context(), header[-1:])
    with Behind(gateway.ports[3], header[:-1], late, 'none.test') as client:
        assert want in late.ask(client.socket, request)


HOSTILE = [
    ('missing', b'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n'),
    ('missing', b'\x16\3\1\2\0\1\0\1\xfc\3\3'),
    ('missing', b'PROXYTCP4 1.2.3.4 1.2.3.4 1 1\r\n'),
    ('bad-line', b'PROXY TCP4 203.0.113.9 198.51.100.1 4567 443\nGET / HTTP/1.1\r\n\r\n'),
    ('bad-line', b'PROXY TCP4 ' + b'1' * 200),
    ('bad-line', b'PROXY UNKNOWN' + b' ' * 95 + b'\r\n'),
    ('bad-address', b'PROXY TCP4 203.0.113.9 198.51.100.1 4567 99999\r\n'),
    ('bad-version', SIGNATURE + b'\x11\x11\0\x0c' + bytes(12)),
    ('bad-command', SIGNATURE + b'\x25\x11\0\x0c' + bytes(12)),
    ('bad-family', SIGNATURE + b'\x21\x1f\0\x0c' + bytes(12)),
    ('bad-length', SIGNATURE + b'\x21\x21\0\x0c' + bytes(12)),
    ('bad-tlv', v2(ONE, tlvs=b'\4\0\x20abc')),
    ('bad-checksum', v2(ONE, checksum=1)),
    ('limit:proxy-header-size', v2(ONE, tlvs=b'\4\x0f\xff' + bytes(4095))),
    ('limit:proxy-header-size', SIGNATURE + b'\x20\0\xff\xff'),
]


def refused(gateway, word):
    return [e for e in list(gateway.events) if e.get('anomaly', {}).get('failure') == word]


def counts(gateway):
    """Headers that were refused, and those that were too long."""
    workers = [row for row in gateway.status() if row['process'].startswith('worker')]
    return (sum(row['counters'].get('proxy_headers_refused', 0) for row in workers),
            sum(row['limits'].get('proxy-header-size', 0) for row in workers))


@pytest.mark.parametrize('word, sent', HOSTILE)
def test_hostile_headers(gateway, word, sent):
    """Closed without a byte, said in an event, counted; and the worker serves on."""
    counted = counts(gateway)
    for port in gateway.ports[2:4]:
        before = len(refused(gateway, word))
        with Behind(port) as client:
            client.send(sent)
            client.expect_end()
        wait_until(lambda: len(refused(gateway, word)) > before, f'an event {word}')  # noqa: B023
        event = refused(gateway, word)[-1]
        assert event['src_ip'] == ME and event['src_port'] == client.own_port and event['dest_port'] == port
    too_long = 2 if word == 'limit:proxy-header-size' else 0
    assert counts(gateway) == (counted[0] + 2, counted[1] + too_long)
    with connect(gateway, CASES[-1]) as client:
        assert client.get('/after').status == 200


def test_a_stranger_is_not_read(gateway):
    """Not even a right header of his counts, and he waits for nothing."""
    for port in gateway.ports[2:4]:
        before = len(refused(gateway, 'stranger'))
        with Behind(port, source=STRANGER) as client:
            client.expect_end()
        with contextlib.suppress(OSError), Behind(port, v1(ONE), source=STRANGER) as client:
            client.expect_end()
        wait_until(lambda: len(refused(gateway, 'stranger')) >= before + 2, 'two events')  # noqa: B023
        assert refused(gateway, 'stranger')[-1]['src_ip'] == STRANGER


def test_half_a_header_and_the_end(gateway):
    before = len(refused(gateway, 'closed'))
    with Behind(gateway.ports[2], v1(ONE)[:20]) as client:
        client.socket.shutdown(socket.SHUT_WR)
        client.expect_end()
    wait_until(lambda: len(refused(gateway, 'closed')) > before, 'an event')
    # Who only looks whether we are there (a health check by TCP) is nobody's event.
    count = gateway.counter('proxy_headers_refused')
    with Behind(gateway.ports[2]) as client:
        client.socket.shutdown(socket.SHUT_WR)
        client.expect_end()
    assert gateway.counter('proxy_headers_refused') == count


def test_a_late_header(gateway, test_build):
    """Row proxy-header: from accept to its end, whatever trickles in."""
    del test_build
    for port in gateway.ports[2:4]:
        before, limit = len(refused(gateway, 'limit:proxy-header')), gateway.limit('proxy-header')
        with Behind(port, v1(ONE)[:10]) as slow, Behind(port) as silent, Behind(gateway.ports[2], v1(ONE), name='none.test') as good:
            assert good.get('/early').status == 200
            gateway.move_clock(3)
            slow.send(v1(ONE)[10:20])
            gateway.move_clock(3)
            slow.expect_end()
            silent.expect_end()
            assert good.get('/later').status == 200
        wait_until(lambda: len(refused(gateway, 'limit:proxy-header')) == before + 2, 'two events')  # noqa: B023
        assert gateway.limit('proxy-header') == limit + 2


def test_a_header_where_none_is_wanted(gateway):
    """A listener without `proxy-protocol` takes it for a bad request, and nobody's word for an address."""
    with Behind(gateway.ports[0], v1(ONE)) as client:
        client.request('GET', '/unwanted')
        assert client.response().status == 400
    assert not [r for r in gateway.records if r['path'] == '/unwanted' and r['client'] == ONE]


def test_events_of_a_handshake_name_the_client(gateway):
    before = len([e for e in gateway.events if e.get('src_ip') == ONE])
    with Behind(gateway.ports[3], v1(ONE)) as client:
        client.send('GET / HTTP/1.1\r\n\r\n')
        assert client.response().status == 400
    wait_until(lambda: len([e for e in gateway.events if e.get('src_ip') == ONE]) > before, 'an event of the client')
    event = [e for e in gateway.events if e.get('src_ip') == ONE][-1]
    assert event['tls']['failure'] == 'not-tls' and event['src_port'] == 4567 and event['dest_ip'] == '198.51.100.1'


def test_the_header_says_where_the_client_connected_to():
    """Without SNI the site is that of the local address: of the one that the client knows."""
    text = '''table front { 127.0.0.1 }
listen 127.0.0.1:{port} { proxy-protocol from <front> }
site other.test default { respond 200 other }
site 198.51.100.1 { respond 200 addressed }'''
    with Gateway(text) as gateway:
        for header, status in ((v1(ONE), 200), (v2(ONE), 200), (v2(ONE, destination='198.51.100.2'), 421), (b'PROXY UNKNOWN\r\n', 421)):
            with Behind(gateway.port, header, tls_context(), name=None) as client:
                assert client.get('/', host='198.51.100.1').status == status


# ---- Tables that change ---------------------------------------------------------------------------------------

def test_a_table_from_a_file(gateway):
    """Read with the configuration, and again by a reload; a kept connection has the new one with its next request."""
    with Origin(describe) as origin, Gateway(ready=False) as one:
        one.end_all()
        path = one.folder + '/cdn.txt'
        with open(path, 'w', encoding='utf-8') as file:
            file.write('# ours\n127.0.0.0/8\n')
        one.write('table cdn file cdn.txt\nlisten 127.0.0.1:{port} plain serve\n'
                  'site a.test { trust forwarded from <cdn>; proxy 127.0.0.1:%d }' % origin.port)
        one.wants_ready = True
        one.start()
        with Behind(one.port) as client:
            assert dict(json.loads(client.get('/1', *xff(ONE)).body))['X-Forwarded-For'] == f'{ONE}, {ME}'
            with open(path, 'w', encoding='utf-8') as file:
                file.write('198.51.100.0/24\nnonsense\n')
            done = one.reload()
            assert done.returncode == 1 and 'cdn.txt:2:1' in done.stderr, done.stderr
            assert dict(json.loads(client.get('/2', *xff(ONE)).body))['X-Forwarded-For'] == f'{ONE}, {ME}'
            with open(path, 'w', encoding='utf-8') as file:
                file.write('198.51.100.0/24\n')
            one.reload_well()
            assert dict(json.loads(client.get('/3', *xff(ONE)).body))['X-Forwarded-For'] == ME
        assert [one.record(f'/{i}')['client'] for i in (1, 2, 3)] == [ONE, ONE, ME]


# ---- Real ones in front -----------------------------------------------------------------------------------------

HAPROXY = '''
defaults
    timeout client 30s
    timeout server 30s
    timeout connect 5s
'''
HAPROXY_WAY = '''
listen way{number}
    mode {mode}
    bind 127.0.0.1:{port}
    {more}
    server gate 127.0.0.1:{to} {options}
'''
NGINX = '''
daemon off; master_process off; pid FOLDER/nginx.pid; error_log FOLDER/error.log;
events { worker_connections 64; }
http {
    access_log off; client_body_temp_path FOLDER; proxy_temp_path FOLDER; fastcgi_temp_path FOLDER; uwsgi_temp_path FOLDER; scgi_temp_path FOLDER;
    upstream gate { server 127.0.0.1:TO; keepalive 4; }
    server {
        listen 127.0.0.1:PORT;
        location / {
            proxy_pass http://gate; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https; proxy_set_header X-Forwarded-Host shop.test;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }
    }
}
'''


@contextlib.contextmanager
def running(command, port):
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            def is_up():
                assert process.poll() is None, process.stdout.read()
                with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
                    return True
            wait_until(is_up, command[0])
            yield process
        finally:
            process.terminate()


def test_haproxy_in_front(gateway, folder):
    if not os.path.exists('/usr/sbin/haproxy'):
        pytest.skip('haproxy is not installed')
    plain, secure = gateway.ports[2], gateway.ports[3]
    ways = [(plain, False, 'send-proxy'), (plain, False, 'send-proxy-v2'), (plain, False, 'send-proxy-v2 proxy-v2-options crc32c,unique-id'),
            (secure, True, 'send-proxy'), (secure, True, 'send-proxy-v2'), (secure, True, 'send-proxy-v2 proxy-v2-options crc32c')]
    ports = free_ports(len(ways) + 1)
    text = HAPROXY
    for number, (to, _, options) in enumerate(ways):
        more = 'unique-id-format %{+X}o%ci%cp' if 'unique' in options else ''
        text += HAPROXY_WAY.format(number=number, mode='tcp', port=ports[number], to=to, options=options, more=more)
    # Its health checks say LOCAL, and its requests an address of their own.
    text += HAPROXY_WAY.format(number='h', mode='http', port=ports[-1], to=plain, options='send-proxy-v2 check inter 50ms',
                               more='option httpchk GET /health\n    http-check send hdr Host none.test')
    with open(folder + '/haproxy.cfg', 'w', encoding='utf-8') as file:
        file.write(text)
    before = gateway.counter('proxy_headers_refused')
    with running(['/usr/sbin/haproxy', '-f', folder + '/haproxy.cfg', '-db'], ports[0]):
        for number, (_, is_secure, _) in enumerate(ways):
            source = f'127.0.1.{number + 1}'
            with Behind(ports[number], tls=tls_context() if is_secure else None, name='none.test', source=source) as client:
                for turn in range(2):
                    path = f'/haproxy/{number}/{turn}'
                    assert dict(json.loads(client.get(path).body))['X-Forwarded-For'] == source
                    record = gateway.record(path)
                    assert (record['client'], record['client_port']) == (source, client.own_port)
        wait_until(lambda: len([r for r in gateway.records if r['path'] == '/health']) >= 3, 'health checks')
        assert {r['client'] for r in list(gateway.records) if r['path'] == '/health'} == {ME}
        with Behind(ports[-1], name='none.test', source='127.0.1.99') as client:
            assert dict(json.loads(client.get('/haproxy/http').body))['X-Forwarded-For'] == '127.0.1.99'
    assert gateway.counter('proxy_headers_refused') == before


def test_nginx_in_front(gateway, folder):
    if not os.path.exists('/usr/sbin/nginx'):
        pytest.skip('nginx is not installed')
    port = free_port()
    with open(folder + '/nginx.conf', 'w', encoding='utf-8') as file:
        file.write(NGINX.replace('FOLDER', folder).replace('PORT', str(port)).replace('TO', str(gateway.ports[0])))
    with running(['/usr/sbin/nginx', '-p', folder, '-c', folder + '/nginx.conf', '-e', folder + '/error.log'], port):
        for number in range(1, 5):
            # Its connections to us are kept, its clients are others; what they claim stands before them.
            source, path = f'127.0.2.{number}', f'/nginx/{number}'
            with Behind(port, name='a.test', source=source) as client:
                fields = dict(json.loads(client.get(path, 'X-Forwarded-For: 6.6.6.6', 'X-Forwarded-Proto: gopher').body))
            assert fields['X-Forwarded-For'] == f'{source}, {ME}' and gateway.record(path)['client'] == source
            assert (fields['X-Forwarded-Proto'], fields['X-Forwarded-Host']) == ('https', 'shop.test')
            assert fields['Forwarded'] == f'for={source};host="shop.test";proto=https, for={ME}'


@pytest.mark.parametrize('way', ['http', 'https'])
def test_curl_as_haproxy(gateway, way):
    port = gateway.ports[3 if way == 'https' else 2]
    path = f'/curl/{way}'
    done = subprocess.run(['curl', '-sk', '--haproxy-protocol', '--resolve', f'none.test:{port}:127.0.0.1', '-w', '\n%{local_port}',
                           f'{way}://none.test:{port}{path}'], capture_output=True, text=True, timeout=60, check=True)
    body, _, local_port = done.stdout.rpartition('\n')
    assert dict(json.loads(body))['X-Forwarded-For'] == ME
    record = gateway.record(path)
    assert (record['client'], record['client_port']) == (ME, int(local_port))
