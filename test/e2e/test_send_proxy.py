"""The PROXY header that an origin is sent: what real receivers make of it, and whose connection it is."""
import contextlib
import json
import os
import socket
import struct
import subprocess

import pytest

from client import tls_context
from gateway import Gateway, free_ports, wait_until
from origin import Exchange, Origin
from test_real_client import SIGNATURE, Behind, running

CERTIFICATE = ['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=localhost',
               '-addext', 'subjectAltName=DNS:localhost']

HAPROXY = '''
global
    stats timeout 2s
defaults
    mode http
    timeout connect 10s
    timeout client 30s
    timeout server 30s
frontend f
    bind 127.0.0.1:PORT0 accept-proxy
    bind [::1]:PORT0 accept-proxy
    bind unix@FOLDER/haproxy.sock mode 666 accept-proxy
    bind 127.0.0.1:PORT1 accept-proxy ssl crt FOLDER/both.pem
    http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port]"
'''

NGINX = '''
daemon off; worker_processes 1; pid FOLDER/nginx.pid; error_log FOLDER/error.log;
events { worker_connections 64; }
http {
    client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/f; uwsgi_temp_path FOLDER/u;
    scgi_temp_path FOLDER/s;
    access_log FOLDER/access.log;
    server {
        listen 127.0.0.1:PORT0 proxy_protocol;
        listen [::1]:PORT0 proxy_protocol;
        listen unix:FOLDER/nginx.sock proxy_protocol;
        listen 127.0.0.1:PORT1 ssl proxy_protocol;
        ssl_certificate FOLDER/cert.pem; ssl_certificate_key FOLDER/key.pem;
        location / {
            return 200 "$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port";
        }
    }
}
'''

SITES = '''
table front {{ 127.0.0.9 }}
listen 127.0.0.1:{{port}} plain serve
listen [::1]:{{port}} plain serve
listen 127.0.0.1:{{port2}}
site v4.test default {{ trust forwarded from <front>; proxy 127.0.0.1:{plain} send-proxy v1 on /1*; proxy 127.0.0.1:{plain} send-proxy v2 }}
site v6.test  {{ proxy [::1]:{plain} send-proxy v1 on /1*; proxy [::1]:{plain} send-proxy v2 }}
site unix.test {{ proxy unix:{socket} send-proxy v1 on /1*; proxy unix:{socket} send-proxy v2 }}
site tls.test {{
    proxy https://localhost:{secure} verify ca {folder}/cert.pem send-proxy v1 on /1*
    proxy https://localhost:{secure} verify ca {folder}/cert.pem send-proxy v2
}}
upstream checked {{
    origin 127.0.0.1:{plain} send-proxy v1
    origin [::1]:{plain} send-proxy v2
    origin https://localhost:{secure} verify ca {folder}/cert.pem send-proxy v2
    origin unix:{socket} send-proxy v1
    origin 127.0.0.1:{plain}
    check / every 100ms timeout 5s
}}
site checked.test {{ proxy checked }}
'''


def certificate(folder):
    done = subprocess.run(CERTIFICATE + ['-keyout', folder + '/key.pem', '-out', folder + '/cert.pem'], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    with open(folder + '/both.pem', 'wb') as both:
        for name in ('cert', 'key'):
            with open(f'{folder}/{name}.pem', 'rb') as part:
                both.write(part.read())


@pytest.mark.parametrize('receiver', ['haproxy', 'nginx'])
def test_real_receivers(receiver, folder):
    if not os.path.exists('/usr/sbin/' + receiver):
        pytest.skip(f'{receiver} is not installed')
    certificate(folder)
    plain, secure = free_ports(2)
    text = HAPROXY if receiver == 'haproxy' else NGINX
    with open(folder + '/receiver.conf', 'w', encoding='utf-8') as file:
        file.write(text.replace('FOLDER', folder).replace('PORT0', str(plain)).replace('PORT1', str(secure)))
    command = {'haproxy': ['/usr/sbin/haproxy', '-f', folder + '/receiver.conf', '-db'],
               'nginx': ['/usr/sbin/nginx', '-p', folder, '-c', folder + '/receiver.conf', '-e', folder + '/error.log']}[receiver]
    os.chmod(folder, 0o755)
    with running(command, plain):
        os.chmod(f'{folder}/{receiver}.sock', 0o666)
        config = SITES.format(plain=plain, secure=secure, folder=folder, socket=f'{folder}/{receiver}.sock')
        with Gateway(config) as gateway:
            ask_of_each_kind(gateway)
            ask_of_believed_clients(gateway)
            # Checks say that they are nobody's; the origin that is sent none is down, and it alone.
            down = wait_until(lambda: [e['anomaly'] for e in list(gateway.events) if e.get('message') == 'an origin is down'], 'the event')
            assert [e['origin'] for e in down] == [f'127.0.0.1:{plain}']
            wait_until(lambda: gateway.counter('origin_went_down') == len(gateway.pids('worker')), 'all workers to know')
            for number in range(12):
                with Behind(gateway.port, name='checked.test', source=f'127.0.5.{number + 1}') as client:
                    assert client.get('/').text.split()[0] == f'127.0.5.{number + 1}'


def ask_of_each_kind(gateway):
    for number, kind in enumerate(('v4', 'v6', 'unix', 'tls')):
        for path in '/1', '/2':
            source = f'127.0.4.{number + 1}'
            with Behind(gateway.port, name=kind + '.test', source=source) as client:
                for _ in range(2):
                    expected = [source, str(client.own_port), '127.0.0.1', str(gateway.port)]
                    assert client.get(path).text.split() == expected, (kind, path)
            with Behind(gateway.ports[1], name=kind + '.test', tls=tls_context(), source=source) as client:
                expected = [source, str(client.own_port), '127.0.0.1', str(gateway.ports[1])]
                assert client.get(path).text.split() == expected, (kind, path)
            with Behind(gateway.port, name=kind + '.test', address='::1') as client:
                assert client.get(path).text.split() == ['::1', str(client.own_port), '::1', str(gateway.port)], (kind, path)


def ask_of_believed_clients(gateway):
    for path in '/1believed', '/2believed':
        with Behind(gateway.port, name='v4.test', source='127.0.0.9') as client:
            for believed in '203.0.113.9', '203.0.113.10', '203.0.113.9':
                # Nobody said a port: 0, which both print as nothing.
                assert client.get(path, f'X-Forwarded-For: {believed}').text.split() == [believed, '127.0.0.1', str(gateway.port)]
            # Not of one family: both as IPv6.
            got = client.get(path, 'X-Forwarded-For: [2001:db8::7]:4711').text.split()
            assert got == ['2001:db8::7', '4711', '::ffff:127.0.0.1', str(gateway.port)]
            assert gateway.record(path, 4)[-1]['client'] == '2001:db8::7'


def is_whole(data):
    if data.startswith(SIGNATURE):
        return len(data) >= 16 and len(data) >= header_of(data)[0]
    return b'\r\n' in data and not SIGNATURE.startswith(data)


def header_of(data):
    """Its length, and whom it names."""
    if data.startswith(SIGNATURE):
        assert data[12:14] == b'\x21\x11'
        return 16 + struct.unpack('!H', data[14:16])[0], socket.inet_ntoa(data[16:20])
    words = data[:data.index(b'\r\n')].decode().split(' ')
    assert words[:2] == ['PROXY', 'TCP4'] and len(words) == 6
    return data.index(b'\r\n') + 2, words[2]


class Receiver(Origin):
    """Reads a PROXY header at the start of each connection, and says on which connection of whom a request came."""

    def __init__(self):
        super().__init__(self.answer)
        self.headers, self.open = [], set()

    def serve(self, connection):
        connection.settimeout(60)
        with contextlib.suppress(OSError), connection:
            data = b''
            while not is_whole(data):
                more = connection.recv(1 << 16)
                if not more:
                    return
                data += more
            end, who = header_of(data)
            with self.lock:
                number = len(self.headers)
                self.headers.append(who)
                self.open.add(number)
            rest = data[end:]
            while True:
                exchange = Exchange(self, connection, number, rest)
                if not exchange.read_head() or not self.answer(exchange):
                    break
                rest = exchange.buffer
            with self.lock:
                self.open.discard(number)

    def answer(self, exchange):
        exchange.read_body()
        return exchange.reply(200, json.dumps([exchange.number, self.headers[exchange.number]]))


@pytest.mark.parametrize('version', ['v1', 'v2'])
def test_whose_connection(version):
    """Never another client's; kept for the same one; closed when he is gone."""
    text = 'table front { 127.0.0.9 }\nlisten 127.0.0.1:{port} plain serve\n' \
           f'site a.test {{ trust forwarded from <front>; proxy 127.0.0.1:ORIGIN send-proxy {version} }}\n'
    with Receiver() as origin, Gateway(text.replace('ORIGIN', str(origin.port))) as gateway:
        def ask(client, *fields, **more):
            return tuple(json.loads(client.get('/', *fields, **more).body))
        one, two = (Behind(gateway.port, source='127.0.6.1') for _ in range(2))
        first = ask(one)
        assert first[1] == '127.0.6.1'
        assert ask(one) == ask(one, method='POST', body=b'x' * 100000) == first
        second = ask(two)
        assert second[1] == '127.0.6.1' and second[0] != first[0], 'the same address, another connection'
        assert ask(one) == first and ask(two) == second
        # Somebody who speaks for many: each of them has his own.
        front = Behind(gateway.port, source='127.0.0.9')
        names = [f'X-Forwarded-For: 203.0.113.{i}' for i in range(3)]
        seen = [ask(front, name) for name in names]
        assert [who for _, who in seen] == [f'203.0.113.{i}' for i in range(3)] and len({n for n, _ in seen}) == 3
        assert [ask(front, name) for name in names] == seen
        assert len(origin.headers) == 5
        for client in one, two, front:
            client.close()
        wait_until(lambda: not origin.open, 'the end of connections whose client is gone')
