"""Every chat template of a folder x 11 shapes of conversation: is exactly what the assistant says trained?

    python benchmarks/templates.py [FOLDER] [--show NAME] [--details]

FOLDER holds *.jinja files; without one, the templates of the tests are judged, one of every kind.

For each pair: `n/a` where transformers itself refuses to render the shape with this template, else `ok`, `refused`,
`lost` (accepted; the template leaves something of an answer out and the row says so) or `WRONG`. Wrong is decided here,
from the rendered text and the marked words of each conversation, without looking at how sftgo found its spans:

- every character of an answer's text, reasoning and call arguments that stands in the text is trained, or counted as
  left out; what the text lacks is counted as left out;
- no character of system prompts, questions, tool results and tool descriptions is trained, and no turn's header;
- something is trained after the answer's last word (the end of turn).

The tokenizer is GPT-2-like and knows, as added tokens, every `<|...|>`, `<...>` and `[...]` token of the template.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from sftgo_cli.data.rendering import Rendered, Renderer, make_renderer, render_sample
from sftgo_cli.data.samples import ChatBody, Sample
from sftgo_cli.errors import UserError

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "DESCRIBE looks the weather up",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "DESCRIBE name of a town"}},
            "required": ["city"],
        },
    },
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str, reasoning: str = "", city: str = "", identity: str = "abcdef123") -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if reasoning:
        message["reasoning_content"] = reasoning
    if city:
        function = {"name": "weather", "arguments": {"city": city}}
        message["tool_calls"] = [{"id": identity, "type": "function", "function": function}]
    return message


def result(text: str, identity: str = "abcdef123") -> dict[str, Any]:
    return {"role": "tool", "name": "weather", "tool_call_id": identity, "content": text}


# Trained words begin with A (answers), R (reasoning) or C (cities of calls); the others must never be.
SHAPES: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]] | None]] = {
    "single": ([user("Qone what?"), said("Aone is this.")], None),
    "multi": ([user("Qone what?"), said("Aone is this."), user("Qtwo and?"), said("Atwo is that.")], None),
    "system": ([{"role": "system", "content": "Sone rules."}, user("Qone what?"), said("Aone is this.")], None),
    "tools": (
        [user("Qone weather?"), said("", city="Conetown"), result("Tone 20"), said("Aone it is 20.")],
        [TOOL],
    ),
    "tools with text": (
        [user("Qone weather?"), said("Azero let me look.", city="Conetown"), result("Tone 20"), said("Aone it is 20.")],
        [TOOL],
    ),
    "reasoning": ([user("Qone what?"), said("Aone is this.", "Rone because of it")], None),
    "both": (
        [
            user("Qone weather?"),
            said("", "Rone I must look", city="Conetown"),
            result("Tone 20"),
            said("Aone it is 20.", "Rtwo it says so"),
        ],
        [TOOL],
    ),
    "inline thinking": ([user("Qone what?"), said("<think>\nRone because of it\n</think>\n\nAone is this.")], None),
    "spaces": ([user("  Qone what? "), said("  Aone is this.  \n")], None),
    "ends with user": ([user("Qone what?"), said("Aone is this."), user("Qtwo thanks")], None),
    "repeated": ([user("Qone what?"), said("Aone is this."), user("Qone what?"), said("Aone is this.")], None),
}
TRAINED = re.compile(r"\b[ARC][a-z]+(?: [a-z0-9 ]+)?")
NEVER = re.compile(r"\b(?:[QST](?:one|two)\b|DESCRIBE)[a-z0-9 ?]*")
TOKEN = re.compile(
    r"<\|[^<>|\n]{1,40}\|>|<｜[^<>\n]{1,40}｜>|</?[a-z_]{1,30}>|\[/?[A-Z_]{3,30}\]|<[|/]?[a-z_]{2,30}[|]?>"
)
KINDS = Path(__file__).parents[1] / "tests" / "unit" / "data" / "templates"
HEADERS = ("assistant", "model", "user", "system", "tool", "CHATBOT", "Assistant", "User")


def tokenizer_for(source: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend.model = models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[])
    tokens = set(TOKEN.findall(source))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(tokens - {"<s>", "</s>"})})
    return tokenizer


def transformers_text(source: str, tokenizer: Any, shape: str) -> str | None:
    """What transformers renders, or None where it refuses."""
    messages, tools = copy.deepcopy(SHAPES[shape])
    try:
        texts, _ = render_jinja_template([messages], tools=tools, chat_template=source, **tokenizer.special_tokens_map)
    except Exception:
        return None
    return str(texts[0])


def judge(row: Rendered, shape: str) -> str:
    """`ok`, `lost`, or `WRONG` with the reason."""
    messages, _ = SHAPES[shape]
    text = row.text
    trained = [False] * len(text)
    for start, end, _ in row.spans:
        trained[start:end] = [True] * (end - start)
    kinds = {item.kind: item.num_messages for item in row.left_out}
    lost = False
    for message in messages:
        for match in NEVER.finditer(str(message["content"]) if message["role"] != "assistant" else ""):
            if any(any(trained[m.start() : m.end()]) for m in re.finditer(re.escape(match.group()), text)):
                return f"WRONG: {match.group()!r} is trained"
        if message["role"] == "system" and "Sone" not in text and "system prompts" not in kinds:
            return "WRONG: the system prompt is lost, unsaid"
        if (
            message["role"] == "tool"
            and "Tone" in str(message["content"])
            and "Tone" not in text
            and "tool results" not in kinds
        ):
            return "WRONG: the tool's result is lost, unsaid"
        if message["role"] != "assistant":
            continue
        for words in expected(message):
            found = list(re.finditer(re.escape(words), text))
            if not any(all(trained[m.start() : m.end()]) for m in found):
                lost = True
                if not any(item.supervised for item in row.left_out):
                    return f"WRONG: {words!r} is {'not trained' if found else 'lost'}, unsaid"
    if any(any(trained[m.start() : m.end()]) for m in re.finditer("DESCRIBE", text)):
        return "WRONG: a tool's description is trained"
    for start, end in joined(row):
        words = [m.end() for m in TRAINED.finditer(text, start, end)]
        is_closed = bool(words) and bool(text[words[-1] : end].strip(' .\n"}'))
        # A turn whose call is left out must not be closed: that would teach to end instead of calling.
        if words and not is_closed and not inside_turn(row, end) and "tool calls" not in kinds:
            return f"WRONG: no end of turn after {text[start:end]!r}"
        first = TRAINED.search(text, start, end)
        if (
            first
            and any(f">{header}" in text[start : first.start()][:40] for header in HEADERS)
            and "channel" not in text
        ):
            return f"WRONG: a header is trained: {text[start : first.end()]!r}"
    return "lost" if lost else "ok"


def joined(row: Rendered) -> list[tuple[int, int]]:
    """The spans, neighbors that touch made one."""
    spans: list[tuple[int, int]] = []
    for start, end, _ in sorted(row.spans):
        if spans and spans[-1][1] == start:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return spans


def inside_turn(row: Rendered, end: int) -> bool:
    """Whether nothing closes the turn here: a tool's result stands within it, or the next header follows at once."""
    after = NEVER.search(row.text, end) or TRAINED.search(row.text, end)
    gap = row.text[end : after.start() if after else len(row.text)]
    return len(TOKEN.findall(gap)) <= 1 or bool(re.match(r"\s*(<\|?tool_response|\[TOOL_RESULTS)", gap))


def expected(message: dict[str, Any]) -> list[str]:
    texts = [str(message["content"]), message.get("reasoning_content", "")]
    texts += [call["function"]["arguments"]["city"] for call in message.get("tool_calls", [])]
    return [match.group().strip() for text in texts for match in TRAINED.finditer(text)]


def verdict(renderer: Renderer | UserError, shape: str) -> tuple[str, Rendered | None]:
    if isinstance(renderer, UserError):
        return f"refused: {renderer.what}", None
    messages, tools = copy.deepcopy(SHAPES[shape])
    try:
        row = render_sample(Sample(shape, shape, ChatBody(messages, tools)), renderer)
    except UserError as error:
        return f"refused: {error.what}", None
    if isinstance(row, str):
        return f"WRONG: dropped, {row}", None
    return judge(row, shape), row


def renderer_for(source: str, tokenizer: Any) -> Renderer | UserError:
    try:
        return make_renderer(source, tokenizer, "assistant")
    except UserError as error:
        return error


def marked(row: Rendered) -> str:
    pieces, end = [], 0
    for start, stop, _ in sorted(row.spans):
        pieces += [row.text[end:start], "⟦", row.text[start:stop], "⟧"]
        end = stop
    return "".join([*pieces, row.text[end:]])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=KINDS)
    parser.add_argument("--show", help="print the rendered rows of the templates whose name contains this")
    parser.add_argument("--details", action="store_true", help="print the reason of every refusal and every wrong pair")
    args = parser.parse_args()
    files = sorted(path for path in args.folder.glob("*.jinja") if not args.show or args.show in path.name)
    totals: Counter[str] = Counter()
    by_shape: dict[str, Counter[str]] = {shape: Counter() for shape in SHAPES}
    reasons: list[str] = []
    for path in files:
        source = path.read_text(encoding="utf-8")
        tokenizer = tokenizer_for(source)
        renderer = renderer_for(source, tokenizer)
        for shape in SHAPES:
            if transformers_text(source, tokenizer, shape) is None:
                word, row, full = "n/a", None, ""
            else:
                full, row = verdict(renderer, shape)
                word = full.split(":")[0]
            totals[word] += 1
            by_shape[shape][word] += 1
            if word in ("refused", "WRONG"):
                reasons.append(f"{path.stem} / {shape}: {full}")
            if args.show and row is not None:
                print(
                    f"--- {path.stem} / {shape}: {full}  {[(i.kind, i.num_messages, i.supervised) for i in row.left_out]}"
                )
                print(marked(row))
    print(f"{len(files)} templates x {len(SHAPES)} shapes")
    words = ["ok", "lost", "refused", "WRONG", "n/a"]
    print(f"{'shape':18}" + "".join(f"{word:>9}" for word in words))
    for shape, counts in by_shape.items():
        print(f"{shape:18}" + "".join(f"{counts[word]:9}" for word in words))
    print(f"{'all':18}" + "".join(f"{totals[word]:9}" for word in words))
    rendered = sum(totals.values()) - totals["n/a"]
    accepted = totals["ok"] + totals["lost"] + totals["WRONG"]
    print(f"accepted {accepted} of the {rendered} that transformers renders: {accepted / max(1, rendered):.1%}")
    if args.details:
        print("\n".join(reasons))
    return 1 if totals["WRONG"] else 0


if __name__ == "__main__":
    sys.exit(main())
