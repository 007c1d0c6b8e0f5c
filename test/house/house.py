#!/usr/bin/python3
"""The house's rules as tests: STYLE.md and src/layers.txt, held by programs.

Each check yields a line for each breach. A check must find nothing in this tree, and must find what the
file `expect` of its fixtures says in each of fixtures/<check>/<case>/: a check that cannot fail proves nothing.
Prints TAP: `ok - name` or `not ok - name` and the breaches behind `#`."""
import os
import sys

sys.dont_write_bytecode = True
import check_binary
import check_docs
import check_layers
import check_limits
import check_messages
import check_source
from tree import HERE, ROOT, Tree

CHECKS = {
    'layers': check_layers.layers,
    'cycles': check_layers.cycles,
    'owners': check_layers.owners,
    'headers': check_layers.headers,
    'alone': check_layers.alone,
    'banned': check_source.banned,
    'sizes': check_source.sizes,
    'globals': check_binary.globals_,
    'hardening': check_binary.hardening,
    'clock': check_binary.clock,
    'messages': check_messages.messages,
    'tables': check_docs.tables,
    'links': check_docs.links,
    'commands': check_docs.commands,
    'limits': check_limits.limits,
}


def report(name, complaints):
    print(('not ok - ' if complaints else 'ok - ') + name)
    for complaint in complaints:
        print('#   ' + complaint)
    return not complaints


def unexpected(check, folder):
    """What the check should have said of a fixture and did not, and what it said beyond."""
    found = list(check(Tree(folder, is_fixture=True)))
    with open(os.path.join(folder, 'expect'), encoding='utf-8') as file:
        expected = [line.strip() for line in file if line.strip()]
    wrong = [f'not found: {line}' for line in expected if not any(line in complaint for complaint in found)]
    if len(found) != len(expected):
        wrong += [f'{len(expected)} breaches expected, found: {complaint}' for complaint in found] or ['none found']
    return wrong


def main(arguments):
    if arguments == ['--pin']:
        check_messages.pin(Tree(ROOT))
        return 0
    good = True
    for name, check in CHECKS.items():
        if arguments and name not in arguments:
            continue
        good &= report(f'house {name}', list(check(Tree(ROOT))))
        fixtures = os.path.join(HERE, 'fixtures', name)
        cases = sorted(os.listdir(fixtures)) if os.path.isdir(fixtures) else []
        if not cases:
            good &= report(f'house {name} can fail', [f'no fixture in {os.path.relpath(fixtures, ROOT)}'])
        for case in cases:
            good &= report(f'house {name} finds {case}', unexpected(check, os.path.join(fixtures, case)))
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
