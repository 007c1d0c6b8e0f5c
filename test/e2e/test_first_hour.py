"""Every fault of first_hour.txt gets its message, whole, at its place; and what only a start can find."""
import os
import re
import shutil
import subprocess

import pytest

from gateway import ROOT, free_port, new_folder, program, run_command, wait_until

# More than a hundred runs: by the build that is fast, where it is there.
FAST = os.path.join(ROOT, 'build/portcullis')
LIST = os.path.join(ROOT, 'test/e2e/first_hour.txt')
CHARACTERS = {'<TAB>': '\t', '<CR>': '\r', '<FF>': '\x0c', '<BOM>': '\ufeff'}


def cases():
    with open(LIST, encoding='utf-8') as file:
        for block in re.split(r'^== ', file.read(), flags=re.M)[1:]:
            title, _, rest = block.partition('\n')
            text = re.match(r'(?:(?![>?] ).*\n)*', rest)[0]
            findings = []
            for line in rest[len(text):].rstrip('\n').split('\n'):
                if line.startswith('? '):
                    findings[-1]['nearest'] = line[2:]
                else:
                    place, kind, message = re.fullmatch(r'> (\d+:\d+) (\w+): (.*)', line).groups()
                    findings.append({'place': place, 'kind': kind, 'message': message})
            yield title, text, findings


CASES = list(cases())


@pytest.fixture(scope='module')
def beside():
    folder = new_folder()
    os.mkdir(folder + '/dir')
    with open(folder + '/junk.crt', 'w', encoding='utf-8') as file:
        file.write('hello\n')

    def openssl(*words):
        subprocess.run(['openssl', *words], check=True, capture_output=True, cwd=folder)
    openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'a.key', '-out', 'a.crt',
            '-subj', '/CN=a.test', '-addext', 'subjectAltName=DNS:a.test')
    openssl('ecparam', '-genkey', '-name', 'prime256v1', '-noout', '-out', 'other.key')
    openssl('ec', '-in', 'a.key', '-aes256', '-passout', 'pass:x', '-out', 'locked.key')
    yield folder
    shutil.rmtree(folder)


def findings_of(said):
    """As a user reads them: place, message, the line, a caret below its column, the nearest word."""
    found = []
    lines = said.rstrip('\n').split('\n')
    for i, line in enumerate(lines):
        match = re.match(r'c\.conf:(\d+):(\d+): (?:(error|warning): )?(.*)', line)
        if match:
            found.append({'place': f'{match[1]}:{match[2]}', 'kind': match[3] or 'note', 'message': match[4]})
            if match[4].startswith('key '):
                continue  # the vault compares keys, and has no text
            shown, caret = lines[i + 1], lines[i + 2]
            assert shown.startswith('    ') and re.fullmatch(r'\s*\^~*', caret), said
        elif re.match(r'    did you mean "', line):
            found[-1]['nearest'] = line.partition('"')[2].rpartition('"')[0]
    return found


def test_there_are_many():
    assert len(CASES) >= 60
    assert len({text for _, text, _ in CASES}) == len(CASES)


@pytest.mark.parametrize('part', range(4))
def test_each_fault_says_what_to_write(beside, part):
    wrong = []
    for title, text, wanted in CASES[part::4]:
        for name, character in CHARACTERS.items():
            text = text.replace(name, character)
        with open(beside + '/c.conf', 'w', encoding='utf-8', newline='') as file:
            file.write(text)
        environment = {k: v for k, v in os.environ.items() if k not in ('BACKEND', 'uri', 'request_uri', 'x')}
        command = [FAST if os.access(FAST, os.X_OK) else program(), 'check', 'c.conf']
        done = subprocess.run(command, cwd=beside, capture_output=True, text=True, timeout=60, env=environment, check=False)
        found = findings_of(done.stdout.replace('c.conf: fine, with warnings\n', '') + done.stderr)
        for one, other in zip(found, wanted):
            if other['message'].endswith('*') and one['message'].startswith(other['message'][:-1]):
                one['message'] = other['message']
        is_faulty = any(one['kind'] == 'error' for one in wanted)
        if found != wanted or (done.returncode != 0) != is_faulty:
            wrong.append((title, found, wanted))
    assert not wrong, wrong


# ---- what only a start finds

def run_refused(folder, text, prefix=()):
    path = folder + '/portcullis.conf'
    with open(path, 'w', encoding='utf-8') as file:
        file.write(f'portcullis 1\nstate {folder}/state\n{text}\n')
    os.chmod(path, 0o644)
    done = subprocess.run([*prefix, program(), 'run', '-c', path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done
    return done.stderr


def test_a_port_that_nginx_has(folder):
    if not shutil.which('nginx'):
        pytest.skip('nginx is not installed')
    port = free_port()
    with open(folder + '/nginx.conf', 'w', encoding='utf-8') as file:
        file.write(f'daemon off; master_process off; pid {folder}/pid; error_log stderr; events {{}}\n'
                   f'http {{ access_log off; server {{ listen 127.0.0.1:{port}; }} }}')
    nginx = subprocess.Popen(['nginx', '-p', folder, '-c', folder + '/nginx.conf'], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: os.path.exists(folder + '/pid') and os.path.getsize(folder + '/pid'), 'nginx')
        said = run_refused(folder, f'listen 127.0.0.1:{port} plain serve\nsite a.test {{ respond 200 }}')
        assert f'127.0.0.1:{port} is in use by nginx (pid {nginx.pid}, uid {os.getuid()})' in said
    finally:
        nginx.terminate()
        nginx.wait()


def test_a_port_below_1024_without_root(folder):
    if os.getuid():
        pytest.skip('needs root to become somebody else')
    os.chmod(folder, 0o777)
    said = run_refused(folder, 'listen 127.0.0.1:1 plain serve\nsite a.test { respond 200 }',
                       ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--bounding-set=-all', '--inh-caps=-all'])
    assert '127.0.0.1:1 may not be bound: ports below 1024 are for root' in said


def test_a_folder_that_its_reader_may_not_enter(folder):
    if os.getuid():
        pytest.skip('needs root to become somebody else')
    os.mkdir(folder + '/secret', 0o700)
    said = run_refused(folder, f'listen 127.0.0.1:{free_port()} plain serve\nsite a.test {{ files {folder}/secret }}')
    assert re.search(r'portcullis\.conf:4:21: error: document root \S+/secret: `files`, which serves it as uid \d+, may not enter it: '
                     r'its mode is 700, its owner uid 0', said), said


def test_a_configuration_that_is_not_there(folder):
    for arguments in (['check', folder + '/none.conf'], ['run', '-c', folder + '/none.conf']):
        done = run_command(*arguments)
        assert done.returncode == 1 and f'{folder}/none.conf: there is no such file' in done.stderr
