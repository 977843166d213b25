"""Makes a program of a model's answer. Runs inside the program's sandbox: even parsing such text can crash a process.

The first of these that compiles and defines the function asked for [R]:
1. the answer's fenced blocks (``` or ~~~; tagged python, py, python3 or not at all; the last may be unclosed): those that
   compile, up to and with the first that defines the function; later ones are usage examples or second thoughts;
2. the whole answer;
3. the answer as completion of `code_prompt`, a function's head: as it is, with its first line indented again (outer white
   space is stripped from answers), or indented as a whole. The same for each fenced block;
4. the answer from its first line that begins a statement, cut before the first line that is no Python.
A `code_prompt` that compiles by itself is run before it: answers use its imports and helpers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

ONLY_AST = 0x400  # ast.PyCF_ONLY_AST; importing ast costs 5 ms
TAGS = ("", "python", "py", "python3")
STARTS = ("def ", "class ", "import ", "from ", "@", "async def ")
MOST_CUTS = 20
FILE_NAME = "<program>"


def program_of(answer: str, name: str, code_prompt: str | None) -> str:
    """The program's text.

    Raises:
        SyntaxError: nothing in the answer compiles; of the first reading that comes into question.
        LookupError: something compiles, but does not define `name`.
    """
    problem: SyntaxError | None = None
    compiled = False
    head = f"{code_prompt}\n" if code_prompt is not None and mistake(code_prompt) is None else ""
    for text in _readings(answer, name, code_prompt):
        wrong = mistake(text)
        if wrong is None:
            compiled = True
            if defines(text, name):
                return head + text if head and mistake(head + text) is None else text
        problem = problem or wrong
    if compiled or problem is None:
        raise LookupError(f"no function {name} in the answer")
    raise problem


def _readings(answer: str, name: str, code_prompt: str | None) -> Iterator[str]:
    blocks = list(fenced(answer))
    joined: list[str] = []
    for block in blocks:
        if mistake(block) is None:
            joined.append(block)
            if defines(block, name):
                yield "\n".join(joined)
                break
    yield answer
    for body in [*blocks, answer] if code_prompt is not None else []:
        yield from _completions(str(code_prompt), body)
    yield from _cut(answer)


def fenced(answer: str) -> Iterator[str]:
    """The contents of the fenced blocks that may be Python."""
    fence, tag = "", ""
    block: list[str] = []
    for line in answer.splitlines(keepends=True):
        bare = line.strip()
        if not fence and bare.startswith(("```", "~~~")):
            fence, tag, block = bare[:3], bare.lstrip("`~").strip().lower(), []
        elif fence and bare.startswith(fence) and not bare.lstrip("`~"):
            if tag in TAGS:
                yield "".join(block)
            fence = ""
        elif fence:
            block.append(line)
    if fence and tag in TAGS:
        yield "".join(block)


def _completions(code_prompt: str, body: str) -> Iterator[str]:
    body = body.strip("\n")
    lines = [line for line in code_prompt.splitlines() if line.strip()]
    if not lines or not body.strip():
        return
    last = lines[-1]
    indent = last[: len(last) - len(last.lstrip())] or "    "
    head = code_prompt if code_prompt.endswith("\n") or last != code_prompt.splitlines()[-1] else code_prompt + "\n"
    if body[0] in " \t":
        yield head + body + "\n"
    yield head + indent + body.lstrip() + "\n"
    yield head + _indented(body, indent) + "\n"
    if code_prompt != head:
        yield code_prompt + body + "\n"  # a prompt that ends within a line


def _indented(body: str, indent: str) -> str:
    """All lines moved so that the least indented statement stands at `indent`; comments do not count."""
    lines = body.splitlines()
    depths = [len(line) - len(line.lstrip()) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    least = min(depths, default=0)
    return "\n".join(indent + (line[least:] if line[:least].isspace() else line.lstrip()) for line in lines)


def _cut(answer: str) -> Iterator[str]:
    lines = answer.splitlines(keepends=True)
    first = next((number for number, line in enumerate(lines) if line.startswith(STARTS)), None)
    lines = [] if first is None else lines[first:]
    for _ in range(MOST_CUTS):
        wrong = mistake("".join(lines))
        if wrong is None or not wrong.lineno or not lines:
            break
        lines = lines[: min(wrong.lineno, len(lines)) - 1]
    if lines:
        yield "".join(lines)


def mistake(text: str) -> SyntaxError | None:
    """Why a text is no program; None where it is one."""
    try:
        compile(text, FILE_NAME, "exec", dont_inherit=True)
    except SyntaxError as problem:
        return problem
    except (ValueError, RecursionError, MemoryError, OverflowError) as problem:  # null bytes, nesting
        return SyntaxError(str(problem) or type(problem).__name__)
    return None


def defines(text: str, name: str) -> bool:
    """Whether a program that compiles binds a name at its top level, with a body that is more than a docstring."""
    for node in compile(text, FILE_NAME, "exec", ONLY_AST, dont_inherit=True).body:
        kind = type(node).__name__
        if kind in ("FunctionDef", "AsyncFunctionDef", "ClassDef"):
            if node.name == name and not (len(node.body) == 1 and _is_constant(node.body[0])):
                return True
        elif kind in ("Assign", "AnnAssign"):
            targets = node.targets if kind == "Assign" else [node.target] if node.value else []
            if any(getattr(one, "id", None) == name for one in targets):
                return True
        elif kind in ("Import", "ImportFrom"):
            if any((alias.asname or alias.name) == name for alias in node.names):
                return True
        elif kind in ("If", "Try", "With", "For", "While") and (f"def {name}(" in text or f"class {name}" in text):
            return True
    return False


def _is_constant(statement: Any) -> bool:
    return type(statement).__name__ == "Expr" and type(statement.value).__name__ == "Constant"
