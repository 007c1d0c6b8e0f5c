"""apply, confirm, rollback: a text becomes the service's file and runs, or nothing changed; whatever is killed, the file
holds one of two texts, whole."""
import os
import shutil
import signal
import subprocess

import pytest

from client import get
from gateway import SOAK, Gateway, is_test_build, run_command, wait_until

SITE = 'portcullis 1\nstate %s\nlisten 127.0.0.1:%d plain serve\nsite localhost { respond 200 "%s" }\n'


def read(path):
    with open(path, encoding='utf-8') as file:
        return file.read()


class Applied(Gateway):
    """A gateway whose texts differ in what it answers."""

    def text_of(self, word):
        return SITE % (self.state, self.port, word)

    def new_file(self, word, text=None):
        path = f'{self.folder}/{word}.conf'
        with open(path, 'w', encoding='utf-8') as file:
            file.write(text or self.text_of(word))
        return path

    def do(self, *arguments):
        return run_command(*arguments, '-c', self.config, env=self.env)

    def apply(self, word, *arguments, text=None):
        return self.do('apply', self.new_file(word, text), *arguments)

    def answers(self):
        return get(self.port, '/').text

    def file_holds(self, word):
        return read(self.config) == self.text_of(word)

    def left_behind(self):
        return [name for name in os.listdir(os.path.dirname(self.config)) if name.endswith('-new')]

    def trap(self, kind, step):
        with open(self.env['PORTCULLIS_TEST_TRAP'], 'w', encoding='utf-8') as file:
            file.write(f'{kind}@{step}')

    def is_trap_sprung(self):
        return not os.path.exists(self.env['PORTCULLIS_TEST_TRAP'])


def begin(folder, **options):
    os.makedirs(folder, exist_ok=True)
    gateway = Applied('', folder=folder, env={'PORTCULLIS_TEST_TRAP': folder + '/trap'}, **options)
    with open(gateway.config, 'w', encoding='utf-8') as file:
        file.write(gateway.text_of('zero'))
    return gateway


@pytest.fixture
def gateway(folder):
    with begin(folder) as one:
        yield one


def test_apply_and_roll_back(gateway):
    os.chmod(gateway.config, 0o640)
    for word in ('one', 'two', 'three'):
        done = gateway.apply(word)
        assert done.returncode == 0 and done.stdout.startswith('configuration '), done
        assert gateway.answers() == word and gateway.file_holds(word)
    assert os.stat(gateway.config).st_mode & 0o777 == 0o640 and not gateway.left_behind()
    # The text before, and again the one before that rollback.
    assert gateway.do('rollback').returncode == 0 and gateway.answers() == 'two' and gateway.file_holds('two')
    assert gateway.do('rollback').returncode == 0 and gateway.answers() == 'three'
    # Of zero, one, two, three, two: the fourth before is one.
    assert gateway.do('rollback', '4').returncode == 0 and gateway.answers() == 'one' and gateway.file_holds('one')
    done = gateway.do('rollback', '9')
    assert done.returncode == 1 and 'does not reach back so far' in done.stderr
    assert gateway.do('rollback', '0').returncode == 2 and gateway.do('rollback', 'x').returncode == 2
    for i in range(12):
        assert gateway.apply(f'more{i}').returncode == 0
    kept = sorted(os.listdir(gateway.state + '/history'), key=int)
    assert len(kept) == 10 and read(f'{gateway.state}/history/{kept[-1]}') == gateway.text_of('more10')
    assert gateway.do('rollback', '10').returncode == 0 and gateway.answers() == 'more1'


def test_refused_is_nothing_changed(gateway):
    before = set(os.listdir(gateway.folder))
    done = gateway.apply('bad', text=gateway.text_of('bad').replace('respond', 'respnd'))
    assert done.returncode == 1 and 'portcullis.conf:4:18: ' in done.stderr and 'respnd' in done.stderr, done
    assert gateway.answers() == 'zero' and gateway.file_holds('zero')
    assert gateway.apply('moved', text=gateway.text_of('moved').replace('/state\n', '/elsewhere\n')).returncode == 1
    assert not os.path.exists(gateway.state + '/history') or not os.listdir(gateway.state + '/history')
    assert set(os.listdir(gateway.folder)) - before == {'bad.conf', 'moved.conf'}
    assert gateway.do('confirm').returncode == 1
    assert gateway.do('apply', gateway.folder + '/missing').returncode == 1
    assert gateway.apply('one', '--confirm', 'soon').returncode == 2
    assert gateway.apply('one', '--confirm', '0s').returncode == 2
    os.rename(gateway.config, gateway.folder + '/real.conf')
    os.symlink('real.conf', gateway.config)
    done = gateway.apply('one')
    assert done.returncode == 1 and 'it is a symlink' in done.stderr and gateway.answers() == 'zero', done
    assert os.path.islink(gateway.config) and gateway.file_holds('zero')


def test_confirm_in_time(gateway):
    done = gateway.apply('one', '--confirm', '60s')
    assert done.returncode == 0 and 'within 60 s' in done.stdout and gateway.answers() == 'one', done
    done = gateway.apply('two')
    assert done.returncode == 1 and 'confirm it or roll it back first' in done.stderr
    assert gateway.do('confirm').returncode == 0
    assert gateway.do('confirm').returncode == 1
    if is_test_build():
        gateway.move_clock(100, step=10)
    assert gateway.answers() == 'one' and gateway.file_holds('one') and gateway.do('reload').returncode == 0
    assert gateway.apply('two').returncode == 0 and not os.path.exists(gateway.state + '/window')


@pytest.mark.skipif(not is_test_build(), reason='needs a build whose clock can be moved')
def test_not_confirmed(gateway):
    """Though the command was killed long ago; a reload in between confirms nothing."""
    assert gateway.apply('one', '--confirm', '60s').returncode == 0
    gateway.move_clock(30, step=10)
    assert gateway.do('reload').returncode == 0 and gateway.answers() == 'one'
    gateway.move_clock(31, step=10)
    wait_until(lambda: gateway.answers() == 'zero', 'the configuration before')
    assert gateway.file_holds('zero') and not os.path.exists(gateway.state + '/window') and not gateway.left_behind()
    wait_until(lambda: any('was not confirmed' in line for line in gateway.stderr), lambda: gateway.stderr)
    # By hand, before the time is over.
    assert gateway.apply('two', '--confirm', '60s').returncode == 0
    assert gateway.do('rollback').returncode == 0 and gateway.answers() == 'zero' and gateway.file_holds('zero')
    assert gateway.do('confirm').returncode == 1
    assert os.listdir(gateway.state + '/history') == []


def test_a_gateway_without_a_file(folder):
    with Gateway(command=['proxy', '1', '--listen', '127.0.0.1:{port}'], folder=folder) as gateway:
        for arguments in (['apply', gateway.config], ['rollback']):
            done = run_command(*arguments, env=gateway.env)
            assert done.returncode == 1 and 'it has no file' in done.stderr, done


# ---- no room, no rights

@pytest.mark.parametrize('which', ['file', 'state'])
def test_a_full_disk(folder, which):
    """1 MiB in all, in a mount of its own, either for the file or for the state folder."""
    if os.geteuid():
        pytest.skip('needs root to mount')
    small = folder + '/small'
    os.makedirs(small)
    gateway = begin(folder, prefix=['unshare', '-m', 'sh', '-c', f'mount -t tmpfs -o size=1m none {small} && "$@"', 'sh'])
    return check_full_disk(gateway, small, which)


def check_full_disk(gateway, small, which):
    if which == 'state':
        gateway.state = small + '/state'
        gateway.env['PORTCULLIS_STATE'] = gateway.state
        inner = gateway.config
    else:
        inner = small + '/portcullis.conf'
    text = gateway.text_of('zero')
    with open(gateway.config, 'w', encoding='utf-8') as file:
        file.write(text)
    gateway.prefix[4] = gateway.prefix[4].replace('&& "$@"', f'&& if [ {inner} != {gateway.config} ]; then cp {gateway.config} {inner}; fi; exec "$@"')
    gateway.config = inner
    with gateway:
        def inside(*command):
            return subprocess.run(['nsenter', '-m', '-t', str(gateway.process.pid), *command], capture_output=True, text=True,
                                  env=gateway.env, timeout=60, check=False)
        new = gateway.new_file('one')
        inside('sh', '-c', f'dd if=/dev/zero of={small}/filler bs=4096 2>/dev/null')
        done = inside(gateway.executable, 'apply', new, '-c', gateway.config)
        assert done.returncode == 1 and 'No space left on device' in done.stderr, done
        assert gateway.answers() == 'zero' and inside('cat', gateway.config).stdout == text
        left = inside('ls', '-A', small, gateway.state, gateway.state + '/history').stdout
        assert 'portcullis-new' not in left and 'window' not in left
        inside('rm', f'{small}/filler')
        assert inside(gateway.executable, 'apply', new, '-c', gateway.config).returncode == 0
        assert gateway.answers() == 'one' and inside('cat', gateway.config).stdout == gateway.text_of('one')


def test_a_folder_that_cannot_be_written(folder):
    if os.geteuid():
        pytest.skip('needs root to mount')
    fixed = folder + '/fixed'
    os.makedirs(fixed)
    gateway = begin(folder, prefix=['unshare', '-m', 'sh', '-c',
                                    f'mount --bind {fixed} {fixed} && mount -o remount,bind,ro {fixed} && exec "$@"', 'sh'])
    shutil.copy(gateway.config, fixed)
    gateway.config = fixed + '/portcullis.conf'
    with gateway:
        done = gateway.apply('one')
        assert done.returncode == 1 and 'portcullis.conf: Read-only file system' in done.stderr, done
        assert gateway.answers() == 'zero' and gateway.file_holds('zero') and gateway.do('rollback').returncode == 1


# ---- killed at each step

STEPS = ['given', 'compiled', 'prepared', 'kept', 'window', 'beside', 'stored', 'decided', 'ended']
test_build = pytest.mark.skipif(not is_test_build(), reason='needs a build with traps')


@pytest.mark.soak
@test_build
@pytest.mark.parametrize('confirm', [False, True], ids=['for good', 'to be confirmed'])
def test_the_supervisor_is_killed_at_each_step(folder, confirm):
    """The next start has one of the two; the old one where the new was not confirmed."""
    steps = STEPS if SOAK else ['kept', 'window', 'beside', 'stored'] if confirm else ['compiled', 'beside', 'stored']
    for step in steps:
        if step == 'window' and not confirm:
            continue
        with begin(folder) as gateway:
            gateway.trap('supervisor', step)
            done = gateway.apply('one', *(['--confirm', '60s'] if confirm else []))
            assert done.returncode == 1 and 'the service has ended' in done.stderr, (step, done)
            assert gateway.is_trap_sprung() and gateway.wait() == -signal.SIGKILL
            is_new = gateway.file_holds('one')
            assert is_new or gateway.file_holds('zero'), step
            assert is_new == (step in ('stored', 'decided', 'ended')), step
            gateway.start()
            word = 'one' if is_new and not confirm else 'zero'
            wait_until(lambda g=gateway, w=word: g.answers() == w, f'{word} after {step}')
            assert gateway.file_holds(word) and not os.path.exists(gateway.state + '/window'), step
            if is_new and confirm:
                wait_until(lambda g=gateway: any('before the last end' in line for line in g.stderr), 'a word about it')
            # And all goes on from there.
            assert gateway.apply('two').returncode == 0 and gateway.file_holds('two') and not gateway.left_behind()
            # Workers of the killed service accept until they have seen that another serves.
            wait_until(lambda g=gateway: g.answers() == 'two', f'two after {step}')
            gateway.stop()
        shutil.rmtree(folder)


@test_build
def test_the_supervisor_is_killed_while_it_puts_back(folder):
    for step in ('beside', 'put-back'):
        with begin(folder) as gateway:
            assert gateway.apply('one', '--confirm', '60s').returncode == 0
            gateway.trap('supervisor', step)
            gateway.do('rollback')
            assert gateway.is_trap_sprung() and gateway.wait() == -signal.SIGKILL
            assert gateway.file_holds('one' if step == 'beside' else 'zero')
            gateway.start()
            wait_until(lambda g=gateway: g.answers() == 'zero', 'the configuration before')
            assert gateway.file_holds('zero') and not os.path.exists(gateway.state + '/window')
            gateway.stop()
        shutil.rmtree(folder)


@pytest.mark.soak
@test_build
def test_others_are_killed_at_each_step(gateway):
    """Either it was applied, or it was refused and nothing changed; the next one works."""
    now = 'zero'
    for kind in ('check', 'vault', 'worker', 'log'):
        steps = ('given', 'compiled', 'prepared', 'stored', 'decided')
        for step in steps if SOAK else ('compiled', 'stored') if kind in ('check', 'worker') else ('prepared', 'decided'):
            gateway.trap(kind, step)
            word = f'{kind}-{step}'
            done = gateway.apply(word)
            assert gateway.is_trap_sprung(), (kind, step)
            now = word if done.returncode == 0 else now
            assert gateway.file_holds(now), (kind, step, done)
            wait_until(lambda w=now: gateway.answers() == w, f'{now} after {kind} at {step}')
    assert gateway.apply('last').returncode == 0 and gateway.answers() == 'last'


@test_build
def test_the_command_is_killed(gateway):
    """What it asked for is done to its end."""
    gateway.trap('nobody', 'given')
    asking = subprocess.Popen([gateway.executable, 'apply', gateway.new_file('one'), '-c', gateway.config], env=gateway.env)
    wait_until(gateway.is_trap_sprung, 'the text to be given')
    asking.kill()
    asking.wait()
    wait_until(lambda: gateway.file_holds('one') and gateway.answers() == 'one', 'what was asked for')


def test_a_clean_stop_confirms_nothing(gateway):
    assert gateway.apply('one', '--confirm', '1h').returncode == 0
    gateway.stop()
    assert gateway.file_holds('one')
    gateway.start()
    wait_until(lambda: gateway.answers() == 'zero', 'the configuration before')
    assert gateway.file_holds('zero')
    # A start beside one that runs puts nothing back.
    assert gateway.apply('one', '--confirm', '1h').returncode == 0
    assert run_command('run', '-c', gateway.config, env=gateway.env).returncode == 1
    assert gateway.file_holds('one') and gateway.answers() == 'one'
    assert gateway.do('confirm').returncode == 0
