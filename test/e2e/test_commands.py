"""What the commands say, and what they say about a configuration before anything changes."""
import json
import os
import re
import shutil
import socket
import subprocess

import pytest

from client import get, tls_context
from gateway import ROOT, Gateway, free_port, is_sanitized, is_test_build, new_folder, program, run_command, wait_until
from mounts import in_mounts, inside
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
        text = file.read()
    # What is made of the schema begins there; headings before it are prose.
    for part in re.split(r'^### ', text[text.index('\n### state\n'):], flags=re.M)[1:]:
        name = part.split('\n')[0]
        places = re.search(r'^- stands in: (.*)', part, re.M)[1]
        yield name, places.strip('`'), re.search(r'^Example: `(.*)`', part, re.M)[1]


def whole(folder, place, example):
    """The example in a file that is complete, with paths that exist."""
    example = example.replace('/etc/portcullis/www', f'{folder}/www').replace('/srv/www', folder)
    example = re.sub(r'/var/(lib|log)/portcullis', folder, example)
    more = '' if example.startswith('listen') else 'listen 127.0.0.1:8443\n'
    if re.match(r'error \d', example):
        example = example.replace('/srv/errors/down.html', f'{folder}/www.crt')
    if '<office>' in example:
        more += 'table office { 192.0.2.0/24 }\n'
    if place == 'listen':
        return f'portcullis 1\n{more}listen 127.0.0.1:8444 {{ {example} }}\nsite a.test {{ respond 200 }}\n'
    if 'the file' in place:
        site = '' if example.startswith('site') else 'site localhost { respond 200 }\n'
        return f'portcullis 1\n{more}{example.replace("www.example.com", "a.test").replace(" example.com", " b.test")}\n{site}'
    if place == 'upstream':
        return f'portcullis 1\n{more}upstream app {{ origin 10.0.1.9:80; {example} }}\nsite a.test {{ proxy app }}\n'
    if 'site' not in place and 'route' in place:
        return f'portcullis 1\n{more}site a.test {{ route /api/* {{ {example}; respond 200 }} }}\n'
    example = example.replace('example.com', 'b.test') if example.startswith('alias') else example
    handler = '' if re.match('respond|redirect|proxy|files', example) else 'respond 200; '
    return f'portcullis 1\n{more}site a.test {{ {handler}{example} }}\n'


@pytest.fixture(scope='module')
def certificate():
    folder = new_folder()
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes',
                    '-keyout', f'{folder}/www.key', '-out', f'{folder}/www.crt', '-subj', '/CN=a.test',
                    '-addext', 'subjectAltName=DNS:a.test,DNS:b.test,DNS:c.test'], check=True, capture_output=True)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize('name, place, example', list(examples()))
def test_every_example(certificate, name, place, example):
    done = check(certificate, whole(certificate, place, example))
    assert done.returncode == 0, f'{name}: {done.stderr}'


def whole_files():
    """Every block of a page that is a whole configuration: it begins with the language's version."""
    for page in ['README.md', *sorted(f'docs/{name}' for name in os.listdir(os.path.join(ROOT, 'docs')) if name.endswith('.md'))]:
        with open(os.path.join(ROOT, page), encoding='utf-8') as file:
            for number, block in enumerate(re.findall(r'^```\n(portcullis 1\n.*?)^```', file.read(), flags=re.M | re.S)):
                yield pytest.param(block, id=f'{page}-{number}')


@pytest.mark.parametrize('block', list(whole_files()))
def test_every_whole_file_of_the_manual(certificate, block):
    """Passes without a fault, with files where it names some."""
    with open(f'{certificate}/cdn.txt', 'w', encoding='utf-8') as file:
        file.write('192.0.2.0/24\n')
    for name, ours in (('api.example.com', 'b.test'), ('www.example.com', 'a.test'), ('example.com', 'c.test')):
        block = re.sub(rf'(?<![\w.]){re.escape(name)}(?= )', ours, block)
    block = re.sub(r'/srv/(www|shop)', certificate, re.sub(r'/etc/portcullis/', f'{certificate}/', block))
    block = re.sub(r'/var/(lib|log)/portcullis', certificate, block)
    done = check(certificate, block)
    assert done.returncode == 0, f'{block}\n{done.stderr}'


def moving_rows():
    """Our column of the pages for those who come from elsewhere."""
    for page in ('nginx', 'haproxy', 'caddy'):
        with open(os.path.join(ROOT, f'docs/from-{page}.md'), encoding='utf-8') as file:
            for theirs, ours in re.findall(r'^\| ([^|]*) \| `([^`]*)` \|', file.read(), re.M):
                yield pytest.param(ours, id=f'{page}: {theirs}')


@pytest.mark.parametrize('ours', list(moving_rows()))
def test_every_line_that_another_becomes(certificate, ours):
    """In its block, in a file that is complete."""
    first = ours.split()[0]
    place = {'origin': 'upstream', 'balance': 'upstream', 'check': 'upstream', 'slow-start': 'upstream', 'eject': 'upstream', 'sticky': 'upstream',
             'proxy-protocol': 'listen', 'listen': 'the file', 'log': 'the file', 'site': 'the file', 'firewall': 'the file'}.get(first, 'site')
    if first == 'limits' or ours.startswith('proxy app'):
        ours = ours.replace('proxy app', 'proxy 127.0.0.1:3000')
    if first == 'origin' and 'backup' not in ours:
        ours += '; origin 10.0.1.98:80'
    text = whole(certificate, place, ours.replace('b.test', 'c.test') if first != 'site' else ours)
    for name in set(re.findall(r'<(\w+)>', ours)) - {'office'}:
        text = text.replace('portcullis 1\n', f'portcullis 1\ntable {name} {{ 192.0.2.0/24 }}\n', 1)
    done = check(certificate, text)
    assert done.returncode == 0, f'{text}\n{done.stderr}'


@pytest.mark.parametrize('name, place, example', list(examples()))
def test_every_example_with_one_letter_changed(certificate, name, place, example):
    """The first word misspelt is refused, and the right one is named."""
    word = re.match(r'[a-z]+', example)[0]
    wrong = word[:-1] + 'x' if len(word) > 3 else word + 'x'
    done = check(certificate, whole(certificate, place, wrong + example[len(word):]))
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


# ---- the same for all commands

COMMANDS = ['run', 'proxy', 'files', 'check', 'reload', 'status', 'metrics', 'stop', 'ca', 'version', 'help',
            'fmt', 'config', 'diff', 'apply', 'confirm', 'rollback']


def test_options_stand_anywhere(folder):
    """Before, between and after operands, with a blank or `=`; `--` ends them."""
    state = {'PORTCULLIS_STATE': folder + '/state'}
    done = run_command('ca', '--out', folder + '/one', 'issue', '--client', 'a.test', '--days=3', 'b.test', env=state)
    assert done.returncode == 0 and os.path.exists(folder + '/one.crt'), done
    row, = json.loads(run_command('ca', '--json', 'list', env=state).stdout)
    assert sorted(row['names']) == ['a.test', 'b.test'] and row['usage'] == 'client'
    path = folder + '/-odd.conf'
    with open(path, 'w', encoding='utf-8') as file:
        file.write(GOOD.replace('{port}', '8080'))
    for arguments in (['--json', path], [path, '--json'], ['-c', path, '--json'], [f'-c={path}', '--json']):
        done = run_command('check', *arguments)
        assert (done.returncode, done.stdout) == (0, '[]\n'), done
    assert run_command('check', '--', '-odd.conf', cwd=folder).returncode == 0
    done = run_command('check', '-odd.conf', cwd=folder)
    assert done.returncode == 2 and '-odd.conf' in done.stderr


@pytest.mark.parametrize('command', COMMANDS)
def test_help_anywhere(command):
    for arguments in (['x', 'y', '--help'], ['--help', '--nonsense'], ['-h']):
        done = run_command(command, *arguments)
        assert (done.returncode, done.stderr) == (0, '') and done.stdout.startswith(f'usage: portcullis {command} '), done
    assert run_command('help', command).stdout == run_command(command, '--help').stdout


@pytest.mark.parametrize('arguments', [['version', '--json'], ['ca', 'init', '--json'], ['ca', 'root', '--json'],
                                       ['ca', 'issue', 'a.test', '--json'], ['ca', 'list', '--json'], ['check', '--json', 'good.conf'],
                                       ['check', '--json', 'bad.conf'], ['check', '--json', 'missing.conf']], ids=' '.join)
def test_data_is_json_where_it_is_asked_for(folder, arguments):
    for name, text in (('good.conf', GOOD.replace('{port}', '8080')), ('bad.conf', 'portcullis 1\nsite a { respnd 200 }\n')):
        with open(f'{folder}/{name}', 'w', encoding='utf-8') as file:
            file.write(text)
    done = run_command(*arguments, cwd=folder, env={'PORTCULLIS_STATE': folder + '/state'})
    data = json.loads(done.stdout)
    assert not done.stderr and done.returncode == (1 if {'bad.conf', 'missing.conf'} & set(arguments) else 0)
    if arguments[0] == 'version':
        assert re.match(r'\d+\.\d+', data['portcullis']) and re.match(r'\d+\.\d+', data['aws_lc']) and data['kernel'] == os.uname().release
    elif arguments[:2] == ['ca', 'init']:
        assert data['state'] == folder + '/state' and re.fullmatch('[0-9a-f]{64}', data['root_sha256'])
    elif arguments[:2] == ['ca', 'root']:
        assert data['root'].startswith('-----BEGIN CERTIFICATE-----')
    elif arguments[:2] == ['ca', 'issue']:
        assert all(os.path.exists(f'{folder}/{data[key]}') for key in ('certificate', 'key'))
    elif arguments[-1] == 'bad.conf':
        assert data == [{'kind': 'error', 'message': 'unknown statement `respnd`', 'file': 'bad.conf', 'line': 2, 'column': 10,
                         'nearest': 'respond'}]
    elif arguments[-1] == 'missing.conf':
        assert data == [{'kind': 'error', 'message': 'missing.conf: there is no such file'}]
    else:
        assert data == []


def test_check_json_has_each_finding(folder):
    with open(folder + '/a.conf', 'w', encoding='utf-8') as file:
        file.write('portcullis 1\nlisten 192.0.2.1:80 plain serve\nsite a { respond 200 }\nsite A. { respond 1; files /nowhere }\n')
    found = json.loads(run_command('check', '--json', 'a.conf', cwd=folder).stdout)
    assert [(one['kind'], one.get('line')) for one in found if one['kind'] != 'note'][:1] == [('error', 4)], found
    assert {'note', 'error'} <= {one['kind'] for one in found} and all(one['file'] == 'a.conf' for one in found), found


def test_no_command_prints_colour_off_a_terminal(folder):
    with Gateway(command=['files', folder, '--listen', '127.0.0.1:{port}']) as gateway:
        said = [run_command(command, '--help').stdout for command in COMMANDS]
        for arguments in (['status'], ['status', '--json'], ['version'], ['ca', 'list'], ['ca', 'root'], ['help'], ['nonsense'], ['reload']):
            done = run_command(*arguments, env=gateway.env)
            said += [done.stdout, done.stderr]
        get(gateway.port, '/nothing', tls=tls_context())
        gateway.record('/nothing')
        assert not any('\x1b' in text for text in said + gateway.stdout + gateway.stderr)


def test_status_shows_what_a_user_asks_for():
    """Each process, what its sandbox enforces and what the kernel could not, memory, connections."""
    with Gateway('listen 127.0.0.1:{port} plain serve\nsite localhost { respond 200 "ok" }') as gateway:
        held = [socket.create_connection(('127.0.0.1', gateway.port)) for _ in range(7)]
        wait_until(lambda: sum(row['connections'] for row in gateway.status()) == 7, lambda: gateway.status())
        rows = gateway.status()
        assert {row['process'] for row in rows} == {'supervisor', 'worker', 'keyholder', 'vault', 'log'} | (
            {row['process'] for row in rows} & {'files', 'dialer'})
        for row in rows:
            assert row['pid'] in [gateway.process.pid] + [p.pid for p in gateway.children()] and row['state'] == 'running'
            assert row['memory_bytes'] > 1 << 20 and row['open_files_limit'] > 0
            if row['process'] != 'supervisor':
                assert 'system calls' in row['enforced'] and not set(row['enforced']) & set(row['missing'])
        text = run_command('status', '-c', gateway.config, env=gateway.env)
        assert text.returncode == 0 and not text.stderr
        for row in rows:
            line, = re.findall(rf'^{row["process"]} .* pid {row["pid"]} .*$', text.stdout, re.M)
            assert re.search(r'\d+ MiB', line) and 'running' in line
        assert re.search(r'sandbox: .*system calls', text.stdout)
        assert sum(int(count) for count in re.findall(r'(\d+) connections', text.stdout)) == 7
        for one in held:
            one.close()


def test_exit_codes():
    """0 done, 1 it found or met a fault, 2 used wrongly: each command has all that it can have."""
    for command in COMMANDS:
        done = run_command(command, '--nonsense')
        assert done.returncode == 2 and f'usage: portcullis {command}' in done.stderr, done
        assert done.stdout == ''


# ---- faults as users make them

FAULTS = [  # a line, where it is wrong, what the user is told
    ('server { listen 80 }', 1, 'site NAME'), ('site a { proxy_pass http://127.0.0.1:3000 }', 10, 'proxy UPSTREAM'),
    ('site b { reverse_proxy :3000 }', 10, 'proxy UPSTREAM'), ('site c { root /srv }', 10, 'files DIR'),
    ('site d { location / { } }', 10, 'on /'), ('site e { waf crs; respond 200 }', 10, 'no version yet'),
    ('cluster valkey 10.0.0.5:6379', 1, 'no version yet'), ('acme a@b.test', 1, 'certificate file'),
    ('site f { certificate acme }', 22, '`certificate internal` or `certificate file`'),
    ('site g { certificate a.crt a.key }', 22, '`certificate internal` or `certificate file`'),
    ('log /var/log/x', 5, '`log access` or `log events`'), ('site h { tls 1.3 }', 14, '`tls min`'),
    ('listen 443', 8, '*:PORT'), ('listen localhost:443', 8, '127.0.0.1'), ('site i { proxy localhost }', 16, 'port is missing'),
    ('site https://a { }', 6, 'without http'), ('site a:443 { }', 6, 'without a port'), ('limits { idle 60 }', 15, 'unit'),
    ('site j { respond OK }', 18, 'no CODE'), ('SITE k { }', 1, 'unknown statement'), ('site { respond 200 }', 1, 'NAME is missing'),
    ('site l { respond 200 hello world }', 28, 'does not belong here'), ('log access sysog', 12, './sysog'),
    ('site m { redirect /x 200 }', 22, '301'), ('site n { proxy http://x/api }', 16, 'no path')]


@pytest.mark.parametrize('faults', [FAULTS[:13], FAULTS[13:]], ids=['first', 'second'])
def test_a_fault_says_what_to_write(folder, faults):
    """All of a file at once, in its order, each with its line and a caret."""
    done = check(folder, '\n'.join(['portcullis 1'] + [text for text, _, _ in faults]) + '\n')
    found = re.findall(r'^\S*portcullis\.conf:(\d+):(\d+): error: (.*)\n    (.*)\n     *\^', done.stderr, re.M)
    assert done.returncode == 1
    for number, (text, column, said) in enumerate(faults, 2):
        mine = [one for one in found if int(one[0]) == number]
        assert mine and int(mine[0][1]) == column and said in mine[0][2] and mine[0][3] == text, (text, mine, done.stderr)


# ---- ca trust, on a copy of the machine's store

def test_trust_in_the_system_store(folder):
    """Programs that read the system's store believe it then, and only then; the machine's own store is not touched."""
    if not os.path.exists('/usr/sbin/update-ca-certificates'):
        pytest.skip('ca-certificates is not installed')
    before = {place: sorted(os.listdir(place)) for place in ('/usr/local/share/ca-certificates', '/etc/ssl/certs')}
    prefix = in_mounts(f'''mkdir {folder}/home {folder}/hooks
        cp -a /usr/local/share/ca-certificates {folder}/local
        cp -a /etc/ssl {folder}/ssl
        mount --bind {folder}/local /usr/local/share/ca-certificates
        mount --bind {folder}/ssl /etc/ssl
        mount --bind {folder}/hooks /etc/ca-certificates/update.d''')
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 "trusted" }', folder=folder, prefix=prefix) as gateway:
        def trust():
            done = inside(gateway, 'ca', 'trust', '-c', gateway.config, HOME=folder + '/home', SUDO_USER='')
            assert done.returncode == 0 and 'system store: trusted' in done.stdout, done
            return done

        def ask():
            return inside(gateway, '-sS', f'https://localhost:{gateway.port}/', executable='curl')
        done = ask()
        assert done.returncode == 60, done
        for _ in range(2):  # a second time changes nothing
            trust()
            done = ask()
            assert (done.returncode, done.stdout) == (0, 'trusted'), done
        names = [name for name in os.listdir(folder + '/local') if name.startswith('portcullis-')]
        assert len(names) == 1 and os.stat(f'{folder}/local/{names[0]}').st_mode & 0o777 == 0o644
        # Another CA stands beside it.
        done = inside(gateway, 'ca', 'trust', HOME=folder + '/home', SUDO_USER='', PORTCULLIS_STATE=folder + '/other')
        assert done.returncode == 0 and ask().stdout == 'trusted'
        assert len([name for name in os.listdir(folder + '/local') if name.startswith('portcullis-')]) == 2
    assert before == {place: sorted(os.listdir(place)) for place in before}


def test_trust_says_why_not(folder):
    """A store that cannot be written is named."""
    if not os.path.exists('/usr/sbin/update-ca-certificates'):
        pytest.skip('ca-certificates is not installed')
    prefix = in_mounts(f'''mkdir {folder}/home {folder}/local
        mount --bind {folder}/local /usr/local/share/ca-certificates
        mount -o remount,bind,ro /usr/local/share/ca-certificates''')
    with Gateway('listen 127.0.0.1:{port}\nsite localhost { respond 200 }', folder=folder, prefix=prefix) as gateway:
        done = inside(gateway, 'ca', 'trust', '-c', gateway.config, HOME='/proc/nowhere', SUDO_USER='')
        assert done.returncode == 1, done
        assert re.search(r'system store: /usr/local/share/ca-certificates/portcullis-\w+\.crt: Read-only', done.stderr), done
