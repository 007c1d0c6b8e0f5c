"""`certificate file`: what is refused, what is chosen, and how a renewed one is picked up."""
import os
import re
import shutil
import signal
import ssl
import subprocess
import time

import pytest

from client import Client, Load, get, tls_context
from gateway import Gateway, new_folder, run_command, wait_until


def openssl(folder, *arguments, say=None):
    subprocess.run(['openssl', *arguments], cwd=folder, input=say, check=True, capture_output=True)


EC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
RSA = ['-newkey', 'rsa:2048']


def issue(folder, name, host, kind, days=30):
    """NAME.crt (leaf, intermediate) and NAME.key under a CA of ours."""
    openssl(folder, 'req', *kind, '-nodes', '-keyout', f'{name}.key', '-out', f'{name}.csr', '-subj', f'/CN={host}')
    with open(f'{folder}/{name}.ext', 'w', encoding='utf-8') as file:
        file.write(f'subjectAltName=DNS:{host}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n')
    openssl(folder, 'x509', '-req', '-in', f'{name}.csr', '-CA', 'middle.pem', '-CAkey', 'middle.key', '-CAcreateserial',
            '-out', f'{name}.leaf', '-extfile', f'{name}.ext', '-days', str(days))
    with open(f'{folder}/{name}.crt', 'wb') as out:
        for part in (f'{name}.leaf', 'middle.pem'):
            with open(f'{folder}/{part}', 'rb') as file:
                out.write(file.read())


@pytest.fixture(scope='module')
def store():
    folder = new_folder()
    openssl(folder, 'req', '-x509', *EC, '-nodes', '-keyout', 'root.key', '-out', 'root.pem', '-subj', '/CN=root', '-days', '90')
    openssl(folder, 'req', *EC, '-nodes', '-keyout', 'middle.key', '-out', 'middle.csr', '-subj', '/CN=middle')
    with open(f'{folder}/middle.ext', 'w', encoding='utf-8') as file:
        file.write('basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n')
    openssl(folder, 'x509', '-req', '-in', 'middle.csr', '-CA', 'root.pem', '-CAkey', 'root.key', '-CAcreateserial', '-out',
            'middle.pem', '-extfile', 'middle.ext', '-days', '90')
    issue(folder, 'ec', 'www.example.com', EC)
    issue(folder, 'rsa', 'www.example.com', RSA)
    issue(folder, 'ec2', 'www.example.com', EC)
    issue(folder, 'expired', 'www.example.com', EC, days=-1)
    openssl(folder, 'ec', '-in', 'ec.key', '-out', 'locked.key', '-aes256', '-passout', 'pass:secret')
    with open(f'{folder}/wrong-order.crt', 'wb') as out:
        for part in ('middle.pem', 'ec.leaf'):
            with open(f'{folder}/{part}', 'rb') as file:
                out.write(file.read())
    for name, content in (('garbage.crt', b'garbage'), ('garbage.key', b'garbage'), ('empty.crt', b'')):
        with open(f'{folder}/{name}', 'wb') as file:
            file.write(content)
    yield folder
    shutil.rmtree(folder)


def site(store, *pairs):
    lines = ''.join(f'certificate file {store}/{c} {store}/{k}; ' for c, k in pairs)
    return f'listen 127.0.0.1:{{port}}\nsite www.example.com {{ {lines}respond 200 "secret" }}\n'


def seen(gateway, **options):
    context = tls_context(options.pop('root', None), **options)
    with Client(gateway.port, context, 'www.example.com') as client:
        assert client.get('/').text == 'secret'
        return client.socket.getpeercert(True), client.socket.cipher()[0]


def leaf(store, name):
    with open(f'{store}/{name}.leaf', encoding='utf-8') as file:
        return ssl.PEM_cert_to_DER_cert(file.read())


def test_a_pair(store):
    with Gateway(site(store, ('ec.crt', 'ec.key'))) as gateway:
        assert seen(gateway, root=store + '/root.pem')[0] == leaf(store, 'ec')


def test_two_kinds_side_by_side(store):
    """ECDSA before RSA, by what the client can do."""
    with Gateway(site(store, ('rsa.crt', 'rsa.key'), ('ec.crt', 'ec.key'))) as gateway:
        assert seen(gateway, root=store + '/root.pem')[0] == leaf(store, 'ec')
        context = tls_context(most=ssl.TLSVersion.TLSv1_2)
        for suite in ('ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES256-GCM-SHA384', 'ECDHE-RSA-CHACHA20-POLY1305'):
            context.set_ciphers(suite)
            with Client(gateway.port, context, 'www.example.com') as client:
                assert client.socket.cipher()[0] == suite and client.socket.getpeercert(True) == leaf(store, 'rsa')
        said = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{gateway.port}', '-servername', 'www.example.com', '-tls1_3',
                               '-sigalgs', 'rsa_pss_rsae_sha256', '-brief'], input=b'', capture_output=True, check=False)
        assert b'RSA-PSS' in said.stdout + said.stderr


FAULTS = [
    ('encrypted', 'ec.crt', 'locked.key', 'encrypted|passphrase|password'), ('mismatch', 'ec.crt', 'ec2.key', 'does not (match|belong)|another|not the key'),
    ('wrong order', 'wrong-order.crt', 'ec.key', 'order|first'), ('garbage', 'garbage.crt', 'ec.key', 'PEM|certificate'),
    ('garbage key', 'ec.crt', 'garbage.key', 'PEM|key'), ('empty', 'empty.crt', 'ec.key', 'PEM|certificate|empty'),
    ('missing', 'none.crt', 'ec.key', 'none.crt'), ('missing key', 'ec.crt', 'none.key', 'none.key'), ('swapped', 'ec.key', 'ec.crt', 'certificate|key')]


@pytest.mark.parametrize('command', ['check', 'run'])
@pytest.mark.parametrize('name, certificate, key, said', FAULTS, ids=[f[0] for f in FAULTS])
def test_refused_with_a_sentence(store, name, certificate, key, said, command):
    del name
    gateway = Gateway(site(store, (certificate, key)), ready=False)
    done = run_command(*(['check', gateway.config] if command == 'check' else ['run', '-c', gateway.config]), env=gateway.env)
    shutil.rmtree(gateway.folder)
    assert done.returncode == 1 and re.search(r'portcullis\.conf:4:\d+: ', done.stderr) and re.search(said, done.stderr), done.stderr


def test_an_expired_one_is_served_with_a_warning(store):
    text = site(store, ('expired.crt', 'expired.key'))
    with Gateway(text) as gateway:
        assert seen(gateway)[0] == leaf(store, 'expired')
        done = run_command('check', gateway.config)
        assert done.returncode == 0 and 'warning' in done.stderr and 'expired' in done.stderr
        with pytest.raises(ssl.SSLError, match='expired'):
            seen(gateway, root=store + '/root.pem')


def test_a_public_name_needs_one(store):
    gateway = Gateway('listen 127.0.0.1:{port}\nsite www.example.com { respond 200 }', ready=False)
    done = run_command('check', gateway.config)
    shutil.rmtree(gateway.folder)
    assert done.returncode == 2 and 'needs certificate file' in done.stderr and store


@pytest.fixture
def live(store):
    """A folder like certbot's: live/ holds symlinks into archive/."""
    folder = new_folder()
    os.mkdir(folder + '/archive')
    os.mkdir(folder + '/live')
    for number, name in ((1, 'ec'), (2, 'ec2'), (3, 'expired')):
        for kind in ('crt', 'key'):
            shutil.copy(f'{store}/{name}.{kind}', f'{folder}/archive/{number}.{kind}')
    point(folder, 'crt', 1)
    point(folder, 'key', 1)
    yield folder
    shutil.rmtree(folder)


def point(folder, kind, number):
    os.symlink(f'../archive/{number}.{kind}', f'{folder}/live/new')
    os.rename(f'{folder}/live/new', f'{folder}/live/www.{kind}')


def test_a_switched_symlink_is_picked_up_under_load(store, live, test_build):
    """Certificate first, key later: half a pair changes nothing, the whole one is served without a reload."""
    with Gateway(site(live + '/live', ('www.crt', 'www.key'))) as gateway:
        context = tls_context()
        with Load(gateway.port, threads=2, tls=context, name='www.example.com', requests_per_connection=20) as load:
            pids = gateway.roles()
            assert seen(gateway)[0] == leaf(store, 'ec')
            point(live, 'crt', 2)
            gateway.move_clock(61, step=4)
            wait_until(lambda: any('www.crt' in str(e) or 'key' in str(e.get('message')) for e in gateway.events), lambda: f'an event: {gateway.events}')
            assert seen(gateway)[0] == leaf(store, 'ec')
            point(live, 'key', 2)
            gateway.move_clock(61, step=4)
            wait_until(lambda: seen(gateway)[0] == leaf(store, 'ec2'), 'the new certificate')
            point(live, 'crt', 3)
            point(live, 'key', 3)
            gateway.move_clock(61, step=4)
            load.wait_for(100)
            assert seen(gateway)[0] == leaf(store, 'ec2'), 'an expired one is not swapped in'
        assert not load.failed, load.failed[:5]
        assert gateway.roles() == pids


def test_files_are_looked_at_again_and_again(store, live, test_build):
    with Gateway(site(live + '/live', ('www.crt', 'www.key'))) as gateway:
        for number, name in ((2, 'ec2'), (1, 'ec'), (2, 'ec2')):
            gateway.move_clock(61, 4)  # once with nothing new
            time.sleep(0.5)
            point(live, 'crt', number)
            point(live, 'key', number)
            gateway.move_clock(61, 4)
            time.sleep(0.5)  # a handshake that the jump meets is over its time
            wait_until(lambda: seen(gateway)[0] == leaf(store, name), name)
        assert not any('ended without a result' in line for line in gateway.stderr), gateway.stderr


def test_a_reload_takes_a_new_pair_and_refuses_half_of_one(store, live):
    with Gateway(site(live + '/live', ('www.crt', 'www.key'))) as gateway:
        point(live, 'crt', 2)
        done = gateway.reload()
        assert done.returncode == 1 and 'www.key' in done.stderr + done.stdout, done
        assert seen(gateway)[0] == leaf(store, 'ec')
        point(live, 'key', 2)
        gateway.reload_well()
        assert seen(gateway)[0] == leaf(store, 'ec2')


def test_keys_are_readable_by_the_starter_only(store):
    """A key of mode 0600 in a 0700 folder is read by the supervisor's descriptor, not by path."""
    folder = new_folder()
    os.mkdir(folder + '/private', 0o700)
    for name in ('ec.crt', 'ec.key'):
        shutil.copy(f'{store}/{name}', folder + '/private')
        os.chmod(f'{folder}/private/{name}', 0o600)
    with Gateway(site(folder + '/private', ('ec.crt', 'ec.key'))) as gateway:
        assert seen(gateway)[0] == leaf(store, 'ec')
        assert get(gateway.port, '/', tls=tls_context(), name='www.example.com').text == 'secret'
    shutil.rmtree(folder)


def test_a_key_outlives_its_vault(store):
    """The next vault gets the same descriptors, and the next keyholder its keys from there."""
    with Gateway(site(store, ('ec.crt', 'ec.key'), ('rsa.crt', 'rsa.key'))) as gateway:
        for _ in range(2):
            for kind in ('vault', 'keyholder'):
                gateway.settle()
                for pid in gateway.pids(kind):
                    os.kill(pid, signal.SIGKILL)
                assert seen(gateway)[0] == leaf(store, 'ec')
