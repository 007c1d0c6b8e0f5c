"""TLS with certificates of the local CA."""
import os
import re
import signal
import socket
import ssl
import subprocess
import threading

import pytest

from client import Client, get, tls_context
from gateway import Gateway, run_command, wait_until

SITE = '''
listen 127.0.0.1:{port}
listen [::1]:{port}
site localhost 127.0.0.1 ::1 { respond 200 "local" }
site www.test { respond 200 "www" }
site one.wild.test *.wild.test { respond 200 "wild" }
site strict.test { tls min 1.3; respond 200 "strict" }
'''
SUITES_12 = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-ECDSA-CHACHA20-POLY1305']
SUITES_13 = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256']


@pytest.fixture(scope='module')
def gateway():
    with Gateway(SITE) as one:
        one.root()
        yield one


@pytest.fixture
def trusting(gateway):
    return tls_context(os.path.join(gateway.folder, 'root.pem'))


def s_client(gateway, *arguments, say=b'', address='127.0.0.1'):
    done = subprocess.run(['openssl', 's_client', '-connect', f'{address}:{gateway.port}', '-CAfile',
                           os.path.join(gateway.folder, 'root.pem'), *arguments], input=say, capture_output=True,
                          timeout=30, check=False)
    return (done.stdout + done.stderr).decode(errors='replace')


def curl(gateway, url, *arguments):
    return subprocess.run(['curl', '-sS', '--max-time', '30', '--cacert', os.path.join(gateway.folder, 'root.pem'),
                           *arguments, url], capture_output=True, text=True, check=False)


@pytest.mark.parametrize('host, arguments, said', [
    ('localhost', [], 'local'), ('127.0.0.1', ['-4'], 'local'), ('[::1]', ['-6'], 'local'), ('localhost', ['-6'], 'local'),
    ('www.test', ['--resolve', 'www.test:{port}:127.0.0.1'], 'www'), ('two.wild.test', ['--resolve', 'two.wild.test:{port}:127.0.0.1'], 'wild'),
    ('localhost', ['--http1.1', '--tlsv1.3'], 'local'), ('localhost', ['--tls-max', '1.2'], 'local')])
def test_curl(gateway, host, arguments, said):
    done = curl(gateway, f'https://{host}:{gateway.port}/', *[gateway.fill(a) for a in arguments])
    assert (done.stdout, done.returncode) == (said, 0), done.stderr


def test_a_name_that_no_site_has(gateway):
    done = curl(gateway, f'https://unknown.test:{gateway.port}/', '--resolve', f'unknown.test:{gateway.port}:127.0.0.1')
    assert done.returncode == 35 and 'unrecognized name' in done.stderr, done.stderr
    assert 'unrecognized name' in s_client(gateway, '-servername', 'unknown.test')


def test_default_serves_unknown_names():
    with Gateway('listen 127.0.0.1:{port}\nsite a.test { respond 200 "a" }\nsite b.test default { respond 200 "b" }') as gateway:
        for name, text in (('a.test', 'a'), ('b.test', 'b'), ('unknown.test', 'b')):
            assert get(gateway.port, '/', tls=tls_context(), name=name).text == text
        context = tls_context()
        with socket.create_connection(('127.0.0.1', gateway.port)) as plain, context.wrap_socket(plain) as nameless:
            assert b'b.test' in nameless.getpeercert(True)


def test_the_only_site_serves_who_names_none():
    with Gateway('listen 127.0.0.1:{port}\nsite only.test { respond 200 "only" }') as gateway:
        with socket.create_connection(('127.0.0.1', gateway.port)) as plain, tls_context().wrap_socket(plain) as nameless:
            assert b'only.test' in nameless.getpeercert(True)
        with pytest.raises(ssl.SSLError):
            get(gateway.port, '/', tls=tls_context(), name='other.test')


@pytest.mark.parametrize('suite', SUITES_12)
def test_tls_1_2_suites(gateway, suite):
    said = s_client(gateway, '-tls1_2', '-cipher', suite, '-servername', 'localhost', '-brief')
    assert f'Ciphersuite: {suite}' in said and 'Verification: OK' in said, said


@pytest.mark.parametrize('suite', SUITES_13)
def test_tls_1_3_suites(gateway, suite):
    said = s_client(gateway, '-tls1_3', '-ciphersuites', suite, '-servername', 'localhost', '-brief')
    assert f'Ciphersuite: {suite}' in said and 'Verification: OK' in said, said


@pytest.mark.parametrize('version, groups, chosen', [
    ('-tls1_3', 'X25519', 'X25519'), ('-tls1_3', 'P-256', 'prime256v1|P-256'), ('-tls1_3', 'P-384', 'secp384r1|P-384'),
    # In 1.2 the groups say which curve a certificate may have, too.
    ('-tls1_2', 'X25519:P-256', 'X25519'), ('-tls1_2', 'P-256', 'prime256v1|P-256')])
def test_groups(gateway, version, groups, chosen):
    said = s_client(gateway, '-servername', 'localhost', '-brief', version, '-groups', groups)
    assert re.search(rf'Server Temp Key: .*({chosen})', said), said


def test_the_post_quantum_group(gateway):
    listed = subprocess.run(['openssl', 'list', '-tls-groups'], capture_output=True, text=True, check=False).stdout
    if 'X25519MLKEM768' not in listed:
        pytest.skip('this openssl has no X25519MLKEM768')
    assert 'X25519MLKEM768' in s_client(gateway, '-servername', 'localhost', '-brief', '-groups', 'X25519MLKEM768')


@pytest.mark.parametrize('arguments', [
    ['-tls1_1', '-cipher', 'DEFAULT@SECLEVEL=0'], ['-tls1', '-cipher', 'DEFAULT@SECLEVEL=0'],
    ['-tls1_2', '-cipher', 'AES128-GCM-SHA256'], ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA'],
    ['-tls1_2', '-cipher', 'DHE-RSA-AES128-GCM-SHA256'], ['-groups', 'P-521']])
def test_old_things_are_refused(gateway, arguments):
    said = s_client(gateway, '-servername', 'localhost', *arguments)
    assert re.search(r'Cipher is \(NONE\)', said) and re.search(r'alert (protocol version|handshake failure)', said), said


def test_no_renegotiation(gateway):
    said = s_client(gateway, '-servername', 'localhost', '-tls1_2', say=b'R\n')
    assert 'RENEGOTIATING' in said and re.search('no renegotiation|renegotiation disabled|alert|unexpected eof', said), said


def test_tls_min(gateway):
    assert get(gateway.port, '/', tls=tls_context(most=ssl.TLSVersion.TLSv1_3), name='strict.test').text == 'strict'
    with pytest.raises(ssl.SSLError, match='(?i)protocol.version'):
        get(gateway.port, '/', tls=tls_context(most=ssl.TLSVersion.TLSv1_2), name='strict.test')
    assert get(gateway.port, '/', tls=tls_context(most=ssl.TLSVersion.TLSv1_2), name='www.test').text == 'www'


@pytest.mark.parametrize('offered, chosen', [(['http/1.1'], 'http/1.1'), (['odd', 'http/1.1'], 'http/1.1'), ([], None), (['odd'], False)])
def test_alpn(gateway, offered, chosen):
    if chosen is False:
        with pytest.raises(ssl.SSLError, match='(?i)no.application.protocol'):
            Client(gateway.port, tls_context(alpn=offered))
        return
    with Client(gateway.port, tls_context(alpn=offered)) as client:
        assert client.socket.selected_alpn_protocol() == chosen
        assert client.get('/').text == 'local'


def test_sni_and_host_must_agree(gateway, trusting):
    with Client(gateway.port, trusting, 'localhost') as client:
        assert client.get('/', host='www.test').status == 421
        assert client.get('/', host='nobody.test').status == 421
        assert client.get('/', host='127.0.0.1').text == 'local'
    with Client(gateway.port, trusting, 'three.wild.test') as client:
        assert client.get('/', host='one.wild.test').text == 'wild'
        assert client.get('/', host='strict.test').status == 421


def test_the_chain(gateway, trusting):
    """Leaf, then intermediate, under the root that `ca root` prints."""
    said = s_client(gateway, '-servername', 'localhost', '-showcerts')
    assert said.count('BEGIN CERTIFICATE') == 2 and 'Verify return code: 0 (ok)' in said, said
    with Client(gateway.port, trusting) as client:
        names = client.socket.getpeercert()['subjectAltName']
    assert {('DNS', 'localhost'), ('IP Address', '127.0.0.1'), ('IP Address', '0:0:0:0:0:0:0:1')} <= set(names)


def test_the_record_names_tls(gateway, trusting):
    with Client(gateway.port, trusting) as client:
        client.get('/recorded')
    record = gateway.record('/recorded')
    assert record['tls_version'] in ('1.3', 'TLSv1.3', 'TLS 1.3') and record['tls_cipher'].startswith('TLS_')
    assert record['tls_group'] and record['tls_resumed'] is False


def test_tickets_survive_a_reload_and_the_keyholder(gateway, trusting):
    def session():
        with Client(gateway.port, trusting) as client:
            assert client.get('/').text == 'local'
            return client.socket.session
    ticket = session()
    gateway.reload_well(SITE + 'site more.test { respond 200 "more" }')
    with Client(gateway.port, trusting, session=ticket) as client:
        assert client.socket.session_reused and client.get('/resumed').text == 'local'
    assert gateway.record('/resumed')['tls_resumed'] is True
    ticket = session()
    with Client(gateway.port, trusting) as kept:
        assert kept.get('/').text == 'local'
        stopped = gateway.pids('keyholder')
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        assert kept.get('/').text == 'local'
        with Client(gateway.port, trusting, session=ticket) as client:
            assert client.socket.session_reused and client.get('/').text == 'local'
        # A full handshake waits for the next keyholder.
        assert get(gateway.port, '/', tls=trusting).text == 'local'
        wait_until(lambda: not set(stopped) & set(gateway.pids('keyholder')), 'the end of those that were stopped')
        gateway.settle()


def test_tls_1_2_gets_no_tickets(gateway):
    context = tls_context(os.path.join(gateway.folder, 'root.pem'), most=ssl.TLSVersion.TLSv1_2)
    with Client(gateway.port, context) as client:
        client.get('/')
        assert not client.socket.session.has_ticket


def test_a_ticket_of_one_site_opens_no_other(gateway):
    context = tls_context(os.path.join(gateway.folder, 'root.pem'))
    with Client(gateway.port, context, 'www.test') as client:
        client.get('/')
        ticket = client.socket.session
    with Client(gateway.port, context, 'strict.test', session=ticket) as client:
        assert not client.socket.session_reused and client.get('/').text == 'strict'


def test_many_handshakes_at_once(gateway, trusting):
    """64 hellos offered together: all are answered; signatures are asked for in batches."""
    def made():
        return gateway.counter('signatures', 'keyholder'), gateway.counter('signature_batches', 'keyholder')
    before = made()
    for pid in gateway.pids('worker'):
        os.kill(pid, signal.SIGSTOP)
    answers, threads = [], []
    try:
        for _ in range(64):
            thread = threading.Thread(target=lambda: answers.append(get(gateway.port, '/', tls=trusting).text))
            thread.start()
            threads.append(thread)
        threading.Event().wait(0.5)
    finally:
        for pid in gateway.pids('worker'):
            os.kill(pid, signal.SIGCONT)
    for thread in threads:
        thread.join(30)
    assert answers == ['local'] * 64
    signatures, batches = (now - then for now, then in zip(made(), before))
    assert signatures >= 64 and 0 < batches < signatures / 2, (signatures, batches)


@pytest.mark.parametrize('data', [b'\x16\x03\x01\x00\x05hello', b'\x16\x03\x01\xff\xff' + b'a' * 70000, b'GET / HTTP/1.1\r\n\r\n', b'\0' * 64])
def test_no_hello(gateway, data):
    with Client(gateway.port) as client:
        try:
            client.send(data)
        except OSError:
            pass
        try:
            while client.more():
                pass
        except Exception:
            pass
        assert client.buffer[:1] in (b'', b'\x15', b'H')
    assert get(gateway.port, '/', tls=tls_context()).text == 'local'


def test_ca_commands(gateway, folder):
    done = run_command('ca', 'issue', 'app.internal', '--out', folder + '/app', '-c', gateway.config)
    assert done.returncode == 0, done.stderr
    said = subprocess.run(['openssl', 'verify', '-CAfile', gateway.folder + '/root.pem', '-untrusted', folder + '/app.crt',
                           '-verify_hostname', 'app.internal', folder + '/app.crt'], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said
    assert os.stat(folder + '/app.key').st_mode & 0o777 == 0o600
    serial = subprocess.run(['openssl', 'x509', '-noout', '-serial', '-in', folder + '/app.crt'], capture_output=True,
                            text=True, check=True).stdout.strip().partition('=')[2]
    assert serial.lower() in run_command('ca', 'list', '-c', gateway.config).stdout.lower()


def test_ca_without_a_service(folder):
    env = {'PORTCULLIS_STATE': folder + '/state'}
    roots = [run_command('ca', 'root', env=env) for _ in range(2)]
    assert roots[0].returncode == 0 and roots[0].stdout == roots[1].stdout and 'BEGIN CERTIFICATE' in roots[0].stdout
    assert run_command('ca', 'issue', 'x.internal', '--out', folder + '/x', env=env).returncode == 0
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 "ok" }', folder=folder) as gateway:
        with open(gateway.root(), encoding='utf-8') as file:
            assert file.read() == roots[0].stdout
        assert get(gateway.port, '/', tls=tls_context(gateway.folder + '/root.pem')).text == 'ok'
    for path, _, names in os.walk(folder + '/state'):
        for name in names:
            assert not os.stat(os.path.join(path, name)).st_mode & 0o077 or not name.endswith('.key')


def test_internal_certificates_are_renewed(test_build):
    """Moved clock: a new leaf from the same processes without a reload."""
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 "ok" }') as gateway:
        def leaf():
            with Client(gateway.port, tls_context()) as client:
                return client.socket.getpeercert(True)
        def is_new():
            try:
                return leaf() != first
            except (ssl.SSLError, OSError):  # a handshake that the move of the clock ended
                return False
        first, pids = leaf(), gateway.roles()
        gateway.move_clock(25 * 86400)
        wait_until(is_new, 'a new leaf')
        assert gateway.roles() == pids


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=['1.2', '1.3'])
def test_a_client_that_does_not_trust_us(gateway, version):
    """It says so, in the clear (1.3 of OpenSSL), and the event says that it did."""
    context = ssl.create_default_context()
    context.minimum_version = context.maximum_version = version
    before = len(gateway.events)
    with pytest.raises(ssl.SSLCertVerificationError):
        Client(gateway.port, tls=context)
    event = wait_until(lambda: [e for e in gateway.events[before:] if e['event_type'] == 'tls'], 'the event')[0]
    assert (event['tls']['failure'], event['tls']['detail'].lower()) == ('alert', 'unknown ca')
