"""Instructions that are answered from what they say: questions about a passage, sums in a story, words out of order."""

from __future__ import annotations

import random

from sftgo_cli.builtin.facts import Example
from sftgo_cli.builtin.words import (
    ANIMALS,
    COLORS,
    COUNTED,
    FOODS,
    HIDING_SPOTS,
    JOBS,
    MOODS,
    OBJECTS,
    PEOPLE,
    PLACES,
    REASONS,
    TIMES,
    WEATHER,
    Person,
    sentence,
    with_article,
)

# A passage with the questions it answers.
Scene = tuple[str, list[tuple[str, str]]]


def passage_example(rng: random.Random) -> Example:
    """A short passage as input and a question about who, where, what, when or why."""
    passage, questions = rng.choice((_visit, _lost_thing, _animal_find, _shopping, _new_job))(rng)
    question, answer = rng.choice(questions)
    asked = rng.choice((question, question, f"Read the text. {question}"))
    return Example(asked, passage, answer)


def sum_example(rng: random.Random) -> Example:
    """A word problem of one step with numbers up to 20 and a worked answer."""
    return rng.choice((_gets_more, _gives_away, _two_baskets, _equal_bags, _shares))(rng)


def order_example(rng: random.Random) -> Example:
    """A sentence's words in another order, to be put right."""
    ordered = _plain_sentence(rng).split()
    mixed = ordered
    while mixed == ordered:
        mixed = rng.sample(ordered, len(ordered))
    asked = rng.choice(("Put the words in order to make a sentence.", "Make a sentence from these words."))
    return Example(asked, " ".join(mixed), f"{sentence(' '.join(ordered))}.")


def _two_people(rng: random.Random) -> tuple[Person, Person]:
    first, second = rng.sample(PEOPLE, 2)
    return first, second


def _visit(rng: random.Random) -> Scene:
    person, friend = _two_people(rng)
    place, time, color = rng.choice(PLACES).name, rng.choice(TIMES), rng.choice(COLORS)
    thing = f"{with_article(color)} {rng.choice(OBJECTS)[0]}"
    who, other = person.name, friend.name
    passage = (
        f"{sentence(time)} {who} went to the {place} with {other}. {sentence(person.subject)} carried {thing}. "
        f"There was {rng.choice(WEATHER)} that day, and they talked for hours."
    )
    return passage, [
        (f"Where did {who} go?", f"{who} went to the {place} with {other}."),
        (f"Who went to the {place} with {who}?", f"{other} went to the {place} with {who}."),
        (f"What did {who} carry?", f"{who} carried {thing}."),
        (f"When did {who} go to the {place}?", f"{who} went to the {place} {time}."),
    ]


def _lost_thing(rng: random.Random) -> Scene:
    person, finder = _two_people(rng)
    job, place, spot = rng.choice(JOBS).name, rng.choice(PLACES), rng.choice(HIDING_SPOTS)
    thing, color = rng.choice(OBJECTS)[0], rng.choice(COLORS)
    who, other, where = person.name, finder.name, f"{place.preposition} the {place.name}"
    passage = (
        f"{who} lost {with_article(color)} {thing} {where}. {other} the {job} looked for it all day and "
        f"found it {spot}. {who} was very happy to get it back."
    )
    return passage, [
        (f"Who found the {thing}?", f"{other} the {job} found the {color} {thing} {spot}."),
        (f"Where was the {thing}?", f"The {thing} was {spot}. {other} found it there."),
        (f"What did {who} lose?", f"{who} lost {with_article(color)} {thing} {where}."),
        (f"What is the job of {other}?", f"{other} is {with_article(job)}."),
    ]


def _animal_find(rng: random.Random) -> Scene:
    animal, mood, place = rng.choice(ANIMALS).name, rng.choice(MOODS), rng.choice(PLACES).name
    time, spot, food = rng.choice(TIMES), rng.choice(HIDING_SPOTS), rng.choice(FOODS)
    passage = (
        f"{sentence(with_article(mood))} {animal} lived near the {place}. "
        f"{sentence(time)} it found some {food} {spot}. It ate everything and fell asleep."
    )
    return passage, [
        (f"What did the {animal} find?", f"The {animal} found some {food} {spot}."),
        (f"Where did the {animal} live?", f"The {mood} {animal} lived near the {place}."),
        (f"When did the {animal} find the {food}?", f"The {animal} found the {food} {time}."),
        (f"How did the {animal} feel?", f"The {animal} was {mood}."),
    ]


def _shopping(rng: random.Random) -> Scene:
    person, helper = _two_people(rng)
    food, other_food = rng.sample(FOODS, 2)
    reason, place = rng.choice(REASONS)[0], rng.choice(PLACES).name
    who, other, num_coins = person.name, helper.name, rng.randint(2, 20)
    passage = (
        f"{who} needed {food} and {other_food} for {reason}. "
        f"{sentence(person.subject)} bought everything near the {place} and paid {num_coins} coins. "
        f"{other} helped {person.object} to carry it home."
    )
    return passage, [
        (f"What did {who} buy?", f"{who} bought {food} and {other_food} for {reason}."),
        (f"Why did {who} need {food}?", f"{who} needed {food} for {reason}."),
        (f"How much did {who} pay?", f"{who} paid {num_coins} coins for the {food} and the {other_food}."),
        (f"Who helped {who}?", f"{other} helped {who} to carry everything home."),
        (f"Where did {who} buy the {food}?", f"{who} bought the {food} near the {place}."),
    ]


def _new_job(rng: random.Random) -> Scene:
    person, teacher = _two_people(rng)
    job, color, time = rng.choice(JOBS), rng.choice(COLORS), rng.choice(TIMES)
    thing = rng.choice(OBJECTS)[0]
    who, other = person.name, teacher.name
    passage = (
        f"{who} wants to become {with_article(job.name)}. {other} teaches {person.object} how to {job.plain_task}. "
        f"They meet {time}, and {who} always brings {with_article(color)} {thing}."
    )
    return passage, [
        (f"What does {who} want to become?", f"{who} wants to become {with_article(job.name)}."),
        (f"Who teaches {who}?", f"{other} teaches {who} how to {job.plain_task}."),
        (f"When do {who} and {other} meet?", f"{who} and {other} meet {time}."),
        (f"What does {who} bring?", f"{who} brings {with_article(color)} {thing}."),
    ]


def _gets_more(rng: random.Random) -> Example:
    person, friend = _two_people(rng)
    noun, first, more = rng.choice(COUNTED), rng.randint(2, 12), rng.randint(2, 8)
    who, total = person.name, first + more
    asked = (
        f"{who} has {first} {noun[1]}. {friend.name} gives {person.object} {more} more. "
        f"How many {noun[1]} does {who} have now?"
    )
    story = f"{who} starts with {first} {noun[1]} and gets {more} more."
    return Example(asked, "", f"{story} {first} plus {more} is {total}, so {who} has {total} {noun[1]}.")


def _gives_away(rng: random.Random) -> Example:
    person, friend = _two_people(rng)
    noun, first = rng.choice(COUNTED), rng.randint(6, 20)
    given = rng.randint(2, first - 2)
    who, left = person.name, first - given
    asked = f"{who} has {first} {noun[1]} and gives {given} of them to {friend.name}. How many {noun[1]} are left?"
    answer = (
        f"{who} gives away {given} of {first} {noun[1]}. {first} minus {given} is {left}, so {left} {noun[1]} are left."
    )
    return Example(asked, "", answer)


def _two_baskets(rng: random.Random) -> Example:
    noun, first, second = rng.choice(COUNTED), rng.randint(2, 10), rng.randint(2, 10)
    color, other_color = rng.sample(COLORS, 2)
    total = first + second
    asked = (
        f"There are {first} {noun[1]} in the {color} basket and {second} in the {other_color} basket. "
        f"How many {noun[1]} are there together?"
    )
    story = f"The baskets hold {first} and {second} {noun[1]}."
    return Example(asked, "", f"{story} {first} plus {second} is {total}, so there are {total} {noun[1]} together.")


def _equal_bags(rng: random.Random) -> Example:
    noun, bags, each = rng.choice(COUNTED), rng.randint(2, 5), rng.randint(2, 5)
    who, total = rng.choice(PEOPLE).name, bags * each
    asked = f"{who} packs {bags} bags with {each} {noun[1]} in each bag. How many {noun[1]} does {who} pack?"
    story = f"There are {bags} bags with {each} {noun[1]} each."
    return Example(asked, "", f"{story} {bags} times {each} is {total}, so {who} packs {total} {noun[1]}.")


def _shares(rng: random.Random) -> Example:
    person, friend = _two_people(rng)
    noun, each = rng.choice(COUNTED), rng.randint(2, 10)
    total = 2 * each
    asked = f"{person.name} and {friend.name} share {total} {noun[1]} fairly. How many {noun[1]} does each of them get?"
    story = f"They share {total} {noun[1]} between two people."
    return Example(asked, "", f"{story} {total} divided by 2 is {each}, so each of them gets {each} {noun[1]}.")


def _plain_sentence(rng: random.Random) -> str:
    who = rng.choice(PEOPLE).name
    noun, animal, job = rng.choice(COUNTED)[1], rng.choice(ANIMALS).plural, rng.choice(JOBS).name
    color, food, time, place = rng.choice(COLORS), rng.choice(FOODS), rng.choice(TIMES), rng.choice(PLACES).name
    thing, mood = rng.choice(OBJECTS)[0], rng.choice(MOODS)
    return rng.choice(
        (
            f"{who} bought some {food} {time}",
            f"{who} saw two {mood} {animal} near the {place}",
            f"the {job} gave {who} {with_article(color)} {thing}",
            f"{who} counted many {color} {noun} {time}",
            f"my friend {who} lives behind the {place}",
            f"{who} and the {mood} {job} ate some {food}",
        )
    )
