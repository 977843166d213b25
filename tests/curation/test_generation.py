"""The generator `model`: the same answers whatever the batch, the order and the processes, and those of `generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sftgo_cli.curation.generators import model as generator
from sftgo_cli.curation.questions import Answer, CurationContext, Question, Request
from sftgo_cli.data.tokenizer import load_tokenizer
from sftgo_cli.errors import UserError
from sftgo_cli.recipe.model_section import ModelSection

TINY = ModelSection(name_or_path="builtin:tiny", dtype="float32")
ASKED = [
    "What is 3 plus 4?",
    "What is 9 minus 2 plus 5?",
    "Name a color.",
    "What is 8 plus 8 minus 3?",
    "Say hello.",
    "What is 3 plus 4?",
    "What is 5 minus 5? " * 9,
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer(TINY, Path())


def context_of(tokenizer: Any, num_processes: int = 1, template: str | None = None, **more: Any) -> CurationContext:
    def no_run(path: Path) -> Path:
        raise UserError("no run", str(path))

    given: dict[str, Any] = {
        "model": TINY,
        "recipe_dir": Path(),
        "tokenizer": tokenizer,
        "template": template or tokenizer.chat_template,
        "find_run": no_run,
        "num_processes": num_processes,
        "use_cpu": True,
        "say": lambda line: None,
        "console": None,
    }
    return CurationContext(**{**given, **more})


def requests_of(texts: list[str]) -> list[Request]:
    asked = []
    for number, text in enumerate(texts):
        messages = [{"role": "user", "content": text}]
        question = Question(f"row-{number}", f"train.jsonl:{number + 1}", messages, "gold", {})  # type: ignore[arg-type]
        asked.append(Request(question, question.messages, seed=100 + number))
    return asked


def answers(wanted: list[Request], context: CurationContext, **options: Any) -> list[Answer]:
    got: dict[int, Answer] = {}

    def done(finished: list[tuple[int, Answer]]) -> None:
        for number, answer in finished:
            assert number not in got
            got[number] = answer

    chosen = generator.Options.model_validate({"max_new_tokens": 24, **options})
    generator.generate(wanted, chosen, context, done)
    return [got[number] for number in range(len(wanted))]


def texts_besides_ties(first: list[Answer], second: list[Answer]) -> list[tuple[str, str]]:
    """The answers that differ although neither says that it was a close call."""
    pairs = zip(first, second, strict=True)
    return [(a.text, b.text) for a, b in pairs if a.text != b.text and not (a.near_ties or b.near_ties)]


def test_greedy_answers_are_those_of_generate_one_row_at_a_time(tokenizer: Any) -> None:
    import torch

    from sftgo_cli.base_model import load_base_model

    got = answers(requests_of(ASKED), context_of(tokenizer), batch_size=3)
    reference = load_base_model(TINY, Path(), "float32").eval()
    for text, answer in zip(ASKED, got, strict=True):
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True)
        ids = torch.tensor([prompt["input_ids"]])
        assert ids[0].tolist().count(tokenizer.bos_token_id) == 1
        output = reference.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        new = output[0, ids.shape[1] :]
        assert answer.text == tokenizer.decode(new, skip_special_tokens=True).strip()
        assert answer.num_tokens == len(new)
        assert answer.finished == (int(new[-1]) == tokenizer.eos_token_id)
    assert any(answer.finished for answer in got)
    assert got[0] == got[5]  # greedy: the seed does not count


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.0}, {"temperature": 0.8, "top_k": 30, "top_p": 0.9}])
def test_batch_size_and_order_do_not_matter(tokenizer: Any, sampling: dict[str, Any]) -> None:
    wanted, context = requests_of(ASKED), context_of(tokenizer)
    one = answers(wanted, context, batch_size=1, **sampling)
    assert len({answer.num_tokens for answer in one}) > 1
    for batch_size in (3, 16):
        assert texts_besides_ties(one, answers(wanted, context, batch_size=batch_size, **sampling)) == []
    assert texts_besides_ties(one, answers(wanted[::-1], context, batch_size=3, **sampling)[::-1]) == []


def test_every_answer_has_a_draw_of_its_own(tokenizer: Any) -> None:
    drawn = answers(requests_of(["Name a color."] * 8), context_of(tokenizer), temperature=3.0)
    assert len({answer.text for answer in drawn}) > 1


def test_two_processes_give_the_answers_of_one(tokenizer: Any) -> None:
    wanted = requests_of(ASKED)
    sampling = {"temperature": 0.9, "top_p": 0.95, "batch_size": 2}
    one = answers(wanted, context_of(tokenizer), **sampling)
    assert texts_besides_ties(one, answers(wanted, context_of(tokenizer, num_processes=2), **sampling)) == []


def test_what_was_handed_over_stays_and_the_rest_is_generated_later(tokenizer: Any) -> None:
    wanted, context = requests_of(ASKED), context_of(tokenizer)
    options = generator.Options(max_new_tokens=24, batch_size=2, temperature=1.0)
    kept: dict[int, Answer] = {}

    def killed_at_the_second(finished: list[tuple[int, Answer]]) -> None:
        if kept:
            raise KeyboardInterrupt
        kept.update(finished)

    with pytest.raises(KeyboardInterrupt):
        generator.generate(wanted, options, context, killed_at_the_second)
    assert 0 < len(kept) <= 2
    left = [number for number in range(len(wanted)) if number not in kept]
    rest = answers([wanted[number] for number in left], context, batch_size=2, temperature=1.0)
    kept.update(zip(left, rest, strict=True))
    whole = answers(wanted, context, batch_size=2, temperature=1.0)
    assert texts_besides_ties([kept[number] for number in range(len(wanted))], whole) == []


def test_an_answer_is_cut_at_the_limit_and_at_stop_texts(tokenizer: Any) -> None:
    wanted, context = requests_of(["What is 9 minus 2 plus 5?"]), context_of(tokenizer)
    (whole,) = answers(wanted, context)
    (cut,) = answers(wanted, context, max_new_tokens=2)
    assert (cut.num_tokens, cut.finished) == (2, False)
    assert whole.text.startswith(cut.text)
    (stopped,) = answers(wanted, context, stop=[" is"])
    assert stopped.finished
    assert stopped.text == whole.text.partition(" is")[0]
    assert stopped.num_tokens < whole.num_tokens


def test_the_end_of_the_context_cuts_an_answer(tokenizer: Any) -> None:
    num_words = 1000
    while True:
        wanted = requests_of(["a " * num_words])
        rendered = tokenizer.apply_chat_template(wanted[0].messages, add_generation_prompt=True)["input_ids"]
        if len(rendered) <= 1022:
            break
        num_words -= 1
    (answer,) = answers(wanted, context_of(tokenizer))
    assert answer.num_tokens <= 1024 - len(rendered)
    with pytest.raises(UserError, match=r"model's context is 1024.*train\.jsonl:1 - shorten"):
        generator.check([requests_of(["a " * 1100])[0].question], generator.Options(), context_of(tokenizer))


def test_a_model_without_a_chat_template_is_refused(tokenizer: Any) -> None:
    context = context_of(tokenizer)
    without = CurationContext(**{**vars(context), "template": None})
    with pytest.raises(UserError, match=r"no chat template .* set data\.chat_template \(plain"):
        generator.check([requests_of(["Hi"])[0].question], generator.Options(), without)
    with pytest.raises(UserError, match=r"generator\.model: \./nowhere"):
        generator.check([], generator.Options(model="./nowhere"), context)


def test_the_key_knows_the_content_and_not_where_it_is(tokenizer: Any, tmp_path: Path) -> None:
    import shutil

    from sftgo_cli.builtin import model_folder

    context = context_of(tokenizer)
    base = generator.fingerprint(generator.Options(), context)
    copy = shutil.copytree(model_folder("tiny"), tmp_path / "copy")
    assert generator.fingerprint(generator.Options(model=str(copy), batch_size=3), context) == base
    assert generator.fingerprint(generator.Options(temperature=0.5), context) != base
    assert generator.fingerprint(generator.Options(dtype="bfloat16"), context) != base
    own = CurationContext(**{**vars(context), "template": context.template + "\n"})
    assert generator.fingerprint(generator.Options(), own) != base
    assert answers(requests_of(ASKED[:2]), context, model=str(copy)) == answers(requests_of(ASKED[:2]), context)
    assert generator.describe(generator.Options(temperature=0.5, top_p=0.9), context) == (
        "builtin:tiny, temperature 0.5, top_p 0.9"
    )
