"""Check that names and docstrings use the project's words: `python -m deploy.words [FILE...]`.

Without files it checks every Python file of the checkout. The words are in words.toml. Exit code 1: some were found.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
WORDS_FILE = Path(__file__).with_name("words.toml")
FOLDERS = ("deploy", "services", "shared", "tests")

_CAMEL_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True, slots=True)
class Word:
    """A word to avoid: where it matches, what to write instead, and why."""

    pattern: re.Pattern[str]
    unless: re.Pattern[str] | None
    say: str
    reason: str
    kinds: tuple[str, ...]

    @classmethod
    def parse(cls, word: str, say: str, reason: str, unless: str = "", **where: str) -> "Word":
        """Make a word of an entry of the file; `in` is "names" or "docstrings", or left out for both."""
        pattern = re.compile(rf"(?<![a-z])(?:{word})(?![a-z])", re.IGNORECASE)
        kinds = (where["in"],) if where else ("names", "docstrings")
        return cls(pattern, re.compile(unless, re.IGNORECASE) if unless else None, say, reason, kinds)

    def find(self, text: str) -> re.Match[str] | None:
        """Return the first match that is no part of a right use."""
        return self.pattern.search(self.unless.sub("", text) if self.unless else text)


@dataclass(frozen=True, slots=True)
class Words:
    """The words to avoid, and the paths that are not checked yet."""

    words: tuple[Word, ...]
    not_clean_yet: tuple[str, ...] = ()

    @classmethod
    def load(cls, file: Path = WORDS_FILE) -> "Words":
        """Read a file of words."""
        content: dict[str, Any] = tomllib.loads(file.read_text("utf-8"))
        return cls(tuple(Word.parse(**entry) for entry in content["words"]), tuple(content.get("not_clean_yet", ())))

    def checks(self, path: str) -> bool:
        """Return whether a file, relative to the checkout, is checked."""
        return not any(fnmatch(path, one) or path.startswith(f"{one}/") for one in self.not_clean_yet)

    def problems(self, source: str, path: str) -> Iterator[str]:
        """Yield `path:line: 'word' in ...: say ... (reason)` for each name's first use and each docstring's line."""
        tree = ast.parse(source)
        for line, name in _names(tree, path):
            spelled = _CAMEL_HUMP.sub("_", name)
            yield from self._found("names", spelled, f"{path}:{line}", f"identifier {name}")
        for line, text in _docstring_lines(tree):
            yield from self._found("docstrings", text, f"{path}:{line}", "a docstring")

    def _found(self, kind: str, text: str, where: str, what: str) -> Iterator[str]:
        for word in self.words:
            if kind in word.kinds and (match := word.find(text)):
                yield f"{where}: '{match[0].lower()}' in {what}: say {word.say} ({word.reason})"


def _names(tree: ast.Module, path: str) -> Iterator[tuple[int, str]]:
    """Yield each name that a file defines, once, with its first line; the module's own name has line 1."""
    first: dict[str, int] = {Path(path).stem: 1}
    for node in ast.walk(tree):
        if name := _defined(node):
            first.setdefault(name, getattr(node, "lineno", 1))
    yield from ((line, name) for name, line in first.items())


def _defined(node: ast.AST) -> str | None:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            return name
        case ast.ExceptHandler(name=str(name)) | ast.alias(asname=str(name)):
            return name
        case _:
            return None


def _docstring_lines(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the lines of docstrings, those below an assignment or a field included."""
    for node in ast.walk(tree):
        for statement in getattr(node, "body", ()) if isinstance(node, _DOCUMENTED) else ():
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield from enumerate(text.splitlines(), statement.lineno)


def check(files: Iterable[Path], words: Words, checkout: Path = CHECKOUT) -> list[str]:
    """Return the problems of those of `files` that are checked."""
    named = ((file, file.resolve().relative_to(checkout).as_posix()) for file in files)
    return [problem for file, path in named if words.checks(path) for problem in words.problems(file.read_text(), path)]


def main() -> int:
    """Print every problem; return 1 where there is one."""
    given = [Path(one) for one in sys.argv[1:]]
    everything = (file for folder in FOLDERS for file in sorted((CHECKOUT / folder).rglob("*.py")))
    found = check(given or everything, Words.load())
    print("\n".join(found) or "names and docstrings use the project's words")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
