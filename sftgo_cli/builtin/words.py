"""The words that the generated data and the pre-training corpus share: people, animals, jobs, places, things.

Everything is a plain tuple in a fixed order, since the order decides what a seeded generator draws. The facts are those
of a picture book: true enough for a sentence, never more. Changing a word changes the generated rows and their
fingerprint; the shipped model then knows older words until it is pre-trained again.
"""

# The tables below read best with one entry a line.
# ruff: noqa: E501

from __future__ import annotations

from typing import NamedTuple


class Person(NamedTuple):
    """A first name with its pronouns: Anna, she, her, her."""

    name: str
    subject: str
    object: str
    possessive: str


class Animal(NamedTuple):
    """`body`, `home`, `food` and `habit` continue "It has ...", "It lives ...", "It eats ...", "It can ..."."""

    name: str
    plural: str
    kind: str
    body: str
    home: str
    food: str
    habit: str


class Job(NamedTuple):
    """`task` continues "The person ..." in the third person; `plain_task` is the same in the infinitive."""

    name: str
    place: str
    task: str
    plain_task: str
    tool: str


class Place(NamedTuple):
    """`preposition` fits "... the library"; `contents` continues "There are ..."; `activity` continues "People ..."."""

    name: str
    preposition: str
    contents: str
    activity: str


class Category(NamedTuple):
    """`one` and `many` name the category ("a fruit", "fruits"); members are singular countable nouns."""

    one: str
    many: str
    members: tuple[str, ...]


_HERS = (
    "Anna", "Mia", "Lena", "Sara", "Emma", "Nora", "Lily", "Ruth", "Clara",
    "Ida", "Rosa", "Maya", "Ella", "Grace", "Julia", "Olga", "Hanna", "Vera",
)  # fmt: skip
_HIS = (
    "Tom", "Ben", "Jack", "Paul", "Leo", "Max", "Omar", "Ivan", "Karl",
    "Noah", "Sam", "Peter", "Hugo", "Felix", "Adam", "Oscar", "Luis", "David",
)  # fmt: skip
PEOPLE = tuple(Person(name, "she", "her", "her") for name in _HERS) + tuple(
    Person(name, "he", "him", "his") for name in _HIS
)

ANIMALS = (
    Animal("fox", "foxes", "wild animal", "red fur and a long tail", "in the forest", "mice and berries", "hide well"),
    Animal("bear", "bears", "wild animal", "brown fur and strong claws", "in the mountains", "fish and honey", "sleep all winter"),
    Animal("wolf", "wolves", "wild animal", "gray fur and sharp teeth", "in the forest", "deer and rabbits", "howl at the moon"),
    Animal("deer", "deer", "wild animal", "brown fur and thin legs", "in the forest", "leaves and grass", "jump over fences"),
    Animal("rabbit", "rabbits", "small animal", "long ears and soft fur", "in the meadow", "grass and carrots", "dig deep holes"),
    Animal("mouse", "mice", "small animal", "round ears and a thin tail", "in the field", "seeds and cheese", "squeeze through small gaps"),
    Animal("squirrel", "squirrels", "small animal", "a bushy tail", "in the park", "nuts and seeds", "climb tall trees"),
    Animal("hedgehog", "hedgehogs", "small animal", "sharp spines", "in the garden", "worms and snails", "roll into a ball"),
    Animal("lion", "lions", "big cat", "golden fur and a thick mane", "on the plain", "zebras and other animals", "roar loudly"),
    Animal("tiger", "tigers", "big cat", "orange fur and black stripes", "in the jungle", "deer and wild pigs", "swim across rivers"),
    Animal("elephant", "elephants", "large animal", "gray skin and a long trunk", "on the plain", "leaves and fruit", "carry heavy logs"),
    Animal("giraffe", "giraffes", "large animal", "a long neck and brown spots", "on the plain", "leaves from tall trees", "see very far"),
    Animal("zebra", "zebras", "wild animal", "black and white stripes", "on the plain", "grass", "run in large groups"),
    Animal("monkey", "monkeys", "wild animal", "long arms and clever hands", "in the jungle", "bananas and nuts", "swing from branches"),
    Animal("camel", "camels", "large animal", "a hump and long lashes", "in the desert", "dry grass", "walk for days without water"),
    Animal("horse", "horses", "farm animal", "a long mane and strong legs", "on the farm", "hay and oats", "pull a heavy cart"),
    Animal("cow", "cows", "farm animal", "a wide nose and short horns", "on the farm", "grass and hay", "give fresh milk"),
    Animal("sheep", "sheep", "farm animal", "thick white wool", "on the farm", "grass and clover", "give warm wool"),
    Animal("goat", "goats", "farm animal", "curved horns and a beard", "on the farm", "grass and bushes", "climb steep rocks"),
    Animal("pig", "pigs", "farm animal", "pink skin and a flat nose", "on the farm", "corn and potatoes", "roll in the mud"),
    Animal("dog", "dogs", "pet", "a wet nose and a wagging tail", "in the house", "meat and bones", "guard the house"),
    Animal("cat", "cats", "pet", "soft fur and whiskers", "in the house", "fish and mice", "see in the dark"),
    Animal("hen", "hens", "farm bird", "brown feathers and a red comb", "on the farm", "corn and worms", "lay white eggs"),
    Animal("duck", "ducks", "water bird", "a flat yellow bill", "on the pond", "plants and snails", "swim and fly"),
    Animal("swan", "swans", "water bird", "white feathers and a long neck", "on the lake", "water plants", "glide over the water"),
    Animal("owl", "owls", "bird", "large eyes and quiet wings", "in the forest", "mice and insects", "hunt at night"),
    Animal("eagle", "eagles", "bird", "wide wings and a hooked beak", "in the mountains", "fish and rabbits", "fly very high"),
    Animal("parrot", "parrots", "bird", "bright green feathers", "in the jungle", "fruit and seeds", "repeat words"),
    Animal("penguin", "penguins", "bird", "black and white feathers", "on the ice", "fish", "dive under the ice"),
    Animal("whale", "whales", "sea animal", "a huge body and a wide tail", "in the ocean", "tiny shrimp", "sing under water"),
    Animal("dolphin", "dolphins", "sea animal", "smooth gray skin", "in the ocean", "fish and squid", "leap over the waves"),
    Animal("shark", "sharks", "sea animal", "rows of sharp teeth", "in the ocean", "fish and seals", "smell food from far away"),
    Animal("seal", "seals", "sea animal", "flippers and thick fat", "on the ice", "fish", "balance a ball"),
    Animal("crab", "crabs", "sea animal", "a hard shell and two claws", "on the beach", "plants and snails", "walk sideways"),
    Animal("frog", "frogs", "small animal", "green skin and long legs", "in the pond", "flies and worms", "catch flies with its tongue"),
    Animal("snake", "snakes", "wild animal", "scales and no legs", "in the desert", "mice and eggs", "move without a sound"),
    Animal("turtle", "turtles", "slow animal", "a hard round shell", "on the beach", "plants and crabs", "live for many years"),
    Animal("bee", "bees", "insect", "yellow stripes and thin wings", "in the garden", "sweet juice from flowers", "make golden honey"),
    Animal("ant", "ants", "insect", "six legs and a tiny body", "in the garden", "crumbs and seeds", "carry loads bigger than itself"),
    Animal("butterfly", "butterflies", "insect", "four colorful wings", "in the meadow", "sweet juice from flowers", "taste with its feet"),
)  # fmt: skip

JOBS = (
    Job("baker", "in a bakery", "bakes bread and cakes", "bake bread and cakes", "an oven"),
    Job("farmer", "on a farm", "grows corn and feeds the animals", "grow corn and feed the animals", "a tractor"),
    Job("teacher", "in a school", "teaches children to read and write", "teach children to read and write", "a board and chalk"),
    Job("doctor", "in a hospital", "helps sick people to get well", "help sick people to get well", "medicine"),
    Job("nurse", "in a hospital", "looks after sick people", "look after sick people", "clean bandages"),
    Job("cook", "in a kitchen", "prepares soup and other meals", "prepare soup and other meals", "a sharp knife and a pot"),
    Job("waiter", "in a restaurant", "brings food to the guests", "bring food to the guests", "a round tray"),
    Job("pilot", "in a plane", "flies people to other countries", "fly people to other countries", "a radio and maps"),
    Job("sailor", "on a ship", "steers the ship through storms", "steer the ship through storms", "ropes and a compass"),
    Job("driver", "in a bus", "takes people through the city", "take people through the city", "a steering wheel"),
    Job("carpenter", "in a workshop", "builds tables and chairs", "build tables and chairs", "a saw and a hammer"),
    Job("painter", "in a studio", "paints pictures of the sea", "paint pictures of the sea", "brushes and paint"),
    Job("tailor", "in a small shop", "sews coats and dresses", "sew coats and dresses", "a needle and thread"),
    Job("gardener", "in a garden", "plants flowers and cuts the hedge", "plant flowers and cut the hedge", "a spade"),
    Job("fisher", "on a boat", "catches fish in the sea", "catch fish in the sea", "a strong net"),
    Job("miner", "under the ground", "digs for coal and iron", "dig for coal and iron", "a drill and a lamp"),
    Job("firefighter", "at a fire station", "puts out fires", "put out fires", "a long ladder and a hose"),
    Job("postman", "all over the town", "brings letters and parcels", "bring letters and parcels", "a bicycle and a bag"),
    Job("librarian", "in a library", "finds books for readers", "find books for readers", "a long list of books"),
    Job("barber", "in a small shop", "cuts hair and beards", "cut hair and beards", "scissors and a comb"),
    Job("mechanic", "in a garage", "repairs cars and engines", "repair cars and engines", "a wrench"),
    Job("judge", "in a court", "decides what is fair", "decide what is fair", "books of law"),
    Job("singer", "on a stage", "sings songs for a crowd", "sing songs for a crowd", "a microphone"),
    Job("dentist", "in a quiet office", "cleans and repairs teeth", "clean and repair teeth", "a small mirror"),
    Job("shepherd", "in the hills", "watches the sheep", "watch the sheep", "a stick and a dog"),
    Job("clown", "in a circus", "makes children laugh", "make children laugh", "colorful balls"),
    Job("guard", "at a museum", "keeps the pictures safe", "keep the pictures safe", "a bunch of keys"),
    Job("writer", "at a desk", "invents stories for books", "invent stories for books", "a pen and paper"),
    Job("builder", "on a building site", "builds houses of brick", "build houses of brick", "a crane"),
    Job("astronomer", "in a tower", "watches the stars and planets", "watch the stars and planets", "a telescope"),
)  # fmt: skip

PLACES = (
    Place("library", "in", "shelves full of books", "read quietly"),
    Place("market", "at", "stalls with fruit and cheese", "buy fresh food"),
    Place("school", "at", "desks and a large board", "learn to read and count"),
    Place("hospital", "in", "beds and helpful nurses", "get well again"),
    Place("bakery", "in", "warm bread and sweet cakes", "buy rolls for breakfast"),
    Place("station", "at", "tracks and waiting trains", "wait for the train"),
    Place("harbor", "at", "ships and fishing boats", "load and unload ships"),
    Place("museum", "in", "old pictures and statues", "look at art"),
    Place("theater", "in", "red seats and a stage", "watch plays"),
    Place("park", "in", "trees and wooden benches", "walk and rest"),
    Place("garden", "in", "flowers and green bushes", "grow roses and beans"),
    Place("farm", "on", "cows and golden fields", "feed the animals"),
    Place("forest", "in", "tall trees and deep shadows", "gather berries and mushrooms"),
    Place("beach", "on", "white sand and shells", "swim and build castles"),
    Place("river", "at", "clear water and round stones", "fish and row boats"),
    Place("lake", "at", "calm water and reeds", "sail in small boats"),
    Place("castle", "in", "thick walls and high towers", "learn about kings"),
    Place("kitchen", "in", "pots and a hot stove", "cook and eat"),
    Place("workshop", "in", "saws and wooden boards", "repair broken things"),
    Place("airport", "at", "planes and long lines of travelers", "fly to other countries"),
    Place("circus", "at", "clowns and a striped tent", "laugh and clap"),
    Place("bridge", "on", "stone arches and iron rails", "cross the river"),
    Place("village", "in", "small houses and a church", "greet each other"),
    Place("post office", "at", "letters and heavy parcels", "send letters and buy stamps"),
    Place("zoo", "at", "lions and funny monkeys", "watch wild animals"),
    Place("bank", "at", "coins and a heavy safe", "save money"),
)  # fmt: skip

CATEGORIES = (
    Category("a fruit", "fruits", ("apple", "pear", "plum", "cherry", "banana", "lemon", "orange", "peach", "melon")),
    Category("a vegetable", "vegetables", ("carrot", "onion", "potato", "cabbage", "bean", "pumpkin", "radish", "leek")),
    Category("a tool", "tools", ("hammer", "saw", "spade", "wrench", "drill", "rake", "axe", "needle")),
    Category("a piece of furniture", "pieces of furniture", ("chair", "table", "bed", "shelf", "sofa", "desk", "bench")),
    Category("a vehicle", "vehicles", ("car", "bus", "train", "bicycle", "truck", "tractor", "boat", "plane")),
    Category("a piece of clothing", "pieces of clothing", ("coat", "shirt", "hat", "scarf", "dress", "glove", "sock")),
    Category("a musical instrument", "musical instruments", ("drum", "flute", "violin", "piano", "guitar", "trumpet", "harp")),
    Category("a flower", "flowers", ("rose", "tulip", "daisy", "lily", "sunflower", "violet")),
    Category("a bird", "birds", ("owl", "eagle", "parrot", "penguin", "swan", "duck", "hen")),
    Category("an insect", "insects", ("bee", "ant", "butterfly", "beetle", "fly", "wasp")),
    Category("a building", "buildings", ("house", "church", "castle", "school", "tower", "hospital")),
    Category("a kitchen thing", "kitchen things", ("pot", "pan", "spoon", "fork", "plate", "cup", "kettle", "bowl")),
)  # fmt: skip

# (word, what is like that, its opposite, what is like that): "Fire is hot, but ice is cold."
OPPOSITES = (
    ("hot", "fire", "cold", "ice"), ("big", "a whale", "small", "an ant"), ("fast", "a train", "slow", "a turtle"),
    ("heavy", "a stone", "light", "a feather"), ("hard", "a shell", "soft", "wool"), ("wet", "rain", "dry", "sand"),
    ("bright", "the sun", "dark", "the night"), ("loud", "a drum", "quiet", "a library"), ("old", "a castle", "new", "a fresh coat of paint"),
    ("sweet", "honey", "sour", "a lemon"), ("long", "a river", "short", "a needle"), ("high", "a tower", "low", "a bench"),
    ("full", "a market", "empty", "a dry well"), ("rich", "a king", "poor", "a beggar"), ("strong", "a bear", "weak", "a baby bird"),
    ("sharp", "a knife", "dull", "a spoon"), ("clean", "a hospital", "dirty", "a muddy boot"), ("wide", "the ocean", "narrow", "a small path"),
    ("thick", "a castle wall", "thin", "paper"), ("deep", "the ocean", "shallow", "a puddle"), ("smooth", "glass", "rough", "a stone wall"),
    ("round", "a ball", "square", "a box"), ("wild", "a wolf", "tame", "a pet"), ("cheap", "bread", "expensive", "gold"),
    ("safe", "a locked door", "dangerous", "a storm"), ("young", "a baby", "elderly", "a grandfather"), ("early", "the first bus", "late", "the last bus"),
    ("happy", "a child at play", "sad", "a lost child"), ("brave", "a firefighter", "fearful", "a shy mouse"), ("warm", "a wool coat", "cool", "a cellar"),
    ("straight", "a ruler", "crooked", "an old tree"), ("lazy", "a sleeping cat", "hardworking", "a bee"), ("near", "the next house", "far", "the moon"),
    ("open", "a shop at noon", "closed", "a shop at night"), ("simple", "a short sum", "difficult", "a long sum"),
    ("calm", "a lake at night", "stormy", "the sea in winter"), ("fresh", "new bread", "stale", "old bread"),
)  # fmt: skip

# Things one can carry, lose and count: (singular, plural).
OBJECTS = (
    ("basket", "baskets"), ("lamp", "lamps"), ("book", "books"), ("box", "boxes"), ("key", "keys"), ("letter", "letters"),
    ("map", "maps"), ("hat", "hats"), ("scarf", "scarves"), ("coat", "coats"), ("bag", "bags"), ("bottle", "bottles"),
    ("ball", "balls"), ("kite", "kites"), ("drum", "drums"), ("flute", "flutes"), ("mirror", "mirrors"), ("clock", "clocks"),
    ("umbrella", "umbrellas"), ("blanket", "blankets"), ("knife", "knives"), ("brush", "brushes"), ("candle", "candles"),
    ("rope", "ropes"), ("spoon", "spoons"), ("cup", "cups"), ("ring", "rings"), ("bell", "bells"), ("toy", "toys"),
    ("picture", "pictures"), ("shell", "shells"), ("stone", "stones"), ("glove", "gloves"), ("ladder", "ladders"),
)  # fmt: skip

# Things one buys, finds or shares by number: (singular, plural).
COUNTED = (
    ("apple", "apples"), ("pear", "pears"), ("plum", "plums"), ("cherry", "cherries"), ("lemon", "lemons"), ("egg", "eggs"),
    ("nut", "nuts"), ("coin", "coins"), ("stamp", "stamps"), ("pencil", "pencils"), ("button", "buttons"), ("cookie", "cookies"),
    ("flower", "flowers"), ("shell", "shells"), ("book", "books"), ("card", "cards"), ("carrot", "carrots"), ("cup", "cups"),
)  # fmt: skip

# Irregular or otherwise instructive plurals.
PLURALS = (
    ("child", "children"), ("man", "men"), ("woman", "women"), ("foot", "feet"), ("tooth", "teeth"), ("goose", "geese"),
    ("leaf", "leaves"), ("loaf", "loaves"), ("city", "cities"), ("baby", "babies"), ("story", "stories"), ("berry", "berries"),
    ("potato", "potatoes"), ("tomato", "tomatoes"), ("glass", "glasses"), ("bush", "bushes"), ("bench", "benches"),
    ("church", "churches"), ("dress", "dresses"), ("shelf", "shelves"), ("wife", "wives"), ("country", "countries"),
    ("day", "days"), ("boy", "boys"), ("house", "houses"), ("tree", "trees"), ("window", "windows"), ("garden", "gardens"),
)  # fmt: skip

FOODS = ("bread", "cheese", "honey", "soup", "milk", "rice", "fish", "butter", "cake", "tea", "corn", "jam", "salt", "fruit")  # fmt: skip
COLORS = ("red", "blue", "green", "yellow", "white", "black", "brown", "gray", "purple", "golden", "silver", "pink")
MOODS = ("happy", "sad", "tired", "hungry", "curious", "brave", "shy", "clever", "lazy", "proud", "angry", "lonely")
HIDING_SPOTS = (
    "under a bench", "behind the door", "under the stairs", "near the well", "behind a tree", "inside an old boot",
    "next to the gate", "under a bridge", "on the roof", "between two rocks", "in the tall grass", "below the window",
)  # fmt: skip
TIMES = (
    "on Monday", "on Tuesday", "on Wednesday", "on Thursday", "on Friday", "on Saturday", "on Sunday", "in the morning",
    "in the evening", "at noon", "at night", "after lunch", "before dinner", "in spring", "in winter", "after school",
)  # fmt: skip
WEATHER = ("rain", "snow", "wind", "fog", "sunshine", "thunder", "hail", "frost")
REASONS = (
    ("a birthday party", "celebrate"), ("a long journey", "travel"), ("a sick friend", "help"), ("a school play", "act"),
    ("a big dinner", "cook"), ("a cold night", "keep warm"), ("a race", "win"), ("a wedding", "dance"),
)  # fmt: skip


def with_article(noun: str) -> str:
    """The noun with "a" or "an" before it; the word lists hold no noun whose sound and spelling disagree."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def sentence(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[0].upper() + text[1:]
