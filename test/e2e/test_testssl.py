"""What an outside judge finds: testssl.sh (Debian's), on loopback, of a site as the intermediate profile describes it:
a certificate of a CA that the judge knows, and an application that sends the fields that are its own to send (HSTS)."""
import contextlib
import http.server
import json
import os
import shutil
import subprocess
import threading

import pytest

from gateway import SOAK, Gateway
from test_certificates import EC, openssl

# What it says above INFO and why that is as it should be: id (a start of it): reason. Nothing at present.
ACCEPTED = {}
LEVELS = {'LOW', 'MEDIUM', 'HIGH', 'CRITICAL', 'WARN', 'FATAL'}
# testssl.sh speaks TLS in bash: 60 s go before the first question, and each client that it plays takes seconds. So it is
# bounded in parts, and the slice asks for protocols alone.
PARTS = {
    'a slice': ['--protocols'],
    'protocols and ciphers': ['--protocols', '--std', '--fs', '--server-preference', '--server-defaults', '--header'],
    'vulnerabilities': ['--vulnerable'],
    'each cipher': ['--each-cipher', '--grease'],
    'clients': ['--client-simulation'],
}
SECONDS = 1500


class Application(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_GET(self):  # noqa: N802 (the library's name)
        self.send_response(200)
        for name, value in (('Content-Length', '3'), ('Strict-Transport-Security', 'max-age=63072000'),
                            ('Content-Security-Policy', "default-src 'self'"), ('X-Content-Type-Options', 'nosniff'),
                            ('X-Frame-Options', 'DENY')):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b'ok\n')

    def log_message(self, *_):  # pylint: disable=arguments-differ
        pass


@contextlib.contextmanager
def application():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def make_chain(folder):
    """A leaf for 200 days, as a public CA would have made it: revocation and issuer can be asked for."""
    openssl(folder, 'req', '-x509', *EC, '-nodes', '-keyout', 'root.key', '-out', 'root.pem', '-subj', '/O=Judged/CN=Judged Root',
            '-days', '900')
    openssl(folder, 'req', *EC, '-nodes', '-keyout', 'leaf.key', '-out', 'leaf.csr', '-subj', '/CN=localhost')
    with open(f'{folder}/leaf.ext', 'w', encoding='utf-8') as file:
        file.write('subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n'
                   'keyUsage=critical,digitalSignature\ncrlDistributionPoints=URI:http://127.0.0.1/judged.crl\n'
                   'authorityInfoAccess=caIssuers;URI:http://127.0.0.1/judged.crt\n'
                   'subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n')
    openssl(folder, 'x509', '-req', '-sha256', '-in', 'leaf.csr', '-CA', 'root.pem', '-CAkey', 'root.key', '-CAcreateserial',
            '-out', 'leaf.crt', '-extfile', 'leaf.ext', '-days', '200')


@pytest.mark.parametrize('what', ['a slice', *(pytest.param(part, marks=pytest.mark.soak) for part in PARTS if part != 'a slice')])
def test_testssl(what, folder):
    if not shutil.which('testssl'):
        pytest.skip('testssl is not installed')
    if what != 'a slice' and not SOAK:
        pytest.skip('soak: runs by `make soak`')
    report = os.path.join(folder, 'report.json')
    make_chain(folder)
    with application() as port, Gateway(
            'listen 127.0.0.1:{port}\n'
            'site localhost { certificate file {folder}/leaf.crt {folder}/leaf.key; proxy 127.0.0.1:%d }' % port,
            folder=folder) as gateway:
        done = subprocess.run(['testssl', '--quiet', '--color', '0', '--warnings', 'off', '--nodns', 'none', '--add-ca',
                               f'{folder}/root.pem', '--ip', '127.0.0.1', '--jsonfile', report, *PARTS[what],
                               f'https://localhost:{gateway.port}'],
                              capture_output=True, text=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
    with open(report, encoding='utf-8') as file:
        found = json.load(file)
    assert len(found) > 5, done.stdout + done.stderr
    assert any(one['severity'] == 'OK' for one in found) or what == 'clients'
    bad = [f'{one["severity"]} {one["id"]}: {one["finding"]}' for one in found
           if one['severity'] in LEVELS and not one['id'].startswith(tuple(ACCEPTED))]
    assert not bad, '\n'.join(bad)
