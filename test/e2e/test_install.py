"""`make install`: what it puts where, that judges of each kind of file like it, and that the service's unit leaves the
first process what it needs."""
import os
import re
import shutil
import subprocess

import pytest

from client import get
from gateway import ROOT, Gateway, new_folder, run_command


def make(*words):
    done = subprocess.run(['make', '-C', ROOT, *words], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def installed():
    if not os.path.exists(ROOT + '/build/portcullis'):
        pytest.skip('build/portcullis is not built: run `make build`')
    folder = new_folder()
    make('install', f'PREFIX={folder}/usr', f'SYSCONFDIR={folder}/etc')
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def files_below(folder):
    return sorted(os.path.relpath(os.path.join(path, name), folder) for path, _, names in os.walk(folder) for name in names)


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


def unit_of(folder):
    return read(folder + '/usr/lib/systemd/system/portcullis.service')


def needs(program, name):
    if not shutil.which(program):
        pytest.skip(f'{name} is not installed')


def judge(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)


def test_where_things_go(installed):
    assert files_below(installed) == sorted([
        'etc/portcullis/portcullis.conf', 'usr/bin/portcullis', 'usr/lib/systemd/system/portcullis.service',
        'usr/share/bash-completion/completions/portcullis', 'usr/share/doc/portcullis/LICENSE',
        'usr/share/doc/portcullis/portcullis.conf', 'usr/share/fish/vendor_completions.d/portcullis.fish',
        'usr/share/man/man1/portcullis.1', 'usr/share/man/man5/portcullis.conf.5',
        'usr/share/zsh/site-functions/_portcullis'])
    assert judge(installed + '/usr/bin/portcullis', 'version').stdout.startswith('portcullis ')


def test_again_and_away(folder):
    """DESTDIR goes before every path and stands in none of the files; what an administrator wrote stays."""
    if not os.path.exists(ROOT + '/build/portcullis'):
        pytest.skip('build/portcullis is not built: run `make build`')
    make('install', f'DESTDIR={folder}', 'PREFIX=/usr')
    with open(folder + '/etc/portcullis/portcullis.conf', 'w', encoding='utf-8') as file:
        file.write('mine')
    make('install', f'DESTDIR={folder}', 'PREFIX=/usr')
    assert read(folder + '/etc/portcullis/portcullis.conf') == 'mine'
    unit = unit_of(folder)
    assert folder not in unit and 'ExecStart=/usr/bin/portcullis run -c /etc/portcullis/portcullis.conf' in unit and '@' not in unit
    make('uninstall', f'DESTDIR={folder}', 'PREFIX=/usr')
    assert files_below(folder) == ['etc/portcullis/portcullis.conf']


def test_the_example_is_right_and_serves(installed, folder):
    """As it is but for its ports and folders."""
    text = read(installed + '/etc/portcullis/portcullis.conf')
    path = folder + '/portcullis.conf'
    with open(path, 'w', encoding='utf-8') as file:
        file.write(text.replace('/var/log/portcullis', folder))
    done = run_command('check', path)
    assert (done.returncode, done.stderr) == (0, ''), done.stderr
    body = text.split('\n', 1)[1].replace('/var/log/portcullis', folder)
    with Gateway('listen 127.0.0.1:{port} plain serve\n' + body) as gateway:
        assert get(gateway.port, '/').text == 'portcullis serves\n'


# ---- manual pages

PAGES = ['man1/portcullis.1', 'man5/portcullis.conf.5']


@pytest.mark.parametrize('page', PAGES)
def test_mandoc_finds_nothing(installed, page):
    needs('mandoc', 'mandoc')
    done = judge('mandoc', '-Tlint', f'{installed}/usr/share/man/{page}')
    assert (done.returncode, done.stdout + done.stderr) == (0, '')


@pytest.mark.parametrize('page', PAGES)
def test_man_warns_of_nothing(installed, page):
    needs('man', 'man-db')
    done = judge('man', '--warnings', '-E', 'UTF-8', '-l', '-Tutf8', '-Z', f'{installed}/usr/share/man/{page}',
                 env={**os.environ, 'MANROFFSEQ': '', 'LC_ALL': 'C.UTF-8'})
    assert (done.returncode, done.stderr) == (0, '')


def rendered(installed, page):
    needs('mandoc', 'mandoc')
    text = judge('mandoc', '-Tutf8', '-O', 'width=200', f'{installed}/usr/share/man/{page}').stdout
    return re.sub('.\b', '', text)


def test_pages_have_what_the_tables_have(installed):
    """Every command with its options, as `help` has them; every statement, as the manual's end has them."""
    page = rendered(installed, PAGES[0])
    commands = re.findall(r'^  portcullis (\S+)', run_command('help').stdout, re.M)
    assert len(commands) > 10
    for command in commands:
        said = run_command(command, '--help').stdout
        assert re.search(rf'^ +{re.escape(said.split(chr(10))[0][7:].strip())}$', page, re.M), command
        for option in re.findall(r'^  (-\S+)', said, re.M):
            assert re.search(rf'^ +{option}( |$)', page, re.M), (command, option)
    page = rendered(installed, PAGES[1])
    entries = re.findall(r'^### (.*)\n\n```\n(.*)\n```', read(ROOT + '/docs/configuration.md'), re.M)
    assert len(entries) > 20
    for name, form in entries:
        assert re.search(rf'^ +{re.escape(form)}$', page, re.M), name
    for limit in re.findall(r'^\| `([\w-]+)` .*\| ', read(ROOT + '/docs/limits.md').partition('## Fixed')[0], re.M):
        assert re.search(rf'^ +{limit} \(', page, re.M), limit


# ---- what shells complete

def bash_completes(installed, *words):
    script = (f'source {installed}/usr/share/bash-completion/completions/portcullis; COMP_WORDS=({" ".join(words)} ""); '
              f'COMP_CWORD={len(words)}; _portcullis; printf "%s\\n" "${{COMPREPLY[@]}}"')
    done = judge('bash', '-c', script, cwd=installed)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


def options_of(command):
    return set(re.findall(r'^  (-\S+)', run_command(command, '--help').stdout, re.M))


def test_bash(installed):
    commands = re.findall(r'^  portcullis (\S+)', run_command('help').stdout, re.M)
    assert set(bash_completes(installed, 'portcullis')) == {*commands, '--help', '--version'}
    assert set(bash_completes(installed, 'portcullis', 'help')) >= set(commands)
    for command in commands:
        assert set(bash_completes(installed, 'portcullis', command)) >= options_of(command), command
    assert {'init', 'root', 'issue', 'list', 'trust'} <= set(bash_completes(installed, 'portcullis', 'ca'))
    assert set(bash_completes(installed, 'portcullis', 'run', '-c')) == {'etc', 'usr'}
    assert 'usr' in bash_completes(installed, 'portcullis', 'files')
    assert bash_completes(installed, 'portcullis', 'proxy', '--name') == []


def test_zsh(installed):
    needs('zsh', 'zsh')
    path = installed + '/usr/share/zsh/site-functions'
    assert judge('zsh', '-n', path + '/_portcullis').stderr == ''
    # The function runs where its helpers print what they were given.
    stubs = '''_describe() { print -l $commands }; _arguments() { print -l -- "$@" }; run() { source %s/_portcullis }
               compdef() { : }; words=(%s ''); CURRENT=$#words; run'''
    commands = re.findall(r'^  portcullis (\S+)', run_command('help').stdout, re.M)
    said = judge('zsh', '-f', '-c', stubs % (path, 'portcullis'))
    assert [line.partition(':')[0] for line in said.stdout.split('\n') if line] == commands and not said.stderr, said
    for command in commands:
        said = judge('zsh', '-f', '-c', stubs % (path, f'portcullis {command}'))
        offered = set(re.findall(r'^\*(-[-\w]+)\[', said.stdout, re.M))
        assert offered == options_of(command) and not said.stderr, (command, said)


def test_fish(installed):
    needs('fish', 'fish')
    path = installed + '/usr/share/fish/vendor_completions.d/portcullis.fish'
    commands = re.findall(r'^  portcullis (\S+)', run_command('help').stdout, re.M)

    def completes(line):
        done = judge('fish', '--no-config', '-c', f'source {path}; complete -C "{line}"', env={**os.environ, 'HOME': installed})
        assert done.returncode == 0 and not done.stderr, done.stderr
        return {one.partition('\t')[0] for one in done.stdout.split('\n') if one}
    assert completes('portcullis ') == set(commands)
    for command in commands:
        assert completes(f'portcullis {command} -') >= options_of(command), command
    assert {'init', 'issue'} <= completes('portcullis ca ')


# ---- the unit

def test_systemd_reads_the_unit(installed):
    needs('systemd-analyze', 'systemd')
    unit = installed + '/usr/lib/systemd/system/portcullis.service'
    done = judge('systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', unit,
                 env={**os.environ, 'SYSTEMD_LOG_TARGET': 'console', 'SYSTEMD_LOG_LEVEL': 'warning'})
    mine = [line for line in (done.stdout + done.stderr).split('\n') if 'portcullis' in line]
    assert done.returncode == 0 and not mine, done.stdout + done.stderr
    # It would have complained.
    wrong = installed + '/wrong.service'
    with open(wrong, 'w', encoding='utf-8') as file:
        file.write(unit_of(installed).replace('KillMode=', 'KillMood='))
    done = judge('systemd-analyze', 'verify', '--man=no', '--recursive-errors=no', wrong)
    assert 'KillMood' in done.stdout + done.stderr


def test_the_unit_says_what_the_program_does(installed):
    unit = dict(line.split('=', 1) for line in unit_of(installed).split('\n') if re.match(r'\w+=', line))
    assert (unit['Type'], unit['NotifyAccess'], unit['KillMode'], unit['Restart']) == ('notify', 'main', 'process', 'always')
    program = installed + '/usr/bin/portcullis'
    assert unit['ExecStart'] == f'{program} run -c {installed}/etc/portcullis/portcullis.conf'
    assert unit['ExecReload'] == f'{program} reload -c {installed}/etc/portcullis/portcullis.conf'
    assert int(unit['FileDescriptorStoreMax']) >= 1024 and unit['WatchdogSec']
    assert (unit['StateDirectory'], unit['RuntimeDirectory'], unit['LogsDirectory']) == ('portcullis',) * 3
    assert unit['RuntimeDirectoryPreserve'] == 'restart', 'who serves on while it is started anew is asked there'


# What Docker and Podman leave to root.
OF_CONTAINERS = ('CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_NET_BIND_SERVICE CAP_SETFCAP CAP_SETGID CAP_SETPCAP '
                 'CAP_SETUID CAP_SYS_CHROOT')


@pytest.mark.parametrize('where', ['unit', 'container'])
def test_so_many_capabilities_are_enough(installed, where):
    """As root with those alone and without new privileges: every process has its own user and whole sandbox, as without."""
    if os.getuid():
        pytest.skip('needs root to become somebody else')
    names = re.search(r'^CapabilityBoundingSet=(.*)', unit_of(installed), re.M)[1] if where == 'unit' else OF_CONTAINERS
    names = names.split()
    kept = ','.join('+' + name.removeprefix('CAP_').lower() for name in names)
    text = ('listen 127.0.0.1:{port}\nlisten 127.0.0.1:{port2} plain serve\nlog access {folder}/access.json\n'
            'site localhost { certificate internal; files {folder}/www on /www/*; proxy 127.0.0.1:{port2} on /loop; respond 200 "one" }')

    def enforced(prefix):
        folder = new_folder()
        os.mkdir(folder + '/www')
        os.mkdir(folder + '/www/www')
        with open(folder + '/www/www/a', 'w', encoding='utf-8') as file:
            file.write('a file')
        with Gateway(text, folder=folder, prefix=prefix) as gateway:
            assert get(gateway.ports[1], '/www/a').text == 'a file' and get(gateway.ports[1], '/').text == 'one'
            gateway.reload_well(text.replace('"one"', '"two"'))
            assert get(gateway.ports[1], '/').text == 'two'
            users = {}
            for child in gateway.children():
                with open(f'/proc/{child.pid}/status', encoding='utf-8') as file:
                    users[child.command] = re.search(r'^Uid:\s+(\d+)', file.read(), re.M)[1]
            rows = {(row['process'], row.get('slot')): (sorted(row['enforced']), sorted(row['missing'])) for row in gateway.status()
                    if row['process'] != 'supervisor'}
        shutil.rmtree(folder)
        return rows, users
    bounded = enforced(['setpriv', f'--bounding-set=-all,{kept}', '--inh-caps=-all', '--no-new-privs'])
    assert bounded == enforced([])
    assert '0' not in bounded[1].values()
