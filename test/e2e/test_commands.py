"""What the commands say about a configuration, before anything changes."""
import os
import re
import shutil
import subprocess

import pytest

from client import get
from gateway import ROOT, Gateway, free_port, is_sanitized, is_test_build, new_folder, program, run_command, wait_until
from origin import Origin

GOOD = 'portcullis 1\nlisten 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "yes" }\n'


def check(folder, text):
    path = os.path.join(folder, 'portcullis.conf')
    with open(path, 'w', encoding='utf-8', newline='') as file:
        file.write(text)
    return run_command('check', path)


def test_a_good_one(folder):
    before = os.listdir(folder)
    done = check(folder, GOOD.replace('{port}', '8080'))
    assert (done.returncode, done.stderr) == (0, '')
    assert sorted(os.listdir(folder)) == sorted(before + ['portcullis.conf']), 'check creates nothing'


@pytest.mark.parametrize('text, line, column, word, said', [
    ('portcullis 1\nsite a { respnd 200 }\n', 2, 10, 'respnd', 'respond'),
    ('portcullis 1\nsite a {\n\tproxy 127.0.0.1:99999\n}\n', 3, None, '127.0.0.1:99999', ''),
    ('portcullis 1\nlisten 127.0.0.1:80 plian serve\nsite a { respond 200 }\n', 2, 21, 'plian', 'plain'),
    ('portcullis 1\nsite a { respond 200 }\nsite A. { respond 200 }\n', 3, None, 'A.', '2'),
    ('portcullis 1\nsite a { respond 99 }\n', 2, None, '99', ''),
    ('portcullis 1\nlimits { idel 5s }\nsite a { respond 200 }\n', 2, 10, 'idel', 'idle'),
    ('portcullis 1\nlimits { idle 5x }\nsite a { respond 200 }\n', 2, None, '5x', ''),
    ('portcullis 1\nsite a { files /nowhere/at/all }\n', 2, None, '/nowhere/at/all', ''),
    ('portcullis 1\nsite a { tls min 1.1 }\n', 2, None, '1.1', '1.2'),
    ('portcullis 1\nsite a { respond 200\n', None, None, '', ''),
    ('portcullis 1\nsite a { respond 200 "no end\n}\n', 2, None, '', ''),
    ('portcullis 1\nsite a { respond $UNSET_IN_THIS_TEST }\n', 2, None, '$UNSET_IN_THIS_TEST', ''),
    ('portcullis 1\ninclude nowhere.conf\nsite a { respond 200 }\n', 2, None, 'nowhere.conf', ''),
    ('site a { respond 200 }\n', 1, None, '', 'portcullis 1'),
    ('portcullis 1\nsite a { certificate file none.crt none.key; respond 200 }\n', 2, None, 'none.crt', '')])
def test_a_fault_is_named_where_it_stands(folder, text, line, column, word, said):
    done = check(folder, text)
    assert done.returncode == 1
    lines = done.stderr.rstrip('\n').split('\n')
    match = re.match(r'(.*portcullis\.conf):(\d+):(\d+): ', lines[0])
    assert match, done.stderr
    assert line is None or int(match[2]) == line, done.stderr
    assert column is None or int(match[3]) == column, done.stderr
    assert said in done.stderr
    caret = [i for i, l in enumerate(lines) if re.fullmatch(r'[\s|]*\^~*\s*', l)]
    assert caret, done.stderr
    if word:
        assert lines[caret[0] - 1][lines[caret[0]].index('^'):].startswith(word), done.stderr


@pytest.mark.parametrize('text', ['\ufeffportcullis 1\r\nsite a { respond 200 }\r\n'])
def test_a_mark_and_crlf_are_fine(folder, text):
    assert check(folder, text).returncode == 0


def test_an_address_that_is_not_loopback_is_warned_of(folder):
    done = check(folder, 'portcullis 1\nlisten 192.0.2.1:80 plain serve\nsite a { respond 200 }\n')
    assert done.returncode == 0 and 'warning' in done.stderr, done.stderr


def examples():
    """Example lines of the manual, which is made of the schema."""
    with open(os.path.join(ROOT, 'docs/configuration.md'), encoding='utf-8') as file:
        parts = re.split(r'^### ', file.read(), flags=re.M)[1:]
    for part in parts:
        name = part.split('\n')[0]
        places = re.search(r'^- stands in: (.*)', part, re.M)[1]
        yield name, 'the file' in places, re.search(r'^Example: `(.*)`', part, re.M)[1]


def whole(folder, is_top, example):
    """The example in a file that is complete, with paths that exist."""
    example = example.replace('/etc/portcullis/www', f'{folder}/www').replace('/srv/www', folder)
    example = re.sub(r'/var/(lib|log)/portcullis', folder, example)
    more = '' if example.startswith('listen') else 'listen 127.0.0.1:8443\n'
    if is_top:
        site = '' if example.startswith('site') else 'site localhost { respond 200 }\n'
        return f'portcullis 1\n{more}{example.replace("www.example.com", "a.test").replace(" example.com", " b.test")}\n{site}'
    example = example.replace('example.com', 'b.test') if example.startswith('alias') else example
    handler = '' if re.match('respond|redirect|proxy|files', example) else 'respond 200; '
    return f'portcullis 1\n{more}site a.test {{ {handler}{example} }}\n'


@pytest.fixture(scope='module')
def certificate():
    folder = new_folder()
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                    '-keyout', f'{folder}/www.key', '-out', f'{folder}/www.crt', '-subj', '/CN=a.test',
                    '-addext', 'subjectAltName=DNS:a.test'], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize('name, is_top, example', list(examples()))
def test_every_example(certificate, name, is_top, example):
    done = check(certificate, whole(certificate, is_top, example))
    assert done.returncode == 0, f'{name}: {done.stderr}'


@pytest.mark.parametrize('name, is_top, example', list(examples()))
def test_every_example_with_one_letter_changed(certificate, name, is_top, example):
    """The first word misspelt is refused, and the right one is named."""
    word = re.match(r'[a-z]+', example)[0]
    wrong = word[:-1] + 'x' if len(word) > 3 else word + 'x'
    done = check(certificate, whole(certificate, is_top, wrong + example[len(word):]))
    assert done.returncode == 1 and word in done.stderr.replace(wrong, ''), f'{name}: {done.stderr}'


@pytest.mark.parametrize('arguments, code, said', [
    (['run', '--nonsense'], 2, '--nonsense'), (['nonsense'], 2, 'nonsense'), (['proxy'], 2, 'UPSTREAM'),
    ([], 2, ''), (['run', '-c', '/nowhere/x.conf'], 1, '/nowhere/x.conf'), (['files', '/nowhere'], 1, '/nowhere'),
    (['check', '/nowhere/x.conf'], 1, '/nowhere/x.conf'), (['version', 'extra'], 2, '')])
def test_used_wrongly(folder, arguments, code, said):
    done = run_command(*arguments, env={'PORTCULLIS_STATE': folder + '/state'})
    assert done.returncode == code and said in done.stderr + done.stdout, done


@pytest.mark.parametrize('command', ['run', 'proxy', 'files', 'check', 'reload', 'status', 'stop', 'ca', 'version', 'help'])
def test_help(command):
    done = run_command(command, '--help')
    assert done.returncode == 0 and command in done.stdout and not done.stderr
    assert re.search(rf'\b{command}\b', run_command('help').stdout)


def test_version_names_libraries():
    done = run_command('version')
    assert done.returncode == 0 and 'AWS-LC' in done.stdout and 'c-ares' in done.stdout


@pytest.mark.parametrize('command', ['reload', 'status', 'stop'])
def test_nobody_runs(folder, command):
    done = run_command(command, env={'PORTCULLIS_STATE': folder + '/state'})
    assert done.returncode == 1 and 'not running' in done.stderr
    assert not os.path.exists(folder + '/state')


@pytest.mark.parametrize('text, code', [('portcullis 1\nsite a { respnd 200 }\n', 1)])
def test_a_bad_file_does_not_start(folder, text, code):
    path = os.path.join(folder, 'bad.conf')
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text)
    done = run_command('run', '-c', path, env={'PORTCULLIS_STATE': folder + '/state'})
    assert done.returncode == code and re.search(r'bad\.conf:2:10: .*\n.*respnd', done.stderr), done.stderr


def test_files_in_one_line(folder):
    os.mkdir(folder + '/site')
    with open(folder + '/site/index.html', 'w', encoding='utf-8') as file:
        file.write('<p>welcome</p>')
    with Gateway(command=['files', folder + '/site', '--listen', '127.0.0.1:{port}']) as gateway:
        assert gateway.ready and all(re.match(r'https://\S+:\d+$', line) for line in gateway.ready)
        assert any(re.search(r'portcullis ca trust', line) for line in gateway.stderr), gateway.stderr
        from client import tls_context
        assert get(gateway.port, '/', tls=tls_context()).text == '<p>welcome</p>'


def test_the_ordinary_build_has_no_message_for_the_clock():
    ordinary = os.path.join(ROOT, 'build/portcullis')
    if not os.path.exists(ordinary):
        pytest.skip('build/portcullis is not built: run `make build`')
    with open(ordinary, 'rb') as file:
        assert b'clock_move' not in file.read()
    if program() != ordinary and is_sanitized():
        assert is_test_build(), 'the name is looked for in vain: this test shows nothing'


def test_port_of_another_program(folder):
    import socket
    with socket.socket() as held:
        held.bind(('127.0.0.1', 0))
        held.listen()
        port = held.getsockname()[1]
        path = folder + '/portcullis.conf'
        with open(path, 'w', encoding='utf-8') as file:
            file.write(f'portcullis 1\nstate {folder}/state\nlisten 127.0.0.1:{port} plain serve\nsite a {{ respond 200 }}\n')
        done = run_command('run', '-c', path)
        assert done.returncode == 1
        assert f'127.0.0.1:{port}' in done.stderr and f'pid {os.getpid()}' in done.stderr, done.stderr
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        assert f'pid {os.getpid()}' in run_command('run', '-c', path).stderr
    assert free_port()


# ---- origins that are down

def away(gateway, what=''):
    return [line for line in gateway.stderr if 'nobody answers at' in line and what in line]


def test_an_origin_that_is_down_is_a_warning():
    """After `ready`, once, with its place; the others are not named."""
    with Origin() as origin, Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost {\n'
                                     f'\tproxy 127.0.0.1:{origin.port} on /up\n\tproxy 127.0.0.1:{{port2}} unix:/nowhere.sock\n}}') as gateway:
        down = f'127.0.0.1:{gateway.ports[1]}'
        wait_until(lambda: len(away(gateway)) == 2, lambda: gateway.stderr)
        said = away(gateway, down)[0]
        assert re.search(rf'portcullis\.conf:6:8: warning: nobody answers at {down} \(the connection is refused\)', said), said
        assert re.search(r'portcullis\.conf:6:\d+: .*unix:/nowhere\.sock', away(gateway, 'unix:')[0]), gateway.stderr
        wait_until(lambda: any(down in e.get('message', '') for e in gateway.events), 'an event')
        # A reload looks at what is new, and at nothing else.
        gateway.reload_well('listen 127.0.0.1:{port} plain serve\nsite localhost { proxy 127.0.0.1:{port2} 127.0.0.1:{port3} }')
        wait_until(lambda: away(gateway, f'127.0.0.1:{gateway.ports[2]}'), lambda: gateway.stderr)
        assert len(away(gateway)) == 3
        assert get(gateway.port).status == 502
    assert not origin.requests


def test_a_newcomer_is_told_that_nobody_is_there():
    with Gateway(command=['proxy', '127.0.0.1:{port2}', '--listen', '127.0.0.1:{port}']) as gateway:
        said = wait_until(lambda: away(gateway), lambda: gateway.stderr)
        assert len(said) == 1 and re.search(rf'nobody answers at 127\.0\.0\.1:{gateway.ports[1]} yet \(the connection is refused\): '
                                            r'start the application', said[0]), said
        assert gateway.stdout[0].startswith('ready ')


def test_many_origins_that_are_down_do_not_fill_the_screen():
    names = ' '.join(f'127.0.0.{i}:1' for i in range(1, 31))
    with Gateway(f'listen 127.0.0.1:{{port}} plain serve\nsite localhost {{ proxy {names} }}') as gateway:
        wait_until(lambda: any('14 more origins do not answer' in line for line in gateway.stderr), lambda: gateway.stderr)
        assert len(away(gateway)) == 16
