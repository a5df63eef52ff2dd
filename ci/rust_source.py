"""Just enough understanding of Rust source for the checks in this folder. Standard library only.

What is offered: the text of a file with comments and literals blanked out (every line and column stays where it
was), the parts that are compiled only for tests blanked out too, and where a file stands in its crate's tree of
modules. Nothing here parses Rust: it finds where tokens begin and end, and matches brackets.
"""

import re
from pathlib import Path

# Where unsafe code may be, by the folder or file that holds it, and how it is tested. `ci/tidy` refuses it elsewhere;
# `ci/nightly miri` runs the modules of the kernel whose way is "miri".
UNSAFE = {
    "kernel/src/memtable": "miri",
    "kernel/src/env/linux/raw.rs": "system calls are beyond Miri; kernel/tests/linux_env runs each on the system",
    "sim/src/testing/trespass.rs": "functions of the C library are beyond Miri; sim/tests/application.rs calls each inside and outside of a run",
    "loom-tests/src/lib.rs": "a cell for the models of loom, which is what judges it",
    "workloads/src/bin/corrupt/meter.rs": "an allocator that counts and hands every call to the system's; it is a test program",
}

_TOKEN = re.compile(
    r"""
    (?P<line>//[^\n]*)
  | (?P<block>/\*)
  | (?P<raw>\b(?:br|cr|r)(?P<hashes>\#*)")
  | (?P<string>(?:\b[bc])?")
  | (?P<char>(?:\bb)?'(?:[^'\\\n]|\\(?:x[0-9a-fA-F]{2}|u\{[0-9a-fA-F_]+\}|.))')
    """,
    re.VERBOSE,
)


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


def masked(text):
    """`text` with comments, strings and characters blanked out, of the same length."""
    pieces, position = [], 0
    while match := _TOKEN.search(text, position):
        pieces.append(text[position : match.start()])
        end = match.end()
        if match["block"]:
            end = _end_of_block_comment(text, match.start())
        elif match["raw"]:
            close = text.find('"' + match["hashes"], end)
            end = len(text) if close < 0 else close + 1 + len(match["hashes"])
        elif match["string"]:
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            end = min(end + 1, len(text))
        pieces.append(_blank(text[match.start() : end]))
        position = end
    pieces.append(text[position:])
    return "".join(pieces)


def _end_of_block_comment(text, start):
    depth, position = 1, start + 2
    for mark in re.finditer(r"/\*|\*/", text[position:]):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return position + mark.end()
    return len(text)


_PAIRS = {"(": ")", "[": "]", "{": "}"}


def matching(text, start):
    """The position behind the bracket that closes the one at `start` of masked text."""
    close, depth = _PAIRS[text[start]], 0
    for position in range(start, len(text)):
        if text[position] == text[start]:
            depth += 1
        elif text[position] == close:
            depth -= 1
            if depth == 0:
                return position + 1
    return len(text)


def _is_test_only(condition):
    """True for what an ordinary build never sees: `test`, `fuzzing`, `all` with one of them, `any` of nothing else."""
    condition = condition.strip()
    if condition in ("test", "fuzzing"):
        return True
    if inside := re.fullmatch(r"any\s*\((.*)\)", condition, re.DOTALL):
        return all(_is_test_only(part) for part in _split(inside[1]))
    if inside := re.fullmatch(r"all\s*\((.*)\)", condition, re.DOTALL):
        return any(_is_test_only(part) for part in _split(inside[1]))
    return False


def _split(text):
    """Splits at the commas that stand in no bracket."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [part for part in parts + [text[start:]] if part.strip()]


def _test_items(code):
    """(start, end) of each item of masked text that is compiled for tests only, its attributes included."""
    position = 0
    attribute = re.compile(r"#\s*\[")
    while match := attribute.search(code, position):
        end = matching(code, match.end() - 1)
        inside = code[match.end() : end - 1].strip()
        position = end
        condition = re.fullmatch(r"cfg\s*\((.*)\)", inside, re.DOTALL)
        if inside != "test" and not (condition and _is_test_only(condition[1])):
            continue
        item = end
        while follow := re.match(r"\s*#\s*\[", code[item:]):
            item = matching(code, item + follow.end() - 1)
        # The item ends with its first block, or with a semicolon before any.
        stop = re.compile(r"[;{(\[]")
        while found := stop.search(code, item):
            item = found.end() if found.group() == ";" else matching(code, found.start())
            if found.group() in ";{":
                break
        else:
            item = len(code)
        yield match.start(), item
        position = item


def without_tests(code):
    """Masked text with everything blanked out that is compiled for tests only."""
    for start, end in list(_test_items(code)):
        code = code[:start] + _blank(code[start:end]) + code[end:]
    return code


def line_of(text, position):
    """Number of the line, from 1."""
    return text.count("\n", 0, position) + 1


class Crate:
    """The modules of one crate, found from the files of its `src` folder."""

    def __init__(self, source):
        self.source = Path(source)
        self.files = sorted(self.source.rglob("*.rs"))
        self.test_files = self._find_test_files()

    def module_path(self, file):
        """`src/tree/get.rs` is ("tree", "get"), `src/tree/mod.rs` is ("tree",), `src/lib.rs` is ()."""
        parts = list(file.relative_to(self.source).with_suffix("").parts)
        if parts[-1] == "mod" or (len(parts) == 1 and parts[0] in ("lib", "main")):
            parts.pop()
        return tuple(parts)

    def code(self, file):
        """What an ordinary build sees of a file: no comment, no literal, no test."""
        return without_tests(masked(file.read_text()))

    def shipped(self):
        """The files that are not there for tests only."""
        return [file for file in self.files if file not in self.test_files]

    def _find_test_files(self):
        found = set()
        for file in self.files:
            text = file.read_text()
            code = masked(text)
            for start, end in _test_items(code):
                declared = re.search(r"\bmod\s+(\w+)\s*;", code[start:end])
                if not declared:
                    continue
                path = re.search(r'#\s*\[\s*path\s*=\s*"([^"]+)"', text[start:end])
                inside = file.parent if file.name in ("mod.rs", "lib.rs", "main.rs") else file.with_suffix("")
                name = declared[1]
                if path:
                    candidates = [file.parent / path[1]]
                else:
                    candidates = [inside / f"{name}.rs", inside / name / "mod.rs"]
                for candidate in candidates:
                    if candidate.is_file():
                        found.add(candidate)
                        folder = candidate.parent if candidate.name == "mod.rs" else candidate.with_suffix("")
                        if folder != self.source:
                            found.update(folder.rglob("*.rs"))
        return found
