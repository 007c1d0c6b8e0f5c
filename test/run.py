#!/usr/bin/python3
"""Runs the tests and counts them.

    test/run.py                     everything; ends with "N passed, N failed, N skipped"
    test/run.py GROUP [ARGUMENT...] one of house, unit, seeds, e2e, conformance, fuzz, cost

Arguments: names for house and unit (a part of the program's name), FIRST and COUNT for seeds, pytest's own for
e2e (-k, -m, files), --seconds N or --runs N for each target of fuzz. What an end-to-end test measured (`figures: …`) is
printed. What has to be built is built by the Makefile. A skip must give a
reason that test/skips.txt knows."""
import collections
import concurrent.futures
import fnmatch
import glob
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD, FUZZ = 'build-asan', 'build-fuzz'
PYTHON = '/usr/bin/python3'
JOBS = 2
UNIT_SECONDS, FILE_SECONDS = 300, 1800
SEEDS, SEEDS_PIECE = 1000, 500
if os.environ.get('PORTCULLIS_SOAK'):
    UNIT_SECONDS = FILE_SECONDS = 24 * 3600
    SEEDS = 100 * 1000
# `make test` gives each fuzz target an equal slice of this wall time, 30 s at most: with 17 targets and two at
# a time about 25 s each, so that the group stays below 4 minutes.
FUZZ_WALL_SECONDS, FUZZ_TARGET_SECONDS, FUZZ_LEAST_EXECUTIONS = 215, 30, 100
SANITIZERS = {
    'ASAN_OPTIONS': 'detect_stack_use_after_return=1:strict_string_checks=1:abort_on_error=0',
    'UBSAN_OPTIONS': 'print_stacktrace=1',
}


class Result:
    """What one step found: a count, names with what they said, names with their reasons."""

    def __init__(self, passed=0, failed=(), skipped=()):
        self.passed, self.failed, self.skipped = passed, list(failed), list(skipped)

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped


def run(command, seconds, **environment):
    """(exit code, what it said). 124 when it took longer and was ended."""
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **SANITIZERS, **environment}, text=True,
                               errors='replace', stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, _ = process.communicate(timeout=seconds)
        return process.returncode, said
    except subprocess.TimeoutExpired:
        process.kill()
        said, _ = process.communicate()
        return 124, f'{said}\nended after {seconds} s'


def tail(text, lines=60):
    return '\n'.join(text.rstrip().split('\n')[-lines:])


def side_by_side(function, items):
    result = Result()
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for one in pool.map(function, items):
            result.add(one)
    return result


# ---- TAP: house and unit tests --------------------------------------------------------------------------

def read_tap(name, code, said):
    """Counts `ok` and `not ok`. A program that ends badly, or early, fails beside what it counted."""
    result, planned = Result(), None
    blocks = re.split(r'^(?=ok\b|not ok\b|1\.\.\d)', said, flags=re.M)
    for block in blocks:
        match = re.match(r'(not )?ok\b[ \d]*(?:- )?(.*)', block)
        plan = re.match(r'1\.\.(\d+)', block)
        if plan:
            planned = (planned or 0) + int(plan[1])
        elif match and '# SKIP' in match[2]:
            test = match[2].replace('# SKIP', '').strip()
            result.skipped.append((f'{name}: {test}', f'{name}: {test}'))
        elif match and match[1]:
            result.failed.append((f'{name}: {match[2].strip()}', tail(block)))
        elif match:
            result.passed += 1
    counted = result.passed + len(result.failed) + len(result.skipped)
    if code and not result.failed:
        result.failed.append((f'{name}: ended with {code}', tail(said)))
    elif counted < (planned or 1):
        result.failed.append((f'{name}: {counted} results of {planned} planned', tail(said)))
    return result


def house(arguments):
    code, said = run([PYTHON, 'test/house/house.py', *arguments], UNIT_SECONDS)
    return read_tap('house', code, said)


def unit(arguments):
    programs = sorted(glob.glob(os.path.join(ROOT, BUILD, 'unit-*')))
    programs = [p for p in programs if os.path.isfile(p) and os.access(p, os.X_OK)]
    programs = [p for p in programs if not arguments or any(a in p for a in arguments)]
    missing = [] if programs else [('unit', f'no unit test in {BUILD}: run `make asan`')]

    def one(program):
        name = 'unit: ' + os.path.basename(program)[len('unit-'):]
        code, said = run([program], UNIT_SECONDS, CMOCKA_MESSAGE_OUTPUT='TAP')
        return read_tap(name, code, said)

    result = side_by_side(one, programs)
    result.failed += missing
    return result


# ---- Seeds of the simulated system: the mass, on the objects of the program that serves --------------------

def seeds(arguments):
    """Each piece is a process; what they counted is summed. A seed that fails stands with its script in what its
    piece said."""
    program = os.path.join(ROOT, 'build/sim-seeds')
    first, count = (int(a) for a in arguments) if arguments else (1, SEEDS)
    if not os.access(program, os.X_OK):
        return Result(failed=[('seeds', 'no build/sim-seeds: run `ninja -C build sim-seeds`')])
    totals = collections.Counter()

    def one(start):
        length = min(SEEDS_PIECE, first + count - start)
        code, said = run([program, str(start), str(length)], UNIT_SECONDS)
        result = read_tap(f'seeds {start} to {start + length - 1}', code, said)
        summary = re.search(r'^# from \d+: (.*)', said, flags=re.M)
        for number, what in re.findall(r'(\d+) ([^,\n]+)', summary[1] if summary else ''):
            totals[what] += int(number)
        return result

    started = time.monotonic()
    result = side_by_side(one, range(first, first + count, SEEDS_PIECE))
    print('seeds: ' + ', '.join(f'{number} {what}' for what, number in totals.items()) +
          f', {time.monotonic() - started:.0f} s', flush=True)
    return result


# ---- pytest: end to end --------------------------------------------------------------------------------

def e2e(arguments):
    files = [a for a in arguments if os.path.exists(os.path.join(ROOT, a.split('::')[0])) and '.py' in a]
    options = [a for a in arguments if a not in files]
    files = files or sorted(os.path.relpath(f, ROOT) for f in glob.glob(os.path.join(ROOT, 'test/e2e/test_*.py')))

    def one(file):
        with tempfile.TemporaryDirectory(prefix='portcullis-test-') as folder:
            report = os.path.join(folder, 'report.xml')
            command = [PYTHON, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-o', 'junit_logging=system-out',
                       '--junitxml', report, file, *options]
            code, said = run(command, FILE_SECONDS, PYTHONDONTWRITEBYTECODE='1')
            return read_junit(os.path.basename(file), report, code, said)

    return side_by_side(one, files)


def read_junit(name, report, code, said):
    result = Result()
    if code == 5:  # nothing in this file was asked for
        return result
    try:
        cases = xml.etree.ElementTree.parse(report).iter('testcase')
    except (OSError, xml.etree.ElementTree.ParseError):
        return Result(failed=[(f'e2e: {name}: ended with {code}', tail(said))])
    for case in cases:
        title = f'e2e: {name}: {case.get("name")}'
        bad = [child for child in case if child.tag in ('failure', 'error')]
        skip = case.find('skipped')
        if bad:
            result.failed.append((title, tail('\n'.join(child.text or '' for child in bad))))
        elif skip is not None:
            result.skipped.append((title, skip.get('message', '')))
        else:
            result.passed += 1
            for line in re.findall(r'^figures: (.*)', case.findtext('system-out') or '', flags=re.M):
                print(f'{title}: {line}', flush=True)
    if code and not result.failed:
        result.failed.append((f'e2e: {name}: ended with {code}', tail(said)))
    return result


# ---- Outside suites --------------------------------------------------------------------------------------

def conformance(arguments):
    """Each runner in test/conformance/ drives one outside suite and prints `N passed, N failed`."""
    result = Result()
    shared = os.path.normpath(os.path.join(ROOT, '../shared/conformance'))
    for runner in sorted(glob.glob(os.path.join(ROOT, 'test/conformance/run_*'))):
        name = 'conformance: ' + os.path.basename(runner)[len('run_'):]
        if arguments and not any(a in name for a in arguments):
            continue
        if not os.path.isdir(shared):
            result.skipped.append((name, 'conformance: the outside cases are not here (../shared/conformance)'))
            continue
        code, said = run([runner, shared], FILE_SECONDS)
        counts = re.findall(r'^(\d+) passed, (\d+) failed', said, flags=re.M)
        failed = sum(int(f) for _, f in counts)
        result.passed += sum(int(p) for p, _ in counts)
        if code or failed or not counts:
            lines = re.findall(r'^FAIL .*', said, flags=re.M)
            result.failed += [(f'{name}: {line[5:]}', '') for line in lines[:failed]]
            result.failed += [(name, tail(said))] * max(failed - len(lines), 0 if lines else 1)
    return result


# ---- Fuzzing ------------------------------------------------------------------------------------------------

def option(arguments, name):
    """Takes `name NUMBER` off the list; None where it is not there."""
    if name not in arguments:
        return None
    at = arguments.index(name)
    value = int(arguments[at + 1])
    del arguments[at:at + 2]
    return value


def fuzz(arguments):
    arguments = list(arguments)
    seconds, runs = option(arguments, '--seconds'), option(arguments, '--runs')
    targets = sorted(p for p in glob.glob(os.path.join(ROOT, FUZZ, 'test/fuzz/fuzz_*')) if os.path.isfile(p))
    if seconds is None:
        seconds = min(FUZZ_TARGET_SECONDS, JOBS * FUZZ_WALL_SECONDS // max(1, len(targets)))
    targets = [t for t in targets if not arguments or any(a in os.path.basename(t) for a in arguments)]

    def one(target):
        name = os.path.basename(target)[len('fuzz_'):]
        found = os.path.join(ROOT, FUZZ, 'corpus', name)
        seeds = os.path.join(ROOT, 'test/fuzz/corpus', name)
        os.makedirs(found, exist_ok=True)
        if not os.path.isdir(seeds):
            return Result(failed=[(f'fuzz: {name}', f'no seeds in test/fuzz/corpus/{name}')])
        end = f'-runs={runs}' if runs else f'-max_total_time={max(2, seconds)}'
        command = [target, end, '-timeout=10', '-rss_limit_mb=2048', '-max_len=20000', '-print_final_stats=1',
                   f'-artifact_prefix={ROOT}/{FUZZ}/{name}-', found, seeds]
        started = time.monotonic()
        code, said = run(command, None if runs else seconds + 120)
        count = re.search(r'stat::number_of_executed_units: *(\d+)', said)
        count = int(count[1]) if count else 0
        if code or count < FUZZ_LEAST_EXECUTIONS:
            return Result(failed=[(f'fuzz: {name}: {count} executions', tail(said))])
        print(f'fuzz: {name}: {count} executions, {count / (time.monotonic() - started):.0f} a second', flush=True)
        return Result(passed=1)

    return side_by_side(one, targets)


# ---- Instructions ----------------------------------------------------------------------------------------

def cost(_):
    """bench/instructions: a hot path that got longer."""
    name = 'cost: instructions per request'
    code, said = run([PYTHON, 'bench/instructions'], FILE_SECONDS)
    counts = re.search(r'^(\d+) passed, (\d+) failed, (\d+) skipped', said, flags=re.M)
    if code or not counts or int(counts[2]):
        return Result(failed=[(name, tail(said))])
    skipped = re.search(r'^skipped: (.*)', said, flags=re.M)
    return Result(int(counts[1]), skipped=[(name, skipped[1])] if skipped else [])


GROUPS = {'house': house, 'unit': unit, 'seeds': seeds, 'e2e': e2e, 'conformance': conformance, 'fuzz': fuzz, 'cost': cost}


def is_known_reason(reason):
    with open(os.path.join(ROOT, 'test/skips.txt'), encoding='utf-8') as file:
        known = [line.strip() for line in file if line.strip() and not line.startswith('#')]
    return any(fnmatch.fnmatchcase(reason, re.sub(r'[\[?]', '[\\g<0>]', pattern)) for pattern in known)


def main(arguments):
    if arguments and arguments[0] not in GROUPS:
        print(__doc__, file=sys.stderr)
        return 2
    total = Result()
    for name in arguments[:1] or GROUPS:
        started = time.monotonic()
        result = GROUPS[name](arguments[1:])
        total.add(result)
        print(f'{name}: {result.passed} passed, {len(result.failed)} failed, {len(result.skipped)} skipped '
              f'({time.monotonic() - started:.0f} s)', flush=True)
        for title, said in result.failed:
            print(f'\nFAILED {title}\n{said}', flush=True)
    print()
    for title, reason in total.skipped[:]:
        if is_known_reason(reason):
            print(f'skipped {title}: {reason}')
        else:
            total.skipped.remove((title, reason))
            total.failed.append((f'{title}: skipped for a reason that test/skips.txt does not know: {reason}', ''))
    for title, _ in total.failed:
        print(f'failed {title}')
    print(f'{total.passed} passed, {len(total.failed)} failed, {len(total.skipped)} skipped')
    return 1 if total.failed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
