"""Every row of the limits table has a test that names it (test/limits.txt)."""
import re

TABLE, TELEMETRY = 'test/limits.txt', 'src/telemetry/telemetry.h'


def rows(tree):
    """{name: id} of the limits table."""
    text = tree.read(TELEMETRY)
    return {name: upper for upper, name in re.findall(r'^\tX\(([A-Z_0-9]+), "([a-z-]+)", (?:SIZE|TIME|COUNT),', text, re.M)}


def names_it(text, name, upper):
    return f'TELEMETRY_LIMIT_{upper}' in text or re.search(rf'(?<![a-z-]){re.escape(name)}(?![a-z-])', text)


def limits(tree):
    known, listed = rows(tree), set()
    for line in tree.read(TABLE).split('\n'):
        words = line.partition('#')[0].split(None, 3)
        if not words:
            continue
        name = words[0]
        if name not in known:
            yield f'{TABLE}: {name} is no row of {TELEMETRY}'
        if name in listed:
            yield f'{TABLE}: {name} stands twice'
        listed.add(name)
        if len(words) < 3:
            yield f'{TABLE}: {name} needs a file and a function, or none and a reason'
        elif words[1] == 'none' or name not in known:
            continue
        elif not tree.has(words[1]):
            yield f'{TABLE}: {name}: there is no {words[1]}'
        else:
            text = tree.read(words[1])
            if not re.search(rf'^(?:static void|def) {re.escape(words[2])}\(', text, re.M):
                yield f'{TABLE}: {name}: {words[1]} has no test {words[2]}'
            elif not names_it(text, name, known[name]):
                yield f'{TABLE}: {name}: {words[1]} does not name it'
    for name in sorted(set(known) - listed):
        yield f'{TABLE}: {name} has no line'
