"""Every message that the package has for its users, read from the source: templates with … for what is filled in."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "homodyne"
#: Modules whose sentences end up in ``findings`` and ``warnings`` of a result.
SENTENCES = (
    "optimization/nlsq/report.py",
    "optimization/posterior/record.py",
    "optimization/posterior/run.py",
    "optimization/uncertainty/identifiable.py",
    "optimization/uncertainty/noise.py",
    "optimization/uncertainty/sentences.py",
    "optimization/whitened/finish.py",
    "optimization/whitened/limits.py",
    "result/posterior.py",
    "result/records.py",
)
#: Exceptions that users see by their text, beside InputError.
RAISED = ("Unrecorded", "TimeoutError")
GAP = "…"
_LEAST = 25  # letters of a sentence; shorter strings are names and units


@dataclasses.dataclass(frozen=True)
class Message:
    """``text`` is what is printed; ``where`` is file:line."""

    where: str
    text: str


def messages() -> list[Message]:
    """All of them, in the order of files and lines."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = str(path.relative_to(PACKAGE))
        calls = [*_calls(tree), *(_sentences(tree) if name in SENTENCES else ())]
        found += [Message(f"{name}:{line}", " ".join(text.split())) for line, text in sorted(calls)]
    return found


def _calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        if name == "InputError" and len(node.args) == 4:
            for field in _templates(node.args[0], tree):
                for problem in _templates(node.args[2], tree):
                    yield node.lineno, f"{field}={GAP} {problem}"
        elif name in ("log.warning", "log.error") or name in RAISED:
            yield from ((node.lineno, text) for text in _templates(node.args[0], tree) if re.search(r"\w", text))


def _templates(node: ast.expr, tree: ast.Module) -> list[str]:
    """Texts that an expression may be, … for what is not written in it."""
    match node:
        case ast.Constant(value=str(text)):
            return [re.sub(r"%[-.\d]*[sdrgef]", GAP, text).replace("%%", "%")]
        case ast.JoinedStr(values=parts):
            return ["".join(p.value if isinstance(p, ast.Constant) else GAP for p in parts)]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [a + b for a in _templates(left, tree) for b in _templates(right, tree)]
        case ast.IfExp(body=body, orelse=other):
            return [*_templates(body, tree), *_templates(other, tree)]
        case ast.Name(id=name):
            given = [n.value for n in ast.walk(tree) if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == name]
            texts = [t for value in given if not isinstance(value, ast.Name) for t in _templates(value, tree)]
            return list(dict.fromkeys(texts)) or [GAP]
    return [GAP]


def _sentences(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Long texts that are no docstrings, no part of another text and no argument of an error."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            inner.add(id(node.value))
        elif isinstance(node, ast.Dict):  # attributes of variables: {"long_name": ...}
            inner.update(id(v) for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant))
        elif isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Call) and ast.unparse(node.func) == "InputError"):
            inner.update(id(child) for child in ast.walk(node) if child is not node)
    for node in ast.walk(tree):
        if id(node) not in inner and isinstance(node, ast.Constant | ast.JoinedStr):
            for text in _templates(node, tree):
                letters = text.replace(GAP, "")
                if len(letters) >= _LEAST and letters.count(" ") >= 3:
                    yield node.lineno, text


def covers(entry: str, message: str) -> bool:
    """Whether an entry of the page, pieces around …, is found in a message; ``KEY=`` stands for every key."""
    position = 0
    for piece in (p.strip() for p in entry.removeprefix("KEY=").split(GAP)):
        position = message.find(piece, position)
        if position < 0:
            return False
        position += len(piece)
    return True
