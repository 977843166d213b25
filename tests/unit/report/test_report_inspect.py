"""The terminal and the HTML view: the text is all there, nothing from the data acts, colors can be read."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import pytest
from rich.color import Color
from rich.console import Console
from rich.style import Style

from sftgo_cli.report import inspect_html, inspect_terminal
from sftgo_cli.report.inspect_html import DARK, LIGHT, render_html
from sftgo_cli.report.inspect_terminal import group_style, render_rows
from sftgo_cli.report.score_table import GroupSummary
from sftgo_cli.report.visible_text import readable_token, visible

HOSTILE = "<script>alert(\"1\")</script>\n& 'the' {{rows}} \x1b[31m </div> cat"


def drawn(rows: list[Any], color_by: Any = "group", **console: Any) -> str:
    settings = {"file": StringIO(), "width": 300, **console}
    out = Console(**settings)
    for renderable in render_rows(rows, color_by):
        out.print(renderable)
    return str(settings["file"].getvalue())


class Page(HTMLParser):
    """Collects the text of every row, tag counts, tooltips and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open_divs = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "div" and ("class", "text") in attrs:
            self.texts.append("")
            self.open_divs = 1

    def handle_endtag(self, tag: str) -> None:
        if tag == "div":
            self.open_divs = 0

    def handle_data(self, data: str) -> None:
        if self.open_divs:
            self.texts[-1] += data

    def titles(self) -> list[str]:
        return [value or "" for name, value in self.attributes if name == "title"]


def test_plain_output_marks_groups_and_prompt() -> None:
    row = {
        "row_id": "r:1",
        "source": "train.0",
        "text": "ask the cat sat",
        "input_ids": [5, 6, 7, 8],
        "labels": [-100, 6, 7, 8],
        "offsets": [[0, 3], [3, 7], [7, 11], [11, 15]],
        "token_scores": [float("nan"), 1.0, 9.0, 1.0],
        "group_ids": [-1, 0, 1, 0],
    }
    out = drawn([row])
    assert "⟦ask⟧ the «cat» sat" in out
    assert "r:1  train.0 · 4 tokens · 3 supervised · 1 most important" in out
    assert "«most important»  ⟦not supervised⟧  unmarked: least important" in out
    assert "\x1b" not in out
    assert "⟦ask⟧ the «cat» sat" in drawn([row], "score")
    three = {**row, "group_ids": [-1, 1, 2, 0]}
    assert "⟦ask⟧ ‹1:the› «cat» sat" in drawn([three])
    assert "sat" in drawn([{**row, "loss_weight": 0.5}])
    assert "row weight 0.5" in drawn([{**row, "loss_weight": 0.5}])


def test_the_score_scale_has_its_own_legend(make_row: Any) -> None:
    out = drawn([make_row("Q", " the cat sat on the mat")], "score", force_terminal=True, color_system="truecolor")
    assert "\x1b[1;38;2;0;0;0;48;2;255;135;0m highest fifth " in out
    assert "most important " not in out.split("\n")[0]


def test_tokens_without_characters_are_named_where_the_tokenizer_is_known(make_row: Any, bpe: Any) -> None:
    out = Console(file=StringIO(), width=200)
    for renderable in render_rows([make_row("Q", " the")], tokenizer=bpe):
        out.print(renderable)
    assert "⟦<s>Q⟧" in out.file.getvalue()  # type: ignore[attr-defined]


def test_neighbors_of_one_group_share_their_marks(make_row: Any) -> None:
    row = make_row("Q", " the cat")
    supervised = [label != -100 for label in row["labels"]]
    row["group_ids"] = [1 if flag else -1 for flag in supervised]
    assert "⟦<s>Q⟧ «the cat</s>»" in drawn([row]).replace("(token 0)", "<s>")


def test_ascii_output_needs_no_other_characters(make_row: Any) -> None:
    out = Console(file=StringIO(), width=200)
    options = out.options.update()
    options.encoding = "ascii"
    lines = [
        "".join(segment.text for segment in line)
        for renderable in render_rows([make_row("é\n", " the")])
        for line in out.render_lines(renderable, options)
    ]
    body = "".join(line for line in lines if "\\xe9" in line)
    assert body.isascii()
    assert "[[" in body


def test_colored_output_highlights_and_never_passes_escapes_on(make_row: Any) -> None:
    row = make_row("Q ", HOSTILE)
    out = drawn([row], force_terminal=True, color_system="truecolor")
    assert "\x1b[1;38;2;0;0;0;48;2;255;215;95m" in out  # bold black on the top group's ground
    assert "\x1b[31m" not in out
    assert "␛" in out
    text = re.sub(r"\x1b\[[\d;]*m", "", out)
    assert "<script>alert" in text


def test_a_shared_character_is_drawn_once(make_row: Any) -> None:
    row = make_row("Q", " 😀")
    assert sum(start == 2 for start, _ in row["offsets"]) == 4
    for settings in ({}, {"force_terminal": True, "color_system": "truecolor"}):
        assert drawn([row], **settings).count("😀") == 1
    assert render_html([row], "t", [], "r").split("</header>")[-1].count(">😀<") == 1


def test_html_holds_every_text_and_nothing_acts(make_row: Any, bpe: Any) -> None:
    rows = [make_row("Q <b> ", HOSTILE, row_id="<i>1</i>"), make_row("😀\n", " the cat", row_id="r:2")]
    summary = GroupSummary(1, 1234, 0.25, 1.5, ("<script>", "the"))
    page = render_html(rows, "T <b> {{rows}}", [summary, summary], "a & b", tokenizer=bpe)
    parsed = Page(page)
    assert parsed.texts == [visible_lines(f"<s>{row['text']}") for row in rows]
    assert parsed.tags.count("script") == 1
    assert parsed.tags.count("article") == 2
    assert not {"img", "link", "iframe", "object"} & set(parsed.tags)
    assert not any(name in ("src", "href") or name.startswith("on") for name, _ in parsed.attributes)
    assert "http" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert "T &lt;b&gt; {{rows}}" in page
    assert "a &amp; b" in page
    assert "1,234" in page
    assert "25.0%" in page
    assert "<code>&lt;script&gt;</code>" in page


def visible_lines(text: str) -> str:
    return "\n".join(visible(line) for line in text.split("\n"))


def test_html_tooltips_tell_token_id_group_score_and_weight(bpe: Any) -> None:
    row = {
        "row_id": "r",
        "source": "s",
        "text": "ab cd",
        "input_ids": [3, 4],
        "labels": [-100, 4],
        "offsets": [[0, 2], [2, 5]],
        "pinned": [False, True],
        "token_scores": [float("nan"), 2.5],
        "group_ids": [-1, 1],
        "token_weights": [0.0, 0.5],
        "loss_weight": 2.0,
    }
    page = render_html([row], "t", [], "r", tokenizer=bpe)
    assert Page(page).titles() == [
        "ab · id 3",
        " cd · id 4 · most important · score 2.500 · special token, its group is fixed by the recipe · weight 0.5",
    ]
    assert "row weight 2" in page


def test_html_of_two_hundred_rows_is_small(make_row: Any) -> None:
    row = make_row("the cat sat on the mat " * 10, "the cat sat on the mat " * 10)
    size = len(render_html([row] * 200, "t", [], "r").encode())
    assert size < 150 * 200 * len(row["input_ids"])  # 150 bytes per token


def luminance(color: str) -> float:
    """WCAG 2 relative luminance of #rrggbb."""
    channels = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("colors", [LIGHT, DARK], ids=["light", "dark"])
def test_html_colors_have_enough_contrast(colors: dict[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    grounds = ["page", "card", *inspect_html.GROUNDS, *(name for name in colors if name.startswith("level"))]
    assert min(contrast(colors["ink"], colors[name]) for name in grounds) >= 4.5
    assert min(contrast(colors["quiet"], colors[name]) for name in ("page", "card")) >= 4.5


def test_terminal_grounds_have_enough_contrast() -> None:
    styles = [group_style(group, 6) for group in range(6)] + list(inspect_terminal.SCORE_STYLES)
    grounds = [style for style in styles if " on " in style]
    assert len(grounds) == 5 + 3
    for style in grounds:
        parsed = Style.parse(style)
        assert contrast(hexadecimal(parsed.color), hexadecimal(parsed.bgcolor)) >= 7.0


def hexadecimal(color: Color | None) -> str:
    assert color is not None
    return color.get_truecolor().hex


def test_visible_shows_what_cannot_be_seen() -> None:
    assert visible("a\tb\nc") == "a⇥b↵c"
    assert visible("\x00\x1b\x7f\x85") == "␀␛␡\\x85".replace("\\x85", "\\u0085")
    assert visible("\u202eabc\u200b") == "\\u202eabc\\u200b"
    assert visible("👨\u200d👩 é\u00a0ש") == "👨\u200d👩 é\u00a0ש"


def test_readable_token(bpe: Any) -> None:
    by_text = {bpe.decode([k]): k for k in range(len(bpe))}
    assert readable_token(bpe, by_text[" the"]) == "the"
    assert readable_token(bpe, by_text[" "]) == "␣"
    assert readable_token(bpe, by_text["\n"]) == "↵"
    assert readable_token(bpe, bpe.eos_token_id) == "</s>"
    half = bpe("😀", add_special_tokens=False)["input_ids"][0]
    assert readable_token(bpe, half) == bpe.convert_ids_to_tokens(half)
    assert readable_token(bpe, len(bpe) + 5) == f"token {len(bpe) + 5}"


def test_the_page_opens_in_the_colors_asked_for(make_row: Any) -> None:
    checked = {
        color: re.findall(
            r'id="by-(\w+)" checked', render_html([make_row("Q", " the cat")], "t", [], "r", color_by=color)
        )
        for color in ("group", "score")
    }
    assert checked == {"group": ["group"], "score": ["score"]}


def test_details_can_be_reached_without_a_mouse_and_the_table_without_width(make_row: Any) -> None:
    summary = GroupSummary(0, 5, 0.5, 1.0, ("a",))
    page = render_html([make_row("Q", " the cat")], "t", [summary, replace(summary, group=1)], "r")
    for needed in ("keydown", '"click"', "tabIndex", 'id="detail" role="status"', "Escape"):
        assert needed in page
    assert page.count("data-label=") == 4 * 2
    assert "max-width: 40rem" in page
