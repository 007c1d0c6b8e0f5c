"""`portcullis ca`, with a service and without."""
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

from gateway import Gateway, Process, program, run_command, wait_until

SITE = 'listen 127.0.0.1:{port}\nsite localhost { respond 200 "local" }\n'


def ca(folder, *arguments, **more):
    return run_command('ca', *arguments, env={'PORTCULLIS_STATE': folder + '/state', **more.pop('env', {})}, **more)


def vaults(folder):
    """Pids of vaults of this very program that hold something below the folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/cmdline', encoding='utf-8') as file:
                is_vault = file.read().replace('\0', ' ').strip() == 'portcullis vault'
            if is_vault and os.path.samefile(f'/proc/{pid}/exe', program()) and Process(int(pid)).holds(folder):
                found.append(int(pid))
        except OSError:
            pass
    return found


def openssl(*arguments, said=None):
    return subprocess.run(['openssl', *arguments], capture_output=True, text=True, check=True, input=said).stdout


def test_an_empty_list_makes_nothing(folder):
    done = ca(folder, 'list')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert not os.path.exists(folder + '/state')
    assert json.loads(ca(folder, 'list', '--json').stdout) == []


def test_from_init_to_issue(folder):
    before = vaults(folder)
    done = ca(folder, 'init')
    assert done.returncode == 0 and folder + '/state/keys' in done.stdout, done
    root = ca(folder, 'root').stdout
    assert ca(folder, 'init').returncode == 0 and ca(folder, 'root').stdout == root
    print_of_root = openssl('x509', '-noout', '-fingerprint', '-sha256', said=root).partition('=')[2].strip()
    assert print_of_root.replace(':', '').lower() in done.stdout
    done = ca(folder, 'issue', 'a.test', '127.0.0.1', '--client', '--days', '5', cwd=folder)
    assert (done.returncode, done.stderr) == (0, ''), done
    with open(folder + '/root.pem', 'w', encoding='utf-8') as file:
        file.write(root)
    text = openssl('x509', '-noout', '-text', '-in', folder + '/a.test.crt')
    assert 'DNS:a.test, IP Address:127.0.0.1' in text
    assert 'Client Authentication' in text and 'Server Authentication' not in text
    openssl('verify', '-CAfile', folder + '/root.pem', '-untrusted', folder + '/a.test.crt', folder + '/a.test.crt')
    assert os.stat(folder + '/a.test.key').st_mode & 0o777 == 0o600
    assert openssl('pkey', '-pubout', '-in', folder + '/a.test.key') == \
        openssl('x509', '-noout', '-pubkey', '-in', folder + '/a.test.crt')
    row, = json.loads(ca(folder, 'list', '--json').stdout)
    assert row['names'] == ['127.0.0.1', 'a.test'] or row['names'] == ['a.test', '127.0.0.1']
    assert row['usage'] == 'client' and 4.9 < (row['expires'] - time.time()) / 86400 <= 5
    serial = openssl('x509', '-noout', '-serial', '-in', folder + '/a.test.crt').strip().partition('=')[2]
    assert int(serial, 16) == int(row['serial'], 16)
    assert vaults(folder) == before, 'a command leaves no vault'


@pytest.mark.parametrize('taken', ['a.test.key', 'a.test.crt'])
def test_nothing_is_overwritten(folder, taken):
    with open(f'{folder}/{taken}', 'w', encoding='utf-8') as file:
        file.write('mine')
    done = ca(folder, 'issue', 'a.test', cwd=folder)
    assert done.returncode == 1 and taken in done.stderr
    assert sorted(os.listdir(folder)) == [taken], 'nothing was asked of the CA either'
    with open(f'{folder}/{taken}', encoding='utf-8') as file:
        assert file.read() == 'mine'


@pytest.mark.parametrize('arguments, code, said', [
    (['issue'], 2, 'name'), (['issue', 'no name'], 1, 'no name'), (['nonsense'], 2, 'nonsense'), ([], 2, ''),
    (['root', 'extra'], 2, 'extra'), (['list', '--days', '3'], 2, '--days'), (['issue', 'a.test', '--days', '0'], 2, '825'),
    (['issue', 'a.test', '--days', '9999'], 2, '825'), (['issue', '/etc/x'], 2, '/etc/x'),
    (['issue', 'a.test', '--out', '/nowhere/a'], 1, '/nowhere/')])
def test_used_wrongly(folder, arguments, code, said):
    done = ca(folder, *arguments, cwd=folder)
    assert done.returncode == code and said in done.stderr, done
    assert not [name for name in os.listdir(folder) if name != 'state']


def test_two_at_once_wait_for_each_other(folder):
    assert ca(folder, 'init').returncode == 0
    done = []
    threads = [threading.Thread(target=lambda n=n: done.append(ca(folder, 'issue', f'n{n}.test', cwd=folder)))
               for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [d.returncode for d in done] == [0] * 6, done
    assert len(ca(folder, 'list').stdout.splitlines()) == 6


def test_a_killed_command_leaves_no_vault(folder):
    before = vaults(folder)
    assert ca(folder, 'init').returncode == 0
    for wait_ms in (0, 5, 10, 20, 40):
        process = subprocess.Popen([program(), 'ca', 'issue', f'k{wait_ms}.test'], cwd=folder, stdout=subprocess.DEVNULL,
                                   env={**os.environ, 'PORTCULLIS_STATE': folder + '/state'})
        time.sleep(wait_ms / 1000)
        process.kill()
        process.wait()
    wait_until(lambda: vaults(folder) == before, 'the vaults to end')
    assert ca(folder, 'root').returncode == 0


def test_with_a_service():
    with Gateway(SITE) as gateway:
        count = len(vaults(folder))
        root = run_command('ca', 'root', '-c', gateway.config)
        assert root.returncode == 0 and root.stdout.startswith('-----BEGIN CERTIFICATE-----')
        done = run_command('ca', 'issue', '*.a.test', '--out', gateway.folder + '/a', '-c', gateway.config)
        assert (done.returncode, done.stderr) == (0, ''), done
        names = [row['names'] for row in json.loads(run_command('ca', 'list', '--json', '-c', gateway.config).stdout)]
        assert ['localhost'] in names and ['*.a.test'] in names
        assert len(vaults(folder)) == count, 'the service\'s own was asked'


def test_trust_in_a_fresh_store(folder):
    """As somebody who is not root: the system's store stays alone."""
    if not shutil.which('certutil') or os.getuid() != 0:
        pytest.skip('needs certutil and root')
    nobody = pwd.getpwnam('nobody')
    home = folder + '/home'
    os.mkdir(home)
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    shutil.copy(program(), folder + '/portcullis')

    def as_nobody(*arguments):
        return subprocess.run(['runuser', '-u', 'nobody', '--', 'env', 'HOME=' + home, folder + '/portcullis', *arguments], capture_output=True,
                              text=True, check=False, env={**os.environ, 'PORTCULLIS_STATE': home + '/state'})
    for _ in range(2):
        done = as_nobody('ca', 'trust')
        assert done.returncode == 0 and home + '/.pki/nssdb' in done.stdout, done
    said = subprocess.run(['certutil', '-L', '-d', f'sql:{home}/.pki/nssdb'], capture_output=True, text=True, check=True)
    assert len(re.findall(r'^Portcullis local CA [0-9a-f]{8} +C,,', said.stdout, re.M)) == 1, said
    # Root works on his CA without taking his files away.
    assert ca(folder, 'issue', 'x.test', cwd=folder, env={'PORTCULLIS_STATE': home + '/state'}).returncode == 0
    assert as_nobody('ca', 'list').stdout.count('x.test') == 1


def test_between_two_services():
    """The supervisor is killed; its vault writes nothing more, and `ca` works beside it."""
    with Gateway(SITE) as gateway:
        root = run_command('ca', 'root', '-c', gateway.config).stdout
        os.kill(gateway.process.pid, signal.SIGKILL)
        gateway.process.wait()
        done = run_command('ca', 'issue', 'b.test', '--out', gateway.folder + '/b', '-c', gateway.config)
        assert (done.returncode, done.stderr) == (0, ''), done
        assert run_command('ca', 'root', '-c', gateway.config).stdout == root
        gateway.start()
        assert 'b.test' in run_command('ca', 'list', '-c', gateway.config).stdout
