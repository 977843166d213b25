"""Instructions about words and facts: opposites, plurals, categories, and what animals, jobs and places are like.

Each generator draws one example from the word lists. The same fact answers several questions, so that a held-out
question can be answered from what the other questions taught.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from sftgo_cli.builtin.words import (
    ANIMALS,
    CATEGORIES,
    JOBS,
    OBJECTS,
    OPPOSITES,
    PLACES,
    PLURALS,
    Animal,
    Category,
    Job,
    Place,
    sentence,
    with_article,
)


class Example(NamedTuple):
    """One instruction with its optional input and its right answer."""

    instruction: str
    input: str
    output: str


def word_example(rng: random.Random) -> Example:
    """A question about a word: its opposite, its plural, its category, or the one that does not belong."""
    return rng.choice((_opposite, _plural, _plural, _category, _which_one, _which_one, _odd_one, _odd_one))(rng)


def fact_example(rng: random.Random) -> Example:
    """A question about an animal, a job or a place, or the wish for a short description of one."""
    kind = rng.choice(("animal", "animal", "animal", "job", "job", "place"))
    if kind == "animal":
        return rng.choice(_animal_examples(rng.choice(ANIMALS)))
    if kind == "job":
        return rng.choice(_job_examples(rng.choice(JOBS)))
    return rng.choice(_place_examples(rng.choice(PLACES)))


def _opposite(rng: random.Random) -> Example:
    word, like, other, other_like = rng.choice(OPPOSITES)
    if rng.random() < 0.5:
        word, like, other, other_like = other, other_like, word, like
    answer = f"The opposite of {word} is {other}. {sentence(like)} is {word}, but {other_like} is {other}."
    return Example(
        rng.choice((f"What is the opposite of {word}?", f"Give the opposite of the word {word}.")), "", answer
    )


def _plural(rng: random.Random) -> Example:
    pairs = (*PLURALS, *OBJECTS, *((animal.name, animal.plural) for animal in ANIMALS))
    one, many = rng.choice(pairs)
    asked = rng.choice((f"What is the plural of {one}?", f"Write the plural of the word {one}."))
    return Example(asked, "", f"The plural of {one} is {many}. You say one {one} and two {many}.")


def _category(rng: random.Random) -> Example:
    right, wrong = rng.sample(CATEGORIES, 2)
    member = rng.choice([word for word in right.members if word not in wrong.members])
    first, second = (right.one, wrong.one) if rng.random() < 0.5 else (wrong.one, right.one)
    asked = f"Is {with_article(member)} {first} or {second}?"
    return Example(asked, "", f"{sentence(with_article(member))} is {right.one}, not {wrong.one}.")


def _which_one(rng: random.Random) -> Example:
    right, *others = rng.sample(CATEGORIES, 3)
    member = rng.choice([word for word in right.members if not any(word in other.members for other in others)])
    strangers = [rng.choice([word for word in other.members if word not in right.members]) for other in others]
    first, second = zip(strangers, others, strict=True)
    answer = (
        f"The {member} is {right.one}. {sentence(with_article(first[0]))} is {first[1].one}, "
        f"and {with_article(second[0])} is {second[1].one}."
    )
    return Example(f"Which of these words names {right.one}?", _shuffled(rng, [member, *strangers]), answer)


def _odd_one(rng: random.Random) -> Example:
    common, other = rng.sample(CATEGORIES, 2)
    odd = rng.choice([word for word in other.members if not _belongs(word, common)])
    three = rng.sample([word for word in common.members if not _belongs(word, other)], 3)
    asked = "Which word does not belong to the others?"
    verdict = f"{sentence(with_article(odd))} is {other.one}, and the others are {common.many}."
    return Example(asked, _shuffled(rng, [odd, *three]), f"The word {odd} does not belong. {verdict}")


def _belongs(word: str, category: Category) -> bool:
    return word in category.members


def _shuffled(rng: random.Random, words: list[str]) -> str:
    return ", ".join(rng.sample(words, len(words)))


def _animal_examples(animal: Animal) -> list[Example]:
    a, many = with_article(animal.name), animal.plural
    look = f"{sentence(a)} is {with_article(animal.kind)} with {animal.body}."
    life = f"It lives {animal.home} and eats {animal.food}."
    asked_for_all = (
        f"Describe {a}.",
        f"What is {a}?",
        f"Tell me about the {animal.name}.",
        f"Explain to a child what {a} is.",
    )
    return [
        *(Example(asked, "", f"{look} {life}") for asked in asked_for_all),
        Example(f"Write three sentences about {many}.", "", f"{look} {life} It can {animal.habit}."),
        Example(f"Where do {many} live?", "", f"{sentence(many)} live {animal.home}."),
        Example(f"What do {many} eat?", "", f"{sentence(many)} eat {animal.food}."),
        Example(
            f"Where does {a} live, and what does it eat?",
            "",
            f"{sentence(a)} lives {animal.home} and eats {animal.food}.",
        ),
        Example(f"What does {a} look like?", "", f"{sentence(a)} has {animal.body}."),
        Example(f"What can {a} do?", "", f"{sentence(a)} can {animal.habit}."),
    ]


def _job_examples(job: Job) -> list[Example]:
    a = with_article(job.name)
    work = f"{sentence(a)} works {job.place} and {job.task}."
    tool = f"For this work one needs {job.tool}."
    return [
        Example(f"What does {a} do?", "", work),
        Example(f"Where does {a} work?", "", f"{sentence(a)} works {job.place}."),
        Example(f"What does {a} need for work?", "", f"{sentence(a)} needs {job.tool}."),
        Example(f"Describe the job of {a}.", "", f"{work} {tool}"),
        Example(f"Tell me about the work of {a}.", "", f"{work} {tool}"),
        Example(f"Who can {job.plain_task}?", "", f"{sentence(a)} can {job.plain_task}."),
        Example(f"Who works with {job.tool}?", "", f"{sentence(a)} works with {job.tool}."),
    ]


def _place_examples(place: Place) -> list[Example]:
    the, where = f"the {place.name}", f"{place.preposition} the {place.name}"
    things, people = f"there are {place.contents}", f"people {place.activity}"
    return [
        Example(f"Describe {the}.", "", f"{sentence(where)} {things}. {sentence(people)} there."),
        Example(f"What can you see {where}?", "", f"{sentence(where)} {things}."),
        Example(f"What do people do {where}?", "", f"{sentence(where)} {people}."),
        Example(f"Tell me two things about {the}.", "", f"{sentence(where)} {things}. {sentence(people)} there."),
        Example(f"Where do people {place.activity}?", "", f"People {place.activity} {where}."),
    ]
