"""The corpus on which the built-in base model is pre-trained: little stories, letters and talk in the data sets' words.

Half of the documents are plain prose. The others are chats: greetings, wishes for a story, questions answered in bare
words, and sums in the wording of `arithmetic.plain_answer`. None is in the style of the `instructions` answers, so that
fine-tuning has something to teach. Document n depends on the seed and n only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from sftgo_cli.builtin import arithmetic
from sftgo_cli.builtin.words import (
    ANIMALS,
    CATEGORIES,
    COLORS,
    COUNTED,
    FOODS,
    HIDING_SPOTS,
    JOBS,
    MOODS,
    OBJECTS,
    OPPOSITES,
    PEOPLE,
    PLACES,
    PLURALS,
    REASONS,
    TIMES,
    WEATHER,
    Animal,
    sentence,
    with_article,
)

CHAT_FRACTION = 0.5
SUM_FRACTION = 0.35  # of the chats
TWO_STEP_FRACTION = 0.1  # of the chats that are sums

Message = dict[str, str]
# Prose, or the messages of a chat.
Document = str | list[Message]


def documents(seed: int, count: int) -> Iterator[Document]:
    """`count` documents; the same for the same seed on every machine."""
    rng = random.Random(seed)
    known_sums = arithmetic.one_step_expressions()
    unseen = {expression for split in arithmetic.split_expressions().values() for expression in split}
    free_sums = [expression for expression in arithmetic.two_step_expressions() if expression not in unseen]
    for _ in range(count):
        if rng.random() >= CHAT_FRACTION:
            yield prose(rng)
        elif rng.random() >= SUM_FRACTION:
            yield _talk(rng)
        else:
            pool = free_sums if rng.random() < TWO_STEP_FRACTION else known_sums
            yield _sum_chat(rng.choice(pool))


def prose(rng: random.Random) -> str:
    """One plain document of three to eight sentences."""
    kinds = (
        _journey,
        _journey,
        _animal_tale,
        _animal_tale,
        _letter,
        _workday,
        _visit_to_place,
        _dialogue,
        _comparison,
        _inventory,
        _everyday,
    )
    return rng.choice(kinds)(rng)


def _sum_chat(expression: arithmetic.Expression) -> Document:
    return chat(arithmetic.question(expression), arithmetic.plain_answer(expression))


def _talk(rng: random.Random) -> Document:
    """Anything but a sum: small talk, a story, or a reply of a few bare words taken from the question or from a fact."""
    return rng.choice(
        (_small_talk, _repeat, _repeat, _repeat, _pick_out, _pick_out, _pick_out, _notes, _notes, _pairs)
    )(rng)


def _small_talk(rng: random.Random) -> Document:
    person, animal = rng.choice(PEOPLE), rng.choice(ANIMALS)
    return rng.choice(
        (
            lambda: chat("Hello!", "Hello! How are you today?"),
            lambda: chat(f"Hello, my name is {person.name}.", f"Nice to meet you, {person.name}!"),
            lambda: chat("Tell me a story.", _journey(rng)),
            lambda: chat(f"Tell me a story about {with_article(animal.name)}.", _animal_tale(rng, animal)),
            lambda: chat("How is the weather?", f"I hear the {rng.choice(WEATHER)} outside."),
        )
    )()


def _repeat(rng: random.Random) -> Document:
    pool = (
        *FOODS,
        *COLORS,
        *MOODS,
        *WEATHER,
        *(person.name for person in PEOPLE),
        *(one for one, _ in OBJECTS + COUNTED),
    )
    said = " ".join(str(word) for word in rng.choices((*pool, rng.randint(2, 20)), k=rng.randint(3, 14)))
    return chat(f"Say after me: {said}", said)


def _pick_out(rng: random.Random) -> Document:
    """A made-up event and a bare question word: who, what, where, when, how many."""
    first, second = (person.name for person in rng.sample(PEOPLE, 2))
    thing = f"{with_article(rng.choice(COLORS))} {rng.choice(OBJECTS)[0]}"
    number, food, time, spot = rng.randint(2, 20), rng.choice(FOODS), rng.choice(TIMES), rng.choice(HIDING_SPOTS)
    place, job = rng.choice(PLACES), rng.choice(JOBS).name
    where = f"{place.preposition} the {place.name}"
    told = [
        (f"{first} hid {thing} {spot}.", {"Hid what?": thing, "Hid where?": spot, "Who hid it?": first}),
        (f"{second} sang {where} {time}.", {"Sang when?": time, "Sang where?": where, "Who sang?": second}),
        (f"The {job} ate {food}.", {"Ate what?": food, "Who ate?": f"the {job}"}),
        (f"They paid {number} coins.", {"How many coins?": str(number)}),
    ]
    events = rng.sample(told, rng.randint(2, 4))
    question, reply = rng.choice(list(rng.choice(events)[1].items()))
    return chat(" ".join([*(event for event, _ in events), question]), reply)


def _notes(rng: random.Random) -> Document:
    """Facts as bare notes, as in an index."""
    animal, job, place, category = rng.choice(ANIMALS), rng.choice(JOBS), rng.choice(PLACES), rng.choice(CATEGORIES)
    return rng.choice(
        (
            chat(f"Notes on {animal.plural}, please.", f"{animal.kind}, {animal.body}, {animal.home}, {animal.food}"),
            chat(f"Notes: {animal.name}", f"{animal.food}, {animal.home}, {animal.body}, can {animal.habit}"),
            chat(f"Notes: {job.name}", f"{job.place}, {job.task}, {job.tool}"),
            chat(f"Notes: {place.name}", f"{place.contents}, {place.activity}"),
            chat(f"Notes: {', '.join(rng.sample(category.members, 3))}", f"all {category.many}"),
        )
    )


def _pairs(rng: random.Random) -> Document:
    word, _, other, _ = rng.choice(OPPOSITES)
    one, many = rng.choice((*PLURALS, *OBJECTS, *((animal.name, animal.plural) for animal in ANIMALS)))
    (first, of_first), (second, of_second) = ((rng.choice(c.members), c.one) for c in rng.sample(CATEGORIES, 2))
    return rng.choice(
        (
            chat(f"{word} / ", other),
            chat(f"{other} / ", word),
            chat(f"1 {one}, many", many),
            chat(f"Sort: {first}, {second}", f"{first}: {of_first}; {second}: {of_second}"),
        )
    )


def chat(user: str, assistant: str) -> list[Message]:
    """One question and its answer."""
    return [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]


def _journey(rng: random.Random) -> str:
    hero, friend = rng.sample(PEOPLE, 2)
    place, thing, color = rng.choice(PLACES), rng.choice(OBJECTS)[0], rng.choice(COLORS)
    reason, verb = rng.choice(REASONS)
    food, drink = rng.sample(FOODS, 2)
    he, his = hero.subject, hero.possessive
    lines = [
        f"{rng.choice(('Once', 'Long ago', 'One day', 'Last year'))} there was a child "
        f"called {hero.name}, who loved the {place.name}.",
        f"{sentence(rng.choice(TIMES))} {hero.name} took {his} {color} {thing} and set out to find {friend.name}.",
        f"The {rng.choice(WEATHER)} was strong, and {hero.name} hid {rng.choice(HIDING_SPOTS)}.",
        f'"Is this your {thing}?" asked {friend.name}. "Yes, it is my {color} {thing}," said {hero.name}.',
        f"Together they hurried back because of {reason}, and {he} wanted to {verb} at last.",
        f"By the {place.name} they shared {food} and {drink} until they were {rng.choice(MOODS)} no more.",
        f"{friend.name} never forgot {hero.name} and the {color} {thing}.",
    ]
    return " ".join(_some(rng, lines, 4))


def _animal_tale(rng: random.Random, hero: Animal | None = None) -> str:
    animal, other = hero or rng.choice(ANIMALS), rng.choice(ANIMALS)
    mood, color = rng.choice(MOODS), rng.choice(COLORS)
    lines = [
        f"Deep {animal.home} an old {animal.name} was looking for {animal.food}.",
        f"Everybody knew the {mood} {animal.name} by {animal.body}.",
        f'"Teach me to {animal.habit}," begged a young {other.name}. '
        f'"Only {with_article(animal.name)} can do that," was the reply.',
        f"So the {other.name} ran home and dreamed of {other.food}.",
        f"Through {rng.choice(WEATHER)} and {rng.choice(WEATHER)} the {animal.name} kept {with_article(color)} "
        f"{rng.choice(OBJECTS)[0]} {rng.choice(HIDING_SPOTS)}.",
        f"{sentence(rng.choice(TIMES))} all the {animal.plural} and all the {other.plural} danced "
        f"by the {rng.choice(PLACES).name}.",
        f"And the {mood} {animal.name} slept at last.",
    ]
    return " ".join(_some(rng, lines, 4))


def _letter(rng: random.Random) -> str:
    writer, reader = rng.sample(PEOPLE, 2)
    place, job, animal = rng.choice(PLACES), rng.choice(JOBS), rng.choice(ANIMALS)
    lines = [
        f"I am writing {rng.choice(TIMES)}, {place.preposition} the {place.name}, among {place.contents}.",
        f"Your uncle, the {job.name}, still has {job.tool} and hopes to {job.plain_task} again.",
        f"Do you remember the {animal.name} with {animal.body}? "
        f"We saw {rng.randint(2, 12)} {animal.plural} {animal.home}.",
        f"Please send me {rng.choice(FOODS)} and {with_article(rng.choice(OBJECTS)[0])} for {rng.choice(REASONS)[0]}.",
        f"The {rng.choice(WEATHER)} makes me {rng.choice(MOODS)}.",
    ]
    return " ".join([f"Dear {reader.name},", *_some(rng, lines, 3), f"Your friend {writer.name}"])


def _workday(rng: random.Random) -> str:
    job, person, guest = rng.choice(JOBS), *rng.sample(PEOPLE, 2)
    place = rng.choice(PLACES)
    lines = [
        f"{person.name} got up early, because every {job.name} has much to do.",
        f"All day {person.subject} had to {job.plain_task}.",
        f"Working {job.place} was hard without {job.tool}, so {guest.name} lent {person.object} some.",
        f'"Nobody {job.task} like {person.name}," people said {place.preposition} the {place.name}.',
        f"After work {person.name} ate {rng.choice(FOODS)} with {guest.name} and felt {rng.choice(MOODS)}.",
        f"{sentence(rng.choice(TIMES))} {guest.name} paid {rng.randint(2, 20)} coins and left a small gift "
        f"{rng.choice(HIDING_SPOTS)}.",
    ]
    return " ".join(_some(rng, lines, 3))


def _visit_to_place(rng: random.Random) -> str:
    place, other = rng.sample(PLACES, 2)
    color, thing = rng.choice(COLORS), rng.choice(OBJECTS)
    lines = [
        f"We came to the {place.name} {rng.choice(TIMES)}, tired from the {rng.choice(WEATHER)}.",
        f"I noticed {place.contents} first, and then {with_article(color)} {thing[0]} {rng.choice(HIDING_SPOTS)}.",
        f"My sister likes to {place.activity}, but I would rather {other.activity}.",
        f"From the {place.name} a path leads to the {other.name} with its {other.contents}.",
        f"I counted {rng.randint(2, 20)} {color} {thing[1]} along the way.",
        f"Nobody wanted to leave the {place.name}.",
    ]
    return " ".join(_some(rng, lines, 3))


def _dialogue(rng: random.Random) -> str:
    first, second = rng.sample(PEOPLE, 2)
    thing, many = rng.choice(COUNTED)
    color, food, place, job = rng.choice(COLORS), rng.choice(FOODS), rng.choice(PLACES), rng.choice(JOBS)
    lines = [
        f'"Have you seen my {color} {thing}?" {first.name} asked {second.name}.',
        f'"Ask the {job.name}," said {second.name}, "or look {rng.choice(HIDING_SPOTS)}."',
        f"{first.name} looked and found {rng.randint(2, 20)} {many}, but no {color} one.",
        f'"Then let us have {food}," {second.name} laughed, "and go to the {place.name} {rng.choice(TIMES)}."',
        f'"Only if {second.name} brings the {food}," thought {first.name}.',
    ]
    return " ".join(_some(rng, lines, 3))


def _comparison(rng: random.Random) -> str:
    word, like, other, other_like = rng.choice(OPPOSITES)
    person, one_of = rng.choice(PEOPLE), rng.choice(PLURALS)
    lines = [
        f"{person.name} thought about {word} things and {other} things.",
        f"How {word} {like} can be! How {other} {other_like} can be!",
        f"Was it {word} or {other}? {person.name} could not say about the {one_of[0]}.",
        f"There was one {one_of[0]} here, and there were many {one_of[1]} there, some {word}, some {other}.",
        f"{sentence(rng.choice(TIMES))} everything seemed {rng.choice((word, other))} "
        f"to the {rng.choice(MOODS)} {rng.choice(JOBS).name}.",
    ]
    return " ".join(_some(rng, lines, 3))


def _inventory(rng: random.Random) -> str:
    category, person = rng.choice(CATEGORIES), rng.choice(PEOPLE)
    names = rng.sample(category.members, 4)
    stranger = rng.choice(rng.choice(CATEGORIES).members)
    lines = [
        f"In the old {rng.choice(('box', 'book', 'shop', 'song', 'picture'))} of {category.many} {person.name} found "
        f"{with_article(names[0])}, {with_article(names[1])}, and {with_article(names[2])}.",
        f"Among them stood {with_article(stranger)} and another {names[3]}.",
        f"{person.name} drew the {names[0]} {rng.choice(COLORS)} and the {names[1]} {rng.choice(COLORS)}.",
        f"Of all {category.many} {person.subject} loved the {names[2]} best.",
        f"{person.name} swapped {rng.randint(2, 20)} {rng.choice(COUNTED)[1]} for it {rng.choice(TIMES)}.",
    ]
    return " ".join(_some(rng, lines, 3))


def _everyday(rng: random.Random) -> str:
    first, second = rng.sample(PEOPLE, 2)
    (one, many), food, animal = rng.choice(COUNTED), rng.choice(FOODS), rng.choice(ANIMALS)
    job, place = rng.choice(JOBS), rng.choice(PLACES)
    lines = [
        f"Nobody knows what {second.name} bought, but it was bigger than {with_article(one)} and smaller than {food}.",
        f"The baskets hold more {many} each day, so people share them, divided into equal bags.",
        f"Does this {one} belong to {first.name}, or to the others?",
        f"{first.name} wants to become {with_article(job.name)}, and {first.possessive} mother does not say no.",
        f"When {animal.name} and {rng.choice(ANIMALS).name} meet, one gives away what the other needs.",
        f"It takes two to get {food}, three to pack it, and you can start again many times.",
        f"The word {one} has {len(one)} letters; write it in a sentence, plural or not.",
        f"{second.name} lives alone, eats {food}, works little and starts late.",
        f"Such a thing names itself, said {first.name}, who gets everything and brings nothing.",
        f"What is left over when {second.name} gives {food} to the whole {place.name}?",
        f"{first.name} met my friend {second.name}, and both counted {many} together and needed some rest.",
        f"One {animal.name} makes a bird afraid, a piece of {food} makes it sing.",
    ]
    return " ".join(rng.sample(lines, rng.randint(4, 7)))


def _some(rng: random.Random, lines: list[str], least: int) -> list[str]:
    """At least `least` of the lines, in their order."""
    kept = sorted(rng.sample(range(len(lines)), rng.randint(least, len(lines))))
    return [lines[place] for place in kept]
